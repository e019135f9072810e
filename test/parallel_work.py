"""Work of test_parallel.py that other processes can import."""

import os
import signal
from pathlib import Path

from egohand_ros.errors import UserError


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
