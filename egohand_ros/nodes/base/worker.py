"""`LatestWorker`: one thread for inference, with a slot that holds the newest work only."""

import threading
import time
from collections.abc import Callable
from typing import Any

from .realtime import ThreadPriority


class LatestWorker:
    """Runs `process(item)` in one thread; while it is busy only the newest submitted item waits, older ones are
    dropped.

    `deliver(result)` is called in the worker's thread with what `process` returned, unless that is None, and never
    after `stop()` has returned: publish there. An exception goes to `on_error(exception)` and the worker lives on.
    `priority`: real-time, where the user may have one; 0: none; `AUTOMATIC`: as long as both are brief.
    """

    def __init__(
        self,
        process: Callable[[Any], Any],
        deliver: Callable[[Any], None] | None = None,
        on_error: Callable[[BaseException], None] | None = None,
        name: str = "worker",
        priority: int = 0,
    ):
        self._process, self._deliver, self._on_error, self._name = process, deliver, on_error, name
        self.realtime = ThreadPriority(priority)
        self._condition = threading.Condition()
        self._delivery = threading.RLock()  # a delivery may stop its own worker
        self._slot: list = []  # empty, or the one newest item
        self._thread: threading.Thread | None = None
        self._previous: threading.Thread | None = None
        self._generation = 0  # a thread that outlived stop() belongs to an old one and may not deliver
        self.processed = 0
        self.dropped = 0
        self.failures = 0

    def start(self) -> None:
        """Start the thread; does nothing when it runs."""
        with self._condition:
            if self._thread is not None:
                return
            self._generation += 1
            arguments = (self._generation, self._previous)
            self._thread = threading.Thread(target=self._run, args=arguments, name=self._name, daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop and wait up to `timeout` s. False when the thread is still busy; it can deliver nothing any more."""
        with self._condition:
            thread, self._thread = self._thread, None
            self._previous = thread or self._previous
            self._generation += 1
            self._slot.clear()
            self._condition.notify_all()
        with self._delivery:
            pass  # one that is under way ends first
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def submit(self, item: Any) -> bool:
        """Offer work. True when an older item, not yet begun, was dropped for it. Ignored when stopped."""
        with self._condition:
            if self._thread is None:
                return False
            replaced = bool(self._slot)
            self._slot[:] = [item]
            self.dropped += replaced
            self._condition.notify()
            return replaced

    def clear(self) -> None:
        """Drop the waiting item (the state that it came from was reset)."""
        with self._condition:
            self.dropped += len(self._slot)
            self._slot.clear()

    def _run(self, generation: int, previous: threading.Thread | None) -> None:
        if previous is not None:
            previous.join()  # one that outlived stop(): a model is never run by two threads at once
        self.realtime.begin()
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._slot or generation != self._generation)
                if generation != self._generation:
                    return
                item = self._slot.pop()
            begin = time.thread_time()
            try:
                self._handle(item, generation)
                self.processed += 1
            except Exception as error:  # the worker outlives any bug of what it runs; the bug is reported
                self.failures += 1
                if self._on_error is not None:
                    self._on_error(error)
            self.realtime.note(time.thread_time() - begin)

    def _handle(self, item: Any, generation: int) -> None:
        result = self._process(item)
        if result is None or self._deliver is None:
            return
        with self._delivery:
            if generation == self._generation:
                self._deliver(result)
