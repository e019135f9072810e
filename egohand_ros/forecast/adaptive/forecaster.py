"""`adaptive`: other forecasters averaged by how well each has done so far, beside two that learn linear motion.

Experts, of the wrist's place, its rotation and the fingers each on its own:

- the forecasters that are given;
- `prior`: a linear forecast whose coefficients a small network picks by context; what real people have in common
  (prior.py);
- `person`: the same vectors with coefficients learned while it runs (ridge.py).

The forecast is their average by the weights of hedge.py, which has a bound on the regret.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...geometry.rotations import exp_rotation, log_rotation
from ...hand.skeleton import WRIST
from ...stream.window import Window
from ..common.observed import Observed, assemble, last_index, pose_hand, take
from ..common.protocol import Forecast, Forecaster, ForecasterSpec
from .hedge import Hedge
from .learner import Learner, LearningOptions, Said
from .memory import Memory, Moment
from .past import FINGERS, FLOORS, KINDS, ROTATION, WRIST_PLACE, Past, context, pasts, vectors
from .prior import INPUTS, STEP, STEPS, Prior, load_priors

BASIS = ("kalman", "damped")  # what the two linear experts correct
PRIOR, PERSON = "prior", "person"
# Before anything is known of a person; those that are not named get as much as `_OTHER`.
_BELIEF = {"persistence": 0.10, "damped": 0.06, "kalman": 0.14, PRIOR: 0.55, PERSON: 0.08}
_OTHER = 0.10
_MOST_PROBABLE = 0.98
OPTIONS = (LearningOptions(), LearningOptions(), LearningOptions())


@dataclass(frozen=True)
class Voices:
    """One forecaster's say of each kind: displacements from now (N, S, J, 3); where it forecasts (N,)."""

    kinds: tuple[np.ndarray, ...]
    awake: np.ndarray


