"""The phases of a handover: a state machine that knows no geometry, only what is the case."""

import math
from dataclasses import dataclass
from enum import IntEnum

from .intent import GIVE, NONE, TAKE


class Phase(IntEnum):
    """As in HandoverState.phase."""

    IDLE = 0
    OBSERVE = 1
    REACH = 2
    WAIT = 3
    TRANSFER = 4
    RETREAT = 5
    PLACE = 6
    HOLD = 7
    ABORT = 8


class Outcome(IntEnum):
    """As in Handover.action's result."""

    SUCCESS = 0
    HUMAN_CONTACT = 1
    DROP = 2
    TIMEOUT = 3
    ABORTED = 4


class Fingers(IntEnum):
    """What the robot's fingers are to do; PRESHAPE opens as far as the object that is expected needs."""

    OPEN = 0
    PRESHAPE = 1
    CLOSE = 2


@dataclass(frozen=True)
class MachineOptions:
    """Times in s. A hand that is not heard of for `hold_after` holds the arm, and after `lost_after` in HOLD the
    handover is given up. In TRANSFER the object has to change hands within `transfer_timeout`; WAIT lasts up to
    `wait_timeout`. An object counts as held when it was for `grip_time`, with no more than `grip_gap` in between, and
    as gone when it was not felt for `grip_memory`: fingers shift. A hand that grips one that the robot holds and pulls
    for `pull_time` gets it."""

    hold_after: float = 0.2
    lost_after: float = 2.0
    wait_timeout: float = 8.0
    transfer_timeout: float = 6.0
    grip_time: float = 0.5
    grip_gap: float = 0.1
    grip_memory: float = 0.3
    pull_time: float = 0.08
    retreat_timeout: float = 4.0


@dataclass(frozen=True)
class Facts:
    """What is the case at one moment.

    wanted: a handover may begin (enabled, a goal given); cancelled; data_age s of what is known of the person;
    direction of the intent; at_goal, the tool at its standoff; settled, the measured hand rests within reach of the
    last stretch; hand_left, it went away again; gripped, the robot's fingers feel the object on both sides; pulled, the
    person pulls at it; clear, the robot's hand has left; home, the arm is where it ends; unmeant_contact; overdue, the
    goal's time is up.
    """

    wanted: bool = True
    cancelled: bool = False
    data_age: float = 0.0
    direction: int = NONE
    at_goal: bool = False
    settled: bool = False
    hand_left: bool = False
    gripped: bool = False
    pulled: bool = False
    clear: bool = False
    home: bool = False
    unmeant_contact: bool = False
    overdue: bool = False


_WITH_THE_PERSON = (Phase.OBSERVE, Phase.REACH, Phase.WAIT, Phase.TRANSFER)


