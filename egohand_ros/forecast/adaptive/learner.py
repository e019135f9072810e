"""What one stream teaches about one kind of motion: how far to believe each expert, and how this person goes on."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from .hedge import Hedge
from .memory import Moment, truth_since
from .ridge import OnlineRidge

_SAME_TIME = 1e-6
_LEAST_INTERVAL = 0.99 / 30.0  # s between forecasts that are learned from
_LONGEST_SHARE = 0.2  # s that one of them stands for, at most
_LONGEST_GAP = 0.25


@dataclass(frozen=True)
class LearningOptions:
    """rate and half_life (s) of the weights (`Hedge`); trust (independent observations) and memory (half-life, s) of the
    regression (`OnlineRidge`)."""

    rate: float = 4.0
    half_life: float = 10.0
    trust: float = 10.0
    memory: float = 30.0


@dataclass(frozen=True)
class Said:
    """What was said at a moment of one kind, for both hands: displacements (2, E, S, J, 3) of the experts, the regression's inputs
    that are the same for all steps (2, V, J, 3) and those by step (2, I, S, J, 3), and who was awake (2, E)."""

    displacement: np.ndarray
    vectors: np.ndarray
    guesses: np.ndarray
    awake: np.ndarray

    def inputs(self, step: int | slice = slice(None)) -> np.ndarray:
        """(2, S, K, J, 3), or (2, K, J, 3) of one step."""
        if not isinstance(step, slice):
            return np.concatenate([self.guesses[:, :, step], self.vectors], axis=1)
        guesses = np.moveaxis(self.guesses[:, :, step], 1, 2)
        shape = (2, guesses.shape[1], *self.vectors.shape[1:])
        return np.concatenate([guesses, np.broadcast_to(self.vectors[:, None], shape)], axis=2)


@dataclass(frozen=True)
class _Waiting:
    moment: Moment
    said: list[Said]
    seconds: float


class Learner:
    """All kinds together: `say` what was forecast, `observe` every moment that comes, ask `weights` and `person`."""

    def __init__(self, priors: list[np.ndarray], times: np.ndarray, inputs: int, options: list[LearningOptions]):
        self._times, self._steps = times, len(times)
        start = np.zeros(inputs)
        start[0] = 1.0
        self.hedges = [Hedge(p, self._steps, o.rate, o.half_life) for p, o in zip(priors, options, strict=True)]
        self.regressions = [OnlineRidge(start, self._steps, times, o.trust, o.memory) for o in options]
        self.forget()

    def forget(self, side: int | None = None) -> None:
        """Everything, or of one hand the weights, half of the regression, which both hands share, and what was said."""
        for hedge, regression in zip(self.hedges, self.regressions, strict=True):
            hedge.forget(side)
            regression.forget(1.0 if side is None else 0.5)
        if side is None:
            self._waiting: deque[_Waiting] = deque()
            self._passed, self._next = 0, np.zeros(self._steps, dtype=int)
            self._turn = 0
        else:
            for waiting in self._waiting:
                for said in waiting.said:
                    said.awake[side] = False

    def say(self, moment: Moment, said: list[Said]) -> None:
        """What each kind's experts say at a moment; kept until it can be judged."""
        last = self._waiting[-1].moment.stamp if self._waiting else -np.inf
        if moment.stamp - last >= _LEAST_INTERVAL:
            self._waiting.append(_Waiting(moment, said, min(moment.stamp - last, _LONGEST_SHARE)))

    def observe(self, before: Moment, now: Moment) -> None:
        """The stream went on from one moment to the next."""
        elapsed, gap = now.stamp - before.stamp, now.stamp - before.stamp
        for part in (*self.hedges, *self.regressions):
            part.fade(elapsed)
        learned = False
        while True:
            due = self._due(now.stamp)
            if not due:
                break
            for step, _ in due:
                self._next[step] += 1
            if gap <= _LONGEST_GAP:
                self._learn(due, before, now)
                learned = True
        while self._waiting and self._next.min() > self._passed:
            self._waiting.popleft()
            self._passed += 1
        if learned:
            for regression in self.regressions:
                regression.solve(slice(self._turn, None, 2))
            self._turn = 1 - self._turn

    def _due(self, stamp: float) -> list[tuple[int, "_Waiting"]]:
        """For each step at most one of the waiting that it can be judged by now."""
        due = []
        for step in range(self._steps):
            index = self._next[step] - self._passed
            if index < len(self._waiting):
                waiting = self._waiting[index]
                if waiting.moment.stamp + self._times[step] <= stamp + _SAME_TIME:
                    due.append((step, waiting))
        return due

    def _learn(self, due: list[tuple[int, "_Waiting"]], before: Moment, now: Moment) -> None:
        steps, seconds = np.array([step for step, _ in due]), np.array([waiting.seconds for _, waiting in due])
        gap = now.stamp - before.stamp
        shares = [(w.moment.stamp + self._times[s] - before.stamp) / gap for s, w in due]
        for kind, (hedge, regression) in enumerate(zip(self.hedges, self.regressions, strict=True)):
            truth = np.stack(
                [truth_since(w.moment, before, now, x, kind) for (_, w), x in zip(due, shares, strict=True)]
            )  # (M, 2, J, 3)
            known = np.stack([w.moment.known(kind) for _, w in due]) & before.known(kind) & now.known(kind)
            if not known.any():
                continue
            said = [w.said[kind] for _, w in due]
            displacement = np.stack([s.displacement[:, :, step] for s, step in zip(said, steps, strict=True)])
            away = np.linalg.norm(displacement - truth[:, :, None], axis=-1)
            points = known[:, :, None]
            loss = (away * points).sum(-1) / np.maximum(points.sum(-1), 1)  # (M, 2, E)
            awake, hands = np.stack([s.awake for s in said]), known.any(-1)
            hands = hands & awake.any(-1)
            hedge.learn(steps, loss, hands, awake, seconds)
            inputs = np.stack([s.inputs(step) for s, step in zip(said, steps, strict=True)])
            shown = known[:, :, None, :, None]
            regression.learn(steps, inputs * shown, truth * shown[:, :, 0], loss[..., -1], hands, seconds)
