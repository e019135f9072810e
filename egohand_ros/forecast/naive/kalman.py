"""`kalman`: constant-acceleration Kalman filters whose velocity and acceleration fade, with covariance.

Each coordinate is a state (position, velocity, acceleration) with

    dp = v dt,    dv = (a - v / time) dt,    da = -a / time dt + noise dw

An infinite time gives the plain constant-acceleration model (white jerk); a finite one is Singer's model (R. A. Singer,
IEEE Trans. AES-6(4), 1970) with fading velocity. Undamped acceleration over a horizon of 1 s loses to holding still.

How noisy a tracker is and how lively a hand differ from recording to recording. So a bank of filters runs side by side,
and each is believed as far as it explained the window (D. T. Magill, IEEE TAC 10(4), 1965). Banks run on the wrist
position, the wrist rotation vector and the palm-frame articulation.

What a filter makes of its observations does not depend on their values, only on which ones are there. So a filter with
its prediction is one matrix (steps x observations) for each pattern of missing observations, computed once and kept.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...hand.skeleton import WRIST
from ...stream.window import Window
from ..common.observed import (
    Observed,
    assemble,
    exp_rotation,
    last_index,
    log_rotation,
    pose_hand,
    take,
)
from ..common.protocol import Forecast, ForecasterSpec
from ..registry import register

Bank = tuple["MotionModel", ...]

# Position is unknown before the first observation: far wider than a hand moves (units of the coordinate).
_DIFFUSE_VARIANCE = 100.0
_KEPT_PATTERNS = 64  # of missing observations; 50 kB each


@dataclass(frozen=True)
class MotionModel:
    """Noise and fading of one kind of coordinate; its unit U is m or rad.

    measurement_std U, noise of one observation; acceleration_std U/s^2, of the acceleration that drives the hand, when
    it is stationary; fading_time s, over which acceleration and velocity fade, may be infinite.
    """

    measurement_std: float
    acceleration_std: float
    fading_time: float

    def discrete(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Transition (3, 3) and process noise (3, 3) over `step` s (C. F. Van Loan, IEEE TAC 23(3), 1978)."""
        from scipy.linalg import expm  # here, so that a filter's name does not cost what its numbers do

        fading = 1.0 / self.fading_time
        drift = np.array([[0, 1, 0], [0, -fading, 1], [0, 0, -fading]])
        density = np.zeros((3, 3))
        # An undamped acceleration has no stationary spread; it then grows by its std in one second.
        density[2, 2] = self.acceleration_std**2 * (2.0 * fading if fading > 0 else 1.0)
        block = expm(np.block([[-drift, density], [np.zeros((3, 3)), drift.T]]) * step)
        transition = block[3:, 3:].T
        noise = transition @ block[:3, 3:]
        return transition, (noise + noise.T) / 2

    def prior(self) -> np.ndarray:
        """Variance (3,) before the first observation."""
        velocity_std = self.acceleration_std * min(self.fading_time, 1.0)
        return np.array([_DIFFUSE_VARIANCE, velocity_std**2, self.acceleration_std**2])


def bank(measurement_stds: tuple[float, ...], acceleration_stds: tuple[float, ...], fading_time: float) -> Bank:
    """Every pair of the two kinds of noise."""
    return tuple(MotionModel(m, a, fading_time) for m in measurement_stds for a in acceleration_stds)


@dataclass(frozen=True)
class _Filters:
    """What M filters make of one pattern of observations, as matrices to be applied to T observations.

    weights (M, S, T) give the predicted positions, covariance (M, S, S) between them; whitening (M, T, T) gives the
    innovations in units of their own spread, log_spread (M,) the logarithm of the product of their variances.
    """

    weights: np.ndarray
    covariance: np.ndarray
    whitening: np.ndarray
    log_spread: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """mean (B, S, ..., D), variance (B, S, ...) per coordinate, covariance between steps (B, ..., S, S) if asked
    for.
    """

    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray | None


