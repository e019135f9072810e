"""`HandoverController`: what is known of the person and the robot -> where the arm is to go, how fast, and what the
fingers do.

Observations come at the tracker's rate (`observe`), control steps at the arm's (`step`). Everything is in one frame,
the robot's base: x to the front, z up. The plan's goal is only a wish: `robot/arm/` makes it a motion within the limits
of joints and separation.
"""

from dataclasses import dataclass

import numpy as np

from ..hand.skeleton import WRIST
from ..messages.forecast import Futures
from ..messages.hands import Hands
from .goals import Goals
from .intent import GIVE, NONE, TAKE, IntentFilter, evidence, intent_probability
from .machine import Facts, Fingers, HandoverMachine, Phase
from .observed import ObservedPerson
from .options import HandoverOptions
from .separation import Body, ForecastSeparation, Pairs, forecast_separation, measure_pairs
from .transfer import Transfer

EITHER = 0
Capsules = tuple[np.ndarray, np.ndarray, np.ndarray]  # start, end (C, 3) m, radius (C,) m

_AT_STANDOFF, _CLEAR = 0.05, 0.03  # m off a goal at which it counts as reached
_BESIDE = 0.08  # m off a hand, from which on the tool may move faster past it, though no faster towards it
_LEAVES = -0.7  # cosine between its way and that to somebody near; above it, what goes by them is soon before them
_SLOWEST = 0.05  # m/s, from which it is slowed at least
_IN_TOUCH = 0.14  # m off the transferring hand, the same
_FASTER = 1.5  # 1/s: by so much, a metre of it


