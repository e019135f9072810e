"""What one stream teaches: how far to believe each expert, and how this person goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...geometry.rotations import exp_rotation, log_rotation
from .hedge import Hedge
from .memory import Moment
from .past import FINGERS, ROTATION, WRIST_PLACE
from .ridge import OnlineRidge

_SAME_TIME = 1e-6
_INTERVAL = 0.98 / 15.0  # s between forecasts that are learned from, at least: those between say nearly the same
_LONGEST_SHARE = 0.2  # s that one of them stands for, at most
_LONGEST_GAP = 0.25  # s between observations that are interpolated
_POINTS = (1, 1, 20)


RATE, HALF_LIFE = 10.0, 10.0  # of the weights (`Hedge`), s
TRUST, MEMORY = 20.0, 30.0  # of the regression (`OnlineRidge`): independent observations; half-life, s


@dataclass(frozen=True)
class Said:
    """What was said of one kind by N hands' experts: displacements (N, E, S, J, 3), and who was awake (N, E); what the
    regression looks at (N, S, K, 3), None for a kind without one.
    """

    displacement: np.ndarray
    awake: np.ndarray
    inputs: np.ndarray | None = None


@dataclass(frozen=True)
class Tested:
    """What was said of one kind some observations before a window's last, and what came since: truth (N, S, J, 3) of as
    many steps as there were, and where it is known (N, S, J)."""

    kind: int
    said: Said
    truth: np.ndarray
    known: np.ndarray


class _Ring:
    """The newest forecasts of one kind, of both hands."""

    def __init__(self, size: int, said: Said):
        self._arrays = {name: np.zeros((size, *array.shape), array.dtype) for name, array in _given(said)}

    def put(self, place: int, said: Said) -> None:
        for name, array in _given(said):
            self._arrays[name][place] = array

    def at(self, places: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Of M forecasts and a step of each: displacements (M, 2, E, J, 3), awake (M, 2, E), inputs (M, 2, K, 3)."""
        rows = self._arrays
        inputs = rows["inputs"][places, :, steps] if "inputs" in rows else None
        return rows["displacement"][places, :, :, steps], rows["awake"][places], inputs

    def silence(self, side: int) -> None:
        """Nothing that was said of this hand counts."""
        self._arrays["awake"][:, side] = False


def _given(said: Said) -> list[tuple[str, np.ndarray]]:
    return [(name, array) for name, array in vars(said).items() if array is not None]


