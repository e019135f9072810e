"""In which frame the forecaster node forecasts: camera poses from topics and from TF, time that restarts."""

import importlib.util
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from forecaster_driver import BOTH, LEFT, RIGHT, STEP, camera_at, camera_msg
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from egohand_ros.errors import UserError
from egohand_ros.geometry.rotations import matrix_from_rotation_vector, quaternion_from_matrix
from egohand_ros.geometry.transforms import invert_transform, make_transform, transform_points
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.messages.forecast import POSITION_GRID, QUATERNION_GRID
from egohand_ros.messages.hands import hands
from egohand_ros.nodes.messages.basic import time_msg
from egohand_ros.nodes.messages.hands import build_hand_pose_array_msg


def test_a_clock_that_jumps_back_forgets_history(probe, driver):
    clock = probe.publisher(Clock, "/clock")
    d = driver(use_sim_time=True)

    def at(stamp, keypoints):
        probe.wait(
            lambda: abs(d.node.now() - stamp) < 1e-6,
            10,
            "clock",
            each=lambda: clock.publish(Clock(clock=time_msg(stamp))),
        )
        return d.answer(build_hand_pose_array_msg(hands(stamp, "camera", keypoints)))

    d.poses.publish(d.message())  # before the clock started
    probe.wait(lambda: d.node.health.rejected("no_clock") == 1, 10, "refusal without a clock")
    at(100.0, BOTH)
    assert len(at(100.2, BOTH).hands) == 2
    only_right = BOTH + 1.0
    only_right[LEFT] = np.nan
    futures = at(10.0, only_right)
    assert [hand.side for hand in futures.hands] == [RIGHT] and np.allclose(
        futures.hands[0].wrist[0, 0], only_right[RIGHT, WRIST]
    )
    assert d.node.health.counted("clock_jumps") == 1


@pytest.mark.parametrize("kind, topic", [(PoseStamped, "camera_pose"), (Odometry, "odometry")])
def test_camera_poses_move_hands_to_the_world(probe, driver, kind, topic):
    offset = make_transform(matrix_from_rotation_vector(np.array([-0.5, 0.5, 0.0])), np.array([0.1, 0.0, 0.05]))
    quaternion = quaternion_from_matrix(offset[:3, :3])
    parameters = {"camera_in_base": [*offset[:3, 3].tolist(), *quaternion.tolist()]} if kind is Odometry else {}
    d = driver(**parameters)
    camera = probe.publisher(kind, topic, 50)
    probe.wait(lambda: camera.get_subscription_count() == 1, 10, "camera subscriber")
    for i in range(6):
        turn = 0.02 * i
        d.stamp = stamp = d.stamp + STEP
        _, frame, T_world_camera = camera_at(stamp, turn)
        T_published = T_world_camera @ invert_transform(offset) if kind is Odometry else T_world_camera
        # The hands rest in the world; the camera sees them move.
        seen = transform_points(invert_transform(T_world_camera), BOTH)
        camera.publish(camera_msg(kind, stamp, frame, T_published))
        probe.wait(lambda: d.node.health.counted(f"received/{topic}") > i, 10, "camera pose")
        futures = d.answer(build_hand_pose_array_msg(hands(stamp, "camera", seen)))
        assert futures.frame_id == "odom"
    for hand in futures.hands:
        assert np.abs(hand.keypoints[0] - BOTH[hand.side]).max() < POSITION_GRID
        assert np.allclose(hand.wrist_rotation[0], palm_rotations(BOTH)[hand.side], atol=4 * QUATERNION_GRID)


def test_what_came_while_the_node_was_busy_is_taken_camera_first(probe, driver):
    d = driver()
    camera = probe.publisher(PoseStamped, "camera_pose", 50)
    probe.wait(lambda: camera.get_subscription_count() == 1, 10, "camera subscriber")
    for _ in range(4):
        message = d.message()
        camera.publish(camera_msg(PoseStamped, *camera_at(d.stamp, 0.1)))
        d.poses.publish(message)
    time.sleep(0.3)  # nobody spins: all of them wait
    probe.wait(lambda: any(f.header.stamp == message.header.stamp for f in d.forecasts), 20, "forecast")
    assert {f.header.frame_id for f in d.forecasts} == {"odom"}
    assert all(len(f.forecasts) == 2 for f in d.forecasts)


