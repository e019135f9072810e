"""Commands as JointTrajectory are what a stock joint_trajectory_controller takes, and stop the robot when they end."""

import time
from itertools import pairwise

import numpy as np
import pytest
from robot_graph import Probe, Process
from test_retargeter import QUICK, RetargeterUser
from trajectory_msgs.msg import JointTrajectory

from egohand_ros.messages.basic import seconds
from egohand_ros.messages.joints import parse_joint_command_msg
from egohand_ros.nodes.messages.joints import build_joint_command_msg
from egohand_ros.robot.follow.braking import stop_from
from egohand_ros.robot.hands.library import load_hand

VELOCITY_TOLERANCE = np.finfo(np.float32).eps
PERIOD = 0.01


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


def refusal(message: JointTrajectory, joints: set[str], now: float) -> str:
    """Why a joint_trajectory_controller of Jazzy with its default parameters would refuse a message; "" if it takes it.

    The rules are those of the controller's check of incoming trajectories (ros2_controllers 4), in its order.
    """
    names, points = list(message.joint_names), message.points
    if set(names) != joints or len(names) != len(joints):
        return "not exactly the joints of the controller"
    if not points:
        return "no points"
    start, times = seconds(message.header.stamp), [seconds(point.time_from_start) for point in points]
    if start != 0.0 and start + times[-1] < now:
        return "it ended in the past"
    if any(abs(velocity) > VELOCITY_TOLERANCE for velocity in points[-1].velocities):
        return "it ends in motion"
    if any(later <= earlier for earlier, later in pairwise(times)):
        return "times do not increase"
    for point in points:
        if len(point.positions) != len(names):
            return "not one position for each joint"
        if any(len(values) not in (0, len(names)) for values in (point.velocities, point.accelerations)):
            return "not one velocity or acceleration for each joint, nor none"
        if len(point.effort):
            return "efforts"
    return ""


@pytest.mark.parametrize("name", ["revo2_right", "svh_right", "shadow_right"])
def test_a_stock_controller_takes_every_command(probe, name):
    hand, commands, curls = load_hand(name), [], iter(np.tile(np.r_[0.1:0.8:40j, 0.8:0.1:40j], 50))
    with Process("retargeter", hand=name, **QUICK):
        user = RetargeterUser(probe, hand)
        probe.node.create_subscription(
            JointTrajectory, "joint_commands", lambda message: commands.append((probe.now(), message)), 1000
        )
        moving = lambda: sum(np.abs(m.points[0].velocities).max() > 0.05 for _, m in commands)  # noqa: E731
        probe.wait(lambda: moving() > 50, what="a hand that moves", each=lambda: user.forecast(float(next(curls))))
    joints = set(hand.command_mapping().names)
    refused = [reason for received, m in commands if (reason := refusal(m, joints, received + 2 * PERIOD))]
    assert not refused, f"{len(refused)} of {len(commands)} refused: {sorted(set(refused))}"
    assert all(seconds(m.points[-1].time_from_start) > 2 * PERIOD for _, m in commands), "nothing to do until the next"


def test_a_trajectory_passes_the_command_and_stops_within_the_limits():
    hand = load_hand("shadow_right")
    mapping, rng = hand.command_mapping(), np.random.default_rng(0)
    for _ in range(50):
        q = rng.uniform(hand.lower, hand.upper)
        qd = rng.uniform(-1, 1, hand.n) * hand.velocity_limit
        stop = stop_from(hand, q, qd)
        message = build_joint_command_msg(mapping, time.time(), q, qd, PERIOD, stop)
        assert seconds(message.header.stamp) == 0.0
        np.testing.assert_allclose(parse_joint_command_msg(message, mapping), q)
        np.testing.assert_allclose(mapping.from_wire(message.points[-1].positions), stop.q)
        assert (stop.q >= hand.lower).all() and (stop.q <= hand.upper).all()
        assert (np.abs(qd) / stop.duration <= hand.acceleration_limit + 1e-9).all()
        free = (stop.q > hand.lower) & (stop.q < hand.upper)  # these brake evenly
        np.testing.assert_allclose((stop.q - q)[free], (0.5 * stop.duration * qd)[free])


def test_the_makers_position_controller_of_revo2_has_an_order_of_its_own():
    hand = load_hand("revo2_right")
    assert hand.command_mapping().topic == "/right_revo2_hand_controller/joint_trajectory"
    position = hand.command_mapping("position")
    assert position.topic == "/right_revo2_hand_position_controller/commands"
    assert position.names[:2] == ("right_thumb_proximal_joint", "right_thumb_metacarpal_joint")
    q = np.linspace(0.1, 0.6, hand.n)
    first = hand.joint_names.index("right_thumb_proximal_joint")
    assert position.to_wire(q)[0] == pytest.approx(q[first])
