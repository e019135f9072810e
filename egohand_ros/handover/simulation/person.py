"""A person who stands before the robot and gives, takes, does something else, or changes the mind.

Hands go along minimum-jerk reaches (Flash and Hogan 1985) with a bow, from pose to pose; what they do next depends on
what the robot does. Poses are in the robot's base frame, x towards the person, who looks along -x; the person's right
hand is at +y.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ...data.synthetic.hand import POSTURES, HandShape, posture
from ...geometry.minimum_jerk import minimum_jerk
from ...geometry.rotations import exp_rotation, log_rotation
from ...hand.skeleton import RIGHT
from ..intent import GIVE, NONE, TAKE

_OUTWARDS = 0.35  # how far a reach bows, of 10 % of its length
_TREMOR = 0.0015  # m
_GRASP_DISTANCE = 0.07  # m from the hand to an object that people take without moving their arm much


class Manner(Enum):
    """What a person does in an episode. The first two are handovers."""

    WAITS = "waits"  # hands over, and stays until it is done
    MOVES_ON = "moves on"  # hands over, but goes away again if it takes too long
    PAUSES = "pauses"  # hands over, and hesitates half-way
    TABLE = "table"  # carries the object to a place on the table
    FACE = "face"  # hand to the face
    INSPECT = "inspect"  # looks at the object close up
    GESTURE = "gesture"  # talks with the hands
    WITHDRAW = "withdraw"  # begins to hand over and thinks better of it
    DART = "dart"  # hands over, and the other hand darts at the robot meanwhile


HANDOVERS = (Manner.WAITS, Manner.MOVES_ON, Manner.PAUSES)
OTHERS = (Manner.TABLE, Manner.FACE, Manner.INSPECT, Manner.GESTURE, Manner.WITHDRAW)


@dataclass(frozen=True, eq=False)
class Segment:
    """A reach of one hand: it begins at `start` s and lasts `duration` s, to a wrist `position` (3,) m, `rotation` (3,
    3) R_base_palm and finger `angles` (20,) rad, bowing by `bow` (3,) m."""

    start: float
    duration: float
    position: np.ndarray
    rotation: np.ndarray
    angles: np.ndarray
    bow: np.ndarray

    def after(self, before: "Segment", time: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wrist (3,) m, R_base_palm (3, 3) and finger angles (20,) rad at a time s on the way from where the reach
        `before` ends."""
        phase = np.float64((time - self.start) / self.duration)
        if phase >= 1.0 or before is self:
            return self.position, self.rotation, self.angles
        share = float(minimum_jerk(phase))
        position = before.position + share * (self.position - before.position) + np.sin(np.pi * share) * self.bow
        turn = log_rotation(before.rotation.T @ self.rotation)
        opened = min(1.0, 1.3 * share)  # fingers are ready before the hand is there
        angles = before.angles + opened * (self.angles - before.angles)
        return position, before.rotation @ exp_rotation(share * turn), angles


