"""`adaptive`: forecasts averaged by how well each has done so far, beside one that learns linear motion.

Experts, of the wrist's place, its rotation and the fingers each on its own:

- `persistence`, and half of the way of each of the two that move;
- `kalman`;
- `egohand-motion`, learned from real people, which is believed most until more is known;
- `mean` of the window;
- `person`: vectors of the past with coefficients that are learned while it runs (ridge.py), from `egohand-motion` on,
  or from those that recordings of the person have taught;
- other forecasters that are given; one that looks for what a task names sleeps, and costs nothing, where there are no
  images or no task.

Fingers have no `person`. The forecast is the average by the weights of hedge.py, which
has a bound on the regret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...geometry.rotations import exp_rotation, log_rotation
from ...hand.skeleton import WRIST
from ...stream.window import Window
from ..common.observed import Observed, assemble, pose_hand
from ..common.protocol import Forecast, Forecaster, ForecasterSpec
from ..motion.features import SIZES
from ..motion.forecaster import FINGERS as POINTS
from ..motion.forecaster import MotionForecaster, Points
from .beliefs import (
    HALF,
    HALF_MOTION,
    HOLD,
    MEAN,
    MOTION,
    PERSON,
    Beliefs,
    checked_start,
    given_beliefs,
    learned_beliefs,
)
from .hedge import Hedge
from .learner import Learner, Said, Tested
from .memory import Memory, Moment
from .past import FINGERS, KINDS, ROTATION, VECTORS, WRIST_PLACE, vectors

_MOST_PROBABLE = 0.98
_TESTED = 10  # observations of a window that are forecast from those before them, where no stream was seen


@dataclass(frozen=True)
class Voices:
    """One forecaster's say of each kind: displacements from now (N, S, J, 3); where it forecasts (N,)."""

    kinds: tuple[np.ndarray, ...]
    awake: np.ndarray


