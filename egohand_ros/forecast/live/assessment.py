"""Scores every forecast when its future has arrived, and keeps the regions of new ones at the coverage they promise.

Works for any forecaster, also for one that gives no deviations. Pure and without a clock: the node feeds it. Work per
observation and memory are bounded, whatever the rate and however long it runs.
"""

import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np

from ...hand.palm import palm_rotations
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.resample import resample
from ..common.calibration import (
    COVERAGE,
    Calibration,
    Scores,
    conformal_quantile,
    score,
)
from ..common.protocol import Forecast

_KINDS = {"position": 1, "rotation": 1, "keypoint": NUM_KEYPOINTS}  # scores of a hand at a step
# Stamps this close (s) are the same: they go through nanoseconds and floats.
_SAME_TIME = 1e-6
_LEAST_SCORE = 1e-3  # as least factors


@dataclass(frozen=True)
class OnlineOptions:
    """memory: s of scores that count, of which `kept` are kept, evenly spread. warm_up: hands scored at a step before
    its factor moves. rate: how fast the level follows misses (adaptive conformal inference, Gibbs and Candes 2021,
    equation 2). local: s over which the mean score of a kind is taken, relative to which scores are kept, so that
    regions follow how well it goes now (locally weighted conformal inference, Lei et al. 2018, section 5.2); 0: none.
    max_gap: s between observations that are interpolated. max_pending: forecasts waiting for their future, and
    observations that they are scored by."""

    memory: float = 60.0
    kept: int = 300
    warm_up: int = 20
    rate: float = 0.02
    local: float = 0.0
    max_gap: float = 0.25
    max_pending: int = 400


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
    factors: np.ndarray  # (3, S), the newest when it was published
    scale: np.ndarray  # (3,) mean score of late, then; NaN where unknown
    adapted: bool  # whether they were applied to what was published


class _Memory:
    """The newest `size` scores of S steps: a ring of arrays, NaN where nothing is."""

    def __init__(self, size: int, steps: int):
        self._next, self._stamp = 0, np.full(size, -np.inf)
        self.values = [np.full((size, steps, 2 * count), np.nan, np.float32) for count in _KINDS.values()]

    def add(self, stamp: float, raw: Scores) -> None:
        self._stamp[self._next] = stamp
        for kind, name in enumerate(_KINDS):
            self.values[kind][self._next] = getattr(raw, name)[0].reshape(self.values[kind].shape[1:])
        self._next = (self._next + 1) % len(self._stamp)

    def forget(self, before: float) -> None:
        old = np.isfinite(self._stamp) & (self._stamp < before)
        if old.any():
            self._stamp[old] = -np.inf
            for values in self.values:
                values[old] = np.nan

    def move(self, stamp: float) -> None:
        """All that is held counts as of this time: the clock is another one."""
        self._stamp[np.isfinite(self._stamp)] = stamp

    @property
    def newest(self) -> float:
        return float(self._stamp[self._next - 1])


class _Running:
    """Mean of numbers, each fading with time; NaN before the first."""

    def __init__(self, time_constant: float):
        self._time_constant, self._stamp = time_constant, None
        self._total = 0.0, 0.0  # sum and weight, in one piece: another thread may read it

    def add(self, stamp: float, values: np.ndarray) -> None:
        known = values[np.isfinite(values)]
        elapsed = 0.0 if self._stamp is None else max(stamp - self._stamp, 0.0)
        keep, self._stamp = np.exp(-elapsed / self._time_constant), stamp
        self._total = keep * self._total[0] + known.sum(), keep * self._total[1] + len(known)

    @property
    def mean(self) -> float:
        total, weight = self._total
        return float(total / weight) if weight > 0.0 else float("nan")


