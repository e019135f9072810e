"""What processes take of the machine: psutil, with NaN for a process that is gone."""

import os
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Usage:
    """Resident memory and the part of it that no other process shares, bytes; processor time so far, s.

    All NaN for a process that is gone.
    """

    rss: float
    private: float
    cpu: float


def usage(pid: int | None) -> Usage:
    """What a process has now."""
    try:
        process = _process(pid)
        memory = process.memory_full_info()
        return Usage(memory.rss, memory.uss, sum(process.cpu_times()[:2]))
    except psutil.Error:
        return Usage(float("nan"), float("nan"), float("nan"))


def cpu_seconds(pid: int | None) -> float:
    """Processor time that a process has used, user and system; NaN when it is gone."""
    try:
        return sum(_process(pid).cpu_times()[:2])
    except psutil.Error:
        return float("nan")


def stolen_seconds() -> float:
    """Processor time, of all processors, that the hypervisor has given to others since the machine started."""
    return psutil.cpu_times().steal


def children(pid: int | None) -> dict[str, int]:
    """Process ids of what a process started, by the last part of its Python module or program."""
    found = {}
    try:
        for child in _process(pid).children():
            command = child.cmdline()
            if command:  # else it has just ended, or not quite begun
                found[_program(command)] = child.pid
    except psutil.Error:
        pass  # it ended meanwhile
    return found


def _program(command: list[str]) -> str:
    return command[command.index("-m") + 1].rpartition(".")[2] if "-m" in command else os.path.basename(command[0])


def _process(pid: int | None) -> psutil.Process:
    if pid is None:  # which psutil takes for this process
        raise psutil.NoSuchProcess(-1)
    return psutil.Process(pid)