class Learner:
    """All kinds for which there are `beliefs`, together: `say` what was forecast, `observe` every moment that comes,
    and use `hedges` and `regressions`, which begin with the coefficients `starts`, (K,) or (S, K), of wrist and
    rotation.

    `half_life` s is that of the weights, `memory` s that of the regressions.
    """

    def __init__(
        self,
        beliefs: Sequence[np.ndarray],
        times: np.ndarray,
        starts: Sequence[np.ndarray],
        half_life: float = HALF_LIFE,
        memory: float = MEMORY,
    ):
        self._times, self._steps = times, len(times)
        self._size = int(np.ceil(times[-1] / _INTERVAL)) + 8
        self.hedges = [Hedge(belief, self._steps, RATE, half_life) for belief in beliefs]
        # Fingers have none.
        self.regressions = [OnlineRidge(start, times, TRUST, memory) for start in starts]
        self.forget()

    def forget(self, side: int | None = None) -> None:
        """Everything, or of one hand its weights, what was said of it, and half of the regression, which both hands
        share.
        """
        for hedge in self.hedges:
            hedge.forget(side)
        for regression in self.regressions:
            regression.forget(1.0 if side is None else 0.5)
        if side is None:
            self._count, self._next, self._unsolved = 0, np.zeros(self._steps, dtype=int), 0
            self._rings: list[_Ring] | None = None
        elif self._rings is not None:
            for ring in self._rings:
                ring.silence(side)

    def test(self, tested: Sequence[Tested], seconds: float) -> None:
        """Judge what was said of both hands at earlier observations, each `seconds` long."""
        for one in tested:
            steps = np.arange(one.truth.shape[1])
            away = np.linalg.norm(one.said.displacement[:, :, steps] - one.truth[:, None], axis=-1)
            count = one.known.sum(-1)
            loss = (away * one.known[:, None]).sum(-1) / np.maximum(count, 1)[:, None]
            awake = np.broadcast_to(one.said.awake, (len(steps), *one.said.awake.shape))
            losses = np.moveaxis(loss, 2, 0)
            self.hedges[one.kind].learn(steps, losses, (count > 0).T, awake, np.full(len(steps), seconds))

    def say(self, moment: Moment, said: list[Said]) -> None:
        """What each kind's experts say at a moment; kept until it has been judged."""
        if self._rings is None:
            self._rings = [_Ring(self._size, part) for part in said]
            self._stamps, self._seconds = np.full(self._size, -np.inf), np.zeros(self._size)
            self._wrist, self._rotation = np.zeros((self._size, 2, 1, 3)), np.zeros((self._size, 2, 3, 3))
            self._fingers = np.zeros((self._size, 2, 20, 3))
            self._known = [np.zeros((self._size, 2, points), dtype=bool) for points in _POINTS]
        last = self._stamps[(self._count - 1) % self._size] if self._count else -np.inf
        if moment.stamp - last < _INTERVAL:
            return
        place = self._count % self._size
        self._stamps[place], self._seconds[place] = moment.stamp, min(moment.stamp - last, _LONGEST_SHARE)
        self._wrist[place], self._rotation[place], self._fingers[place] = moment.wrist, moment.rotation, moment.fingers
        for kind, (ring, part) in enumerate(zip(self._rings, said, strict=True)):
            ring.put(place, part)
            self._known[kind][place] = moment.known(kind)
        self._count += 1
        self._next = np.maximum(self._next, self._count - self._size)  # never so: the ring outlasts the horizon

    def observe(self, before: Moment, now: Moment) -> None:
        """The stream went on from one moment to the next."""
        gap = now.stamp - before.stamp
        for part in (*self.hedges, *self.regressions):
            part.fade(gap)
        if self._rings is None:
            return
        learned = False
        while True:
            places = self._next % self._size
            due = (self._next < self._count) & (self._stamps[places] + self._times <= now.stamp + _SAME_TIME)
            if not due.any():
                break
            if gap <= _LONGEST_GAP:
                self._learn(np.flatnonzero(due), places[due], before, now)
                learned = True
            self._next += due
        self._unsolved += learned
        # Where observations come faster than forecasts are learned from, in those between, so that none costs more than
        # another.
        if self._unsolved and (not learned or self._unsolved > 1):
            for regression in self.regressions:
                regression.solve()
            self._unsolved = 0

    def _learn(self, steps: np.ndarray, places: np.ndarray, before: Moment, now: Moment) -> None:
        """Judge M forecasts, each at one step."""
        share = (self._stamps[places] + self._times[steps] - before.stamp) / (now.stamp - before.stamp)
        seconds = self._seconds[places]
        for kind in range(len(self.hedges)):
            both = before.known(kind) & now.known(kind)
            if not both.any():
                continue
            known = self._known[kind][places] & both  # (M, 2, J)
            truth = self._truth(kind, places, share, before, now)
            displacement, awake, inputs = self._rings[kind].at(places, steps)
            away = displacement - truth[:, :, None]
            away = np.sqrt(np.einsum("mhejd,mhejd->mhej", away, away))
            if away.shape[-1] > 1:
                loss = (away * known[:, :, None]).sum(-1) / np.maximum(known.sum(-1), 1)[:, :, None]
            else:
                loss = away[..., 0]
            hands = known.any(-1) & awake.any(-1)
            self.hedges[kind].learn(steps, loss, hands, awake, seconds)
            if inputs is not None:
                self.regressions[kind].learn(steps, inputs[:, :, :, None], truth, loss[..., -1], hands, seconds)

    def _truth(self, kind: int, places: np.ndarray, share: np.ndarray, before: Moment, now: Moment) -> np.ndarray:
        """Displacements (M, 2, J, 3) that came."""
        share = share[:, None, None, None]
        if kind == WRIST_PLACE:
            return before.wrist + share * (now.wrist - before.wrist) - self._wrist[places]
        if kind == FINGERS:
            return before.fingers + share * (now.fingers - before.fingers) - self._fingers[places]
        assert kind == ROTATION
        turn = exp_rotation(share[..., 0] * log_rotation(now.rotation @ before.rotation.swapaxes(-1, -2)))
        return log_rotation(turn @ before.rotation @ self._rotation[places].swapaxes(-1, -2))[:, :, None]
