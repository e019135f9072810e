"""`kalman`: a constant-acceleration Kalman filter whose velocity and acceleration fade, with covariance.

Each coordinate is a state (position, velocity, acceleration) with

    dp = v dt,    dv = (a - v / velocity_time) dt,    da = -a / acceleration_time dt + noise dw

Infinite times give the plain constant-acceleration model (white jerk); a finite acceleration_time is Singer's model
(R. A. Singer, IEEE Trans. AES-6(4), 1970). Undamped acceleration over a horizon of 1 s loses to holding still, so the
preset fades both. The filter runs on the wrist position, the wrist rotation vector and the palm-frame articulation.

Gains do not depend on the data, only on which observations are there. So the whole filter and prediction is one
matrix (steps x observations) for each pattern of missing observations, computed once and kept.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import expm

from ..hand.skeleton import WRIST
from ..stream.window import Window
from .base import Forecast, ForecasterSpec, register
from .motion import Observed, assemble, exp_rotation, last_index, log_rotation, pose_hand, take

# Position is unknown before the first observation: far wider than a hand moves (units of the coordinate).
_DIFFUSE_VARIANCE = 100.0


@dataclass(frozen=True)
class MotionModel:
    """Noise and fading of one kind of coordinate; its unit U is m or rad.

    measurement_std  U, noise of one observation
    acceleration_std U/s^2, of the acceleration that drives the hand, when it is stationary
    acceleration_time, velocity_time  s, over which acceleration and velocity fade; may be infinite
    """

    measurement_std: float
    acceleration_std: float
    acceleration_time: float
    velocity_time: float

    def discrete(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Transition (3, 3) and process noise (3, 3) over `step` s (C. F. Van Loan, IEEE TAC 23(3), 1978)."""
        drift = np.array([[0, 1, 0], [0, -1 / self.velocity_time, 1], [0, 0, -1 / self.acceleration_time]])
        density = np.zeros((3, 3))
        # An undamped acceleration has no stationary spread; it then grows by its std in one second.
        density[2, 2] = self.acceleration_std**2 * (
            2 / self.acceleration_time if np.isfinite(self.acceleration_time) else 1.0
        )
        block = expm(np.block([[-drift, density], [np.zeros((3, 3)), drift.T]]) * step)
        transition = block[3:, 3:].T
        noise = transition @ block[:3, 3:]
        return transition, (noise + noise.T) / 2

    def prior(self) -> np.ndarray:
        """Variance (3,) before the first observation."""
        velocity_spread = self.acceleration_std * min(self.velocity_time, 1.0)
        return np.array([_DIFFUSE_VARIANCE, velocity_spread**2, self.acceleration_std**2])


