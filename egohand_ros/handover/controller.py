"""`HandoverController`: what is known of the person and the robot -> where the arm is to go, how fast, and what the
fingers do.

Observations come at the tracker's rate (`observe`), control steps at the arm's (`step`). Everything is in one frame,
the robot's base: x to the front, z up. The plan's goal is only a wish: `robot/arm/` makes it a motion within the limits
of joints and separation.
"""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from ..hand.palm import palm_or_given_rotation
from ..hand.skeleton import RIGHT, SIDES, WRIST
from ..messages.forecast import Futures
from ..messages.hands import Hands
from .intent import GIVE, NONE, TAKE, IntentFilter, IntentOptions, evidence, intent_probability
from .machine import Facts, Fingers, HandoverMachine, MachineOptions, Phase
from .separation import (
    Body,
    ForecastSeparation,
    Pairs,
    SeparationOptions,
    forecast_separation,
    measure_pairs,
    person_body,
)
from .transfer import Transfer, TransferOptions, expected_transfer

EITHER = 0
Capsules = tuple[np.ndarray, np.ndarray, np.ndarray]  # start, end (C, 3) m, radius (C,) m

_HISTORY = 0.3  # s of wrist positions
_SMOOTHING = 0.25  # share by which a new observation of a hand at rest counts
_SPEED_SPAN = 0.12  # s over which a wrist's speed is measured
_REMEMBERED = 1.0  # s for which a hand that is not seen any more counts as being where it was
_GROWING = 0.3  # s of these in which it may have gone anywhere by the speed of people