class AdaptiveForecaster:
    """Averages `experts` (by name), with hypotheses and covariances of the one called `shape`.

    It learns from windows of batch 1 that follow each other: one that ends later than the last by at most a second and
    shows the same hands. Any other begins anew, so that nothing is carried over a jump of the clock, a bag that begins
    again, or a cut; the same window again changes nothing. A batch of windows is forecast without memory, each on its
    own, from fixed beliefs: the same window then gives the same forecast, as published protocols assume. Deterministic.
    """

    def __init__(
        self,
        experts: dict[str, Forecaster],
        basis: dict[str, Forecaster],
        name: str = "adaptive",
        options: Sequence[LearningOptions] = OPTIONS,
        priors: Sequence[Prior | None] | None = None,
    ):
        self._experts, self._basis = experts, basis
        specs = [expert.spec for expert in (*basis.values(), *experts.values())]
        first = specs[0]
        looking = max(specs, key=lambda spec: len(spec.modalities))
        self._shape = max(experts, key=lambda name: (experts[name].spec.calibrated, experts[name].spec.max_hypotheses))
        self.spec = ForecasterSpec(
            name, first.step, first.window_length, first.horizon_steps,
            max_hypotheses=experts[self._shape].spec.max_hypotheses,
            modalities=looking.modalities, image_offsets=looking.image_offsets, image_size=looking.image_size,
            images_need_prompt=looking.images_need_prompt,
            checkpoint_hash="+".join(filter(None, (expert.spec.checkpoint_hash for expert in experts.values()))),
            minimum_observations=2,
        )  # fmt: skip
        usable = np.isclose(first.step, STEP) and first.horizon_steps == STEPS
        priors = load_priors() if priors is None else list(priors)
        self._priors = priors if usable else [None] * len(KINDS)
        self.names = (*experts, PRIOR, PERSON)
        share = np.array([_BELIEF.get(name, _OTHER) for name in self.names])
        self._beliefs = [share / share.sum() for _ in KINDS]
        self._times = self.spec.step_times().numpy()
        self._memory = Memory(self.spec.window_length * self.spec.step)
        inputs = 1 + INPUTS
        self.learner = Learner(self._beliefs, self._times, inputs, list(options))
        self._still = Learner(self._beliefs, self._times, inputs, list(options))  # never learns: for batches
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
        past, learner, moment = pasts(observed), self._still, None
        if window.batch == 1:
            moment, learner = self._follow(window, observed), self.learner
            past = self._memory.enrich(past)
        forecasts = self._ask(window, hypotheses, seed)
        now = Now.of(observed)
        told = {name: voices(forecast, now, self._times) for name, forecast in forecasts.items()}
        said = [self._say(kind, past[kind], told, learner) for kind in range(len(KINDS))]
        if moment is not None and moment.stamp > self._said:
            learner.say(moment, said)
            self._said = moment.stamp
        shape = forecasts[self._shape]
        boost = self._boost(forecasts, window.batch)
        mixed = [_mixed(hedge, boost, part) for hedge, part in zip(learner.hedges, said, strict=True)]
        return self._assemble(window, observed, now, mixed, shape)

    def _follow(self, window: Window, observed: Observed) -> Moment:
        """Learn from the newest observation."""
        stamp = float(window.stamp[0])
        if not self._memory.continues(stamp, observed, self.spec.step):
            self.reset()
        before, moment = self._memory.last, Moment(stamp, observed)
        if before is not None and stamp <= before.stamp + 1e-6:
            return before
        new = self._memory.add(moment)
        if before is not None:
            for side in np.flatnonzero(new):
                self.learner.forget(int(side))
            self.learner.observe(before, moment)
        return moment

    def _ask(self, window: Window, hypotheses: int, seed: int | None) -> dict[str, Forecast]:
        forecasts = {}
        for name, forecaster in {**self._basis, **self._experts}.items():
            if name == "persistence" and name != self._shape:
                continue
            count = min(hypotheses, forecaster.spec.max_hypotheses) if name == self._shape else 1
            forecasts[name] = forecaster.forecast(window, count, seed)
        return forecasts

    def _say(self, kind: int, past: Past, told: dict[str, Voices], learner: Learner) -> Said:
        """What every expert says of a kind."""
        given = vectors(past)
        rows, count = given.shape[:2]
        flat = given.reshape(rows, count, -1)
        basis = np.stack([told[name].kinds[kind] for name in BASIS], axis=1)  # (N, 2, S, J, 3)
        prior, shape = self._priors[kind], basis[:, 0].shape
        guess = basis[:, 0]
        if prior is not None:
            coefficients = prior(context(past, FLOORS[kind]))
            guess = np.einsum("nsk,nksjd->nsjd", coefficients[..., : len(BASIS)], basis)
            guess = guess + (coefficients[..., len(BASIS) :] @ flat).reshape(shape)
        person = guess
        if learner is not self._still:
            told_by = learner.regressions[kind].coefficients
            person = told_by[:, 0, None, None] * guess + np.einsum(
                "sk,nksjd->nsjd", told_by[:, 1 : 1 + len(BASIS)], basis
            )
            person = person + (told_by[:, 1 + len(BASIS) :] @ flat).reshape(shape)
        silent = np.zeros(shape)
        experts = [told[name].kinds[kind] if name in told else silent for name in self._experts]
        awake = [told[name].awake if name in told else np.ones(rows, dtype=bool) for name in self._experts]
        linear = told[BASIS[0]].awake
        return Said(
            np.stack([*experts, guess, person], axis=1),
            np.stack([*awake, linear & (prior is not None), linear], axis=1),
            np.concatenate([guess[:, None], basis], axis=1),
            given,
        )

    def _boost(self, forecasts: dict[str, Forecast], batch: int) -> np.ndarray | None:
        """(B, E) for experts that know what the hands go for: as sure as they are of that."""
        boosts = np.zeros((batch, len(self.names)))
        for index, name in enumerate(self._experts):
            forecast = forecasts.get(name)
            if forecast is None or forecast.goal_probability is None:
                continue
            sure = np.minimum(forecast.goal_probability.double().cpu().numpy()[:, 0], _MOST_PROBABLE)
            own = self._beliefs[0][index]
            odds = np.log(np.maximum(sure, 1e-6) / (1.0 - sure)) - np.log(own / (1.0 - own))
            boosts[:, index] = np.maximum(odds, 0.0)
        return boosts if boosts.any() else None

    def _assemble(
        self, window: Window, observed: Observed, now: "Now", mixed: list[np.ndarray], shape: Forecast
    ) -> Forecast:
        batch, steps = window.batch, len(self._times)
        hands = lambda array: np.moveaxis(array.reshape(batch, 2, *array.shape[1:]), 1, 2)  # noqa: E731  (B, S, 2, ...)
        wrist = hands(now.wrist[:, None] + mixed[WRIST_PLACE][:, :, 0])
        rotation = hands(exp_rotation(mixed[ROTATION][:, :, 0]) @ now.rotation[:, None])
        fingers = hands(now.fingers[:, None] + mixed[FINGERS])
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


@dataclass(frozen=True)
class Now:
    """Where N hands were last seen: wrist (N, 3) m, R_frame_palm (N, 3, 3), fingers (N, 20, 3) m in the palm frame."""

    wrist: np.ndarray
    rotation: np.ndarray
    fingers: np.ndarray

    @classmethod
    def of(cls, observed: Observed) -> "Now":
        articulation, valid = observed.articulation()
        rows = lambda array: array.reshape(-1, *array.shape[2:])  # noqa: E731
        fingers = take(articulation, last_index(valid))[..., WRIST + 1 :, :]
        return cls(
            rows(take(observed.wrist, last_index(observed.wrist_valid))),
            rows(observed.rotation[:, -1]),
            rows(fingers * valid.any(axis=1)[..., WRIST + 1 :, None]),
        )


def voices(forecast: Forecast, now: Now, times: np.ndarray) -> Voices:
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
            (rows(fingers) - now.fingers[:, None]) * points,
        ),
        valid[..., WRIST].reshape(-1),
    )


def _mixed(hedge: Hedge, boost: np.ndarray | None, said: Said) -> np.ndarray:
    """The average (N, S, J, 3) of all experts of a kind."""
    count = len(said.awake)
    awake = said.awake.reshape(-1, 2, said.awake.shape[-1])
    weights = hedge.weights(awake, None if boost is None else boost[:, None]).reshape(
        count, -1, said.displacement.shape[2]
    )
    return np.einsum("nes,nesjd->nsjd", weights, said.displacement)


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