class HandPlan:
    """One hand's movements, one after another; between them it rests."""

    def __init__(self, side: int, shape: HandShape, position: np.ndarray, rotation: np.ndarray, angles: np.ndarray):
        self.side, self.shape = side, shape
        self._last: tuple[np.ndarray | None, np.ndarray] = (None, np.zeros((1, 21, 3)))
        self._segments = [Segment(-10.0, 0.1, position, rotation, angles, np.zeros(3))]

    def add(
        self,
        start: float,
        duration: float,
        position: np.ndarray,
        rotation: np.ndarray,
        angles: np.ndarray,
        bow: np.ndarray | None = None,
    ) -> None:
        """A reach after all that is planned, or from wherever the hand is at `start`: later plans are given up."""
        here = self.pose(start)
        kept = [s for s in self._segments if s.start < start]
        if kept and kept[-1].start + kept[-1].duration > start:  # interrupted: go on from here
            kept.append(Segment(start - 1e-6, 1e-6, *here, np.zeros(3)))
        self._segments = [
            *kept,
            Segment(start, duration, position, rotation, angles, np.zeros(3) if bow is None else bow),
        ]

    @property
    def end(self) -> float:
        """s, when the last planned movement is over."""
        return self._segments[-1].start + self._segments[-1].duration

    def pose(self, time: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wrist (3,) m, R_base_palm (3, 3) and finger angles (20,) rad at a time."""
        index = max(i for i, s in enumerate(self._segments) if s.start <= time or i == 0)
        return self._segments[index].after(self._segments[max(index - 1, 0)], time)

    def keypoints(self, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (T, 21, 3) m and R_base_palm (T, 3, 3) as planned."""
        poses = [self.pose(float(t)) for t in times]
        rotation = np.stack([r for _, r, _ in poses])
        local = self._shaped([a for _, _, a in poses])
        return np.stack([p for p, _, _ in poses])[:, None] + np.einsum("tij,tkj->tki", rotation, local), rotation

    def _shaped(self, angles: list[np.ndarray]) -> np.ndarray:
        """Keypoints (T, 21, 3) m in the palm's axes; of a hand that keeps its shape, those of before."""
        if len(angles) != 1:
            return self.shape.keypoints(np.stack(angles), self.side)
        if angles[0] is not self._last[0]:
            self._last = angles[0], self.shape.keypoints(angles[0][None], self.side)
        return self._last[1]


@dataclass(frozen=True)
class RobotSeen:
    """What the person sees and feels: the way (3,) m from where the hand holds objects to the object, and whether the
    robot's fingers hold it."""

    to_object: np.ndarray
    grips: bool = False


@dataclass
class Person:
    """Drawn from a seed; `direction` GIVE or TAKE, whatever the manner. `update` at every control step, then
    `keypoints`.

    `holding` is the side whose hand holds the object, or None.
    """

    seed: int
    direction: int
    manner: Manner
    tempo: float = 1.0
    plans: list[HandPlan] = field(init=False)
    holding: int | None = field(init=False)

    def __post_init__(self) -> None:
        rng = self._rng = np.random.default_rng(self.seed)
        shape = HandShape.sample(rng)
        self.side = int(rng.random() < 0.8)  # 1 right, 0 left
        out = 1.0 if self.side == RIGHT else -1.0
        self.at = np.array([rng.uniform(1.22, 1.36), rng.uniform(-0.12, 0.12), 0.0])
        self.head = self.at + (rng.uniform(-0.02, 0.04), 0.0, rng.uniform(0.72, 0.86))
        self._angles = {name: posture(name, rng) for name in POSTURES}
        homes = [self._home(side) for side in range(2)]
        carries = self.direction == GIVE and self.manner not in (Manner.FACE, Manner.GESTURE)
        self.holding = self.side if carries else None
        self.plans = [
            HandPlan(side, shape, homes[side], self._towards_robot(0.0, side=side), self._angles["rest"])
            for side in range(2)
        ]
        if carries:
            self.plans[self.side] = HandPlan(
                self.side, shape, homes[self.side], self._towards_robot(0.0), self._angles["power"]
            )
        self.begins = float(rng.uniform(1.0, 2.2))
        self.lasts = float(rng.uniform(0.9, 1.4)) / self.tempo
        self.meeting = np.array(
            [rng.uniform(0.72, 0.86), 0.5 * self.at[1] + out * rng.uniform(-0.05, 0.18), rng.uniform(0.22, 0.46)]
        )
        self.patience = float(rng.uniform(2.2, 3.2)) if self.manner == Manner.MOVES_ON else np.inf
        self.reaction = float(np.clip(rng.normal(0.45, 0.08), 0.25, 0.7))  # feels sure, then lets go
        self.rests_from = np.nan  # when the hand came to rest where it hands over
        self.done_at = np.nan  # when it let go, or took
        self.holds_at = np.nan  # when it, taking, had its fingers around the object
        self.pulls = False
        self.darts_at = np.nan
        self._felt_at, self._closes_at = np.nan, np.inf
        self._yaw = float(rng.uniform(-0.35, 0.35))
        self._phase = rng.uniform(0, 2 * np.pi, (2, 3))
        self._begin(rng, out)

    @property
    def intends(self) -> int:
        """The truth that an intent is held against: the direction in a handover, NONE in anything else."""
        return self.direction if self.manner in (*HANDOVERS, Manner.DART) else NONE

    def keypoints(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (2, 21, 3) m and R_base_palm (2, 3, 3) as they are, with a little tremor."""
        both = [plan.keypoints([now]) for plan in self.plans]
        points, rotation = np.stack([p[0] for p, _ in both]), np.stack([r[0] for _, r in both])
        tremor = _TREMOR * np.sin(2 * np.pi * np.array([1.1, 1.7, 2.3]) * now + self._phase)
        return points + tremor[:, None], rotation

    def planned(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (T, 2, 21, 3) m and R_base_palm (T, 2, 3, 3) as the person means to go on: the perfect forecast."""
        both = [plan.keypoints(times) for plan in self.plans]
        return np.stack([p for p, _ in both], axis=1), np.stack([r for _, r in both], axis=1)

    def update(self, now: float, robot: RobotSeen) -> None:
        """React to the robot."""
        plan = self.plans[self.side]
        if self.intends == NONE or now < self._arrives:
            return
        if np.isnan(self.rests_from):
            self.rests_from = now
        if not np.isnan(self.done_at):
            return
        if self.direction == GIVE:
            self._let_go_when_held(now, robot)
        else:
            self._take_when_there(now, robot)
        if np.isnan(self.done_at) and not self.pulls and now - self.rests_from > self.patience and not robot.grips:
            self._go_home(plan, now)
            self.patience = np.inf

    # ---------------------------------------------------------------- reactions

    def _let_go_when_held(self, now: float, robot: RobotSeen) -> None:
        self._felt_at = (now if np.isnan(self._felt_at) else self._felt_at) if robot.grips else np.nan
        if now - self._felt_at >= self.reaction:
            self.holding, self.done_at = None, now
            plan = self.plans[self.side]
            position, rotation, _ = plan.pose(now)
            plan.add(now, 0.25, position + (0.01, 0.0, -0.02), rotation, self._angles["open"])
            self._go_home(plan, now + 0.25)

    def _take_when_there(self, now: float, robot: RobotSeen) -> None:
        """Once the object is near the hand, close it around the object, then pull it away."""
        plan = self.plans[self.side]
        if self.pulls:
            return
        if np.isfinite(self._closes_at):
            if now >= self._closes_at:
                self.holding, self.pulls, self.holds_at = self.side, True, now
                position, rotation, _ = plan.pose(now)
                plan.add(now + 0.05, 0.5, position + (0.06, 0.0, 0.0), rotation, self._angles["power"])
            return
        near = float(np.linalg.norm(robot.to_object)) < _GRASP_DISTANCE
        self._felt_at = (now if np.isnan(self._felt_at) else self._felt_at) if near else np.nan
        if now - self._felt_at >= self.reaction:
            position, rotation, _ = plan.pose(now)
            plan.add(now, 0.35, position + robot.to_object, rotation, self._angles["power"])
            self._closes_at = now + 0.35

    def took(self, now: float) -> None:
        """The robot has let go of what is pulled at."""
        if self.pulls and np.isnan(self.done_at):
            self.done_at = now
            self._go_home(self.plans[self.side], now + 0.1)

    # ---------------------------------------------------------------- what is meant to happen

    def _begin(self, rng: np.random.Generator, out: float) -> None:
        plan, start, angles = self.plans[self.side], self.begins, self._angles
        self._arrives = np.inf
        hand = angles["power"] if self.holding is not None else angles["open"]
        there = self._towards_robot(self._yaw)
        bow = 0.1 * float(np.linalg.norm(self.meeting - plan.pose(0.0)[0])) * rng.normal(0.0, _OUTWARDS, 3)
        if self.manner in (Manner.WAITS, Manner.MOVES_ON):
            plan.add(start, self.lasts, self.meeting, there, hand, bow)
            self._arrives = plan.end
        elif self.manner == Manner.PAUSES:
            half = plan.pose(0.0)[0] + rng.uniform(0.4, 0.6) * (self.meeting - plan.pose(0.0)[0])
            plan.add(start, 0.7 * self.lasts, half, there, hand, bow)
            plan.add(plan.end + rng.uniform(0.4, 0.9), 0.7 * self.lasts, self.meeting, there, hand)
            self._arrives = plan.end
        elif self.manner == Manner.TABLE:
            place = np.array([rng.uniform(0.85, 1.0), out * rng.uniform(0.1, 0.4), rng.uniform(0.02, 0.08)])
            plan.add(start, self.lasts, place, self._towards_robot(out * rng.uniform(0.2, 0.8), -0.4), hand, bow)
            self._back(plan, plan.end + rng.uniform(0.5, 1.0))
        elif self.manner == Manner.FACE:
            cheek = self.head + (-0.09, out * 0.06, -0.12)
            plan.add(start, self.lasts, cheek, self._towards_robot(-out * 1.2, 1.2), angles["rest"], bow)
            self._back(plan, plan.end + rng.uniform(0.5, 1.2))
        elif self.manner == Manner.INSPECT:
            front = self.at + (-0.28, out * 0.05, rng.uniform(0.35, 0.5))
            plan.add(start, self.lasts, front, self._towards_robot(-out * 0.9), hand, bow)
            plan.add(plan.end + 0.3, 0.8, front + rng.normal(0, 0.03, 3), self._towards_robot(-out * 0.3), hand)
            self._back(plan, plan.end + rng.uniform(0.5, 1.2))
        elif self.manner == Manner.GESTURE:
            for _ in range(4):
                aside = self.at + (rng.uniform(-0.34, -0.2), out * rng.uniform(0.1, 0.35), rng.uniform(0.25, 0.5))
                plan.add(
                    max(start, plan.end), rng.uniform(0.5, 0.8), aside, self._towards_robot(rng.normal(0, 0.6)), hand
                )
            self._back(plan, plan.end + 0.2)
        elif self.manner == Manner.WITHDRAW:
            share = rng.uniform(0.45, 0.7)
            half = plan.pose(0.0)[0] + share * (self.meeting - plan.pose(0.0)[0])
            plan.add(start, self.lasts, half, there, hand, bow)
            self._back(plan, plan.end + rng.uniform(0.0, 0.3))
        else:
            plan.add(start, self.lasts, self.meeting, there, hand, bow)
            self._arrives = plan.end
            other = self.plans[1 - self.side]
            target = np.array([rng.uniform(0.74, 0.8), -out * rng.uniform(0.12, 0.2), rng.uniform(0.36, 0.46)])
            far = float(np.linalg.norm(target - other.pose(0.0)[0]))
            self.darts_at = start + 0.55 * self.lasts
            rotation = self._towards_robot(0.0, side=1 - self.side)
            other.add(self.darts_at, 1.875 * far / rng.uniform(2.0, 2.6), target, rotation, angles["flat"])
            self._back(other, other.end + 0.5)

    def _back(self, plan: HandPlan, start: float) -> None:
        angles = self._angles["power" if self.holding == plan.side else "rest"]
        plan.add(start, 0.9, self._home(plan.side), self._towards_robot(0.0, side=plan.side), angles)

    def _go_home(self, plan: HandPlan, start: float) -> None:
        self._back(plan, start)

    def _home(self, side: int) -> np.ndarray:
        """Hands rest before the belly."""
        return self.at + (-0.16, 0.17 if side == RIGHT else -0.17, 0.12)

    def _towards_robot(self, yaw: float, pitch: float = 0.0, side: int | None = None) -> np.ndarray:
        """R_base_palm (3, 3) of a hand whose fingers point at the robot, thumb up, turned by yaw, raised by pitch."""
        x, thumb = np.array([-1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
        y = thumb if (self.side if side is None else side) == RIGHT else -thumb
        upright = np.stack([x, y, np.cross(x, y)], axis=1)
        return exp_rotation(np.array([0.0, 0.0, yaw])) @ exp_rotation(np.array([0.0, pitch, 0.0])) @ upright


def draw_person(seed: int, direction: int, handover: bool, manners: Sequence[Manner] | None = None) -> Person:
    """A person of a seed who hands over, or does something else."""
    rng = np.random.default_rng([seed, 77])
    choice = list(manners) if manners else list(HANDOVERS if handover else OTHERS)
    if direction == TAKE and not handover and not manners:
        choice = [m for m in choice if m not in (Manner.TABLE, Manner.INSPECT)]  # they need an object
    return Person(seed, direction, choice[int(rng.integers(len(choice)))], tempo=float(rng.uniform(0.85, 1.2)))
