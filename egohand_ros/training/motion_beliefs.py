"""What recordings teach `adaptive` before a stream begins: whom to believe, and the coefficients that `person` has.

Recordings are followed once, as a stream, and what the experts said of wrist and rotation is kept; that does not depend
on beliefs, so that it can be gone through again under others. What is taken is what makes the average err least on each
recording when the others teach it, and what there was before where that gains next to nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..data.episode import Episode
from ..data.windows import cut_windows
from ..evaluation.stream import RATE, in_order, stream_frames
from ..forecast.adaptive.beliefs import Beliefs, Starts
from ..forecast.adaptive.forecaster import AdaptiveForecaster
from ..forecast.adaptive.learner import HALF_LIFE, TRUST, Learner, Said, Tested
from ..forecast.adaptive.learner import RATE as BELIEF_RATE
from ..forecast.adaptive.memory import Moment
from ..forecast.adaptive.past import FINGERS, KINDS, ROTATION, WRIST_PLACE
from ..forecast.adaptive.ridge import OnlineRidge
from ..forecast.common.observed import Observed
from ..forecast.motion.forecaster import Points
from .motion_training import came

KEPT_BELIEF = 0.2  # in what was believed before
FOLLOWED = (0.0, 0.3, 1.0)  # of what a stream remembers
TAUGHT = (0.0, 0.1, 0.3)  # belief in `person` with coefficients that recordings taught; 0: those that it had
LEAST_RECORDINGS = 3  # to leave one out in turn
LEAST_GAIN = 0.01  # of the error on what was left out, or nothing changes
_REPLAYED = (WRIST_PLACE, ROTATION)
_WINDOWS = 128  # cut at a time


@dataclass(frozen=True)
class Seen:
    """Of one kind: loss (E, S) of every expert over the mean of all, times seconds, and the seconds (S,)."""

    loss: np.ndarray
    seconds: np.ndarray

    def remembered(self) -> np.ndarray:
        """Loss (E, S) of as many seconds as a stream remembers."""
        return self.loss * np.minimum(self.seconds, HALF_LIFE / np.log(2.0)) / np.maximum(self.seconds, 1e-9)


@dataclass(frozen=True)
class Heard:
    """One recording that was followed: what a learner was told, in order, of wrist and rotation; by those two what came
    of the T forecasts that it kept, (T, 2, S, 3), and where that is known (T, 2, S); by all kinds what was seen of the
    experts; and by the two what a regression learned that forgets nothing."""

    told: list[tuple[str, tuple]]
    truth: list[np.ndarray]
    known: list[np.ndarray]
    seen: list[Seen]
    regressions: list[OnlineRidge]


class _Keeper(Learner):
    """A learner that forgets nothing with time, and keeps what it is told."""

    def __init__(self, forecaster: AdaptiveForecaster):
        self.told: list[tuple[str, tuple]] = []
        super().__init__(forecaster.beliefs, times_of(forecaster), forecaster.starts, np.inf, np.inf)
        self.told.clear()

    def forget(self, side: int | None = None) -> None:
        self.told.append(("forget", (side,)))
        super().forget(side)

    def observe(self, before: Moment, now: Moment) -> None:
        self.told.append(("observe", (before, now)))
        super().observe(before, now)

    def test(self, tested: Sequence[Tested], seconds: float) -> None:
        self.told.append(("test", ([one for one in tested if one.kind in _REPLAYED], seconds)))
        super().test(tested, seconds)

    def say(self, moment: Moment, said: list[Said]) -> None:
        count = self._count
        super().say(moment, said)
        if self._count > count:
            self.told.append(("say", (moment, [_small(said[kind]) for kind in _REPLAYED])))


def times_of(forecaster: AdaptiveForecaster) -> np.ndarray:
    """(S,) s."""
    return forecaster.spec.step * np.arange(1, forecaster.spec.horizon_steps + 1)


def follow(episode: Episode, forecaster: AdaptiveForecaster) -> Heard:
    """Let a forecaster follow a recording; it is not to be used for anything else afterwards."""
    keeper = _Keeper(forecaster)
    forecaster.learner = keeper
    forecaster.reset()
    spec, frames, came_by_frame = forecaster.spec, stream_frames(episode.stamp, RATE), []
    for start in range(0, len(frames), _WINDOWS):
        part = frames[start : start + _WINDOWS]
        cut = cut_windows(episode, part, spec.step, spec.window_length, spec.horizon_steps)
        in_order(forecaster, cut.window)
        points = Points.of(Observed.from_window(cut.window))
        truths, knowns = came(cut, points)
        for row, stamp in enumerate(cut.window.stamp.tolist()):
            hands = slice(2 * row, 2 * row + 2)
            seen = [points.seen[kind][hands] for kind in _REPLAYED]
            now = [(one[:, -1] & (one.sum(axis=1) > 1))[:, None] for one in seen]
            known = [knowns[kind][hands] & now[kind] for kind in _REPLAYED]
            came_by_frame.append((stamp, [truths[kind][hands] for kind in _REPLAYED], known))
    kept = {args[0].stamp for name, args in keeper.told if name == "say"}
    rows = [row for row in came_by_frame if row[0] in kept]
    return Heard(
        keeper.told,
        [np.array([row[1][kind] for row in rows]) for kind in _REPLAYED],
        [np.array([row[2][kind] for row in rows]) for kind in _REPLAYED],
        [Seen(*hedge.seen) for hedge in keeper.hedges],
        keeper.regressions,
    )


def _small(said: Said) -> Said:
    inputs = None if said.inputs is None else said.inputs.astype(np.float32)
    return Said(said.displacement.astype(np.float32), said.awake, inputs)


def replay(heard: Heard, learner: Learner) -> list[np.ndarray]:
    """Sums (S,) of what the averages of wrist and rotation miss, m and rad, in a recording that `learner` is told of;
    it is left as it is then."""
    mixed: list[list[np.ndarray]] = [[] for _ in _REPLAYED]
    for name, args in heard.told:
        if name == "test":
            tested = [replace(one, said=_spoken(learner, one.kind, one.said)) for one in args[0]]
            learner.test(tested, args[1])
        elif name == "say":
            said = [_spoken(learner, kind, args[1][kind]) for kind in _REPLAYED]
            learner.say(args[0], said)
            for kind, one in enumerate(said):
                weights = learner.hedges[kind].weights(one.awake[None])[0]
                mixed[kind].append((weights[..., None] * one.displacement[..., 0, :]).sum(axis=1))
        else:
            getattr(learner, name)(*args)
    missed = []
    for kind in _REPLAYED:
        told = np.array(mixed[kind]).reshape(heard.truth[kind].shape)
        missed.append((np.linalg.norm(told - heard.truth[kind], axis=-1) * heard.known[kind]).sum(axis=(0, 1)))
    return missed


def _spoken(learner: Learner, kind: int, said: Said) -> Said:
    """With what `person` says now."""
    displacement = said.displacement.copy()
    displacement[:, -1] = learner.regressions[kind].coefficients[:, None] @ said.inputs
    return replace(said, displacement=displacement)


@dataclass(frozen=True)
class Choice:
    """What was taken for the wrist or its rotation: whether weights that were tuned, the belief in `person` with taught
    coefficients, the share of what a stream remembers that was followed; and the error of the average on recordings
    that were left out in turn, relative to that before."""

    tuned: bool = False
    taught: float = 0.0
    followed: float = 0.0
    error: float = 1.0


@dataclass(frozen=True)
class Begin:
    """What `adaptive` begins with: beliefs, the coefficients of `person`, None where they stay as they were, and by
    kind what was taken, where there were recordings enough to leave one out."""

    beliefs: Beliefs
    starts: Starts | None
    choices: dict[str, Choice]


@dataclass(frozen=True)
class _Way:
    """Recordings as they were heard with some weights; by recording, what was seen of the experts (by kind), and the
    coefficients (by kind) that did not know it; and those that know all."""

    heard: Sequence[Heard]
    seen: Sequence[Sequence[Seen]]
    starts: Sequence[Sequence[np.ndarray]]
    whole: Sequence[np.ndarray]


def learn_beliefs(
    recordings: Sequence[Episode],
    before: Callable[[int], AdaptiveForecaster],
    after: Callable[[int], AdaptiveForecaster] | None = None,
) -> Begin:
    """What to begin with. `before(i)` makes a forecaster as it was, `after(i)` one with tuned weights that have not
    seen recording i; which weights are better for the average is chosen, too."""
    made = [before(i) for i in range(len(recordings))]
    times, given, starts = times_of(made[0]), made[0].beliefs, made[0].starts
    heard = {False: [follow(episode, one) for episode, one in zip(recordings, made, strict=True)]}
    if after is not None:
        heard[True] = [follow(episode, after(i)) for i, episode in enumerate(recordings)]
    told = [one.seen[FINGERS] for one in heard[after is not None]]
    fingers = _followed(told, given[FINGERS], _how_long(told, given[FINGERS]))
    if len(recordings) < LEAST_RECORDINGS:
        both = [_followed([one.seen[kind] for one in heard[False]], given[kind], FOLLOWED[1]) for kind in _REPLAYED]
        begins, choices = list(starts), {}
    else:
        ways = {}
        for tuned, some in heard.items():
            ways[tuned, False] = _Way(some, [one.seen for one in some], [starts] * len(some), starts)
            ways[tuned, True] = _taught_way(some, times, given, starts)
        missed = {
            (t, p, f): _missed(ways[t, p > 0], times, given, p, f) for t in heard for p in TAUGHT for f in FOLLOWED
        }
        taken = [_best(missed, kind) for kind in _REPLAYED]
        both = [_learned(ways[one.tuned, one.taught > 0], given, one, kind) for kind, one in enumerate(taken)]
        begins = [ways[one.tuned, one.taught > 0].whole[kind] for kind, one in enumerate(taken)]
        choices = {KINDS[kind]: one for kind, one in enumerate(taken)}
    names = (made[0].names, made[0].names, made[0].finger_names)
    beliefs = {
        kind: dict(zip(experts, belief, strict=True))
        for kind, experts, belief in zip(KINDS, names, (*both, fingers), strict=True)
    }
    taught = any(one.taught > 0 for one in choices.values())
    return Begin(beliefs, {KINDS[kind]: begins[kind] for kind in _REPLAYED} if taught else None, choices)


def _taught_way(
    heard: Sequence[Heard], times: np.ndarray, given: Sequence[np.ndarray], starts: Sequence[np.ndarray]
) -> _Way:
    """With coefficients that recordings teach; each is heard with those that the others taught."""
    taught = [_taught([one for j, one in enumerate(heard) if j != i], times, starts) for i in range(len(heard))]
    learners = [Learner(given[: len(_REPLAYED)], times, start, np.inf) for start in taught]
    for one, learner in zip(heard, learners, strict=True):
        replay(one, learner)
    seen = [[Seen(*hedge.seen) for hedge in learner.hedges] for learner in learners]
    return _Way(heard, seen, taught, _taught(heard, times, starts))


def _missed(way: _Way, times: np.ndarray, given: Sequence[np.ndarray], taught: float, share: float) -> list[np.ndarray]:
    """Sums (S,) of what the average misses of wrist and rotation in recordings that were left out in turn."""
    found = []
    for i, one in enumerate(way.heard):
        rest = [*way.seen[:i], *way.seen[i + 1 :]]
        beliefs = [_followed([s[k] for s in rest], given[k], share, _believed(given[k], taught)) for k in _REPLAYED]
        found.append(replay(one, Learner(beliefs, times, way.starts[i])))
    return [sum(part[kind] for part in found) for kind in _REPLAYED]


def _best(missed: dict[tuple[bool, float, float], list[np.ndarray]], kind: int) -> Choice:
    """What errs least by the mean over steps, each relative to how it was; that, unless `LEAST_GAIN` is gained."""
    before = np.maximum(missed[False, 0.0, 0.0][kind], 1e-12)
    errors = {option: float((found[kind] / before).mean()) for option, found in missed.items()}
    best = min(errors, key=errors.get)
    return Choice(*best, errors[best]) if errors[best] < 1.0 - LEAST_GAIN else Choice()


def _learned(way: _Way, given: Sequence[np.ndarray], choice: Choice, kind: int) -> np.ndarray:
    seen = [one[kind] for one in way.seen]
    return _followed(seen, given[kind], choice.followed, _believed(given[kind], choice.taught))


def _taught(heard: Sequence[Heard], times: np.ndarray, starts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Coefficients (S, K) of wrist and rotation that recordings teach together."""
    found = []
    for kind in _REPLAYED:
        ridge = OnlineRidge(starts[kind], times, TRUST, np.inf)
        for one in heard:
            ridge.also(one.regressions[kind])
        ridge.solve()
        found.append(ridge.coefficients)
    return found