class Predictor:
    """From T observations of coordinates to their S future positions, by a bank of filters; observations may be
    missing.
    """

    def __init__(self, models: Bank, step: float, length: int, horizon_steps: int):
        self._models, self._length, self._horizon = models, length, horizon_steps
        self._covariance = np.stack([path_covariance(model, step, length + horizon_steps) for model in models])
        self._measurement = np.array([[model.measurement_std**2] for model in models])
        self._filters = lru_cache(maxsize=_KEPT_PATTERNS)(self._make_filters)

    def __call__(self, values: np.ndarray, valid: np.ndarray, pooled: bool = False, joint: bool = False) -> Prediction:
        """values (B, T, ..., D), valid (B, T, ...). `pooled`: the last axis before D shares one belief in the filters.
        `joint`: also give the covariance between steps. Predictions do not depend on the origin of the coordinates."""
        last, lead, models = take(values, last_index(valid)), valid[:, 0].shape, len(self._models)
        dimensions = values.shape[-1]
        shifted = ((values - last[:, None]) * valid[..., None]).swapaxes(0, 1).reshape(self._length, -1, dimensions)
        count = shifted.shape[1]
        means = np.empty((models, self._horizon, count, dimensions))
        covariance = np.empty(
            (models, self._horizon, self._horizon, count) if joint else (models, self._horizon, count)
        )
        evidence = np.empty((models, count))
        for pattern, where in _groups(valid):
            filters, part = self._filters(pattern), shifted[:, where].reshape(self._length, -1)
            means[:, :, where] = (filters.weights.reshape(-1, self._length) @ part).reshape(
                models, self._horizon, -1, dimensions
            )
            white = (filters.whitening.reshape(-1, self._length) @ part).reshape(models, self._length, -1, dimensions)
            squares = np.einsum("mtnd,mtnd->mn", white, white)
            evidence[:, where] = -0.5 * (squares + dimensions * filters.log_spread[:, None])
            spread = filters.covariance if joint else np.diagonal(filters.covariance, axis1=1, axis2=2)
            covariance[..., where] = spread[..., None]
        belief = _belief(evidence.reshape(models, *lead), valid.any(axis=1), pooled).reshape(models, count)
        mean = np.einsum("mn,msnd->snd", belief, means)
        apart = means - mean
        if joint:
            covariance += np.einsum("msnd,mtnd->mstn", apart, apart) / dimensions
            covariance = np.einsum("mn,mstn->nst", belief, covariance)
            variance = np.diagonal(covariance, axis1=1, axis2=2).T
        else:
            covariance += np.einsum("msnd,msnd->msn", apart, apart) / dimensions
            variance = np.einsum("mn,msn->sn", belief, covariance)
        return Prediction(
            mean.reshape(self._horizon, *lead, dimensions).swapaxes(0, 1) + last[:, None],
            variance.reshape(self._horizon, *lead).swapaxes(0, 1),
            covariance.reshape(*lead, self._horizon, self._horizon) if joint else None,
        )

    def _make_filters(self, pattern: bytes) -> _Filters:
        """The filters in closed form: innovations are what the inverse Cholesky factor of the observations' covariance
        makes of them (T. Kailath, IEEE TAC 13(6), 1968), and the rest is Gaussian conditioning."""
        there, past = np.frombuffer(pattern, dtype=bool), slice(0, self._length)
        future = slice(self._length, None)
        observed = self._covariance[:, past, past] * (there[:, None] & there)
        # A missing observation becomes an independent one of variance 1, which is zero.
        observed = observed + np.eye(self._length) * np.where(there, self._measurement, 1.0)[..., None]
        factor = np.linalg.cholesky(observed)
        inverse = np.linalg.inv(factor)
        across = (self._covariance[:, future, past] * there) @ inverse.swapaxes(1, 2)
        # The first two observations tell of the prior and not of the hand.
        counted = there & (np.cumsum(there) > 2)
        return _Filters(
            weights=across @ inverse,
            covariance=self._covariance[:, future, future] - across @ across.swapaxes(1, 2),
            whitening=inverse * counted[:, None],
            log_spread=2.0 * np.log(np.diagonal(factor, axis1=1, axis2=2)[:, counted]).sum(axis=1),
        )