@dataclass(frozen=True, eq=False)
class RobotState:
    """The robot as measured: `tool` (4, 4) T_base_tool, x out of the palm, z up when it hands over; `capsules` of arm
    and hand; what its fingers feel: `gripped` an object from two sides, `pulled` away; `unmeant_contact` with the
    person; `speed` m/s of the tool as commanded."""

    tool: np.ndarray
    capsules: Capsules
    gripped: bool = False
    pulled: bool = False
    unmeant_contact: bool = False
    speed: float = np.inf


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
        options: HandoverOptions | None = None,
        robot_holds: bool = False,
        place: np.ndarray | None = None,
    ):
        options = options or HandoverOptions()
        self.ready, self.place = ready, ready if place is None else place
        self.person, self.goals = ObservedPerson(options), Goals(options, ready)
        self.options = options
        self.machine = HandoverMachine(options.machine, robot_holds)
        self.intent = IntentFilter(options.intent)
        self.asked, self._began, self._timeout = EITHER, -np.inf, np.inf
        self.cancelled = False
        self.forget()

    @property
    def options(self) -> HandoverOptions:
        """What it goes by; may be exchanged."""
        return self._options

    @options.setter
    def options(self, options: HandoverOptions) -> None:
        self._options = self.person.options = self.goals.options = options

    def forget(self) -> None:
        """Everything that is known of the person: the clock jumped, or the tracker was changed."""
        self.intent.reset()
        self.person.forget()
        self.goals.forget()
        self._probability = np.array([1.0, 0.0, 0.0])
        self._touching: int | None = None
        self._moved = np.inf  # m/s at which the tool was when what is known was new
        self._rests_at: np.ndarray | None = None  # in a transfer, where the object was when the hand came to rest

    def begin(self, now: float, asked: int = EITHER, timeout: float = 0.0) -> None:
        """A handover is asked for: GIVE, TAKE or EITHER, within `timeout` s (0: the options')."""
        self.asked, self.cancelled = asked, False
        self._began, self._timeout = now, timeout or self.options.timeout
        self.intent.reset()
        self.goals.forget()
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
        if hands.stamp <= self.person.stamp:
            return
        self.person.observe(hands, head)
        if futures is not None:
            self.foresee(futures)
        self.person.leave_out_unseen()
        self._update_intent(hands.stamp, holds, prompt)

    def foresee(self, futures: Futures) -> None:
        """A new forecast, in the base's frame."""
        self.person.foresee(futures)

    @property
    def stamp(self) -> float:
        """s, of the newest observation of the person; -inf before the first."""
        return self.person.stamp

    def step(self, now: float, robot: RobotState) -> Plan:
        """The plan at `now` s, on the observations' clock."""
        options, machine, person = self.options, self.machine, self.person
        side = self.intent.side
        transfer = person.transfers.get(side) if side is not None else None
        side_in_touch = side if machine.phase != Phase.TRANSFER else self._touching
        grasp = person.grasp(side_in_touch)
        settled = self._has_settled(side_in_touch, grasp, robot)
        goal = self._goal(machine.phase, transfer, grasp, robot)
        begins = settled or self._arrives(now, transfer, robot)
        phase = machine.update(now, self._facts(now, robot, goal, begins, grasp))
        if phase != Phase.TRANSFER:
            self._rests_at = None
        else:
            if machine.since == now:
                self._touching = side
            if settled and self._rests_at is None:
                self._rests_at = grasp
        goal = self._goal(phase, transfer, grasp, robot)
        exempt = self._touching if phase in (Phase.TRANSFER, Phase.RETREAT) else None
        person.drop_old(now)
        forecast = forecast_separation(
            robot.capsules, person.futures, options.separation, now, exempt, options.use_covariance
        )
        pairs = measure_pairs(robot.capsules, person.body, options.separation) if len(person.body) else None
        return Plan(
            phase,
            machine.reason,
            goal,
            self._trusted(self._speed_in(phase, robot, pairs, exempt, goal), robot.speed, self._trust(now, phase)),
            machine.fingers,
            np.nan if transfer is None else transfer.aperture,
            exempt,
            machine.direction,
            side,
            self._probability,
            transfer,
            settled,
            forecast,
            person.body,
            np.inf if pairs is None else float(pairs.distance.min()),
        )

    def expected(self, side: int) -> Transfer | None:
        """The transfer that the newest forecast of a hand tells of, whatever is thought of its intent."""
        return self.person.transfers.get(side)

    def keypoints(self, side: int) -> np.ndarray:
        """Those of a hand that are known, (K, 3) m, as they were seen last."""
        return self.person.last_keypoints(side)

    def _taker(self) -> np.ndarray | None:
        """Keypoints (K, 3) m of the hand that takes, None in a give."""
        takes = self.machine.direction == TAKE and self._touching is not None
        return self.keypoints(self._touching) if takes else None

    def age(self, now: float) -> float:
        """s since what is known of the person was so; forecasts, which come less often, may be as much older."""
        return self.person.age(now)

    # ---------------------------------------------------------------- the person

    def _update_intent(self, stamp: float, holds: tuple[bool | None, bool | None], prompt: str) -> None:
        if self.machine.phase in (Phase.TRANSFER, Phase.RETREAT, Phase.PLACE, Phase.ABORT):
            return  # what it is about was decided; hands are still now, which looks like nothing
        robot, probability, person = self.ready[:3, 3], {}, self.person
        for side, transfer in person.transfers.items():
            there = person.rests(side) and bool(self.options.zone(person.keypoints[side, WRIST]))
            seen = evidence(
                person.keypoints[side],
                person.came_from(side),
                transfer,
                robot,
                self.options.zone.floor,
                holds[side],
                there,
            )
            p = intent_probability(seen, self.machine.robot_holds, prompt, self.options.intent)
            if self.asked in (GIVE, TAKE):
                p[TAKE if self.asked == GIVE else GIVE] = 0.0
                p[NONE] = 1.0 - p[self.asked]
            probability[side] = p
        self.intent.update(stamp, probability, [side for side in probability if person.offers(side)])
        shown = self.intent.side
        if shown is None and probability:
            shown = min(probability, key=lambda s: probability[s][NONE])
        self._probability = probability.get(shown, np.array([1.0, 0.0, 0.0]))

    def _has_settled(self, side: int | None, grasp: np.ndarray | None, robot: RobotState) -> bool:
        """Whether the hand rests within reach of the last stretch."""
        if side is None or grasp is None or not self.person.rests(side):
            return False
        return self._within_stretch(grasp, robot) and bool(self.options.zone(self.person.keypoints[side, WRIST]))

    def _arrives(self, now: float, transfer: Transfer | None, robot: RobotState) -> bool:
        """Whether it is about to."""
        if transfer is None or not self.person.arrives(transfer.side, now):
            return False
        near = self._within_stretch(self.person.expected_grasp(transfer), robot)
        return near and bool(self.options.zone(transfer.position))

    def _within_stretch(self, grasp: np.ndarray, robot: RobotState) -> bool:
        return float(np.linalg.norm(grasp - robot.tool[:3, 3])) < self.options.last_stretch

    # ---------------------------------------------------------------- the robot

    def _facts(self, now: float, robot: RobotState, goal: np.ndarray, settled: bool, grasp: np.ndarray | None) -> Facts:
        touching = self.machine.phase == Phase.TRANSFER
        off = float(np.linalg.norm(robot.tool[:3, 3] - goal[:3, 3]))
        return Facts(
            cancelled=self.cancelled,
            # In contact an old forecast makes the arm stand (`_trust`), and is no reason to leave.
            data_age=now - self.person.stamp if touching else self._data_age(now),
            direction=self.intent.direction,
            at_goal=self._at_object(off, grasp) if touching else off < _AT_STANDOFF,
            settled=settled,
            hand_left=touching and self._has_left(now, grasp, robot),
            gripped=robot.gripped,
            pulled=robot.pulled,
            clear=off < _CLEAR,
            home=off < _CLEAR,
            unmeant_contact=robot.unmeant_contact,
            overdue=now - self._began > self._timeout,
        )

    def _at_object(self, off: float, grasp: np.ndarray | None) -> bool:
        """Whether fingers may close: at a hand that is not seen just now the tool stands, wherever that is."""
        return off < self.options.close_at and self._rests_at is not None and grasp is not None

    def _has_left(self, now: float, grasp: np.ndarray | None, robot: RobotState) -> bool:
        """Whether the transferring hand went away, or did not come to rest where it was expected. One that takes pulls
        as it goes, and what the robot feels of an object that it holds says nothing."""
        gives = self.machine.direction == GIVE
        if grasp is None or (gives and robot.gripped):
            return False
        if self._rests_at is None:
            return now - self.machine.since > self.options.arrive_timeout
        return float(np.linalg.norm(grasp - self._rests_at)) > self.options.left_by * (1.0 if gives else 2.0)

    def _data_age(self, now: float) -> float:
        """As `age`; on the way to a hand, at least as old as the hand was last seen. In a transfer the robot's own
        hand hides it, and the arm stands."""
        towards = self.machine.phase in (Phase.REACH, Phase.WAIT)
        return max(self.age(now), self.person.unseen_for(self.intent.side, now) if towards else 0.0)

    def _trust(self, now: float, phase: Phase) -> float:
        """From 1, what is known of the person is new, to 0, too old to move by."""
        options, age = self.options, self._data_age(now)
        if phase == Phase.TRANSFER:
            age = max(age, self.person.unseen_for(self._touching, now))
        return float(np.clip((options.stop_after - age) / (options.stop_after - options.slow_after), 0.0, 1.0))

    def _trusted(self, speed: float, moves: float, trust: float) -> float:
        """m/s of the tool that are left of `speed`: a share of what it moved at when all was new, so that it slows all
        the while."""
        if trust >= 1.0:
            self._moved = max(moves, _SLOWEST)
            return speed
        return min(speed, self._moved) * trust

    def _speed_in(
        self, phase: Phase, robot: RobotState, pairs: Pairs | None, exempt: int | None, goal: np.ndarray
    ) -> float:
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
            person = self.person.body
            others = ~(person.is_hand & (person.side == (-2 if exempt is None else exempt)))[pairs.person]
            near = others & (pairs.distance < options.separation.stop_distance)
            nearest = float(pairs.distance[near].min(initial=np.inf))
            way = (goal - robot.tool)[:3, 3]
            if (pairs.normal[near] @ way > _LEAVES * np.linalg.norm(way)).any():
                speed = min(speed, options.separation.near_speed + _FASTER * max(nearest - _BESIDE, 0.0))
        return speed

    def _last_stretch_speed(self, robot: RobotState) -> float:
        """What contact allows, and more where the hand is further away: past it, for what goes towards it is limited
        by itself."""
        options, pairs = self.options, self._to_touching(robot)
        slow = options.separation.transfer_speed
        if pairs is None:
            return slow
        return float(np.clip(slow + _FASTER * (pairs.distance.min() - _IN_TOUCH), slow, options.carry_speed))

    def _near_touching(self, robot: RobotState) -> bool:
        pairs = self._to_touching(robot)
        return pairs is not None and float(pairs.distance.min()) < self.options.leave_distance

    def _to_touching(self, robot: RobotState) -> Pairs | None:
        """The robot and the transferring hand, with its forearm; None where that is not known."""
        person = self.person.body
        mine = np.flatnonzero(person.is_hand & (person.side == self._touching))
        if not len(mine):
            return None
        hand = Body(*(getattr(person, name)[mine] for name in Body.__dataclass_fields__))
        return measure_pairs(robot.capsules, hand, self.options.separation)

    def _goal(self, phase: Phase, transfer: Transfer | None, grasp: np.ndarray | None, robot: RobotState) -> np.ndarray:
        """Where the tool is to go in this phase, (4, 4)."""
        goals = self.goals
        if phase in (Phase.REACH, Phase.WAIT):
            if transfer is not None:
                return goals.standoff(self.person, transfer)
            standing = goals.last_standoff()
            if standing is not None:
                return standing
        if phase == Phase.TRANSFER:
            if self._rests_at is None and transfer is not None:
                return goals.awaiting(self.person, transfer)
            return goals.at(grasp, self.machine.closing, robot.tool, self._taker())
        if phase in (Phase.RETREAT, Phase.ABORT):
            return goals.behind()
        goals.forget()
        if phase == Phase.PLACE:
            return self.place
        if phase == Phase.OBSERVE:
            at_home = self.machine.robot_holds or self.asked == TAKE or self.person.futures is None
            return goals.waiting(self.person, at_home, self.intent.likely)
        return self.ready
