"""Scores every forecast when its future has arrived, and keeps the regions of new ones at the coverage they promise.

Works for any forecaster, also for one that gives no deviations. Pure and without a clock: the node feeds it.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..hand.palm import palm_rotations
from ..hand.skeleton import NUM_KEYPOINTS, WRIST
from ..stream.resample import resample
from .base import Forecast
from .calibration import COVERAGE, Calibration, Scores, conformal_quantile, score

_KINDS = ("position", "rotation", "keypoint")
# Stamps this close (s) are the same: they go through nanoseconds and floats.
_SAME_TIME = 1e-6


@dataclass(frozen=True)
class OnlineOptions:
    """memory: s of scores that count. warm_up: scores of a step before its factor moves. rate: how fast the level
    follows misses (adaptive conformal inference, Gibbs and Candes 2021, equation 2). period: s between changes of the
    factors. max_gap: s between observations that are interpolated. max_pending: forecasts waiting for their future."""

    memory: float = 60.0
    warm_up: int = 20
    rate: float = 0.01
    period: float = 0.5
    max_gap: float = 0.25
    max_pending: int = 200


@dataclass(frozen=True)
class OnlineReport:
    """Over the memory: mean and final wrist displacement (m), share of wrists inside their regions as published (the
    promise is COVERAGE), forecasts scored since the start, and whether the regions are adapted yet. NaN where
    unknown."""

    ade: float
    fde: float
    coverage: float
    scored: int
    adapted: bool


@dataclass(frozen=True)
class _Pending:
    forecast: Forecast
    factors: np.ndarray  # (3, S), those that it was published with


@dataclass(frozen=True)
class _Scored:
    stamp: float
    raw: Scores
    inside: np.ndarray  # (S, 2) bool as float, NaN where unknown
    displacement: np.ndarray  # (S, 2) m


class OnlineAssessment:
    """Feed it every observation (`observe`) and every forecast (`publish`, which returns the adapted one)."""

    def __init__(self, options: OnlineOptions = OnlineOptions()):
        self.options = options
        self.scored = 0
        self.reset()

    def reset(self) -> None:
        """Forget observations and forecasts, as after a jump of the clock or a change of frame; keep what was
        learned."""
        self._observations: deque[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = deque()
        self._pending: deque[_Pending] = deque(maxlen=self.options.max_pending)
        self._adapted_at = -np.inf
        if not hasattr(self, "_history"):
            self._history: deque[_Scored] = deque()
            self._factors: np.ndarray | None = None
            self._level: np.ndarray | None = None

    def publish(self, forecast: Forecast) -> Forecast:
        """The forecast (batch of one) with adapted deviations; it is kept until its future has come."""
        steps = len(forecast.step_times)
        if self._factors is None or self._factors.shape[1] != steps:
            self._factors, self._level = np.ones((3, steps)), np.full((3, steps), 1.0 - COVERAGE)
            self._history.clear()
        self._pending.append(_Pending(forecast, self._factors))
        return Calibration(*self._factors).apply(forecast) if self.adapted else forecast

    def observe(
        self, stamp: float, keypoints: np.ndarray, valid: np.ndarray, rotation: np.ndarray | None = None
    ) -> int:
        """One observation in the frame of the forecasts: keypoints (2, 21, 3) m, valid (2, 21), R_frame_palm (2, 3, 3)
        with NaN where unknown (from the palm's keypoints when not given). Returns how many forecasts were scored by
        it."""
        if self._observations and stamp <= self._observations[-1][0]:
            return 0
        keypoints = np.where(valid[..., None], keypoints, np.nan)
        rotation = palm_rotations(keypoints) if rotation is None else rotation
        self._observations.append((stamp, keypoints, valid, rotation))
        scored = 0
        while self._pending and self._end(self._pending[0].forecast) <= stamp + _SAME_TIME:
            self._score(self._pending.popleft())
            scored += 1
        oldest = float(self._pending[0].forecast.stamp[0]) if self._pending else stamp
        while self._observations[0][0] < oldest - 2.0 * self.options.max_gap:
            self._observations.popleft()
        if scored and stamp >= self._adapted_at + self.options.period:
            self._adapted_at = stamp
            self._adapt(stamp)
        return scored

    @property
    def adapted(self) -> bool:
        """Whether there have been enough scores to move the regions."""
        return self._factors is not None and bool((self._factors != 1.0).any())

    def report(self) -> OnlineReport:
        """What the memory holds now."""
        if not self._history:
            return OnlineReport(float("nan"), float("nan"), float("nan"), self.scored, self.adapted)
        displacement = np.stack([entry.displacement for entry in self._history])
        inside = np.stack([entry.inside for entry in self._history])
        return OnlineReport(_mean(displacement), _mean(displacement[:, -1]), _mean(inside), self.scored, self.adapted)

    @staticmethod
    def _end(forecast: Forecast) -> float:
        return float(forecast.stamp[0] + forecast.step_times[-1])

    def _score(self, pending: _Pending) -> None:
        forecast = pending.forecast
        times = (forecast.stamp[0] + forecast.step_times).numpy()
        columns = [np.stack(column) for column in zip(*self._observations, strict=True)]
        truth = resample(*columns, times, self.options.max_gap)
        raw = score(
            forecast, truth.keypoints[None], truth.valid[None], truth.rotation[None], truth.rotation_valid[None]
        )
        wrist = forecast.keypoints[0, 0, ..., WRIST, :].double().cpu().numpy()
        away = np.linalg.norm(truth.keypoints[..., WRIST, :] - wrist, axis=-1)
        known = np.isfinite(raw.position[0])
        if not known.any():
            return
        inside = np.where(known, raw.position[0] <= pending.factors[0][:, None], np.nan)
        self._history.append(_Scored(times[-1], raw, inside, np.where(known, away, np.nan)))
        self.scored += 1
        self._follow(raw, pending.factors)

    def _follow(self, raw: Scores, factors: np.ndarray) -> None:
        """Lower the miss level of what was missed too often, raise that of what was not."""
        for kind, name in enumerate(_KINDS):
            values = getattr(raw, name)[0].reshape(len(factors[kind]), -1)
            known = np.isfinite(values)
            missed = ((values > factors[kind][:, None]) & known).sum(1) / np.maximum(known.sum(1), 1)
            moved = self._level[kind] + self.options.rate * (1.0 - COVERAGE - missed)
            self._level[kind] = np.where(known.any(1), np.clip(moved, 0.01, 0.5), self._level[kind])

    def _adapt(self, now: float) -> None:
        while self._history and self._history[0].stamp < now - self.options.memory:
            self._history.popleft()
        if not self._history:
            return
        factors = self._factors.copy()
        for kind, name in enumerate(_KINDS):
            values = np.concatenate([getattr(entry.raw, name) for entry in self._history])
            for step in range(factors.shape[1]):
                told = values[:, step]
                if np.isfinite(told).sum() >= self.options.warm_up * (NUM_KEYPOINTS if name == "keypoint" else 1):
                    quantile = conformal_quantile(told, 1.0 - self._level[kind, step])
                    factors[kind, step] = quantile if np.isfinite(quantile) else np.nanmax(told)
        self._factors = np.maximum(factors, 1e-3)


def _mean(values: np.ndarray) -> float:
    known = np.isfinite(values)
    return float(values[known].mean()) if known.any() else float("nan")
