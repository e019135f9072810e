"""Real-time priority for what has to be on time, where the user may have one (Linux, SCHED_FIFO of sched(7)).

A thread with it runs before everything else on the machine as soon as it has something to do. So it is for threads that
do little at a time, and the kernel keeps 5 % of each processor for the rest. What a thread with it starts has none.
"""

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path

HIGHEST = 90  # above are the kernel's own threads; controllers of robots use 50
AUTOMATIC = -1  # a wish, see `ThreadPriority`
_BELOW_COMMANDS = 15
# s of processor time at a time, of 16.7 between poses at 60 Hz: what takes the priority, and what gives it up again.
_BRIEF, _LONG = 0.006, 0.009
_REMEMBERED = 16  # times over which the mean of them is taken
_HIGHEST_DEFAULT = 20  # what nodes ask for at most where nothing else is said: one permission is enough for all
_MIDDLEWARE = "dds."  # what Fast DDS calls its threads


def raise_priority(priority: int, thread: int = 0) -> bool:
    """Give a thread (0: the calling one) this priority, 1 to 99. Whether it has it."""
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, AttributeError):
        return False
    return True


def give_up_priority() -> None:
    """The calling thread runs as any other again."""
    # The flag that `raise_priority` set stays: who is not root may not take it back, and would be refused.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


class ThreadPriority:
    """What one thread has: the priority that is wished for; with `AUTOMATIC` one below that of who commands, and only
    while what the thread does at a time, in the mean of the last times, takes little of a processor, since more would
    hold one that others need: it is timed before it has any.

    `words`: whether it has it, for diagnostics.
    """

    def __init__(self, wish: int):
        self._timed, self._priority = wish == AUTOMATIC, priority_of(wish)
        self._mean: float | None = None  # s of processor time
        self._wanted = False
        self.words = "not yet" if wish else "off"

    def begin(self) -> None:
        """It is the calling thread's from now on."""
        self._mean, self._wanted = None, False
        if self._timed:
            self.words = "not yet: nothing was timed"
        elif self._priority:
            self._take()

    def note(self, used: float) -> None:
        """What the thread did just now took so much processor time, s; from the thread itself."""
        if not self._timed:
            return
        before = self._mean
        self._mean = used if before is None else before + (used - before) / _REMEMBERED
        wanted = self._mean < (_LONG if self._wanted else _BRIEF)
        if before is not None and wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted:
            self._take()
        else:
            give_up_priority()
            self.words = f"no: {1e3 * self._mean:.1f} ms at a time would hold a processor"

    def _take(self) -> None:
        self.words = "yes" if raise_priority(self._priority) else f"no: {how_to_allow(self._priority)}"


def priority_of(wish: int) -> int:
    """The priority that a parameter means."""
    return _BELOW_COMMANDS if wish == AUTOMATIC else wish


def raise_receiving(priority: int) -> bool:
    """Give it to the calling thread and to the threads of this process in which messages arrive. Whether it has it."""
    if not raise_priority(priority):
        return False
    with contextlib.suppress(OSError):  # a thread may end meanwhile
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().startswith(_MIDDLEWARE):
                raise_priority(priority, int(task.name))
    return True


@contextlib.contextmanager
def realtime_threads(priority: int) -> Iterator[bool]:
    """Threads that begin inside have this priority where the user may give it, the calling one not beyond it. Yields
    whether they have. For a process that judges when messages arrive.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))  # handed on to threads that begin
        allowed = True
    except OSError:
        allowed = False
    try:
        yield allowed
    finally:
        os.sched_setscheduler(0, *before)


def give_way() -> None:
    """Everything else on the machine goes before every thread of this process (SCHED_IDLE of sched(7))."""
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError, AttributeError):  # a thread may end meanwhile
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


def how_to_allow(priority: int) -> str:
    """What the user may do about a priority that was refused."""
    line = f"{_user()} - rtprio {max(priority, _HIGHEST_DEFAULT)}"
    return (
        f"as root, add the line `{line}` to /etc/security/limits.conf and log in again, or give a container "
        "--ulimit rtprio; `ulimit -r` then shows it"
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "*"
