"""Trackers that publish joints without an adapter, and trackers of any quality of service."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from forecaster_driver import BOTH, LEFT, RIGHT, STEP
from geometry_msgs.msg import PoseArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from egohand_ros.hand.skeleton import KEYPOINT_NAMES
from egohand_ros.messages.forecast import POSITION_GRID, parse_hand_forecast_array_msg
from egohand_ros.msg import ForecasterInfo, HandPoseArray
from egohand_ros.nodes.messages.basic import pose_msg, time_msg


def joints_msg(stamp, joints, frame="tracker"):
    message = PoseArray(poses=[pose_msg(point, np.array([0.0, 0.0, 0.0, 1.0])) for point in joints])
    message.header.stamp, message.header.frame_id = time_msg(stamp), frame
    return message


def openxr(hand):
    """The 26 joints of OpenXR from our 21: palm first, then wrist; each finger but the thumb has a metacarpal."""
    palm = hand[[0, 9]].mean(0, keepdims=True)
    rows = [palm, hand[0:1], hand[1:5]]
    for first in (5, 9, 13, 17):
        rows += [hand[[0, first]].mean(0, keepdims=True), hand[first : first + 4]]
    return np.concatenate(rows)


def test_trackers_that_publish_joints_need_no_adapter(probe, driver):
    d = driver()
    sides = [probe.publisher(PoseArray, f"tracker_poses/{side}", 50) for side in ("left", "right")]
    probe.wait(lambda: all(p.get_subscription_count() == 1 for p in sides), 10, "joint subscribers")
    # OpenXR, a message a hand, the same stamp: one observation of both, after the second of the first frame told so.
    for _ in range(3):
        d.stamp += STEP
        for side in (LEFT, RIGHT):
            sides[side].publish(joints_msg(d.stamp, openxr(BOTH[side])))
        probe.wait(lambda: d.forecasts and d.forecasts[-1].header.stamp == time_msg(d.stamp), 10, "forecast")
    last = parse_hand_forecast_array_msg(d.forecasts[-1])
    assert last.frame_id == "tracker" and len(last.hands) == 2
    for hand in last.hands:
        assert np.allclose(hand.keypoints[0, 0], BOTH[hand.side], atol=POSITION_GRID)
    count = len(d.forecasts)
    # Wrong counts are refused; the message after them is used.
    for joints in (np.zeros((7, 3)), np.tile(BOTH[LEFT], (2, 1))):
        sides[LEFT].publish(joints_msg(probe.now(), joints))
    probe.wait(lambda: d.node.health.rejected("wrong_count") == 2, 10, "refusals")
    assert len(d.forecasts) == count


def test_both_hands_in_one_joint_message(probe, driver):
    d = driver(tracker_side="right", keypoint_convention="mediapipe")
    both = probe.publisher(PoseArray, "tracker_poses", 50)
    probe.wait(lambda: both.get_subscription_count() == 1, 10, "joint subscriber")
    both.publish(joints_msg(probe.now(), np.concatenate([BOTH[RIGHT], BOTH[LEFT]])))
    probe.wait(lambda: d.forecasts, 10, "forecast")
    futures = parse_hand_forecast_array_msg(d.forecasts[0])
    for hand in futures.hands:
        assert np.allclose(hand.keypoints[0, 0], BOTH[hand.side], atol=POSITION_GRID)
    assert len(futures.hands) == 2
    both.publish(joints_msg(probe.now(), openxr(BOTH[LEFT])))
    probe.wait(lambda: d.node.health.rejected("wrong_count") == 1, 10, "refusal of another convention")


@pytest.mark.parametrize("reliability", list(ReliabilityPolicy)[1:3])
def test_trackers_of_any_reliability_connect_and_late_joiners_get_the_info(probe, driver, reliability):
    d = driver()
    profile = QoSProfile(depth=10, reliability=reliability)
    tracker = probe.node.create_publisher(HandPoseArray, "hand_poses", profile)
    probe.wait(lambda: tracker.get_subscription_count() == 1, 10, "connection")
    message = d.message()
    probe.wait(lambda: d.forecasts, 10, "forecast", each=lambda: tracker.publish(message))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    info = probe.collect(ForecasterInfo, "forecaster_info", latched)
    probe.wait(lambda: info, 10, "latched info")
    assert (info[0].preset, info[0].device) == ("persistence", "cpu")
    assert tuple(info[0].keypoint_names) == KEYPOINT_NAMES
    assert (info[0].window_length, info[0].max_hypotheses) == (20, 1)
    assert info[0].horizon == pytest.approx(1.0)