class AdaptiveForecaster:
    """Averages persistence, `kalman`, `egohand-motion`, `person` and `others` by name. `beliefs` are those before
    anything is known, and `starts` the coefficients (S, K) by kind with which `person` begins, where they were learned
    from recordings.

    Hypotheses and covariances are those of the one that is calibrated or has most hypotheses.

    It learns from windows of batch 1 that follow each other: one that ends later than the last by at most a second and
    shows the same hands. Any other begins anew, so that nothing is carried over a jump of the clock, a bag that begins
    again, or a cut; the same window again changes nothing. What begins is judged by a test inside its window: its last
    observations are forecast from those before. So are the windows of a batch, each on its own and without memory: the
    same window then gives the same forecast, as published protocols assume. Deterministic.
    """

    def __init__(
        self,
        kalman: Forecaster,
        motion: MotionForecaster,
        others: dict[str, Forecaster],
        name: str = "adaptive",
        beliefs: Beliefs | None = None,
        starts: Mapping[str, np.ndarray] | None = None,
    ):
        self._kalman, self._motion, self._others = kalman, motion, others
        named = {"kalman": kalman, **others}
        specs, first = [one.spec for one in named.values()], kalman.spec
        looking = max(specs, key=lambda spec: len(spec.modalities))
        self._shape = max(named, key=lambda name: (named[name].spec.calibrated, named[name].spec.max_hypotheses))
        self.spec = ForecasterSpec(
            name, first.step, first.window_length, first.horizon_steps,
            max_hypotheses=named[self._shape].spec.max_hypotheses,
            modalities=looking.modalities, image_offsets=looking.image_offsets, image_size=looking.image_size,
            images_need_prompt=looking.images_need_prompt,
            checkpoint_hash="+".join(filter(None, (spec.checkpoint_hash for spec in (*specs, motion.spec)))),
            minimum_observations=2,
        )  # fmt: skip
        self.finger_names = (HOLD, "kalman", HALF, MOTION, HALF_MOTION, *others, MEAN)
        self.names = (*self.finger_names, PERSON)
        steps = self.spec.horizon_steps
        self._times = self.spec.step * np.arange(1, steps + 1)
        self.beliefs = [
            given_beliefs(names, others) if beliefs is None else learned_beliefs(names, others, beliefs[kind], steps)
            for kind, names in zip(KINDS, (self.names, self.names, self.finger_names), strict=True)
        ]
        self._memory = Memory(self.spec.window_length * self.spec.step)
        self.starts = started(starts, self._times)
        self.learner = Learner(self.beliefs, self._times, self.starts)
        self._said = -np.inf  # s, the newest moment that was learned from

    def reset(self) -> None:
        """Forget the stream: what comes next is of somebody else."""
        self._memory.forget()
        self.learner.forget()
        self._said = -np.inf

    def forget(self, side: int) -> None:
        """The hand on this side is another one from now on."""
        self.learner.forget(side)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """As many hypotheses as the expert that shapes them gives."""
        observed = Observed.from_window(window)
        now = Points.of(observed)
        if window.batch > 1:
            said, forecasts = self._say(window, observed, now, hypotheses, seed)
            boost = self._boost(forecasts, window.batch)
            mixed = self._tested(window, observed, said, boost)
            return self._assemble(window, observed, now, mixed, forecasts.get(self._shape, forecasts["kalman"]))
        moment, begins = self._follow(window, observed, now)
        said, forecasts = self._say(window, observed, now, hypotheses, seed, moment)
        if begins and (observed.wrist_valid.sum(axis=1) > 2).any():
            self.learner.test(self._judge(window, observed), self.spec.step)
        if moment.stamp > self._said:
            self.learner.say(moment, said)
            self._said = moment.stamp
        boost = self._boost(forecasts, 1)
        mixed = [
            _mixed(hedge, self._boost_of(kind, boost), said[kind]) for kind, hedge in enumerate(self.learner.hedges)
        ]
        return self._assemble(window, observed, now, mixed, forecasts.get(self._shape, forecasts["kalman"]))

    def _follow(self, window: Window, observed: Observed, now: Points) -> tuple[Moment, bool]:
        """Learn from the newest observation; whether a stream begins with it."""
        stamp = float(window.stamp[0])
        if not self._memory.continues(stamp, observed, self.spec.step):
            self.reset()
        before = self._memory.last
        if before is not None and stamp <= before.stamp + 1e-6:
            return before, False
        moment = Moment(stamp, observed, now.fingers.reshape(2, POINTS, 3))
        new = self._memory.add(moment)
        if before is not None:
            for side in np.flatnonzero(new):
                self.learner.forget(int(side))
            self.learner.observe(before, moment)
        return moment, before is None

    def _say(
        self,
        window: Window,
        observed: Observed,
        now: Points,
        hypotheses: int = 1,
        seed: int | None = None,
        moment: Moment | None = None,
    ) -> tuple[list[Said], dict[str, Forecast]]:
        """What every expert says of every kind; `person` only of a moment of the stream."""
        asked = {"kalman": self._kalman, **self._others}
        if window.images is None or not any(window.prompt or ()):
            asked = {name: one for name, one in asked.items() if not one.spec.images_need_prompt}
        shape = self._shape if self._shape in asked else "kalman"
        forecasts = {
            name: one.forecast(window, min(hypotheses, one.spec.max_hypotheses) if name == shape else 1, seed)
            for name, one in asked.items()
        }
        told = {name: voices(forecast, now, self._times) for name, forecast in forecasts.items()}
        kalman = told["kalman"]
        ways = (kalman.kinds[0][:, :, 0], kalman.kinds[1][:, :, 0], per_point(kalman.kinds[2]))
        recent = self._memory.recent() if moment is not None else None
        motion, past = self._motion.continued(now, ways, (None, None) if recent is None else recent)
        gone = (motion[0][:, :, None], motion[1][:, :, None], per_hand(motion[2]))
        rows, steps = len(kalman.awake), len(self._times)
        awake = np.ones((rows, len(self.names)), dtype=bool)
        awake[:, 1:] = kalman.awake[:, None]
        asleep = Voices(tuple(np.zeros_like(way) for way in kalman.kinds), np.zeros(rows, dtype=bool))
        for place, name in enumerate(self._others, self.names.index(HALF_MOTION) + 1):
            awake[:, place] = told.setdefault(name, asleep).awake
        said = []
        for kind in range(len(KINDS)):
            way, learned = kalman.kinds[kind], gone[kind]
            experts = [np.zeros_like(way), way, 0.5 * way, learned, 0.5 * learned]
            experts += [told[name].kinds[kind] for name in self._others]
            mean = -past[kind].vectors[:, -1:] * SIZES[-1]
            mean = per_hand(mean) if kind == FINGERS else mean[:, :, None]
            experts.append(np.broadcast_to(mean, way.shape))
            if kind == FINGERS:
                said.append(Said(np.stack(experts, axis=1), awake[:, :-1]))
                continue
            looked = np.broadcast_to(vectors(past[kind])[:, None], (rows, steps, VECTORS, 3))
            inputs = np.concatenate([learned, looked], axis=2)
            own = self.learner.regressions[kind].coefficients if moment is not None else self.starts[kind]
            person = own[:, None] @ inputs
            said.append(Said(np.stack([*experts, person], axis=1), awake, inputs))
        return said, forecasts

    def _tested(
        self, window: Window, observed: Observed, said: list[Said], boost: np.ndarray | None
    ) -> list[np.ndarray]:
        """The averages of windows without a stream, each by its own test."""
        mixed: list[list[np.ndarray]] = [[] for _ in KINDS]
        judged = self._judge(window, observed)
        for b in range(window.batch):
            learner, part = Learner(self.beliefs, self._times, self.starts), slice(2 * b, 2 * b + 2)
            learner.test([_rows(one, part) for one in judged], self.spec.step)
            for kind, hedge in enumerate(learner.hedges):
                own = Said(said[kind].displacement[part], said[kind].awake[part])
                mixed[kind].append(_mixed(hedge, self._boost_of(kind, boost, b), own))
        return [np.concatenate(parts) for parts in mixed]

    def _judge(self, window: Window, observed: Observed) -> list[Tested]:
        """The last observations of windows, forecast from those before by all that have no memory."""
        steps = len(self._times)
        articulation, points = observed.articulation()
        found = []
        for back in range(1, min(_TESTED, window.length - 2) + 1):
            earlier = _earlier(window, back)
            before = Observed.from_window(earlier)
            now = Points.of(before)
            said, _ = self._say(earlier, before, now)
            at = slice(-back, None) if back <= steps else slice(-back, -back + steps)
            rows = lambda array: np.moveaxis(array[:, at], 2, 1).reshape(-1, min(back, steps), *array.shape[3:])  # noqa: B023, E731
            truths = (
                (rows(observed.wrist) - now.wrist[:, None])[:, :, None],
                log_rotation(rows(observed.rotation) @ now.rotation[:, None].swapaxes(-1, -2))[:, :, None],
                rows(articulation[..., WRIST + 1 :, :]) - now.fingers.reshape(-1, 1, POINTS, 3),
            )
            seen = before.wrist_valid[:, -1].reshape(-1, 1, 1)
            knowns = (
                rows(observed.wrist_valid)[..., None] & seen,
                (rows(observed.rotation_valid) & before.rotation_valid[:, -1].reshape(-1, 1))[..., None] & seen,
                rows(points[..., WRIST + 1 :]) & before.valid[:, -1].reshape(-1, 1, 21)[..., WRIST + 1 :] & seen,
            )
            for kind, (part, truth, known) in enumerate(zip(said, truths, knowns, strict=True)):
                found.append(Tested(kind, part, truth, known))
        return found

    def _boost(self, forecasts: dict[str, Forecast], batch: int) -> np.ndarray | None:
        """(B, E) for experts that know what the hands go for: as sure as they are of that."""
        boosts = np.zeros((batch, len(self.names)))
        for place, name in enumerate(self._others, self.names.index(HALF_MOTION) + 1):
            forecast = forecasts.get(name)
            if forecast is None or forecast.goal_probability is None:
                continue
            sure = np.minimum(forecast.goal_probability.double().cpu().numpy()[:, 0], _MOST_PROBABLE)
            own = self.beliefs[0][place].mean()
            odds = np.log(np.maximum(sure, 1e-6) / (1.0 - sure)) - np.log(own / (1.0 - own))
            boosts[:, place] = np.maximum(odds, 0.0)
        return boosts if boosts.any() else None

    def _boost_of(self, kind: int, boost: np.ndarray | None, b: int = 0) -> np.ndarray | None:
        """(1, 1, E) for the experts of a kind."""
        return None if boost is None else boost[b : b + 1, None, : -1 if kind == FINGERS else None]

    def _assemble(
        self, window: Window, observed: Observed, now: Points, mixed: list[np.ndarray], shape: Forecast
    ) -> Forecast:
        batch, steps = window.batch, len(self._times)
        hands = lambda array: np.moveaxis(array.reshape(batch, 2, *array.shape[1:]), 1, 2)  # noqa: E731  (B, S, 2, ...)
        wrist = hands(now.wrist[:, None] + mixed[WRIST_PLACE][:, :, 0])
        rotation = hands(exp_rotation(mixed[ROTATION][:, :, 0]) @ now.rotation[:, None])
        fingers = hands(now.fingers.reshape(-1, 1, POINTS, 3) + mixed[FINGERS])
        articulation = np.concatenate([np.zeros((*fingers.shape[:3], 1, 3)), fingers], axis=3)
        keypoints, rotation = pose_hand(wrist, rotation, articulation)[:, None], rotation[:, None]
        if shape.keypoints.shape[1] > 1:
            keypoints, rotation = _spread(keypoints, rotation, shape, steps)
        array = lambda tensor: tensor.double().cpu().numpy()[:, :, :steps]  # noqa: E731
        std, covariance = array(shape.keypoint_std), array(shape.wrist_covariance)
        forecast = assemble(self.spec, window, observed, keypoints, rotation, std, covariance)
        return replace(
            forecast, probability=shape.probability.cpu(), stage=shape.stage,
            goal_points=shape.goal_points, goal_probability=shape.goal_probability,
        )  # fmt: skip


