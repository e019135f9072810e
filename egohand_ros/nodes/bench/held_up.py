"""`HeldUp`: processes that only wait, one a processor, and note when the computer woke them late.

The control of a measurement of arrival times. Real-time priority does not help where a kernel lets no thread interrupt
another one's system call: seen here are 30 ms, during which whatever arrives is bundled, whoever sent it.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

_PERIOD, _NOTED = 0.002, 0.002  # s; what wakes up later than this is written down


class HeldUp:
    """Starts the processes with a real-time `priority`, where the user may give one; they write to `folder`."""

    def __init__(self, folder: Path, priority: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [folder / f"processor_{cpu}.txt" for cpu in sorted(os.sched_getaffinity(0))]
        self._processes = []
        for cpu, file in zip(sorted(os.sched_getaffinity(0)), self._files):
            with file.open("w") as out:
                command = [sys.executable, "-S", "-E", __file__, str(cpu), str(priority), str(os.getpid())]
                self._processes.append(subprocess.Popen(command, stdout=out, stdin=subprocess.DEVNULL))

    def worst(self, begin: float, end: float) -> float:
        """By how many seconds a process was woken too late at the most, between two times (`time.time()`)."""
        late = [0.0]
        for file in self._files:
            rows = [line.split() for line in file.read_text().splitlines()]
            late += [float(row[1]) for row in rows if len(row) == 2 and begin - float(row[1]) < float(row[0]) < end]
        return max(late)

    def stop(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait()


def wait_for_ever(cpu: int, priority: int, parent: int) -> None:
    """Write a line for each time this was woken late: when it should have been, and by how much [s]."""
    os.sched_setaffinity(0, {cpu})
    with contextlib.suppress(OSError):  # it may not: then it waits as others do
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    while os.getppid() == parent:
        due = time.monotonic() + _PERIOD
        time.sleep(_PERIOD)
        late = time.monotonic() - due
        if late > _NOTED:
            print(f"{time.time() - late:.6f} {late:.6f}", flush=True)


if __name__ == "__main__":
    wait_for_ever(*map(int, sys.argv[1:]))