@dataclass(frozen=True)
class Zone:
    """Where hands are that an object can be exchanged with: `nearest` to `farthest` m from the point (0, 0, `shoulder`)
    of the base, in front of `front` m, above `floor` m. The tool itself goes as far as `tool_farthest` m."""

    shoulder: float = 0.16
    nearest: float = 0.35
    farthest: float = 0.93
    tool_farthest: float = 0.80
    front: float = 0.2
    floor: float = 0.12

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Whether points (..., 3) m are in it, (...) bool."""
        far = np.linalg.norm(points - np.array([0.0, 0.0, self.shoulder]), axis=-1)
        inside = (far >= self.nearest) & (far <= self.farthest)
        return inside & (points[..., 0] >= self.front) & (points[..., 2] >= self.floor)


@dataclass(frozen=True)
class HandoverOptions:
    """`free_part` m: where an object that a hand holds can be taken, in the palm frame, towards the thumb counted
    positive for either hand. The tool stands `standoff` m before that point, and as many `sure_radii` of the expected
    point's 90 % region further back, at most `most_back`. A goal moves when what is expected is `deadband` m off it.
    The last, slow stretch begins when the hand rests within `last_stretch` of it for `settle_time` s; fingers close
    when the tool is within `close_at`. `speed` m/s of the tool, `carry_speed` with an object, and slowly out of
    `leave_distance` m of the hand. Covariances count with `use_covariance`. The tool waits at `ready` m, level. The arm
    keeps above `table_height` m, in the base's frame. What is known of the person counts in full up to
    an age of `slow_after` s; the arm stands from `stop_after` s on, `forecast_period` s later for forecasts, which come
    less often; those of before `forecast_life` s are as good as none."""

    free_part: tuple[float, float, float] = (0.085, 0.13, -0.03)
    standoff: float = 0.07
    sure_radii: float = 0.6
    most_back: float = 0.25
    deadband: float = 0.02
    last_stretch: float = 0.32
    settle_time: float = 0.1
    settle_speed: float = 0.10
    left_by: float = 0.12
    speed: float = 0.9
    carry_speed: float = 0.4
    leave_distance: float = 0.10
    clear: float = 0.2
    close_at: float = 0.02
    use_covariance: bool = True
    timeout: float = 30.0
    ready: tuple[float, float, float] = (0.50, 0.0, 0.36)
    table_height: float = 0.0
    slow_after: float = 0.10
    stop_after: float = 0.15
    forecast_period: float = 0.10
    forecast_life: float = 1.0
    zone: Zone = field(default_factory=Zone)
    intent: IntentOptions = field(default_factory=IntentOptions)
    machine: MachineOptions = field(default_factory=MachineOptions)
    separation: SeparationOptions = field(default_factory=SeparationOptions)
    transfer: TransferOptions = field(default_factory=TransferOptions)


@dataclass(frozen=True, eq=False)
class RobotState:
    """The robot as measured: `tool` (4, 4) T_base_tool, x out of the palm, z up when it hands over; `capsules` of arm
    and hand; what its fingers feel: `gripped` an object from two sides, `pulled` away; `unmeant_contact` with the
    person."""

    tool: np.ndarray
    capsules: Capsules
    gripped: bool = False
    pulled: bool = False
    unmeant_contact: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """What to do now: `goal` (4, 4) T_base_tool, `speed` m/s at most, fingers, and m of `aperture` to shape them by;
    the rest is what it rests on, as in HandoverState."""

    phase: Phase
    reason: str
    goal: np.ndarray
    speed: float
    fingers: Fingers
    aperture: float
    exempt_side: int | None
    direction: int
    side: int | None
    probability: np.ndarray
    transfer: Transfer | None
    settled: bool
    forecast: ForecastSeparation
    person: Body
    distance: float


class HandoverController:
    """One handover after another. `ready` (4, 4) T_base_tool is where the tool waits, `place` where it puts objects
    down (the ready pose by default)."""

    def __init__(
        self,
        ready: np.ndarray,
        options: HandoverOptions = HandoverOptions(),
        robot_holds: bool = False,
        place: np.ndarray | None = None,
    ):
        self.options, self.ready = options, ready
        self.place = ready if place is None else place
        self.machine = HandoverMachine(options.machine, robot_holds)
        self.intent = IntentFilter(options.intent)
        self.asked, self._began, self._timeout = EITHER, -np.inf, np.inf
        self.cancelled = False
        self._touching: int | None = None
        self.forget()

    def forget(self) -> None:
        """Everything that is known of the person: the clock jumped, or the tracker was changed."""
        self.intent.reset()
        self._seen_at = -np.inf
        self._stamp = -np.inf
        self._keypoints = np.full((2, 21, 3), np.nan)
        self._last_seen = np.full((2, 21, 3), np.nan)
        self._last_seen_at = np.full(2, -np.inf)
        self._rotation = np.full((2, 3, 3), np.nan)
        self._head: np.ndarray | None = None
        self._path: list[deque[tuple[float, np.ndarray]]] = [deque(), deque()]
        self._speed = np.zeros(2)
        self._grasp: list[np.ndarray | None] = [None, None]
        self._slow_since = np.full(2, np.nan)
        self._futures: Futures | None = None
        self._transfers: dict[int, Transfer] = {}
        self._probability = np.array([1.0, 0.0, 0.0])
        self._point: np.ndarray | None = None
        self._body = person_body(self._keypoints)
        self._settled_at: np.ndarray | None = None
        self._closing_at: np.ndarray | None = None

    def begin(self, now: float, asked: int = EITHER, timeout: float = 0.0) -> None:
        """A handover is asked for: GIVE, TAKE or EITHER, within `timeout` s (0: the options')."""
        self.asked, self.cancelled = asked, False
        self._began, self._timeout = now, timeout or self.options.timeout
        self.intent.reset()
        self._point = None
        self.machine.begin(now)

    def observe(
        self,
        now: float,
        hands: Hands,
        futures: Futures | None,
        head: np.ndarray | None = None,
        holds: tuple[bool | None, bool | None] = (None, None),
        prompt: str = "",
    ) -> None:
        """What the tracker saw, and the newest forecast, in the base's frame; `head` (3,) m; `holds`, whether a hand
        holds an object, where that is known. Observations that are not newer are left out."""
        if hands.stamp <= self._stamp:
            return
        self._stamp, self._seen_at, self._head = hands.stamp, now, head
        measured = hands.measured()
        self._keypoints = np.where(measured.valid[..., None], hands.keypoints, np.nan)
        for side in range(2):
            points = self._keypoints[side]
            self._rotation[side] = palm_or_given_rotation(points, SIDES[side], hands.wrist_rotation[side])
            self._measure_speed(side, hands.stamp, points[WRIST])
            self._measure_grasp(side)
        self._body = self._person(hands.stamp, head)
        if futures is not None:
            self.foresee(futures)
        self._transfers = {
            side: t for side, t in self._transfers.items() if np.isfinite(self._keypoints[side, WRIST]).all()
        }
        self._update_intent(hands.stamp, holds, prompt)

    def foresee(self, futures: Futures) -> None:
        """A new forecast, in the base's frame."""
        if self._futures is None or futures.stamp > self._futures.stamp:
            self._futures, self._transfers = futures, self._expect(futures)

    @property
    def stamp(self) -> float:
        """s, of the newest observation of the person; -inf before the first."""
        return self._stamp

    def step(self, now: float, robot: RobotState) -> Plan:
        """The plan at `now` s, on the observations' clock."""
        options, machine = self.options, self.machine
        side = self.intent.side
        transfer = self._transfers.get(side) if side is not None else None
        side_in_touch = side if machine.phase != Phase.TRANSFER else self._touching
        grasp = self._measured_grasp(side_in_touch)
        settled = grasp is not None and self._is_settled(side_in_touch, grasp, robot)
        goal = self._goal(machine.phase, transfer, grasp, robot)
        phase = machine.update(now, self._facts(now, robot, goal, settled, grasp))
        if phase == Phase.TRANSFER and self._settled_at is None:
            self._settled_at, self._touching = grasp, side
        elif phase != Phase.TRANSFER:
            self._settled_at = None
        goal = self._goal(phase, transfer, grasp, robot)
        exempt = self._touching if phase in (Phase.TRANSFER, Phase.RETREAT) else None
        person = self._body
        if self._futures is not None and now - self._futures.stamp > options.forecast_life:
            self._futures, self._transfers = None, {}
        futures = self._futures
        forecast = forecast_separation(robot.capsules, futures, options.separation, now, exempt, options.use_covariance)
        pairs = measure_pairs(robot.capsules, person, options.separation) if len(person) else None
        distance = np.inf if pairs is None else float(pairs.distance.min())
        speed = self._speed_in(phase, robot, pairs, exempt) * self._trust(now, phase)
        return Plan(
            phase,
            machine.reason,
            goal,
            speed,
            machine.fingers,
            np.nan if transfer is None else transfer.aperture,
            exempt,
            machine.direction,
            side,
            self._probability,
            transfer,
            settled,
            forecast,
            person,
            distance,
        )

    def expected(self, side: int) -> Transfer | None:
        """The transfer that the newest forecast of a hand tells of, whatever is thought of its intent."""
        return self._transfers.get(side)

    def keypoints(self, side: int) -> np.ndarray:
        """Those of a hand that are known, (K, 3) m, as they were seen last."""
        points = self._last_seen[side]
        return points[np.isfinite(points).all(-1)]

    def age(self, now: float) -> float:
        """s since what is known of the person was so; forecasts, which come less often, may be as much older."""
        age = now - self._stamp
        somebody = np.isfinite(self._keypoints[:, WRIST]).any()  # of nobody nothing is forecast
        if self._futures is not None and somebody:
            age = max(age, now - self._futures.stamp - self.options.forecast_period)
        return age

    # ---------------------------------------------------------------- the person

    def _person(self, stamp: float, head: np.ndarray | None) -> Body:
        """The person's capsules; those of a hand that was lost stay a while, and grow by how far it may have gone."""
        seen = np.isfinite(self._keypoints[:, WRIST]).all(-1)
        self._last_seen[seen], self._last_seen_at[seen] = self._keypoints[seen], stamp
        unseen_for = stamp - self._last_seen_at
        known = np.where((unseen_for < _REMEMBERED)[:, None, None], self._last_seen, np.nan)
        separation = self.options.separation
        body = person_body(known, head, self._speed, separation.body)
        grown = np.where(body.side >= 0, unseen_for[body.side], 0.0)
        return replace(body, radius=body.radius + separation.human_speed * np.minimum(grown, _GROWING))

    def _unseen_for(self, side: int | None, now: float) -> float:
        return 0.0 if side is None else now - float(self._last_seen_at[side])

    def _measure_speed(self, side: int, stamp: float, wrist: np.ndarray) -> None:
        path = self._path[side]
        if not np.isfinite(wrist).all():
            path.clear()
            self._speed[side], self._slow_since[side] = 0.0, np.nan
            return
        path.append((stamp, wrist))
        while path[0][0] < stamp - _HISTORY:
            path.popleft()
        earlier = next((item for item in path if item[0] >= stamp - _SPEED_SPAN), path[0])
        span = stamp - earlier[0]
        self._speed[side] = float(np.linalg.norm(wrist - earlier[1])) / span if span > 1e-6 else 0.0
        if span <= 1e-6 or self._speed[side] >= self.options.settle_speed:
            self._slow_since[side] = np.nan
        elif np.isnan(self._slow_since[side]):
            self._slow_since[side] = stamp

    def _measure_grasp(self, side: int) -> None:
        """Where the hand is at, smoothed while it rests."""
        if not np.isfinite(self._rotation[side]).all() or not np.isfinite(self._keypoints[side, WRIST]).all():
            self._grasp[side] = None
            return
        point, before = self._free_part(side, self._keypoints[side, WRIST], self._rotation[side]), self._grasp[side]
        rests = before is not None and self._speed[side] < self.options.settle_speed
        self._grasp[side] = before + _SMOOTHING * (point - before) if rests else point

    def _expect(self, futures: Futures) -> dict[int, Transfer]:
        found = {}
        for hand in futures.hands:
            path = self._path[hand.side]
            if path:  # where the hand was when the forecast begins
                start = min(path, key=lambda item: abs(item[0] - futures.stamp))[1]
                found[hand.side] = expected_transfer(
                    hand,
                    futures.stamp,
                    futures.step_times,
                    start,
                    self.options.zone,
                    self.options.transfer,
                    self.options.use_covariance,
                )
        return found

    def _update_intent(self, stamp: float, holds: tuple[bool | None, bool | None], prompt: str) -> None:
        if self.machine.phase in (Phase.TRANSFER, Phase.RETREAT, Phase.PLACE, Phase.ABORT):
            return  # what it is about was decided; hands are still now, which looks like nothing
        robot, probability = self.ready[:3, 3], {}
        for side, transfer in self._transfers.items():
            seen = evidence(
                self._keypoints[side], self._path[side][0][1], transfer, robot, self.options.zone.floor, holds[side]
            )
            p = intent_probability(seen, self.machine.robot_holds, prompt, self.options.intent)
            if self.asked in (GIVE, TAKE):
                p[TAKE if self.asked == GIVE else GIVE] = 0.0
                p[NONE] = 1.0 - p[self.asked]
            probability[side] = p
        self.intent.update(stamp, probability)
        shown = self.intent.side
        if shown is None and probability:
            shown = min(probability, key=lambda s: probability[s][NONE])
        self._probability = probability.get(shown, np.array([1.0, 0.0, 0.0]))

    # ---------------------------------------------------------------- the robot

    def _facts(self, now: float, robot: RobotState, goal: np.ndarray, settled: bool, grasp: np.ndarray | None) -> Facts:
        options, phase = self.options, self.machine.phase
        off = float(np.linalg.norm(robot.tool[:3, 3] - goal[:3, 3]))
        left = False
        if phase == Phase.TRANSFER:
            moved = None if grasp is None or self._settled_at is None else np.linalg.norm(grasp - self._settled_at)
            left = moved is not None and moved > options.left_by and not robot.gripped
        near = options.close_at if phase == Phase.TRANSFER else 0.05
        return Facts(
            cancelled=self.cancelled,
            # In contact an old forecast makes the arm stand (`_trust`), and is no reason to leave.
            data_age=now - self._stamp if phase == Phase.TRANSFER else self._data_age(now),
            direction=self.intent.direction,
            at_goal=off < near,
            settled=settled,
            hand_left=bool(left),
            gripped=robot.gripped,
            pulled=robot.pulled,
            clear=off < 0.03,
            home=off < 0.03,
            unmeant_contact=robot.unmeant_contact,
            overdue=now - self._began > self._timeout,
        )

    def _data_age(self, now: float) -> float:
        """As `age`; on the way to a hand, at least as old as the hand was last seen. In a transfer the robot's own
        hand hides it, and the arm stands."""
        towards = self.machine.phase in (Phase.REACH, Phase.WAIT)
        return max(self.age(now), self._unseen_for(self.intent.side, now) if towards else 0.0)

    def _trust(self, now: float, phase: Phase) -> float:
        """From 1, what is known of the person is new, to 0, too old to move by."""
        options, age = self.options, self._data_age(now)
        if phase == Phase.TRANSFER:
            age = max(age, self._unseen_for(self._touching, now))
        return float(np.clip((options.stop_after - age) / (options.stop_after - options.slow_after), 0.0, 1.0))

    def _speed_in(self, phase: Phase, robot: RobotState, pairs: Pairs | None, exempt: int | None) -> float:
        """m/s of the tool, before what separation makes of it direction by direction."""
        options = self.options
        if phase in (Phase.HOLD, Phase.IDLE):
            return 0.0
        speed = options.carry_speed if phase in (Phase.RETREAT, Phase.PLACE) else options.speed
        if phase == Phase.TRANSFER:
            speed = self._last_stretch_speed(robot)
        elif exempt is not None and self._near_touching(robot):
            speed = min(speed, options.separation.transfer_speed)
        if pairs is not None:
            person = self._body
            others = ~(person.is_hand & (person.side == (-2 if exempt is None else exempt)))[pairs.person]
            if (pairs.distance[others] < options.separation.stop_distance).any():
                speed = min(speed, options.separation.near_speed)
        return speed

    def _last_stretch_speed(self, robot: RobotState) -> float:
        """What the distance to the transferring hand allows, and no less than what contact does."""
        options, pairs = self.options, self._to_touching(robot)
        if pairs is None:
            return options.separation.transfer_speed
        return float(np.clip(pairs.allowed.min(), options.separation.transfer_speed, options.carry_speed))

    def _near_touching(self, robot: RobotState) -> bool:
        pairs = self._to_touching(robot)
        return pairs is not None and float(pairs.distance.min()) < self.options.leave_distance

    def _to_touching(self, robot: RobotState) -> Pairs | None:
        """The robot and the transferring hand, with its forearm; None where that is not known."""
        person = self._body
        mine = np.flatnonzero(person.is_hand & (person.side == self._touching))
        if not len(mine):
            return None
        hand = Body(*(getattr(person, name)[mine] for name in Body.__dataclass_fields__))
        return measure_pairs(robot.capsules, hand, self.options.separation)

    def _measured_grasp(self, side: int | None) -> np.ndarray | None:
        """Where the tool has to be to take what the hand holds now, or to bring what it is to take, (3,) m."""
        return None if side is None else self._grasp[side]

    def _free_part(self, side: int, wrist: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        along, thumb, out = self.options.free_part
        return wrist + rotation @ np.array([along, thumb if side == RIGHT else -thumb, out])

    def _is_settled(self, side: int, grasp: np.ndarray, robot: RobotState) -> bool:
        slow = self._slow_since[side]
        rested = bool(self._stamp - slow >= self.options.settle_time - 1e-9)
        near = float(np.linalg.norm(grasp - robot.tool[:3, 3])) < self.options.last_stretch
        return rested and near and bool(self.options.zone(self._keypoints[side, WRIST]))

    def _goal(self, phase: Phase, transfer: Transfer | None, grasp: np.ndarray | None, robot: RobotState) -> np.ndarray:
        """Where the tool is to go in this phase, (4, 4)."""
        if phase in (Phase.REACH, Phase.WAIT) and transfer is not None:
            return self._standoff(transfer)
        if phase in (Phase.REACH, Phase.WAIT) and self._point is not None:
            return _facing(self._point)
        if phase == Phase.TRANSFER:
            return self._grasp_goal(grasp, robot)
        if phase == Phase.RETREAT:
            return self._behind()
        self._point = None
        return self.place if phase == Phase.PLACE else self.ready

    def _grasp_goal(self, grasp: np.ndarray | None, robot: RobotState) -> np.ndarray:
        """At what the hand holds; while fingers close, there as long as the hand stays: they need a palm at rest."""
        if not self.machine.closing:
            self._closing_at = None
        elif self._closing_at is None or (
            grasp is not None and np.linalg.norm(grasp - self._closing_at) > self.options.deadband
        ):
            self._closing_at = grasp
        where = grasp if self._closing_at is None else self._closing_at
        return robot.tool if where is None else _facing(where)

    def _standoff(self, transfer: Transfer) -> np.ndarray:
        """Before the expected point, the further back the less sure it is, kept as long as little changes."""
        options = self.options
        rotation = transfer.rotation if np.isfinite(transfer.rotation).all() else self._rotation[transfer.side]
        if np.isfinite(rotation).all():
            point = self._free_part(transfer.side, transfer.position, rotation)
        else:
            point = transfer.position
        back = options.standoff + min(options.sure_radii * transfer.radius, options.most_back)
        point = point - back * _facing(point)[:3, 0]
        point = self._within_reach(point)
        if self._point is None or np.linalg.norm(point - self._point) > options.deadband:
            self._point = point
        return _facing(self._point)

    def _behind(self) -> np.ndarray:
        """Back from where the hands met, towards the robot and a little up."""
        if self._point is None:
            return self.ready
        return _facing(self._point - self.options.clear * _facing(self._point)[:3, 0] + (0.0, 0.0, 0.05))

    def _within_reach(self, point: np.ndarray) -> np.ndarray:
        zone = self.options.zone
        centre = np.array([0.0, 0.0, zone.shoulder])
        off = point - centre
        far = float(np.linalg.norm(off))
        return centre + off * (np.clip(far, zone.nearest - 0.05, zone.tool_farthest) / max(far, 1e-9))


def _facing(point: np.ndarray) -> np.ndarray:
    """T_base_tool (4, 4) at a point (3,) m, palm away from the base and level, z up."""
    x = np.array([point[0], point[1], 0.0])
    norm = float(np.linalg.norm(x))
    x = x / norm if norm > 1e-6 else np.array([1.0, 0.0, 0.0])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, [-x[1], x[0], 0.0], [0.0, 0.0, 1.0], point
    return pose
