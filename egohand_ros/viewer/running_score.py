"""`RunningScore`: how forecasts turned out so far, beside persistence on the same moments, and how often the wrist came
within the 90 % region. Sees what the page sees, some ten observations a second; `egohand evaluate` sees them all.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..hand.skeleton import WRIST
from ..messages.forecast import Futures, HandFuture
from .shapes import inside

_MAX_GAP = 0.25  # s between two observations that are interpolated between
_BACK = 1.0  # s by which time may run backwards before all is forgotten: the clock was set, or a bag begins again
_MOST_PENDING = 200


@dataclass(frozen=True)
class Scored:
    """One forecast, once its future has come: errors of the wrists in m, mean over steps and hands, and the part of
    steps within the 90 % region (NaN where there is none)."""

    stamp: float
    error: float
    persistence: float
    inside: float


@dataclass
class RunningScore:
    """Wrists (2, 3) m and forecasts in one frame, as they come; `scored` is what is known of them, oldest first."""

    keep: int = 600
    average: int = 50  # forecasts in a point of `series`
    scored: deque[Scored] = field(default_factory=deque)
    _stamps: list[float] = field(default_factory=list)
    _wrists: list[np.ndarray] = field(default_factory=list)
    _pending: deque[Futures] = field(default_factory=deque)

    def observe(self, stamp: float, wrists: np.ndarray) -> None:
        """Where the wrists were at `stamp` s; NaN where they were not seen."""
        if self._stamps and stamp < self._stamps[-1] - _BACK:
            self.forget()
        if self._stamps and stamp <= self._stamps[-1]:
            return
        self._stamps.append(stamp)
        self._wrists.append(np.array(wrists, dtype=float))
        while self._pending and self._pending[0].stamp + self._pending[0].step_times[-1] <= stamp:
            self._score(self._pending.popleft())
        self._forget_the_old()

    def expect(self, futures: Futures) -> None:
        """A forecast that is to be judged once its last step has been observed."""
        if not len(futures.step_times) or not futures.hands:
            return
        if self._pending and futures.stamp <= self._pending[-1].stamp:
            return
        self._pending.append(futures)
        if len(self._pending) > _MOST_PENDING:
            self._pending.popleft()

    def forget(self) -> None:
        """Time was set back: nothing that was seen goes on."""
        self.scored.clear()
        self._stamps.clear()
        self._wrists.clear()
        self._pending.clear()

    def series(self) -> np.ndarray:
        """(4, N): stamps s, errors of the forecasts and of persistence mm, and coverage %, each a mean over the last
        `average` forecasts."""
        rows = np.array([(s.stamp, s.error, s.persistence, s.inside) for s in self.scored]).reshape(-1, 4)
        means = [_running_mean(column, self.average) for column in rows.T[1:]]
        return np.stack([rows[:, 0], 1e3 * means[0], 1e3 * means[1], 1e2 * means[2]])

    def _score(self, futures: Futures) -> None:
        times = futures.stamp + np.concatenate([[0.0], futures.step_times])
        true = self._at(times)
        rows = [_errors(hand, true[1:, hand.side], true[0, hand.side]) for hand in futures.hands]
        errors, held, within = (np.concatenate(part) for part in zip(*rows))
        both = np.isfinite(errors) & np.isfinite(held)
        if both.any():
            share = float(np.nanmean(within)) if np.isfinite(within).any() else np.nan
            self.scored.append(Scored(futures.stamp, float(errors[both].mean()), float(held[both].mean()), share))
            if len(self.scored) > self.keep:
                self.scored.popleft()

    def _at(self, times: np.ndarray) -> np.ndarray:
        """Wrists (T, 2, 3) at times (T,), between two observations that are near; NaN elsewhere."""
        stamps, wrists = np.array(self._stamps), np.stack(self._wrists)
        if len(stamps) < 2:
            return np.full((len(times), 2, 3), np.nan)
        after = np.clip(np.searchsorted(stamps, times), 1, len(stamps) - 1)
        gap = stamps[after] - stamps[after - 1]
        weight = (times - stamps[after - 1]) / gap
        known = (gap <= _MAX_GAP) & (weight >= -1e-6) & (weight <= 1.0 + 1e-6)
        weight = np.clip(weight, 0.0, 1.0)[:, None, None]
        found = np.where(weight == 1.0, wrists[after], (1.0 - weight) * wrists[after - 1] + weight * wrists[after])
        return np.where(known[:, None, None], found, np.nan)

    def _forget_the_old(self) -> None:
        oldest = self._pending[0].stamp if self._pending else self._stamps[-1]
        old = int(np.searchsorted(self._stamps, oldest - 2.0 * _MAX_GAP))
        if old > 64:
            del self._stamps[:old], self._wrists[:old]


def _errors(hand: HandFuture, wrists: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S,) of the forecast and of holding still at `now` (3,), m, and whether the wrists (S, 3) were in the region."""
    error = np.linalg.norm(hand.keypoints[0, :, WRIST] - wrists, axis=-1)
    return error, np.linalg.norm(now - wrists, axis=-1), inside(hand, wrists)


def _running_mean(values: np.ndarray, count: int) -> np.ndarray:
    """(N,) mean of the last `count` values that are no NaN, at each; NaN where none is."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    number = np.concatenate([[0], np.cumsum(known)])
    first = np.maximum(np.arange(len(values)) + 1 - count, 0)
    last = np.arange(len(values)) + 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total[last] - total[first]) / (number[last] - number[first])