def path_covariance(model: MotionModel, step: float, count: int) -> np.ndarray:
    """Covariance (count, count) between a model's positions at times 0, step, 2 step, ..., before any observation."""
    transition, noise = model.discrete(step)
    states, powers = [np.diag(model.prior())], [np.eye(3)]
    for _ in range(count - 1):
        states.append(transition @ states[-1] @ transition.T + noise)
        powers.append(transition @ powers[-1])
    later = np.einsum("kj,ij->ik", np.stack(powers)[:, 0], np.stack(states)[:, :, 0])  # (i, k): from time i to i + k
    earlier, steps = np.triu_indices(count)[0], np.subtract(*np.triu_indices(count)[::-1])
    covariance = np.zeros((count, count))
    covariance[np.triu_indices(count)] = later[earlier, steps]
    return covariance + np.triu(covariance, 1).T


def _groups(valid: np.ndarray) -> list[tuple[bytes, np.ndarray | slice]]:
    """Patterns of observations along axis 1 of (B, T, ...), and which of the coordinates (B, ...), flat, have each."""
    if valid.all():
        return [(np.ones(valid.shape[1], dtype=bool).tobytes(), slice(None))]
    flat = np.moveaxis(valid, 1, -1).reshape(-1, valid.shape[1])
    patterns, which = np.unique(flat, axis=0, return_inverse=True)
    return [(pattern.tobytes(), np.flatnonzero(which.ravel() == i)) for i, pattern in enumerate(patterns)]


def _belief(evidence: np.ndarray, seen: np.ndarray, pooled: bool) -> np.ndarray:
    """Probability of each filter (M, B, ...) from its log-likelihood; pooled over the last axis where that is
    `seen`.
    """
    if pooled:
        # The mean and not the sum: errors of a hand's keypoints are far from independent.
        mean = (evidence * seen).sum(axis=-1, keepdims=True) / np.maximum(seen.sum(axis=-1, keepdims=True), 1)
        evidence = np.broadcast_to(mean, evidence.shape)
    likelihood = np.exp(evidence - evidence.max(axis=0))
    return likelihood / likelihood.sum(axis=0)


# From motion capture to a single camera, and from a hand at rest to one that reaches fast. The times are tuned:
# python -m egohand_ros.training.studies.tune_naive --episodes 10 --recording <Qualisys recording>
POSITION = bank((0.0005, 0.003, 0.010), (0.3, 1.5, 4.0), 0.15)
ROTATION = bank((0.005, 0.03, 0.08), (1.0, 6.0, 20.0), 0.13)
ARTICULATION = bank((0.0005, 0.002, 0.005), (0.05, 0.3, 1.0), 0.06)


@dataclass(frozen=True)
class Extrapolation:
    """The mean of what the banks predict of B windows, S steps, in the window's frame: wrist (B, S, 2, 3) m,
    R_frame_palm (B, S, 2, 3, 3), palm-frame articulation (B, S, 2, 21, 3) m; standard deviations per axis of wrist (B,
    S, 2) m and rotation (B, S, 2) rad."""

    wrist: np.ndarray
    rotation: np.ndarray
    articulation: np.ndarray
    wrist_std: np.ndarray
    rotation_std: np.ndarray


