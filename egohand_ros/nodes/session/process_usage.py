"""What processes take of the machine, as Linux tells it in /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")  # s


@dataclass(frozen=True)
class Usage:
    """Resident memory and the part of it that is neither shared nor of a file, bytes; processor time so far, s.

    All NaN for a process that is gone.
    """

    rss: float
    private: float
    cpu: float


def usage(pid: int | None) -> Usage:
    """What a process has now."""
    try:
        lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        memory = {line[0]: 1024.0 * float(line[1]) for line in lines if line[0] in ("VmRSS:", "RssAnon:")}
        return Usage(memory["VmRSS:"], memory["RssAnon:"], _cpu_seconds(pid))
    except (OSError, KeyError):
        return Usage(float("nan"), float("nan"), float("nan"))


def cpu_seconds(pid: int | None) -> float:
    """Processor time that a process has used, user and system; NaN when it is gone."""
    try:
        return _cpu_seconds(pid)
    except OSError:
        return float("nan")


def _cpu_seconds(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def stolen_seconds() -> float:
    """Processor time, of all processors, that the hypervisor has given to others since the machine started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) * _TICK


def children(pid: int | None) -> dict[str, int]:
    """Process ids of what a process started, by the last part of its Python module or program."""
    found = {}
    try:
        numbers = [n for task in Path(f"/proc/{pid}/task").iterdir() for n in (task / "children").read_text().split()]
        for number in numbers:
            command = Path(f"/proc/{number}/cmdline").read_text().split("\0")
            program = command[command.index("-m") + 1].rpartition(".")[2] if "-m" in command else Path(command[0]).name
            found[program] = int(number)
    except OSError:
        pass  # it ended meanwhile
    return found
