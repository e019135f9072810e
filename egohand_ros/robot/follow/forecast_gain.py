"""How much of a forecast motion to believe, learned from how far such motions came true for this person."""

from collections import deque
from dataclasses import replace

import numpy as np

from .hand_path import HandPath

_MEMORY = 8.0  # s of motion that count
_PRIOR = 2e-3  # m^2: motion that is put on the forecaster's side before any was seen
_TOLERANCE = 0.02  # s between the lead that is judged and the one that is asked for
_NEW_TRACK = 0.3  # s without an observation after which the hand's motion begins anew
_MOST_PENDING = 256


class ForecastGain:
    """Scales forecast motions by the factor, 0 to 1, that would have brought them nearest to what happened lately:
    least squares over the last seconds, at the lead that is asked for. 0 follows the newest pose. Constant time.
    """

    def __init__(self) -> None:
        self.value = 1.0
        self._agreed = self._made = _PRIOR
        self._pending: deque[tuple[float, HandPath]] = deque(maxlen=_MOST_PENDING)
        self._last = -np.inf

    def __call__(self, path: HandPath, stamp: float, lead: float) -> HandPath:
        """The path (its first point being what was observed at `stamp`) with its motion scaled for a lead of `lead`
        s.
        """
        observed = path.keypoints[0]
        if path.times[0] != stamp or len(path.times) < 2 or not np.isfinite(observed).all():
            return path
        if not 0.0 <= stamp - self._last <= _NEW_TRACK:
            self._pending.clear()
        else:
            fade = np.exp((self._last - stamp) / _MEMORY)
            self._agreed, self._made = fade * self._agreed, fade * self._made
        self._last = stamp
        self._judge(observed, stamp, lead)
        self._pending.append((stamp, path))
        self.value = float(np.clip(self._agreed / self._made, 0.0, 1.0)) if self._made > 1e-9 else 1.0
        return replace(path, keypoints=observed + self.value * (path.keypoints - observed))

    def _judge(self, observed: np.ndarray, stamp: float, lead: float) -> None:
        """Compare with the forecast that was made about `lead` s ago, and forget those before it."""
        while len(self._pending) > 1 and self._pending[1][0] <= stamp - lead + _TOLERANCE:
            self._pending.popleft()
        if not self._pending or abs(stamp - self._pending[0][0] - lead) > _TOLERANCE:
            return
        path = self._pending[0][1]
        start = path.keypoints[0]
        motion = path.at(stamp)[0] - start
        self._agreed += float(np.mean(np.sum(motion * (observed - start), axis=-1)))
        self._made += float(np.mean(np.sum(motion * motion, axis=-1)))