class OnlineAssessment:
    """Feed it every observation (`observe`) and every forecast (`publish`, which returns the adapted one)."""

    def __init__(self, options: OnlineOptions = OnlineOptions()):
        self.options = options
        self.scored = 0
        self._memory: _Memory | None = None
        self._running = {name: _Running(options.memory) for name in ("ade", "fde", "coverage")}
        self._local = [_Running(options.local) for _ in _KINDS] if options.local else []
        self.reset()

    def reset(self) -> None:
        """Forget observations and forecasts, as after a jump of the clock or a change of frame; keep what was
        learned."""
        size = self.options.max_pending
        self._observations: deque[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=size)
        self._pending: deque[_Pending] = deque(maxlen=size)

    def publish(self, forecast: Forecast, adapt: bool = True) -> Forecast:
        """The forecast (batch of one), with adapted deviations unless `adapt` is false; it is kept until its future has
        come."""
        steps = len(forecast.step_times)
        if self._memory is None or self._factors.shape[1] != steps:
            self._memory = _Memory(self.options.kept, steps)
            self._factors, self._level = np.ones((3, steps)), np.full((3, steps), 1.0 - COVERAGE)
            self._turns = itertools.cycle(range(steps))
        adapt = adapt and self.adapted
        told = _Pending(forecast, self._factors, self._scale(), adapt)
        self._pending.append(told)
        return Calibration(*self._radii(told)).apply(forecast) if adapt else forecast

    def _scale(self) -> np.ndarray:
        return np.array([running.mean for running in self._local]) if self._local else np.ones(len(_KINDS))

    def _radii(self, pending: _Pending) -> np.ndarray:
        """Factors (3, S) on what was promised; 1 where nothing is known yet."""
        moved = pending.factors != 1.0
        return np.where(moved & np.isfinite(pending.scale)[:, None], pending.factors * pending.scale[:, None], 1.0)

    def observe(
        self, stamp: float, keypoints: np.ndarray, valid: np.ndarray, rotation: np.ndarray | None = None
    ) -> int:
        """One observation in the frame of the forecasts: keypoints (2, 21, 3) m, valid (2, 21), R_frame_palm (2, 3, 3)
        with NaN where unknown (from the palm's keypoints when not given). Returns how many forecasts were scored by
        it."""
        if self._observations and stamp <= self._observations[-1][0]:
            return 0
        if not self._observations and self._memory is not None:
            self._memory.move(stamp)
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
        if self._memory is not None:
            self._adapt(stamp)
        return scored

    @property
    def adapted(self) -> bool:
        """Whether there have been enough scores to move the regions."""
        return self._memory is not None and bool((self._factors != 1.0).any())

    def report(self) -> OnlineReport:
        """How it stands now."""
        return OnlineReport(**{k: r.mean for k, r in self._running.items()}, scored=self.scored, adapted=self.adapted)

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
        known = np.isfinite(raw.position[0])
        if not known.any():
            return
        self.scored += 1
        wrist = forecast.keypoints[0, 0, ..., WRIST, :].double().cpu().numpy()
        away = np.where(known, np.linalg.norm(truth.keypoints[..., WRIST, :] - wrist, axis=-1), np.nan)
        radius = self._radii(pending)[0][:, None] if pending.adapted else 1.0
        inside = np.where(known, raw.position[0] <= radius, np.nan)
        for name, values in (("ade", away), ("fde", away[-1]), ("coverage", inside)):
            self._running[name].add(times[-1], values)
        if times[-1] >= self._memory.newest + self.options.memory / self.options.kept - _SAME_TIME:
            for running, name in zip(self._local, _KINDS, strict=False):
                running.add(times[-1], np.maximum(getattr(raw, name), _LEAST_SCORE))
            relative = Scores(*(getattr(raw, n) / scale for n, scale in zip(_KINDS, pending.scale, strict=True)))
            self._memory.add(times[-1], relative)
            self._follow(relative, pending.factors)

    def _follow(self, relative: Scores, factors: np.ndarray) -> None:
        """Lower the miss level of what was missed too often, raise that of what was not."""
        for kind, name in enumerate(_KINDS):
            values = getattr(relative, name)[0].reshape(len(factors[kind]), -1)
            known = np.isfinite(values)
            missed = ((values > factors[kind][:, None]) & known).sum(1) / np.maximum(known.sum(1), 1)
            moved = self._level[kind] + self.options.rate * (1.0 - COVERAGE - missed)
            self._level[kind] = np.where(known.any(1), np.clip(moved, 0.01, 0.5), self._level[kind])

    def _adapt(self, now: float) -> None:
        """Renew the factors of one step: in turns, so that no observation costs more than another."""
        self._memory.forget(now - self.options.memory)
        step, factors = next(self._turns), self._factors.copy()  # pending forecasts keep theirs
        for kind, count in enumerate(_KINDS.values()):
            told = self._memory.values[kind][:, step]
            known = np.isfinite(told)
            hands = known.reshape(-1, 2, count).any(axis=-1).sum()  # of some, wrists alone are known
            told = told[known]
            if hands >= self.options.warm_up:
                quantile = conformal_quantile(told, 1.0 - self._level[kind, step])
                factors[kind, step] = max(quantile if np.isfinite(quantile) else told.max(), 1e-3)
        self._factors = factors
