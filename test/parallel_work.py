"""Work of test_parallel.py that other processes can import, and a program that shares some of it among two."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

from egohand_ros.errors import UserError
from egohand_ros.parallel import Workers, run_all


def doubled(number: int) -> int:
    return 2 * number


def killed_once(folder: str, number: int) -> int:
    """The process that works on 3 is killed the first time."""
    mark = Path(folder) / "killed"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def deadly(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refused(number: int) -> int:
    raise UserError(f"{number} is not wanted")


if __name__ == "__main__":
    import parallel_work  # by this name its functions are found in the other processes, too

    cluster, folder = sys.argv[1:]
    workers = Workers(2, cluster)
    print(run_all(partial(parallel_work.killed_once, folder), range(6), workers))
    try:
        run_all(parallel_work.deadly, range(4), workers)
    except UserError as error:
        print(error)
