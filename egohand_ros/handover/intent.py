"""Does the person want to hand something over, or to take something? From how a hand moves and what shape it has.

A probability of none, give and take of every observation, and a decision with hysteresis: a direction is entered when
it has been likely for a while and the hand offers (`ObservedPerson.offers`: a hand that only approaches may yet be
withdrawn), and left when it has become unlikely, so that one odd observation neither starts an arm nor stops it.
"""

import re
from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from ..hand.skeleton import LITTLE_MCP, SIDES, WRIST
from .transfer import Transfer, aperture, hand_length

NONE, GIVE, TAKE = 0, 1, 2  # HandoverState.direction
DIRECTIONS = ("none", "give", "take")

_GIVING = re.compile(r"\b(give|hand|pass|offer|deliver)\b")
_TAKING = re.compile(r"\b(take|get|fetch|receive|grab|bring)\b")


@dataclass(frozen=True)
class IntentOptions:
    """A direction is entered when it was more likely than `enter` for `enter_after` s, and left below `leave` for
    `leave_after` s. The weights, of log odds, were set by hand on generated scenes of seeds below 1000."""

    enter: float = 0.8
    enter_after: float = 0.2
    leave: float = 0.5
    leave_after: float = 0.1
    bias: float = -7.0
    arrives: float = 4.0
    approach: float = 3.0
    facing: float = 3.0
    height: float = 2.0
    shape: float = 2.5
    prompt: float = 1.5


@dataclass(frozen=True)
class HandEvidence:
    """What one hand shows. arrives: probability that it comes to rest where an object can change hands; approach:
    cosine between the way it is forecast to go (or went) and the way to the robot; facing: cosine between its fingers
    and the way to the robot; height: m of its resting place above the table's edge of the transfer zone, from 0 to 1 by
    0.2 m; closed: from 0, open, to 1, a grip; holds: whether it holds an object, None where that is not known."""

    arrives: float
    approach: float
    facing: float
    height: float
    closed: float
    holds: bool | None = None


def evidence(
    keypoints: np.ndarray,
    came_from: np.ndarray,
    transfer: Transfer,
    robot: np.ndarray,
    floor: float,
    holds: bool | None,
    rests_there: bool = False,
) -> HandEvidence:
    """`HandEvidence` of a hand with keypoints (21, 3) m, its wrist `came_from` (3,) m a little ago, z up.

    `robot` (3,) m is where the robot's hand is at rest, `floor` m the height below which nothing is handed over. Of a
    hand that `rests_there`, where an object can change hands, it is seen that it has arrived, whatever is forecast: of
    a learned forecaster's hypotheses some go on, of a hand at rest too."""
    wrist = keypoints[WRIST]
    way = transfer.position - came_from
    length = float(np.linalg.norm(way))
    there = _unit(robot - wrist)
    fingers = _unit(keypoints[[5, LITTLE_MCP]].mean(axis=0) - wrist)
    open_by = aperture(keypoints) / max(hand_length(keypoints), 1e-3)
    return HandEvidence(
        arrives=1.0 if rests_there else transfer.probability,
        approach=float(_unit(way) @ there) if length > 0.03 else 0.0,
        facing=float(fingers @ there),
        height=float(np.clip((transfer.position[2] - floor) / 0.2, -1.0, 1.0)),
        closed=float(np.clip((1.25 - open_by) / 0.6, 0.0, 1.0)) if np.isfinite(open_by) else 0.5,
        holds=holds,
    )


def intent_probability(
    seen: HandEvidence, robot_holds: bool, prompt: str = "", options: IntentOptions = IntentOptions()
) -> np.ndarray:
    """(3,) of NONE, GIVE, TAKE. A robot whose hand is full takes nothing, one whose hand is empty has nothing to give,
    and neither does a person's hand that is known to be empty."""
    way = (
        options.bias
        + options.arrives * seen.arrives
        + options.approach * max(seen.approach, -1.0)
        + options.facing * seen.facing
        + options.height * min(seen.height, 0.5)
    )
    give = way + options.shape * (2.0 * seen.closed - 1.0) / 2.0
    take = way + options.shape * (1.0 - 2.0 * seen.closed) / 2.0
    if seen.holds is not None:
        give, take = (give + 1.0, take - 3.0) if seen.holds else (-np.inf, take)
    words = prompt.lower()
    give += options.prompt * bool(_GIVING.search(words))
    take += options.prompt * bool(_TAKING.search(words))
    odds = np.array([0.0, -np.inf if robot_holds else give, take if robot_holds else -np.inf])
    weight = np.exp(odds - odds.max())
    return weight / weight.sum()


class IntentFilter:
    """The decision: a direction and a side, with hysteresis over time."""

    def __init__(self, options: IntentOptions = IntentOptions()):
        self.options = options
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self.direction, self.side = NONE, None
        self._likely: tuple[int, int] | None = None
        self._likely_since = self._unlikely_since = np.nan

    @property
    def likely(self) -> int | None:
        """The side whose hand is about something, decided or not."""
        return self._likely[0] if self._likely is not None else self.side

    def update(self, stamp: float, probability: dict[int, np.ndarray], offering: Container[int] = (0, 1)) -> int:
        """The direction after one observation; `probability` (3,) of each side that was seen, and the sides whose hands
        are `offering`: of the others nothing is begun."""
        if self.direction == NONE:
            self._enter(stamp, probability, offering)
        else:
            self._leave(stamp, probability)
        return self.direction

    def _enter(self, stamp: float, probability: dict[int, np.ndarray], offering: Container[int]) -> None:
        best = max(
            ((float(p[direction]), side, direction) for side, p in probability.items() for direction in (GIVE, TAKE)),
            default=(0.0, 0, NONE),
        )
        if best[0] <= self.options.enter:
            self._likely = None
            return
        if self._likely != best[1:]:
            self._likely, self._likely_since = best[1:], stamp
        if best[1] in offering and stamp - self._likely_since >= self.options.enter_after - 1e-9:
            self.side, self.direction = best[1:]
            self._unlikely_since, self._likely = np.nan, None

    def _leave(self, stamp: float, probability: dict[int, np.ndarray]) -> None:
        mine = probability.get(self.side)
        if mine is not None and mine[self.direction] >= self.options.leave:
            self._unlikely_since = np.nan
            return
        if np.isnan(self._unlikely_since):
            self._unlikely_since = stamp
        if stamp - self._unlikely_since >= self.options.leave_after - 1e-9:
            self.reset()


def side_name(side: int | None) -> str:
    """left, right, or no hand."""
    return "no hand" if side is None else f"the {SIDES[side]} hand"


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
