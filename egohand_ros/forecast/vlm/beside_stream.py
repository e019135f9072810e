"""When a model that thinks does so: at every window, or beside a stream, as often as it can.

What takes seconds must not hold up what takes hundredths, so a stream goes on with the last thought while a thread of
low priority thinks about the newest window.
"""

import contextlib
import logging
import os
import threading
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch

from ...stream.window import Window
from ..options import BACKGROUND, WAIT

MODES = (WAIT, BACKGROUND)
_NICENESS = 10
_log = logging.getLogger(__name__)


class Thought(Protocol):
    """What was thought about B windows: when they were, (B,) s, and what was asked."""

    @property
    def stamp(self) -> np.ndarray: ...

    @property
    def prompt(self) -> tuple[str, ...]: ...


Kind = TypeVar("Kind", bound=Thought)


class BesideStream(Generic[Kind]):
    """The thoughts of windows. mode `wait`: every window has its own, and nothing is remembered. `background`: one
    stream of windows of one; `renew` is after how many s it thinks again even of the same, `span` for how many s a
    thought is true, and `name` that of the thread."""

    def __init__(self, mode: str, renew: float, span: float, name: str):
        self.mode, self.renew, self.span, self._name = mode, renew, span, name
        self.thoughts = 0  # how often it has thought
        self._lock = threading.Lock()
        self._last: Kind | None = None
        self._busy, self._next, self._epoch = False, None, 0

    def _one(self, window: Window) -> Kind:
        """Of a window of one; of the thinking thread alone."""
        raise NotImplementedError

    def _all(self, window: Window) -> Kind:
        """Of any number of windows."""
        raise NotImplementedError

    def __call__(self, window: Window) -> Kind | None:
        """The thought to go by; None while there is none for what is asked."""
        if self.mode == WAIT or window.batch > 1:
            return self._all(window)
        if self.thoughts == 0:  # the first one is waited for: it is that of the warm-up
            self._conclude(window, self._epoch)
        prompt, stamp = prompts_of(window), float(window.stamp[0])
        with self._lock:
            last = self._last
            fresh = last is not None and last.prompt == prompt and 0.0 <= stamp - float(last.stamp[0]) <= self.span
            if not fresh or stamp - float(last.stamp[0]) >= self.renew:
                self._next = window
                if not self._busy:
                    self._busy = True
                    threading.Thread(target=self._think_on, name=self._name, daemon=True).start()
        return last if fresh else None

    def reset(self) -> None:
        """Forget what was thought: the stream begins anew."""
        with self._lock:
            self._last, self._next, self._epoch = None, None, self._epoch + 1

    def _think_on(self) -> None:
        """Until nothing newer waits."""
        with contextlib.suppress(OSError):  # of this thread alone: hands go first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            with self._lock:
                window, self._next, epoch = self._next, None, self._epoch
                if window is None:
                    self._busy = False
                    return
            try:
                self._conclude(window, epoch)
            except Exception:
                _log.exception("the thought of a window failed; the last one stays")

    def _conclude(self, window: Window, epoch: int) -> None:
        with torch.inference_mode():
            thought = self._one(window)
        with self._lock:
            self.thoughts += 1
            if epoch == self._epoch:
                self._last = thought


def prompts_of(window: Window) -> tuple[str, ...]:
    """What is asked of each window."""
    return window.prompt if window.prompt is not None else ("",) * window.batch
