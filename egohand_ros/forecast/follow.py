"""`egohand-follow`: the next moments of the fingers at 30 Hz, for robots that follow a hand and are late themselves.

A small network (three hidden layers) sees the last 0.4 s of the articulation in the palm frame and forecasts the next
0.4 s with deviations. The wrist goes on as `kalman` has it.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ..errors import UserError
from ..geometry.rotations import exp_rotation, log_rotation
from ..hand.skeleton import LEFT, NUM_KEYPOINTS, WRIST
from ..stream.window import Window
from .base import Forecast, ForecasterSpec, register
from .kalman import POSITION, ROTATION, Predictor
from .motion import Observed, assemble, pose_hand

STEP, LENGTH, HORIZON = 1.0 / 30.0, 12, 12
_UNIT = 0.02  # m, of what the network gives
_WEIGHTS = Path(__file__).parent / "weights" / "egohand-follow.safetensors"


def features_size() -> int:
    """Numbers that the network sees: the newest pose, and the differences between those before."""
    return LENGTH * 3 * NUM_KEYPOINTS


def mirror_to_right(keypoints: np.ndarray, side: int) -> np.ndarray:
    """Palm-frame keypoints (..., 21, 3) of a left hand as those of a right one, and back."""
    return keypoints * np.array([1.0, -1.0, 1.0]) if side == LEFT else keypoints


class FollowNetwork:
    """The network in NumPy: at this size that is several times as fast as torch."""

    def __init__(self, path: Path | str):
        if not Path(path).is_file():
            raise UserError(f"{path} does not exist; make it with `python -m egohand_ros.training.train_follow --out {path}`")
        weights = {name: value.astype(np.float32) for name, value in load_file(path).items()}
        self._hidden = [(weights[f"hidden.{i}.weight"].T.copy(), weights[f"hidden.{i}.bias"]) for i in range(3)]
        self._heads = [(weights[f"{n}.weight"].T.copy(), weights[f"{n}.bias"]) for n in ("mean", "spread")]

    def __call__(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Windows (B, LENGTH, 21, 3) m, newest first -> motion (B, HORIZON, 21, 3) m from the newest pose on, and
        deviations (B, HORIZON, 21) m per axis."""
        flat = windows.reshape(len(windows), LENGTH, -1).astype(np.float32)
        x = np.concatenate([flat[:, 0] / 0.05, (flat[:, :-1] - flat[:, 1:]).reshape(len(flat), -1) / 0.005], axis=1)
        for weight, bias in self._hidden:
            x = np.maximum(x @ weight + bias, 0.0)
        motion, spread = (x @ weight + bias for weight, bias in self._heads)
        shape = (len(windows), HORIZON, NUM_KEYPOINTS)
        return _UNIT * motion.reshape(*shape, 3).astype(float), _UNIT * np.exp(spread.reshape(shape).astype(float))


class FollowForecaster:
    """Forecasts of both hands for the next 0.4 s; one hypothesis."""

    def __init__(self, checkpoint: str | Path = _WEIGHTS):
        self.spec = ForecasterSpec("egohand-follow", STEP, LENGTH, HORIZON, minimum_observations=2)
        self._network = FollowNetwork(checkpoint)
        self._wrist = Predictor(POSITION, STEP, LENGTH, HORIZON)
        self._turn = Predictor(ROTATION, STEP, LENGTH, HORIZON)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for."""
        observed = Observed.from_window(window)
        wrist = self._wrist(observed.wrist, observed.wrist_valid)
        reference = observed.rotation[:, -1]
        turned = log_rotation(observed.rotation @ reference[:, None].swapaxes(-1, -2))
        turn = self._turn(turned, observed.rotation_valid)
        rotation = exp_rotation(turn.mean) @ reference[:, None]
        fingers, spread = self._fingers(*observed.articulation())
        keypoints = pose_hand(wrist.mean, rotation, fingers)
        lever = (2.0 / 3.0) * (fingers * fingers).sum(axis=-1)
        variance = wrist.variance[..., None] + spread**2 + turn.variance[..., None] * lever
        variance[..., WRIST] = wrist.variance
        diagonal = np.repeat(np.stack([wrist.variance, turn.variance], axis=-1), 3, axis=-1)
        covariance = diagonal[..., None] * np.eye(6)
        std = np.sqrt(variance)
        return assemble(
            self.spec, window, observed, keypoints[:, None], rotation[:, None], std[:, None], covariance[:, None]
        )

    def _fingers(self, articulation: np.ndarray, valid: np.ndarray):
        """Articulation (B, HORIZON, 2, 21, 3) m and its deviations (B, HORIZON, 2, 21) m."""
        batch = len(articulation)
        future, spread = np.zeros((batch, HORIZON, 2, NUM_KEYPOINTS, 3)), np.zeros((batch, HORIZON, 2, NUM_KEYPOINTS))
        for side in range(2):
            past = _filled(mirror_to_right(articulation[:, :, side], side), valid[:, :, side])
            motion, spread[:, :, side] = self._network(past[:, ::-1])
            future[:, :, side] = mirror_to_right(past[:, -1:] + motion, side)
        return future, spread


def _filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values (B, T, 21, 3) with what is missing taken from the nearest observation before, else after."""
    if valid.all():
        return values
    time = np.arange(values.shape[1])[None, :, None]
    before = np.maximum.accumulate(np.where(valid, time, -1), axis=1)
    index = np.where(before >= 0, before, np.argmax(valid, axis=1)[:, None])
    return np.take_along_axis(values, index[..., None], axis=1)


@register("egohand-follow", "small network for the next 0.4 s of the fingers at 30 Hz: what following a hand needs")
def follow(checkpoint: str | Path = _WEIGHTS) -> FollowForecaster:
    return FollowForecaster(checkpoint)