def started(starts: Mapping[str, np.ndarray] | None, times: np.ndarray) -> list[np.ndarray]:
    """Coefficients (S, K) of wrist and rotation with which `person` begins: those given by kind, else those that say
    what `egohand-motion` says."""
    if starts is None:
        return [np.eye(1, 1 + VECTORS).repeat(len(times), axis=0) for _ in (WRIST_PLACE, ROTATION)]
    return [checked_start(starts, KINDS[kind], (len(times), 1 + VECTORS)) for kind in (WRIST_PLACE, ROTATION)]


def _rows(tested: Tested, part: slice) -> Tested:
    """Of some hands."""
    said = Said(tested.said.displacement[part], tested.said.awake[part])
    return Tested(tested.kind, said, tested.truth[part], tested.known[part])


def per_point(array: np.ndarray) -> np.ndarray:
    """(N, S, 20, 3) as (20 N, S, 3)."""
    return np.moveaxis(array, 2, 1).reshape(-1, array.shape[1], 3)


def per_hand(array: np.ndarray) -> np.ndarray:
    """(20 N, S, 3) as (N, S, 20, 3)."""
    return np.moveaxis(array.reshape(-1, POINTS, array.shape[1], 3), 1, 2)


def _earlier(window: Window, back: int) -> Window:
    """The windows as they were `back` observations before, of which the first are not known; no images."""
    import torch  # here, so that listing forecasters does not take seconds

    late = {}
    for name in ("keypoints", "valid", "wrist_rotation", "rotation_valid"):
        value = getattr(window, name)
        late[name] = torch.cat([torch.zeros_like(value[:, :back]), value[:, :-back]], dim=1)
    late["wrist_rotation"] = torch.cat(
        [window.wrist_rotation[:, :1].expand(-1, back, -1, -1, -1), window.wrist_rotation[:, :-back]], dim=1
    )
    return Window(stamp=window.stamp, **late)


