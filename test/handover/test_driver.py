"""What is stale, lost or far away stops the arm; frames are turned as a whole."""

from dataclasses import replace

import numpy as np
import pytest
from people import future, futures, hand_at

from egohand_ros.geometry.rotations import exp_rotation
from egohand_ros.geometry.transforms import invert_transform, make_transform
from egohand_ros.handover.controller import HandoverController, RobotState
from egohand_ros.handover.frames import futures_in, hands_in
from egohand_ros.handover.intent import GIVE, TAKE
from egohand_ros.handover.machine import Fingers, Outcome, Phase
from egohand_ros.handover.options import HandoverOptions
from egohand_ros.handover.separation import measure_pairs
from egohand_ros.handover.simulation.person import draw_person
from egohand_ros.messages.hands import hands

READY = np.eye(4)
READY[:3, 3] = 0.5, 0.0, 0.36
ROBOT = RobotState(READY, (np.array([[0.4, 0.0, 0.36]]), np.array([[0.5, 0.0, 0.36]]), np.array([0.05])))
FAR = hand_at((1.6, 0.0, 0.3))


def watching(now=10.0):
    """A controller that observes a hand far away."""
    controller = HandoverController(READY)
    controller.begin(now)
    controller.observe(now, hands(now, "base", FAR), None)
    return controller


def test_what_is_old_slows_and_then_stops_the_arm():
    controller, options = watching(), HandoverOptions()
    full = controller.step(10.0, ROBOT).speed
    slowed = controller.step(10.0 + 0.5 * (options.slow_after + options.stop_after), ROBOT).speed
    assert full == options.speed and 0.3 * full < slowed < 0.7 * full
    assert controller.step(10.0 + options.stop_after, ROBOT).speed == 0.0
    plan = controller.step(10.3, ROBOT)
    assert plan.phase == Phase.HOLD and plan.speed == 0.0


@pytest.mark.parametrize("way, slows", [((0.0, 0.2, 0.0), True), ((0.2, 0.0, 0.0), True), ((-0.2, 0.0, 0.0), False)])
def test_what_goes_by_somebody_near_goes_slowly_and_what_leaves_does_not(way, slows):
    controller, goal = watching(), READY.copy()
    goal[:3, 3] += way
    controller.observe(10.03, hands(10.03, "base", hand_at((0.85, 0.0, 0.36))), None)
    pairs = measure_pairs(ROBOT.capsules, controller.person.body, controller.options.separation)
    assert pairs.distance.min() < controller.options.separation.stop_distance
    speed = controller._speed_in(Phase.OBSERVE, ROBOT, pairs, None, goal)
    assert (speed < 0.3) == slows and (slows or speed == controller.options.speed)


def test_a_forecaster_that_falls_silent_stops_the_arm_though_hands_are_seen():
    controller, options = watching(), HandoverOptions()
    controller.foresee(replace(futures(future(np.full((1, 10, 3), (1.6, 0.0, 0.3)))), stamp=10.0))
    late = 10.0 + options.forecast_period + options.stop_after + 0.001
    controller.observe(late, hands(late, "base", FAR), None)
    assert controller.step(late, ROBOT).speed == 0.0


def test_a_hand_that_is_lost_near_the_robot_still_counts():
    controller = watching()
    near = hand_at((0.75, 0.0, 0.36))
    controller.observe(10.03, hands(10.03, "base", near), None)
    seen = controller.step(10.03, ROBOT).distance
    controller.observe(10.1, hands(10.1, "base", np.full((2, 21, 3), np.nan)), None)
    lost = controller.step(10.1, ROBOT).distance
    assert lost < seen - 0.05, "it may have come nearer"
    controller.observe(12.0, hands(12.0, "base", np.full((2, 21, 3), np.nan)), None)
    assert controller.step(12.0, ROBOT).distance == np.inf


def test_a_machine_that_is_stopped_does_nothing_more():
    controller = watching()
    controller.machine.stop(11.0, "disabled")
    assert controller.machine.outcome == Outcome.ABORTED
    assert controller.step(11.0, ROBOT).speed == 0.0


def test_frames_are_turned_with_all_that_is_in_them():
    T = make_transform(exp_rotation(np.array([0.3, -0.2, 1.0])), np.array([0.5, 1.0, -2.0]))
    there = hands(1.0, "camera", hand_at((1.0, 0.2, 0.3)), wrist_rotation=np.tile(np.eye(3), (2, 1, 1)),
                  wrist_covariance=np.tile(np.diag([4.0, 1, 1, 1, 1, 1]), (2, 1, 1)))  # fmt: skip
    here = hands_in("base", T, there)
    assert here.frame_id == "base"
    assert here.keypoints[1, 0] == pytest.approx(T[:3, :3] @ (1.0, 0.2, 0.3) + T[:3, 3])
    assert here.wrist_rotation[1] == pytest.approx(T[:3, :3])
    assert np.linalg.eigvalsh(here.wrist_covariance[1]).max() == pytest.approx(4.0)
    first = futures(future(np.ones((2, 4, 3)), 0.01))
    back = futures_in("there", invert_transform(T), futures_in("base", T, first))
    assert back.hands[0].keypoints == pytest.approx(first.hands[0].keypoints)
    assert back.hands[0].wrist_covariance == pytest.approx(first.hands[0].wrist_covariance)


def test_fingers_do_not_close_where_the_tool_stands_because_the_hand_is_not_seen():
    controller = watching()
    machine, near = controller.machine, hand_at((0.75, 0.0, 0.36))
    machine.phase, machine.direction, machine.since, controller._touching = Phase.TRANSFER, GIVE, 10.0, 1
    controller._rests_at = np.array([0.66, 0.0, 0.40])
    for now, seen in ((10.03, near), (10.06, np.full((2, 21, 3), np.nan))):
        controller.observe(now, hands(now, "base", seen), None)
        plan = controller.step(now, ROBOT)
        assert (plan.phase, plan.fingers) == (Phase.TRANSFER, Fingers.PRESHAPE)


def test_the_hand_that_takes_and_goes_away_has_left_though_the_robot_holds_the_object():
    controller = watching()
    controller.machine.phase, controller.machine.direction, controller.machine.robot_holds = Phase.TRANSFER, TAKE, True
    controller.machine.since, controller._touching = 10.0, 1
    holds, points = replace(ROBOT, gripped=True), draw_person(3, TAKE, True).keypoints(0.0)[0]
    points -= points[1, 0]
    points[0] = np.nan
    for now, x, expected in ((10.1, 0.75, Phase.TRANSFER), (10.5, 0.8, Phase.TRANSFER), (10.9, 1.2, Phase.REACH)):
        for stamp in now + 0.05 * np.arange(7):  # it rests
            controller.observe(stamp, hands(stamp, "base", points + (x, 0.0, 0.24)), None)
            phase = controller.step(stamp, holds).phase
            if phase != Phase.TRANSFER:
                break
        assert phase == expected
