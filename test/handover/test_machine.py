"""The phases of a handover: the ways through, and what stops them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egohand_ros.handover.intent import GIVE, NONE, TAKE
from egohand_ros.handover.machine import Facts, Fingers, HandoverMachine, Outcome, Phase

STEP = 0.01


class Drive:
    """A machine that is told what is the case until something is so."""

    def __init__(self, robot_holds=False):
        self.machine, self.now = HandoverMachine(robot_holds=robot_holds), 0.0
        self.machine.begin(0.0)

    def until(self, phase, facts, within=6.0):
        end = self.now + within
        while self.now < end and self.machine.phase != phase:
            self.now += STEP
            self.machine.update(self.now, facts)
        assert self.machine.phase == phase, (self.machine.phase, self.machine.reason)
        return self.machine


def give_until_transfer():
    drive = Drive()
    drive.until(Phase.REACH, Facts(direction=GIVE))
    drive.until(Phase.WAIT, Facts(direction=GIVE, at_goal=True))
    drive.until(Phase.TRANSFER, Facts(direction=GIVE, at_goal=True, settled=True))
    return drive


def test_an_object_is_given():
    drive = give_until_transfer()
    assert drive.machine.fingers == Fingers.PRESHAPE
    drive.machine.update(drive.now + STEP, Facts(direction=GIVE, at_goal=True))
    assert drive.machine.fingers == Fingers.CLOSE
    drive.until(Phase.RETREAT, Facts(direction=GIVE, at_goal=True, gripped=True))
    assert drive.machine.robot_holds and drive.machine.fingers == Fingers.CLOSE
    drive.until(Phase.PLACE, Facts(gripped=True, clear=True))
    drive.until(Phase.IDLE, Facts(gripped=True, home=True))
    assert drive.machine.outcome == Outcome.SUCCESS


def test_an_object_is_taken_when_it_is_pulled():
    drive = Drive(robot_holds=True)
    drive.until(Phase.REACH, Facts(direction=TAKE))
    drive.until(Phase.TRANSFER, Facts(direction=TAKE, settled=True))
    drive.machine.update(drive.now + 0.5, Facts(direction=TAKE, gripped=True))
    assert drive.machine.fingers == Fingers.CLOSE, "it lets go for a pull alone"
    drive.until(Phase.RETREAT, Facts(direction=TAKE, gripped=True, pulled=True))
    assert drive.machine.fingers == Fingers.OPEN
    drive.until(Phase.IDLE, Facts(clear=True, home=True))
    assert drive.machine.outcome == Outcome.SUCCESS


def test_what_was_lost_on_the_way_is_no_success():
    drive = give_until_transfer()
    drive.until(Phase.RETREAT, Facts(direction=GIVE, at_goal=True, gripped=True))
    drive.until(Phase.IDLE, Facts(clear=True, home=True))
    assert drive.machine.outcome == Outcome.DROP


def test_fingers_do_not_close_on_nothing():
    drive = give_until_transfer()
    for _ in range(50):
        drive.now += STEP
        drive.machine.update(drive.now, Facts(direction=GIVE, at_goal=False, gripped=True))
    assert drive.machine.phase == Phase.TRANSFER and drive.machine.fingers == Fingers.PRESHAPE


@pytest.mark.parametrize("phase", [Phase.REACH, Phase.WAIT])
def test_who_changes_the_mind_is_given_way(phase):
    drive = Drive()
    drive.until(phase, Facts(direction=GIVE, at_goal=phase == Phase.WAIT))
    drive.until(Phase.OBSERVE, Facts(direction=NONE, at_goal=True))


def test_a_hand_that_leaves_in_the_last_moment_is_let_go():
    drive = give_until_transfer()
    drive.until(Phase.REACH, Facts(direction=GIVE, hand_left=True))
    assert drive.machine.fingers == Fingers.PRESHAPE


def test_a_person_who_is_not_seen_holds_the_arm_and_then_ends_it():
    drive = Drive()
    drive.until(Phase.REACH, Facts(direction=GIVE))
    drive.until(Phase.HOLD, Facts(direction=GIVE, data_age=0.3))
    drive.until(Phase.REACH, Facts(direction=GIVE, data_age=0.02))
    drive.until(Phase.HOLD, Facts(direction=GIVE, data_age=0.3))
    drive.until(Phase.ABORT, Facts(data_age=3.0))
    assert drive.machine.outcome == Outcome.ABORTED
    drive.until(Phase.IDLE, Facts(home=True))


@settings(max_examples=30)
@given(st.sampled_from([Phase.OBSERVE, Phase.REACH, Phase.WAIT, Phase.TRANSFER]), st.booleans())
def test_contact_cancelling_and_time_end_it_from_everywhere(phase, overdue):
    for facts, outcome in (
        (Facts(unmeant_contact=True), Outcome.HUMAN_CONTACT),
        (Facts(cancelled=True), Outcome.ABORTED),
        (Facts(overdue=True), Outcome.TIMEOUT),
    ):
        drive = Drive()
        if phase != Phase.OBSERVE:
            drive.until(Phase.REACH, Facts(direction=GIVE))
        if phase not in (Phase.OBSERVE, Phase.REACH):
            drive.until(phase, Facts(direction=GIVE, at_goal=True, settled=phase == Phase.TRANSFER))
        drive.until(Phase.ABORT, replace(facts, direction=GIVE), within=0.1)
        assert drive.machine.outcome == outcome


facts = st.builds(
    Facts,
    wanted=st.booleans(),
    cancelled=st.booleans(),
    data_age=st.sampled_from([0.0, 0.1, 0.5]),
    direction=st.sampled_from([NONE, GIVE, TAKE]),
    **{name: st.booleans() for name in (
        "at_goal", "settled", "hand_left", "gripped", "pulled", "clear", "home", "unmeant_contact", "overdue"
    )},
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(facts, max_size=60), st.booleans())
def test_whatever_happens_it_ends_in_a_known_phase_with_a_reason(sequence, robot_holds):
    machine, now = HandoverMachine(robot_holds=robot_holds), 0.0
    machine.begin(0.0)
    for fact in sequence:
        before = machine.phase
        now += 0.05
        machine.update(now, fact)
        assert machine.phase in Phase and machine.reason
        if before != Phase.TRANSFER and machine.phase == Phase.TRANSFER:
            assert before in (Phase.REACH, Phase.WAIT) and fact.settled, "only from a standoff, with the hand at rest"
        if machine.phase == Phase.IDLE:
            assert machine.outcome is not None


def test_a_grip_that_flickers_is_a_grip_and_a_hand_that_leaves_it_does_not_open_it():
    drive = give_until_transfer()
    for i in range(100):
        drive.now += STEP
        here = Facts(direction=GIVE, at_goal=True, gripped=i % 5 == 0, hand_left=i > 30)
        if drive.machine.update(drive.now, here) != Phase.TRANSFER:
            break
    assert drive.machine.phase == Phase.RETREAT and drive.machine.robot_holds


def test_a_hand_that_leaves_without_having_been_gripped_ends_the_transfer():
    drive = give_until_transfer()
    drive.machine.update(drive.now + STEP, Facts(direction=GIVE, at_goal=True, hand_left=True))
    assert drive.machine.phase == Phase.REACH


def test_a_hand_that_leaves_a_take_is_noticed_though_the_robot_feels_what_it_holds():
    drive = Drive(robot_holds=True)
    drive.until(Phase.REACH, Facts(direction=TAKE, gripped=True))
    drive.until(Phase.TRANSFER, Facts(direction=TAKE, gripped=True, at_goal=True, settled=True))
    drive.until(Phase.REACH, Facts(direction=TAKE, gripped=True, hand_left=True), within=0.1)
    assert drive.machine.robot_holds and drive.machine.fingers == Fingers.CLOSE