def _believed(given: np.ndarray, taught: float) -> np.ndarray:
    """Beliefs (E, S) or (E,) with `taught`, unless it is 0, in `person`, the last of a kind that has it, taken from all
    alike."""
    if not taught:
        return given
    begin = given * (1.0 - taught) / (1.0 - given[-1])
    begin[-1] = taught
    return begin


def _how_long(seen: list[Seen], before: np.ndarray) -> float:
    """The share of `FOLLOWED` by which each recording was least surprising to beliefs of the others: by the mixed loss
    -ln sum p exp(-rate loss), of which the loss of the average is made up (Cesa-Bianchi and Lugosi, section 3)."""
    if len(seen) < LEAST_RECORDINGS:
        return FOLLOWED[1]

    def surprise(share: float) -> float:
        total = 0.0
        for i, one in enumerate(seen):
            belief = _followed([other for j, other in enumerate(seen) if j != i], before, share)
            total -= np.log((belief * np.exp(-BELIEF_RATE * one.remembered())).sum(axis=0)).sum()
        return total

    return min(FOLLOWED, key=surprise)


def _followed(seen: list[Seen], before: np.ndarray, share: float, begin: np.ndarray | None = None) -> np.ndarray:
    """Beliefs (E, S) after following some recordings for this share of what is remembered, beginning with `begin`;
    `KEPT_BELIEF` of them as they were `before`. Forecasts of a step overlap for as long as it is ahead, so that a
    second of them tells the less the further ahead they are."""
    before = before[:, None] if before.ndim == 1 else before
    begin = before if begin is None else begin[:, None] if begin.ndim == 1 else begin
    whole = Seen(sum(one.loss for one in seen), sum(one.seconds for one in seen))
    steps = 1.0 + np.arange(whole.loss.shape[-1])
    score = -BELIEF_RATE * share / steps * whole.remembered()
    learned = begin * np.exp(score - score.max(axis=0))
    return KEPT_BELIEF * before + (1.0 - KEPT_BELIEF) * learned / learned.sum(axis=0)