class Predictor:
    """The linear map from T observations of a coordinate to its S future positions, for any missing observations."""

    def __init__(self, model: MotionModel, step: float, length: int, horizon_steps: int):
        self._model, self._length, self._horizon = model, length, horizon_steps
        self._transition, self._noise = model.discrete(step)
        self._solve = lru_cache(maxsize=4096)(self._solve_pattern)

    def __call__(self, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """values (B, T, ..., D) with zeros where not valid (B, T, ...) -> mean (B, S, ..., D), variance (B, S, ...).

        Predictions follow the origin: they are made relative to each coordinate's last observation.
        """
        last = take(values, last_index(valid))
        shifted = (values - last[:, None]) * valid[..., None]
        if valid.all():
            weights, covariance = self._solve(None)
            mean = np.tensordot(weights, shifted, axes=(1, 1)).swapaxes(0, 1)
            variance = np.diag(covariance).reshape(1, -1, *(1,) * (valid.ndim - 2))
            return mean + last[:, None], np.broadcast_to(variance, mean.shape[:-1])
        flat = np.moveaxis(valid, 1, -1)
        patterns, which = np.unique(flat.reshape(-1, flat.shape[-1]), axis=0, return_inverse=True)
        solved = [self._solve(pattern.tobytes()) for pattern in patterns]
        weights = np.stack([weights for weights, _ in solved])[which.ravel()]
        variance = np.stack([np.diag(covariance) for _, covariance in solved])[which.ravel()]
        observed = np.moveaxis(shifted, 1, -2).reshape(len(weights), self._length, -1)
        mean = (weights @ observed).reshape(*flat.shape[:-1], self._horizon, -1)
        variance = variance.reshape(*flat.shape[:-1], self._horizon)
        return np.moveaxis(mean, -2, 1) + last[:, None], np.moveaxis(variance, -1, 1)

    def path_factor(self) -> np.ndarray:
        """Cholesky factor (S, S) of the covariance between the predicted positions of one coordinate."""
        _, covariance = self._solve(None)
        return np.linalg.cholesky(covariance + 1e-15 * np.eye(self._horizon))

    def _solve_pattern(self, pattern: bytes | None) -> tuple[np.ndarray, np.ndarray]:
        """Weights (S, T) and covariance (S, S) of predicted positions, for the observations a pattern says are there."""
        there = np.ones(self._length, bool) if pattern is None else np.frombuffer(pattern, dtype=bool)
        transition, noise, measurement = self._transition, self._noise, self._model.measurement_std**2
        state, covariance = np.zeros((3, self._length)), np.diag(self._model.prior())
        for t in range(self._length):
            if t > 0:
                state, covariance = transition @ state, transition @ covariance @ transition.T + noise
            if there[t]:
                gain = covariance[:, 0] / (covariance[0, 0] + measurement)
                innovation = -state[0]
                innovation[t] += 1.0
                state = state + np.outer(gain, innovation)
                covariance = covariance - np.outer(gain, covariance[0])
        weights, states = [], []
        for _ in range(self._horizon):
            state, covariance = transition @ state, transition @ covariance @ transition.T + noise
            weights.append(state[0])
            states.append(covariance)
        joint = np.empty((self._horizon, self._horizon))
        for earlier, covariance in enumerate(states):
            for later in range(earlier, self._horizon):
                joint[earlier, later] = joint[later, earlier] = covariance[0, 0]
                covariance = transition @ covariance
        return np.stack(weights), joint


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
        position: MotionModel = MotionModel(0.0017, 1.65, 0.150, 0.150),
        rotation: MotionModel = MotionModel(0.022, 6.4, 0.155, 0.155),
        articulation: MotionModel = MotionModel(0.0013, 0.56, 0.090, 0.090),
        max_hypotheses: int = 64,
    ):
        self.spec = ForecasterSpec(
            "kalman", step, window_length, horizon_steps, max_hypotheses=max_hypotheses, minimum_observations=2
        )
        self._models = (position, rotation, articulation)
        self._predictors = {}

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to `max_hypotheses`; without a seed each call draws new samples."""
        observed = Observed.from_window(window)
        position, rotation, articulation = self._predictors_for(window.length)
        wrist, wrist_variance = position(observed.wrist, observed.wrist_valid)
        reference = observed.rotation[:, -1]
        turned = log_rotation(observed.rotation @ reference[:, None].swapaxes(-1, -2))
        turn, turn_variance = rotation(turned, observed.rotation_valid)
        fingers, finger_variance = articulation(*observed.articulation())

        count = max(1, min(hypotheses, self.spec.max_hypotheses))
        wrist, turn = wrist[:, None], turn[:, None]
        if count > 1:
            noise = np.random.default_rng(seed).standard_normal((2, count, self.spec.horizon_steps, 2, 3))
            noise[:, 0] = 0.0
            wrist = wrist + np.einsum("st,ktij->ksij", position.path_factor(), noise[0])
            turn = turn + np.einsum("st,ktij->ksij", rotation.path_factor(), noise[1])
        turned = exp_rotation(turn) @ reference[:, None, None]
        keypoints = pose_hand(wrist, turned, fingers[:, None])
        # A rotation error moves a point at distance r by r times the angle in each of two directions of three.
        lever = (2.0 / 3.0) * (fingers * fingers).sum(axis=-1)
        variance = wrist_variance[..., None] + finger_variance + turn_variance[..., None] * lever
        variance[..., WRIST] = wrist_variance
        diagonal = np.repeat(np.stack([wrist_variance, turn_variance], axis=-1), 3, axis=-1)
        covariance = diagonal[..., None] * np.eye(6)
        return assemble(
            self.spec, window, observed, keypoints, turned, np.sqrt(variance)[:, None], covariance[:, None]
        )

    def _predictors_for(self, length: int) -> tuple[Predictor, ...]:
        if length not in self._predictors:
            self._predictors[length] = tuple(
                Predictor(model, self.spec.step, length, self.spec.horizon_steps) for model in self._models
            )
        return self._predictors[length]


@register("kalman", "constant-acceleration Kalman filter, fading, with covariance and sampled hypotheses")
def kalman(**options) -> Kalman:
    return Kalman(**options)
