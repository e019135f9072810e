"""`Beat`: a thread that calls a function at a steady rate, whatever the executor is busy with.

An rclpy timer waits for the callback before it; a command stream may not. The thread sleeps to absolute times, so that
being late once does not shift those after, and leaves out what it missed instead of making it up in a burst.
"""

import math
import sys
import threading
import time
from collections.abc import Callable

from .realtime import how_to_allow, raise_priority

# Python lets a thread compute for 5 ms before another one gets a turn: longer than a period of 200 Hz.
_SWITCH_INTERVAL = 1e-4  # s


class Beat:
    """Calls `function` every `period` s between `start` and `stop`. An exception goes to `on_error`, and it goes on.

    With a `priority` of 1 to 99 its thread has that real-time priority, where the user may have one (`realtime.py`).
    """

    def __init__(
        self,
        period: float,
        function: Callable[[], None],
        on_error: Callable[[BaseException], None],
        priority: int = 0,
    ):
        self.period, self._function, self._on_error, self._priority = period, function, on_error, priority
        self.missed = 0  # periods that were left out
        self.realtime = False  # whether the thread may interrupt others of this computer
        self._due = 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; does nothing when it runs."""
        if self._thread is None:
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
            self._stopped = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stopped,), name="beat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop; no call begins or is under way after this."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopped.set()
            if thread is not threading.current_thread():
                thread.join()

    @property
    def remaining(self) -> float:
        """Seconds until the next call."""
        return max(self._due - time.monotonic(), 0.0)

    @property
    def allowed(self) -> str:
        """Whether the thread has the priority that it is to have, in words for diagnostics."""
        wanted = self._priority
        return "yes" if self.realtime else f"no: {how_to_allow(wanted)}" if wanted else "off"

    def postpone(self) -> None:
        """What the next call would do was done just now: it comes a period from now."""
        self._due = time.monotonic() + self.period

    def _run(self, stopped: threading.Event) -> None:
        self.realtime = self._priority > 0 and raise_priority(self._priority)
        self._due = time.monotonic()
        while not stopped.is_set():
            # Not Event.wait: that wakes up later, by waiting in steps.
            remaining = self.remaining
            if remaining > 0.0:
                time.sleep(remaining)
                continue  # it may have been postponed meanwhile
            self._due += self.period
            try:
                self._function()
            except Exception as error:  # the stream outlives any bug of what it calls; the bug is reported
                self._on_error(error)
            late = time.monotonic() - self._due
            if late > 0.0:
                skipped = math.ceil(late / self.period)
                self.missed += skipped
                self._due += skipped * self.period