def voices(forecast: Forecast, now: Points, times: np.ndarray) -> Voices:
    """A forecast's first hypothesis as displacements."""
    steps = len(times)
    keypoints = forecast.keypoints[:, 0, :steps].double().cpu().numpy()
    rotation = forecast.wrist_rotation[:, 0, :steps].double().cpu().numpy()
    valid = forecast.valid.cpu().numpy()
    wrist = keypoints[..., WRIST, :]
    fingers = ((keypoints - wrist[..., None, :]) @ rotation)[..., WRIST + 1 :, :]
    rows = lambda array: np.moveaxis(array, 2, 1).reshape(-1, steps, *array.shape[3:])  # noqa: E731
    points = valid[..., WRIST + 1 :].reshape(-1, 1, fingers.shape[-2], 1)
    return Voices(
        (
            (rows(wrist) - now.wrist[:, None])[:, :, None],
            log_rotation(rows(rotation) @ now.rotation[:, None].swapaxes(-1, -2))[:, :, None],
            (rows(fingers) - now.fingers.reshape(-1, 1, POINTS, 3)) * points,
        ),
        valid[..., WRIST].reshape(-1),
    )


def _mixed(hedge: Hedge, boost: np.ndarray | None, said: Said) -> np.ndarray:
    """The average (N, S, J, 3) of all experts of a kind; N = 2."""
    weights = hedge.weights(said.awake[None], boost)[0]
    count, experts, steps = weights.shape
    shown = said.displacement.reshape(count, experts, steps, -1)
    return (weights[..., None] * shown).sum(axis=1).reshape(count, *said.displacement.shape[2:])


def _spread(keypoints: np.ndarray, rotation: np.ndarray, shape: Forecast, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Hypotheses about the average as those of `shape` are about its first: (B, K, S, 2, 21, 3) and (B, K, S, 2, 3,
    3).
    """
    others = shape.keypoints[:, :, :steps].double().cpu().numpy()
    turns = shape.wrist_rotation[:, :, :steps].double().cpu().numpy()
    wrist = keypoints[..., WRIST, :] + others[..., WRIST, :] - others[:, :1, ..., WRIST, :]
    local = lambda points, turn: (points - points[..., WRIST : WRIST + 1, :]) @ turn  # noqa: E731
    fingers = local(keypoints, rotation) + local(others, turns) - local(others[:, :1], turns[:, :1])
    turned = turns @ turns[:, :1].swapaxes(-1, -2) @ rotation
    return pose_hand(wrist, turned, fingers), turned
