"""What the robot sees of the person, and the ways to forecast it that are compared."""

from dataclasses import dataclass, replace

import numpy as np

from ...data.synthetic.tracker import TrackerModel
from ...forecast.common.protocol import Forecaster
from ...hand.skeleton import WRIST
from ...messages.forecast import Futures, HandFuture
from ...messages.hands import Hands, hands
from ...stream.aligner import WindowBuilder
from .person import Person

FRAME = "robot_base"
_PERFECT_STEP, _PERFECT_STEPS = 0.1, 10


@dataclass(frozen=True)
class Method:
    """A way to forecast: a forecaster's preset, how many hypotheses, and whether covariances count; PERFECT knows what
    the person means to do."""

    name: str
    forecaster: str
    hypotheses: int = 1
    covariance: bool = False


PERFECT = "perfect"
METHODS = (
    Method("persistence", "persistence"),
    Method("kalman", "kalman"),
    Method("mean", "egohand-small"),
    Method("hypotheses", "egohand-small", 10),
    Method("hypotheses + covariance", "egohand-small", 10, True),
    Method("minimum jerk + covariance", "minimum-jerk", 10, True),
    Method("perfect", PERFECT),
)


class Watcher:
    """A noisy tracker, and a forecaster behind it: observations in, `Hands` and `Futures` out."""

    def __init__(self, method: Method, forecaster: Forecaster | None, person: Person, seed: int):
        self.method, self._forecaster, self._person = method, forecaster, person
        self._builder = WindowBuilder(forecaster.spec) if forecaster is not None else None
        self._noise = TrackerNoise(np.random.default_rng([seed, 5]))

    def see(self, now: float, forecast: bool) -> tuple[Hands, Futures | None]:
        """What the tracker shows at `now`, and, where asked for, a forecast from then on."""
        keypoints, _ = self._person.keypoints(now)
        seen = self._noise(now, keypoints, self._person.head)
        observed = hands(now, FRAME, seen)
        if self._builder is not None:
            self._builder.add_camera_pose(now, camera_pose(self._person.head))
            self._builder.add_hands(now, observed.keypoints, observed.valid)
        return observed, self._forecast(now) if forecast else None

    def _forecast(self, now: float) -> Futures | None:
        if self._forecaster is None:
            return self._perfect(now)
        from ...forecast.common.futures import futures_from_forecast

        window = self._builder.window()
        if window is None:
            return None
        futures = futures_from_forecast(self._forecaster.forecast(window, self.method.hypotheses, seed=0), FRAME)
        if self.method.covariance:
            return futures
        blind = tuple(replace(h, wrist_covariance=np.full_like(h.wrist_covariance, np.nan)) for h in futures.hands)
        return replace(futures, hands=blind)

    def _perfect(self, now: float) -> Futures:
        times = _PERFECT_STEP * np.arange(1, _PERFECT_STEPS + 1)
        points, rotation = self._person.planned(now + times)
        both = tuple(
            HandFuture(
                side,
                1,
                np.ones(1),
                points[None, :, side],
                rotation[None, :, side],
                np.zeros((1, len(times), 21)),
                np.zeros((1, len(times), 6, 6)),
            )
            for side in range(2)
        )
        return Futures(now, FRAME, times, both)


class TrackerNoise:
    """The errors of `TrackerModel`, one observation after another: correlated noise of keypoints, of depth along the
    line of sight, and gaps."""

    def __init__(self, rng: np.random.Generator, model: TrackerModel = TrackerModel()):
        self._rng, self._model = rng, model
        self._last = -np.inf
        self._points, self._depth = rng.normal(size=(2, 21, 3)), rng.normal(size=2)
        self._lost_until = np.full(2, -np.inf)

    def __call__(self, now: float, keypoints: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Keypoints (2, 21, 3) m as they are seen, NaN where a hand is lost."""
        model, rng = self._model, self._rng
        passed = min(now - self._last, 1.0)
        self._last = now
        for name, time in (("_points", model.keypoint_time), ("_depth", model.depth_time)):
            keep = float(np.exp(-passed / time))
            old = getattr(self, name)
            setattr(self, name, keep * old + np.sqrt(1.0 - keep**2) * rng.normal(size=old.shape))
        ray = keypoints[:, WRIST] - head
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        seen = keypoints + model.keypoint_std * self._points + (model.depth_std * self._depth[:, None] * ray)[:, None]
        for side in range(2):
            if rng.random() < passed / model.lost_every and np.isfinite(passed):
                self._lost_until[side] = now + rng.exponential(model.lost_for)
            if now < self._lost_until[side]:
                seen[side] = np.nan
        return seen


def camera_pose(head: np.ndarray) -> np.ndarray:
    """T_base_camera (4, 4), optical, of a person who looks at the robot's hand."""
    forward = np.array([0.55, 0.0, 0.25]) - head
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, head
    return pose
