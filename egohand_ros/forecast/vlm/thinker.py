"""`Thinker`: thoughts of a slow model, either one a window, or beside a stream of windows that does not wait for them.

Beside a stream, what goes by a thought goes by the last one, while a thread of low priority thinks again when the words
have changed or the last thought is old. The newest window alone waits for it.
"""

import contextlib
import logging
import os
import threading
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch

from ...stream.window import Window
from ..options import BACKGROUND, WAIT

MODES = (WAIT, BACKGROUND)
_THUMB = 12  # px
_CHANGED = 0.04  # of full brightness, the mean over a picture as small as that
_TURNED, _MOVED = np.radians(4.0), 0.04  # rad, m
_NICENESS = 10
_log = logging.getLogger(__name__)


class Dated(Protocol):
    """A thought says what was asked, and when (B,) s it was thought."""

    @property
    def prompt(self) -> tuple[str, ...]: ...

    @property
    def stamp(self) -> np.ndarray: ...


Thought = TypeVar("Thought", bound=Dated)


class Thinker(ABC, Generic[Thought]):
    """mode `wait`: every window has its own thought, and nothing is remembered. `background`: one stream of windows of
    one; `renew` is after how many s it thinks again even of the same, `lasts` how long a thought can be gone by."""

    def __init__(self, mode: str = WAIT, renew: float = 1.0, lasts: float = 5.0):
        self.mode, self.renew, self.lasts = mode, renew, lasts
        self.thoughts = 0  # how often it has thought
        self._lock = threading.Lock()
        self._last: Thought | None = None
        self._busy, self._epoch = False, 0
        self._next: Window | None = None

    def __call__(self, window: Window) -> Thought | None:
        """The thought to go by; None while there is none for what is asked."""
        if self.mode == WAIT or window.batch > 1:
            return self._all(window)
        if self.thoughts == 0:  # the first one is waited for: it is that of the warm-up
            self._conclude(window, self._epoch)
        prompt, stamp = prompts_of(window), float(window.stamp[0])
        with self._lock:
            last = self._last
            age = stamp - float(last.stamp[0]) if last is not None and last.prompt == prompt else -1.0
            fresh = 0.0 <= age <= self.lasts
            if not fresh or age >= self.renew:
                self._next = window
                if not self._busy:
                    self._busy = True
                    threading.Thread(target=self._think_on, name="reasoning", daemon=True).start()
        return last if fresh else None

    def reset(self) -> None:
        """Forget what was thought: the stream begins anew."""
        with self._lock:
            self._last, self._next, self._epoch = None, None, self._epoch + 1

    @abstractmethod
    def _one(self, window: Window) -> Thought:
        """The thought about a window of one; it may remember what it has seen."""

    @abstractmethod
    def _all(self, window: Window) -> Thought:
        """The thoughts about any number of windows."""

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


class Glance:
    """A picture of one window as small as can be, and the pose of the camera (4, 4) that took it."""

    def __init__(self, window: Window, pose: np.ndarray):
        self._pose, self._thumb = pose, _thumb(window)

    def shows(self, window: Window, pose: np.ndarray) -> bool:
        """Whether a window (of one), seen by a camera at `pose`, still shows it from there."""
        cosine = (np.trace(self._pose[:3, :3].T @ pose[:3, :3]) - 1.0) / 2.0
        still = np.arccos(np.clip(cosine, -1.0, 1.0)) < _TURNED
        near = float(np.linalg.norm(pose[:3, 3] - self._pose[:3, 3])) < _MOVED
        return bool(still and near and np.abs(_thumb(window) - self._thumb).mean() < _CHANGED)


def prompts_of(window: Window) -> tuple[str, ...]:
    """What each window is asked, empty where nothing is."""
    return window.prompt if window.prompt is not None else ("",) * window.batch


def _thumb(window: Window) -> np.ndarray:
    """The newest picture of one window (12, 12), grey, 0 to 1."""
    grey = window.images[0, -1].float().mean(-1)[None, None] / 255.0
    return torch.nn.functional.interpolate(grey, (_THUMB, _THUMB), mode="area")[0, 0].cpu().numpy()