@register("kalman", "bank of constant-acceleration Kalman filters, fading, with covariance and sampled hypotheses")
class Kalman:
    """Fading constant-acceleration Kalman forecasts with covariance, and sampled hypotheses.

    The first hypothesis is the mean. The others move the wrist along paths drawn from the predicted distribution, the
    articulation being that of the mean. Each carries the spread of the whole distribution.
    """

    def __init__(
        self,
        step: float = 0.1,
        window_length: int = 20,
        horizon_steps: int = 10,
        position: Bank = POSITION,
        rotation: Bank = ROTATION,
        articulation: Bank = ARTICULATION,
        max_hypotheses: int = 64,
    ):
        self.spec = ForecasterSpec(
            "kalman", step, window_length, horizon_steps, max_hypotheses=max_hypotheses, minimum_observations=2
        )
        self._banks = (position, rotation, articulation)
        self._predictors = {}

    def extrapolate(self, observed: Observed) -> Extrapolation:
        """The expected future alone, for forecasters that correct it."""
        predict_position, predict_rotation, predict_articulation = self._predictors_for(observed.wrist.shape[1])
        wrist = predict_position(observed.wrist, observed.wrist_valid)
        reference, turned = observed.rotation[:, -1], turned_from_last(observed)
        turn = predict_rotation(turned, observed.rotation_valid)
        return Extrapolation(
            wrist.mean,
            exp_rotation(turn.mean) @ reference[:, None],
            predict_articulation(*observed.articulation(), pooled=True).mean,
            np.sqrt(wrist.variance),
            np.sqrt(turn.variance),
        )

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to `max_hypotheses`; without a seed each call draws new samples."""
        observed = Observed.from_window(window)
        predict_position, predict_rotation, predict_articulation = self._predictors_for(window.length)
        count = max(1, min(hypotheses, self.spec.max_hypotheses))
        wrist = predict_position(observed.wrist, observed.wrist_valid, joint=count > 1)
        reference, turned = observed.rotation[:, -1], turned_from_last(observed)
        turn = predict_rotation(turned, observed.rotation_valid, joint=count > 1)
        fingers = predict_articulation(*observed.articulation(), pooled=True)

        noise = (
            np.random.default_rng(seed).standard_normal((2, count, self.spec.horizon_steps, 2, 3))
            if count > 1
            else None
        )
        path = _paths(wrist, noise[0] if count > 1 else None)
        rotation = exp_rotation(_paths(turn, noise[1] if count > 1 else None)) @ reference[:, None, None]
        keypoints = pose_hand(path, rotation, fingers.mean[:, None])
        # A rotation error moves a point at distance r by r times the angle in each of two directions of three.
        lever = (2.0 / 3.0) * (fingers.mean * fingers.mean).sum(axis=-1)
        variance = wrist.variance[..., None] + fingers.variance + turn.variance[..., None] * lever
        variance[..., WRIST] = wrist.variance
        diagonal = np.repeat(np.stack([wrist.variance, turn.variance], axis=-1), 3, axis=-1)
        covariance = diagonal[..., None] * np.eye(6)
        return assemble(
            self.spec, window, observed, keypoints, rotation, np.sqrt(variance)[:, None], covariance[:, None]
        )

    def _predictors_for(self, length: int) -> tuple[Predictor, ...]:
        if length not in self._predictors:
            self._predictors[length] = tuple(
                Predictor(models, self.spec.step, length, self.spec.horizon_steps) for models in self._banks
            )
        return self._predictors[length]


def turned_from_last(observed: Observed) -> np.ndarray:
    """The rotation vectors (B, T, 2, 3) rad from the last rotation to every one."""
    return log_rotation(observed.rotation @ observed.rotation[:, -1:].swapaxes(-1, -2))


def _paths(prediction: Prediction, noise: np.ndarray | None) -> np.ndarray:
    """Paths (B, K, S, 2, 3): the mean, and others drawn about it with standard normal `noise` (K, S, 2, 3)."""
    mean = prediction.mean[:, None]
    if noise is None:
        return mean
    floor = 1e-14 * np.eye(prediction.covariance.shape[-1])
    drawn = np.einsum("bhst,kthi->bkshi", np.linalg.cholesky(prediction.covariance + floor), noise)
    drawn[:, 0] = 0.0
    return mean + drawn