class HandoverMachine:
    """`phase`, `direction`, `fingers` and `reason` after each `update`; `outcome` once a handover has ended."""

    def __init__(self, options: MachineOptions = MachineOptions(), robot_holds: bool = False):
        self.options = options
        self.robot_holds = robot_holds
        self.phase, self.direction, self.reason = Phase.IDLE, NONE, "not enabled"
        self.outcome: Outcome | None = None
        self.since = 0.0
        self._held_from = Phase.OBSERVE
        self.closing = False
        self._gripped_since: float | None = None
        self._felt_at = -math.inf
        self._pulled_since: float | None = None

    @property
    def fingers(self) -> Fingers:
        """What the fingers do in this phase."""
        if self.robot_holds:
            return Fingers.CLOSE
        if self.phase == Phase.TRANSFER and self.direction == GIVE and self.closing:
            return Fingers.CLOSE
        return Fingers.OPEN if self.phase in (Phase.RETREAT, Phase.PLACE) else Fingers.PRESHAPE

    def begin(self, now: float) -> None:
        """A handover is asked for; what became of the one before is forgotten."""
        self.outcome = None
        self.closing = False
        self._go(Phase.OBSERVE, now, "watching")

    def stop(self, now: float, reason: str) -> None:
        """Give up at once and do nothing more: the robot may not move any longer."""
        if self.phase != Phase.IDLE:
            self.outcome = self.outcome or Outcome.ABORTED
            self._go(Phase.IDLE, now, reason)

    def update(self, now: float, facts: Facts) -> Phase:
        """The phase after what is the case at `now` s."""
        if self.phase == Phase.IDLE:
            return self.phase
        if facts.gripped:
            self._felt_at = now
        if not self._stopped_by(now, facts):
            getattr(self, f"_{self.phase.name.lower()}")(now, facts)
        return self.phase

    def _stopped_by(self, now: float, facts: Facts) -> bool:
        """What ends or interrupts any phase."""
        if self.phase == Phase.ABORT:
            return False
        if facts.unmeant_contact:
            return self._give_up(now, Outcome.HUMAN_CONTACT, "touched the person where it was not meant")
        if (facts.cancelled or not facts.wanted) and self.phase not in (Phase.RETREAT, Phase.PLACE):
            return self._give_up(now, Outcome.ABORTED, "cancelled")
        if facts.overdue and self.phase in (*_WITH_THE_PERSON, Phase.HOLD):
            return self._give_up(now, Outcome.TIMEOUT, "the time for this handover is up")
        if self.phase in _WITH_THE_PERSON and facts.data_age > self.options.hold_after:
            self._held_from = Phase.OBSERVE if self.phase == Phase.OBSERVE else Phase.REACH
            known = f"for {facts.data_age:.1f} s" if math.isfinite(facts.data_age) else "yet"
            self._go(Phase.HOLD, now, f"nothing known of the person {known}")
            return True
        return False

    def _observe(self, now: float, facts: Facts) -> None:
        if facts.direction != NONE:
            self.direction = facts.direction
            self._go(Phase.REACH, now, "the person gives" if self.direction == GIVE else "the person takes")

    def _reach(self, now: float, facts: Facts) -> None:
        if facts.direction != self.direction:
            self._give_way(now)
        elif facts.settled:
            self._transfer_from(now)
        elif facts.at_goal:
            self._go(Phase.WAIT, now, "at the standoff")

    def _wait(self, now: float, facts: Facts) -> None:
        if facts.direction != self.direction:
            self._give_way(now)
        elif facts.settled:
            self._transfer_from(now)
        elif not facts.at_goal:
            self._go(Phase.REACH, now, "the hand is expected elsewhere")
        elif now - self.since > self.options.wait_timeout:
            self._give_way(now)

    def _transfer(self, now: float, facts: Facts) -> None:
        gripped = now - self._felt_at <= self.options.grip_gap
        self._gripped_since = self._since(self._gripped_since, now, gripped)
        self._pulled_since = self._since(self._pulled_since, now, facts.pulled)
        if self.direction == GIVE:
            self.closing = self.closing or facts.at_goal
            if self._lasted(self._gripped_since, now, self.options.grip_time) and self.closing:
                self.robot_holds = True
                self._go(Phase.RETREAT, now, "holds the object")
                return
        elif self._lasted(self._pulled_since, now, self.options.pull_time):
            self.robot_holds = False
            self._go(Phase.RETREAT, now, "the person holds the object")
            return
        holds = self.direction == GIVE and now - self._felt_at <= self.options.grip_memory
        if facts.hand_left and not holds:
            self.closing = False
            self._go(Phase.REACH, now, "the hand went away")
        elif now - self.since > self.options.transfer_timeout:
            self._give_up(now, Outcome.TIMEOUT, "the object did not change hands")

    def _retreat(self, now: float, facts: Facts) -> None:
        if facts.clear or now - self.since > self.options.retreat_timeout:
            self._go(Phase.PLACE, now, "away from the person")

    def _place(self, now: float, facts: Facts) -> None:
        if facts.home or now - self.since > self.options.retreat_timeout:
            gone = now - self._felt_at > self.options.grip_memory
            if self.direction == GIVE and not (facts.gripped or gone):
                return  # it shifts, or was lost just now: that will show
            secured = facts.gripped or self.direction == TAKE
            self.robot_holds = self.robot_holds and secured
            self.outcome = Outcome.SUCCESS if secured else Outcome.DROP
            self._go(Phase.IDLE, now, "done" if secured else "the object is gone")

    def _hold(self, now: float, facts: Facts) -> None:
        if facts.data_age <= self.options.hold_after:
            self._go(self._held_from, now, "the person is known again")
        elif now - self.since > self.options.lost_after:
            self._give_up(now, Outcome.ABORTED, "the person was lost")

    def _abort(self, now: float, facts: Facts) -> None:
        if facts.home or now - self.since > self.options.retreat_timeout:
            self._go(Phase.IDLE, now, self.reason)

    def _give_up(self, now: float, outcome: Outcome, reason: str) -> bool:
        self.outcome = outcome
        self._go(Phase.ABORT, now, reason)
        return True

    def _transfer_from(self, now: float) -> None:
        self.closing = False
        self._gripped_since = self._pulled_since = None
        self._go(Phase.TRANSFER, now, "the hand rests within reach")

    def _give_way(self, now: float) -> None:
        self.direction = NONE
        self._go(Phase.OBSERVE, now, "no handover after all")

    def _go(self, phase: Phase, now: float, reason: str) -> None:
        self.phase, self.since, self.reason = phase, now, reason

    @staticmethod
    def _since(since: float | None, now: float, holds: bool) -> float | None:
        return (now if since is None else since) if holds else None

    @staticmethod
    def _lasted(since: float | None, now: float, time: float) -> bool:
        return since is not None and now - since >= time - 1e-9