def test_hands_wait_for_the_camera_pose_of_their_own_time(probe, driver):
    d = driver(fixed_frame="odom")
    camera = probe.publisher(PoseStamped, "camera_pose", 50)
    probe.wait(lambda: camera.get_subscription_count() == 1, 10, "camera subscriber")
    begin = probe.now() - 0.1
    message = build_hand_pose_array_msg(hands(begin + 0.02, "camera", BOTH))
    d.poses.publish(message)
    camera.publish(camera_msg(PoseStamped, *camera_at(begin, 0.0)))
    camera.publish(camera_msg(PoseStamped, *camera_at(begin, 0.0, frame="elsewhere")))
    probe.wait(lambda: d.node.health.rejected("unknown_frame") == 1, 10, "refusal of the other frame")
    assert not d.forecasts  # no pose later than the hands yet
    camera.publish(camera_msg(PoseStamped, *camera_at(begin + 0.04, 0.02)))
    probe.wait(lambda: d.forecasts, 10, "forecast")
    assert len(d.forecasts) == 1 and d.forecasts[0].header == type(d.forecasts[0].header)(
        stamp=message.header.stamp, frame_id="odom"
    )


def test_camera_poses_from_tf_need_tf2_ros_and_a_fixed_frame(probe, driver):
    with pytest.raises(UserError, match="fixed_frame is empty"):
        driver(autostart=False, camera_pose_source="tf")
    node = driver(autostart=False, camera_pose_source="tf", fixed_frame="odom")
    if importlib.util.find_spec("tf2_ros"):
        assert node.autostart()
    else:
        assert not node.autostart() and "tf2_ros is not installed" in node.failure


class StandInBuffer:
    """As much of tf2_ros.Buffer as is used, for machines that lack it: transforms at the stamps that were given, and
    at time 0 the newest.
    """

    def __init__(self):
        self.known = {}

    def lookup_transform(self, target, source, time):
        if (target, source) != ("odom", "camera") or not self.known:
            raise LookupError
        if time.nanoseconds == 0:
            return self.known[max(self.known)]
        if time.nanoseconds not in self.known:
            raise LookupError
        return self.known[time.nanoseconds]

    def put(self, stamp, T):
        message = TransformStamped()
        message.header.stamp, message.header.frame_id = time_msg(stamp), "odom"
        (x, y, z), q = T[:3, 3], quaternion_from_matrix(T[:3, :3])
        t = message.transform
        t.translation.x, t.translation.y, t.translation.z = x, y, z
        t.rotation.x, t.rotation.y, t.rotation.z, t.rotation.w = q
        self.known[Time.from_msg(message.header.stamp).nanoseconds] = message


def test_camera_poses_out_of_tf_move_hands(probe, driver, monkeypatch):
    buffer = StandInBuffer()
    listener = SimpleNamespace(unregister=lambda: None)
    module = SimpleNamespace(
        Buffer=lambda: buffer, TransformListener=lambda b, node: listener, TransformException=LookupError
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    d = driver(camera_pose_source="tf", fixed_frame="odom")
    for i in range(4):
        stamp, _, T_world_camera = camera_at(d.stamp + STEP, 0.02 * i)
        d.stamp = stamp
        buffer.put(stamp, T_world_camera)
        elsewhere = T_world_camera.copy()
        elsewhere[:3, 3] += 0.3  # where the camera is by the time the hands have been found
        buffer.put(stamp + 0.01, elsewhere)
        seen = transform_points(invert_transform(T_world_camera), BOTH)
        futures = d.answer(build_hand_pose_array_msg(hands(stamp, "camera", seen)))
    assert futures.frame_id == "odom" and len(futures.hands) == 2
    for hand in futures.hands:
        assert np.abs(hand.keypoints[0] - BOTH[hand.side]).max() < POSITION_GRID


def test_how_far_clocks_may_differ_is_a_parameter(probe, driver):
    d = driver(max_future=10.0)
    d.stamp = probe.now() + 5.0  # of a tracker on a machine whose clock is ahead
    assert d.answer(d.message()).hands


def test_scores_do_not_reach_over_a_change_of_frame(probe, driver):
    d = driver()
    for _ in range(8):
        d.answer(d.message())
    d.stamp += 2.0  # after a silence a tracker may come back in another frame
    for _ in range(12):
        futures = d.answer(d.message(BOTH + 1.0, frame="elsewhere"))
    assert futures.frame_id == "elsewhere"
    probe.wait(lambda: probe.diagnostics.get("forecaster", {}).get("forecasts scored") == "2", 10, "scores")
    assert float(probe.diagnostics["forecaster"]["ADE [m]"]) == 0.0
