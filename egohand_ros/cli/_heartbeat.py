"""Something is said every few seconds, however long a step takes, and where no terminal is, too."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

VARIABLE = "EGOHAND_PROGRESS_PERIOD"  # s between lines, for scripts; inf: none
PERIOD = 5.0  # s, half of what a user should have to wait for a sign


class Heartbeat:
    """Says on the standard error what is being done, once `period` s have passed in which nothing was said.

    A thread does it, since the work may be anywhere: in a step that reports nothing, in a download, in an import.
    """

    def __init__(self, period: float = PERIOD):
        self.period = period
        self._tasks: list[tuple[Callable[[], str], bool]] = []
        self._began = self._last = 0.0
        self._stop = threading.Event()

    @contextmanager
    def doing(self, text: Callable[[], str], live: bool = False) -> Iterator[None]:
        """`text` tells the innermost task; a `live` one moves a display of its own, and needs no lines."""
        if not self._tasks:
            self._began = self._last = time.monotonic()
            self._stop = threading.Event()
            threading.Thread(target=self._run, args=(self._stop,), name="heartbeat", daemon=True).start()
        self._tasks.append((text, live))
        try:
            yield
        finally:
            self._tasks.pop()
            self._last = time.monotonic()
            if not self._tasks:
                self._stop.set()

    def say(self, line: str) -> None:
        """Print a line now; the next one is due a period later."""
        self._last = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(min(0.5, self.period)):
            tasks = self._tasks[-1:]
            if tasks and not tasks[0][1] and time.monotonic() - self._last >= self.period:
                self.say(f"{tasks[0][0]()}  ({time.monotonic() - self._began:.0f} s)")


def _period() -> float:
    try:
        return float(os.environ[VARIABLE])
    except (KeyError, ValueError):
        return PERIOD


HEARTBEAT = Heartbeat(_period())
