"""The forecaster node over DDS: right forecasts, right frames, every kind of bad input refused, newest wins."""

import copy
import gc
import importlib.util
import math
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseArray, PoseStamped, TransformStamped
from nav_msgs.msg import Odometry, Path
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from trajectory_msgs.msg import MultiDOFJointTrajectory
from visualization_msgs.msg import MarkerArray

from egohand_ros.errors import UserError
from egohand_ros.forecast import base as forecast_base
from egohand_ros.forecast.persistence import Persistence
from egohand_ros.geometry.rotations import matrix_from_rotation_vector, quaternion_from_matrix
from egohand_ros.geometry.transforms import invert_transform, make_transform, transform_points
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.hand.skeleton import KEYPOINT_NAMES, WRIST
from egohand_ros.msg import ForecasterInfo, HandForecastArray, HandPoseArray, Latency
from egohand_ros.nodes.forecaster import ForecasterNode
from egohand_ros.nodes.messages import (
    EXTRAPOLATED,
    build_hand_pose_array_msg,
    hands,
    parse_hand_forecast_array_msg,
    pose_msg,
    seconds,
    time_msg,
)
from egohand_ros.stream.warmup import example_hand

from robot_graph import Process, Probe

LEFT, RIGHT = 0, 1
VELOCITY = np.array([0.3, -0.1, 0.05])  # m/s
BOTH = np.stack([example_hand() * (1, -1, 1), example_hand()]) + np.array([[0.4, 0.2, 0.1], [0.4, -0.2, 0.1]])[:, None]
# Stamps are spaced in whole steps of the models and lie in the past, so that slow machines and fast ones forecast the same.
STEP = 0.1
AGE = 30.0  # s, of the first stamp


@pytest.fixture
def probe(ros):
    gc.collect()
    probe = Probe()
    yield probe
    probe.close()


class Driver:
    """A forecaster node that the probe spins, and a tracker for it."""

    def __init__(self, probe, node):
        self.probe, self.node = probe, node
        self.forecasts = probe.collect(HandForecastArray, "hand_forecasts")
        self.poses = probe.publisher(HandPoseArray, "hand_poses", 50)
        self.stamp = probe.now() - AGE
        probe.wait(lambda: self.poses.get_subscription_count() == 1, 20, "subscriber of hand_poses")
        probe.wait(lambda: probe.node.count_publishers("hand_forecasts") == 1, 20, "publisher of hand_forecasts")
        probe.wait(lambda: node._forecasts.get_subscription_count() >= 1, 20, "subscriber of hand_forecasts")

    def message(self, keypoints=BOTH, frame="camera", **known):
        """HandPoseArray one step after the one before."""
        self.stamp += STEP
        return build_hand_pose_array_msg(hands(self.stamp, frame, np.asarray(keypoints), **known))

    def history(self, keypoints=BOTH):
        """A few observations, forecast."""
        for _ in range(3):
            futures = self.answer(self.message(keypoints))
        return futures

    def answer(self, message):
        """Publish one observation and wait for the forecast of it."""
        self.poses.publish(message)
        stamp = message.header.stamp
        self.probe.wait(lambda: any(f.header.stamp == stamp for f in self.forecasts), 20, "forecast")
        return parse_hand_forecast_array_msg(next(f for f in self.forecasts if f.header.stamp == stamp))


@pytest.fixture
def driver(probe):
    drivers = []

    def make(autostart=True, **overrides):
        given = [Parameter(name, value=value) for name, value in {"forecaster": "persistence", "max_input_age": 60.0, **overrides}.items()]
        node = ForecasterNode(parameter_overrides=given)
        probe._executor.add_node(node)
        assert not autostart or node.autostart(), node.failure
        drivers.append(Driver(probe, node) if autostart else node)
        return drivers[-1]

    yield make
    for made in drivers:
        (made.node if isinstance(made, Driver) else made).destroy_node()


@pytest.fixture
def registered(monkeypatch):
    """Registers a forecaster for the length of a test."""
    monkeypatch.setattr(forecast_base, "_PRESETS", dict(forecast_base._PRESETS))

    def put(forecaster):
        factory = forecaster.on if hasattr(forecaster, "on") else lambda: forecaster
        forecast_base.register(forecaster.spec.name, "of a test")(factory)
        return forecaster.spec.name

    return put


def test_a_constant_velocity_hand_is_forecast_where_it_will_be(probe, driver):
    d = driver(forecaster="cvm")
    latency = probe.collect(Latency, "forecaster/debug/latency")
    probe.wait(lambda: d.node._latency.get_subscription_count() == 1, 10, "latency subscriber")
    for i in range(10):
        futures = d.answer(d.message(BOTH + VELOCITY * (i * STEP)))
    assert futures.frame_id == "camera" and futures.model_id == "cvm"
    assert np.allclose(futures.step_times, STEP * np.arange(1, 11))
    for hand in futures.hands:
        expected = BOTH[hand.side] + VELOCITY * (9 * STEP + futures.step_times)[:, None, None]
        assert np.abs(hand.keypoints[0] - expected).max() < 1e-6
        assert np.allclose(hand.wrist_rotation, palm_rotations(BOTH)[hand.side], atol=1e-6)
    assert len(futures.hands) == 2
    assert futures.stamp <= futures.inference_start <= futures.inference_end <= probe.now()
    probe.wait(lambda: latency, 5, "latency")
    assert latency[-1].stages[:1] == ["input_age"] and latency[-1].stages[-1] == "total"
    assert latency[-1].useful_horizon == pytest.approx(1.0 - latency[-1].durations[-1])


def test_stock_messages_say_the_same(probe, driver):
    d = driver(forecaster="kalman", hypotheses=3, seed=1)
    kinds = {"path": Path, "poses": PoseArray, "trajectory": MultiDOFJointTrajectory}
    got = {name: probe.collect(kind, f"forecast/left/{name}") for name, kind in kinds.items()}
    markers = probe.collect(MarkerArray, "forecast/markers")
    probe.wait(lambda: d.node._markers.get_subscription_count() == 1, 10, "marker subscriber")
    futures = d.history()
    of_the_last = lambda m: abs(seconds(m.header.stamp) - futures.stamp) < 1e-6  # noqa: E731
    probe.wait(lambda: all(messages and of_the_last(messages[-1]) for messages in got.values()), 10, "parallel topics")
    probe.wait(lambda: markers and of_the_last(markers[-1].markers[0]), 10, "markers")
    wrist = futures.hand(LEFT).wrist[0]
    path, poses, trajectory = (got[name][-1] for name in kinds)
    as_points = lambda points: np.array([(p.x, p.y, p.z) for p in points])  # noqa: E731
    assert np.allclose(as_points(p.pose.position for p in path.poses), wrist)
    assert np.allclose(as_points(p.position for p in poses.poses), wrist)
    assert np.allclose(as_points(p.transforms[0].translation for p in trajectory.points), wrist)
    assert trajectory.joint_names == ["left_wrist"]
    assert np.allclose([seconds(p.time_from_start) for p in trajectory.points], futures.step_times)
    times = [seconds(p.header.stamp) - futures.stamp for p in path.poses]
    assert np.allclose(times, futures.step_times, atol=1e-6)
    assert {m.header.frame_id for m in markers[-1].markers} == {"camera"}
    spaces = [m.ns for m in markers[-1].markers]
    assert spaces.count("left/paths") == 3 and spaces.count("left/hand") == 1 and spaces.count("left/covariance") == 10
    assert all(0.0 < seconds(m.lifetime) < 1.0 for m in markers[-1].markers)


def bad_messages(driver):
    """(reason, message): every way in which a hand message can be wrong."""
    two, last_good = driver.message, driver.stamp

    def with_(change):
        message = two()
        message.hands[0].header = copy.deepcopy(message.header)
        change(message)
        return message

    nan = BOTH.copy()
    valid = np.ones((2, 21), dtype=bool)
    nan[0, 3] = np.nan
    yield "non_finite_keypoint", two(nan, valid=valid)
    yield "huge_value", two(BOTH + 1e9)
    yield "implausible_hand", two(BOTH * 50)
    yield "implausible_hand", two(BOTH.mean(1, keepdims=True) + 0 * BOTH)
    yield "empty_frame", two(frame="")
    yield "unknown_frame", two(frame="somewhere")
    yield "unknown_side", with_(lambda m: setattr(m.hands[0], "side", 7))
    yield "duplicate_side", with_(lambda m: setattr(m.hands[0], "side", 1))
    yield "unknown_state", with_(lambda m: setattr(m.hands[0], "tracking_state", 9))
    yield "non_unit_quaternion", with_(lambda m: setattr(m.hands[0].wrist.pose.orientation, "w", 7.0))
    yield "non_finite_pose", with_(lambda m: setattr(m.hands[0].wrist.pose.orientation, "w", math.inf))
    yield "bad_covariance", with_(lambda m: m.hands[0].wrist.covariance.__setitem__(0, math.nan))
    yield "bad_confidence", with_(lambda m: setattr(m.hands[0], "confidence", 3.0))
    yield "frame_mismatch", with_(lambda m: setattr(m.hands[0].header, "frame_id", "other"))
    yield "stamp_mismatch", with_(lambda m: setattr(m.hands[0].header, "stamp", time_msg(5.0)))
    now = driver.probe.now()
    for reason, stamp in (("zero_stamp", 0.0), ("future_stamp", now + 100.0), ("stale_stamp", now - 100.0)):
        yield reason, build_hand_pose_array_msg(hands(stamp, "camera", BOTH))
    yield "out_of_order", build_hand_pose_array_msg(hands(last_good - 0.2, "camera", BOTH))
    yield "bad_stamp", with_(lambda m: setattr(m.header.stamp, "nanosec", 4_000_000_000))


def test_every_malformed_hand_is_refused_by_its_reason_and_never_forecast(probe, driver):
    d = driver()
    d.history()
    published, wanted = [], {}
    for reason, message in bad_messages(d):
        for hand in message.hands:
            if reason == "bad_stamp":
                hand.header.stamp = message.header.stamp
        d.poses.publish(message)
        probe.spin(0.01)
        published.append(message.header.stamp)
        wanted[reason] = wanted.get(reason, 0) + 1
    sentinel = d.message()
    futures = d.answer(sentinel)
    for hand in futures.hands:  # persistence: had anything bad got in, it would be repeated here
        assert np.allclose(hand.keypoints[0, 0], BOTH[hand.side], atol=1e-9)
    forecast_stamps = [f.header.stamp for f in d.forecasts]
    assert len(forecast_stamps) == 4 and not any(stamp in forecast_stamps for stamp in published)
    counted = {reason: d.node.health.rejected(reason) for reason in wanted}
    # Both hands of the huge and the shrunken message are refused, one by one.
    assert counted == wanted | {"implausible_hand": 4}
    shown = lambda: probe.diagnostics.get("forecaster", {})  # noqa: E731
    keys = {f"rejected/hand_poses/{reason}" for reason in wanted}
    probe.wait(lambda: keys <= set(shown()), 10, "diagnostics by reason")
    assert probe.levels["forecaster"][0] == 1


ODD_NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1.0, 3.0, 1e-300, 1e30, -1e300)


def mangle(message, numbers):
    """A few random fields of a HandPoseArray get random values, some of them sensible."""
    for _ in range(numbers.integers(1, 4)):
        hand = message.hands[numbers.integers(len(message.hands))] if message.hands else None
        odd = ODD_NUMBERS[numbers.integers(len(ODD_NUMBERS))]
        what = numbers.integers(9)
        if hand is None or what == 0:
            message.header.frame_id = ("", "camera", "x" * 300, "other")[numbers.integers(4)]
        elif what == 1:
            message.header.stamp = time_msg(float(numbers.choice([0.0, 1.0, 2e9, time.time(), time.time() - 3.0])))
        elif what == 2:
            setattr(hand.keypoints[numbers.integers(21)], "xyz"[numbers.integers(3)], odd)
        elif what == 3:
            setattr(hand.wrist.pose.orientation, "xyzw"[numbers.integers(4)], odd)
        elif what == 4:
            hand.wrist.covariance[numbers.integers(36)] = odd
        elif what == 5:
            hand.side = int(numbers.integers(4))
        elif what == 6:
            hand.valid = (numbers.random(21) < 0.5).tolist()
        elif what == 7:
            hand.tracking_state = int(numbers.integers(5))
        else:
            message.hands = [hand] * int(numbers.integers(4))
    return message


def test_a_flood_of_mangled_messages_brings_nothing_odd_out_and_ends_in_a_right_forecast(probe, driver):
    d = driver()
    numbers = np.random.default_rng(0)
    count = 600
    for i in range(count):
        message = d.message()
        d.poses.publish(mangle(message, numbers) if i % 5 else message)
        d.stamp -= 0.9 * STEP
        if i % 10 == 9:
            probe.wait(lambda: d.node.health.counted("received/hand_poses") == i + 1, 10, "reception")
    # Later than anything that was taken, and long enough for a frame that was taken to be given up.
    d.stamp = probe.now() - 2.0
    futures = d.history()
    for hand in futures.hands:
        assert np.abs(hand.keypoints[0] - BOTH[hand.side]).max() < 1e-6
    assert len(futures.hands) == 2 and futures.frame_id == "camera"
    for message in d.forecasts:
        for hand in parse_hand_forecast_array_msg(message).hands:
            assert np.nanmax(np.abs(hand.keypoints)) < 1e4
    assert d.node.health.rejected("internal_error") == 0
    reasons = {reason for (_, reason) in d.node.health._edges}
    assert len(reasons) > 10


def test_one_bad_hand_does_not_take_the_other_with_it(probe, driver):
    d = driver()
    broken = BOTH.copy()
    broken[LEFT] *= 50
    futures = d.answer(d.message(broken))
    assert [hand.side for hand in futures.hands] == [RIGHT]
    assert d.node.health.rejected("implausible_hand") == 1


def test_an_extrapolated_hand_is_no_observation(probe, driver):
    d = driver()
    d.history()
    futures = d.answer(d.message(BOTH + 0.05, state=np.array([EXTRAPOLATED, EXTRAPOLATED])))
    assert np.allclose(futures.hand(LEFT).keypoints[0, 0], BOTH[LEFT], atol=1e-9)


def test_a_hand_not_seen_for_long_is_not_forecast(probe, driver):
    d = driver(hand_timeout=0.25)
    assert len(d.history().hands) == 2
    only_right = BOTH.copy()
    only_right[LEFT] = np.nan
    sides = [[hand.side for hand in d.answer(d.message(only_right)).hands] for _ in range(4)]
    assert sides == [[LEFT, RIGHT], [LEFT, RIGHT], [RIGHT], [RIGHT]]  # 0.1, 0.2, 0.3, 0.4 s after it was last seen


def test_a_clock_that_jumps_back_forgets_history(probe, driver):
    clock = probe.publisher(Clock, "/clock")
    d = driver(use_sim_time=True)

    def at(stamp, keypoints):
        probe.wait(lambda: abs(d.node.now() - stamp) < 1e-6, 10, "clock", each=lambda: clock.publish(Clock(clock=time_msg(stamp))))
        return d.answer(build_hand_pose_array_msg(hands(stamp, "camera", keypoints)))

    d.poses.publish(d.message())  # before the clock started
    probe.wait(lambda: d.node.health.rejected("no_clock") == 1, 10, "refusal without a clock")
    at(100.0, BOTH)
    assert len(at(100.2, BOTH).hands) == 2
    only_right = BOTH + 1.0
    only_right[LEFT] = np.nan
    futures = at(10.0, only_right)
    assert [hand.side for hand in futures.hands] == [RIGHT] and np.allclose(futures.hands[0].wrist[0, 0], only_right[RIGHT, WRIST])
    assert d.node.health.counted("clock_jumps") == 1


def camera_at(stamp, turn, frame="odom"):
    """A camera that turns and moves; T_odom_camera."""
    return stamp, frame, make_transform(matrix_from_rotation_vector(np.array([0.1, turn, 0.2])), np.array([turn, 1.0, 1.5]))


def camera_msg(kind, stamp, frame, transform):
    pose = pose_msg(transform[:3, 3], quaternion_from_matrix(transform[:3, :3]))
    message = kind()
    message.header.stamp, message.header.frame_id = time_msg(stamp), frame
    if kind is Odometry:
        message.pose.pose, message.child_frame_id = pose, "head"
    else:
        message.pose = pose
    return message


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
        assert np.abs(hand.keypoints[0] - BOTH[hand.side]).max() < 1e-6
        assert np.allclose(hand.wrist_rotation[0], palm_rotations(BOTH)[hand.side], atol=1e-6)


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
    assert len(d.forecasts) == 1 and d.forecasts[0].header == type(d.forecasts[0].header)(stamp=message.header.stamp, frame_id="odom")


def test_silence_is_reported_and_grows_into_an_error(probe, driver):
    d = driver()
    d.answer(d.message())
    level = lambda: probe.levels.get("forecaster", (0, ""))  # noqa: E731
    probe.wait(lambda: level()[0] == 1 and "no hands for" in level()[1], 10, "warning")
    d.node._last_input -= 10.0  # as if ten more seconds had passed
    probe.wait(lambda: level()[0] == 2, 10, "error")
    d.answer(d.message())
    probe.wait(lambda: level()[0] == 0, 10, "recovery", each=lambda: d.answer(d.message()))


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
    for i in range(3):
        d.stamp += STEP
        for side in (LEFT, RIGHT):
            sides[side].publish(joints_msg(d.stamp, openxr(BOTH[side])))
        probe.wait(lambda: d.forecasts and d.forecasts[-1].header.stamp == time_msg(d.stamp), 10, "forecast")
    last = parse_hand_forecast_array_msg(d.forecasts[-1])
    assert last.frame_id == "tracker" and len(last.hands) == 2
    for hand in last.hands:
        assert np.allclose(hand.keypoints[0, 0], BOTH[hand.side], atol=1e-9)
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
        assert np.allclose(hand.keypoints[0, 0], BOTH[hand.side], atol=1e-9)
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


def test_camera_poses_from_tf_need_tf2_ros_and_a_fixed_frame(probe, driver):
    with pytest.raises(UserError, match="fixed_frame is empty"):
        driver(autostart=False, camera_pose_source="tf")
    node = driver(autostart=False, camera_pose_source="tf", fixed_frame="odom")
    if importlib.util.find_spec("tf2_ros"):
        assert node.autostart()
    else:
        assert not node.autostart() and "tf2_ros is not installed" in node.failure


class StandInBuffer:
    """As much of tf2_ros.Buffer as is used, for machines that lack it: the newest transform only."""

    def __init__(self):
        self.newest = None

    def lookup_transform(self, target, source, time):
        if self.newest is None or (target, source) != ("odom", "camera"):
            raise LookupError
        return self.newest


def test_camera_poses_out_of_tf_move_hands(probe, driver, monkeypatch):
    buffer = StandInBuffer()
    listener = SimpleNamespace(unregister=lambda: None)
    module = SimpleNamespace(
        Buffer=lambda: buffer, TransformListener=lambda b, node: listener, TransformException=LookupError
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    d = driver(camera_pose_source="tf", fixed_frame="odom")
    for i in range(4):
        stamp, frame, T_world_camera = camera_at(d.stamp + STEP, 0.02 * i)
        d.stamp = stamp
        buffer.newest = TransformStamped()
        buffer.newest.header.stamp = time_msg(stamp)
        (x, y, z), q = T_world_camera[:3, 3], quaternion_from_matrix(T_world_camera[:3, :3])
        t = buffer.newest.transform
        t.translation.x, t.translation.y, t.translation.z = x, y, z
        t.rotation.x, t.rotation.y, t.rotation.z, t.rotation.w = q
        seen = transform_points(invert_transform(T_world_camera), BOTH)
        futures = d.answer(build_hand_pose_array_msg(hands(stamp, "camera", seen)))
    assert futures.frame_id == "odom" and len(futures.hands) == 2
    for hand in futures.hands:
        assert np.abs(hand.keypoints[0] - BOTH[hand.side]).max() < 1e-6


class Slow(Persistence):
    """Waits for the test before each forecast."""

    def __init__(self):
        super().__init__()
        self.spec = replace(self.spec, name="slow")
        self.go_on = threading.Event()
        self.stamps = []

    def forecast(self, window, hypotheses=1, seed=None):
        if float(window.stamp[0]) > 1e6:  # not the warm-up
            self.stamps.append(float(window.stamp[0]))
            self.go_on.wait(20)
        return super().forecast(window, hypotheses, seed)


def test_newest_wins_when_the_model_is_too_slow(probe, driver, registered):
    model = Slow()
    d = driver(forecaster=registered(model))
    messages = [d.message() for _ in range(1)]
    d.poses.publish(messages[0])
    probe.wait(lambda: model.stamps, 10, "first inference")
    for _ in range(8):
        messages.append(d.message())
        d.poses.publish(messages[-1])
        probe.wait(lambda: d.node.health.counted("observations") == len(messages), 10, "observation")
    model.go_on.set()
    probe.wait(lambda: len(d.forecasts) == 2, 10, "forecasts")
    assert d.forecasts[0].header.stamp == messages[0].header.stamp
    assert d.forecasts[1].header.stamp == messages[-1].header.stamp
    d.answer(d.message())  # the sentinel: nothing of the dropped ones comes any more
    assert len(d.forecasts) == 3 and d.node._worker.dropped == 7
    probe.wait(lambda: probe.diagnostics.get("forecaster", {}).get("dropped") == "7", 10, "drops in diagnostics")


def test_a_node_that_was_held_up_forecasts_the_newest_and_keeps_the_history(probe, driver):
    d = driver(forecaster="cvm")
    d.answer(d.message())
    # Nobody spins: the messages queue up.
    messages = [d.message(BOTH + VELOCITY * (i * STEP)) for i in range(8)]
    for message in messages:
        d.poses.publish(message)
    probe.wait(lambda: len(d.forecasts) >= 2, 10, "forecast")
    last = parse_hand_forecast_array_msg(d.forecasts[-1])
    assert d.forecasts[-1].header.stamp == messages[-1].header.stamp
    expected = BOTH[LEFT] + VELOCITY * (8 * STEP)
    assert np.abs(last.hand(LEFT).keypoints[0, 0] - expected).max() < 1e-6  # the velocity of those that were passed over
    d.answer(d.message(BOTH))
    assert len(d.forecasts) == 3 and d.node._worker.dropped == 7


class Seeing(Persistence):
    """Looks at images and the prompt, on any device, of which "meta" has no memory left."""

    def __init__(self):
        super().__init__()
        self.spec = replace(
            self.spec, name="seeing", modalities=("keypoints", "images", "prompt"), image_offsets=(-2, 0), image_size=(32, 48)
        )
        self.windows, self.devices = [], []

    def on(self, device="cpu"):
        """The factory."""
        self.devices.append(device)
        return self

    def forecast(self, window, hypotheses=1, seed=None):
        if self.devices[-1] == "meta":
            raise torch.OutOfMemoryError("meta is out of memory")
        self.windows.append(window)
        return super().forecast(window, hypotheses, seed)


def test_images_and_prompt_reach_a_model_that_wants_them(probe, driver, registered):
    model = Seeing()
    prompts = probe.node.create_publisher(String, "prompt", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    prompts.publish(String(data="pick up the mug"))  # before the node is there
    d = driver(forecaster=registered(model), device="cpu")
    images = probe.publisher(Image, "image", 5)
    probe.wait(lambda: images.get_subscription_count() == 1, 10, "image subscriber")
    probe.wait(lambda: d.node.health.counted("received/prompt") >= 1, 10, "prompt")
    d.answer(d.message())
    assert model.windows[-1].images is None and model.windows[-1].camera_matrix is None
    infos = probe.publisher(CameraInfo, "camera_info", 5)
    probe.wait(lambda: infos.get_subscription_count() == 1, 10, "camera_info subscriber")
    infos.publish(CameraInfo(width=192, height=128, k=[100.0, 0, 96, 0, 100, 64, 0, 0, 1]))
    probe.wait(lambda: d.node.health.counted("received/camera_info") == 1, 10, "calibration")
    infos.publish(CameraInfo(width=192, height=128))  # not calibrated: the one before it stays
    probe.wait(lambda: d.node.health.rejected("uncalibrated_camera") == 1, 10, "refusal of the bad calibration")
    image = Image(height=64, width=96, encoding="rgb8", step=288, data=bytes([200, 100, 50]) * (64 * 96))
    image.header.stamp, image.header.frame_id = time_msg(probe.now()), "camera"
    broken = Image(height=64, width=96, encoding="rgb8", step=288, data=bytes(10))
    broken.header.stamp, broken.header.frame_id = time_msg(probe.now() - 0.1), "camera"
    images.publish(broken)
    probe.wait(lambda: d.node.health.rejected("truncated_image") == 1, 10, "refusal of the broken image")
    images.publish(image)
    probe.wait(lambda: d.node.health.counted("received/image") == 2, 10, "image")
    d.stamp = probe.now() - 0.2
    d.answer(d.message())
    window = model.windows[-1]
    assert window.camera_matrix.tolist() == [[[25.0, 0.0, 24.0], [0.0, 25.0, 16.0], [0.0, 0.0, 1.0]]]
    assert window.prompt == ("pick up the mug",)
    assert window.images.shape == (1, 2, 32, 48, 3)
    assert (window.images == torch.tensor([200, 100, 50], dtype=torch.uint8)).all()


def test_a_device_that_is_full_falls_back_to_the_cpu(probe, driver, registered):
    model = Seeing()
    d = driver(forecaster=registered(model), device="meta")
    assert model.devices == ["meta", "cpu"]
    d.answer(d.message())
    probe.wait(lambda: "out of memory" in probe.levels.get("forecaster", (0, ""))[1], 10, "warning in diagnostics")
    assert probe.diagnostics["forecaster"]["device"] == "cpu"
    # It fills up while it runs: the observation is forecast all the same.
    model.devices.append("meta")
    d.node._device = "meta"
    d.answer(d.message())
    assert model.devices[-2:] == ["meta", "cpu"]
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    info = probe.collect(ForecasterInfo, "forecaster_info", latched)
    probe.wait(lambda: info and info[-1].device == "cpu", 10, "info")


def test_a_gpu_that_is_not_there_is_a_warning_and_an_impossible_device_an_error(probe, driver):
    d = driver(device="cuda:99")
    d.answer(d.message())
    probe.wait(lambda: "cuda:99 is not there" in probe.levels.get("forecaster", (0, ""))[1], 10, "warning")
    assert probe.diagnostics["forecaster"]["device"] == "cpu"
    node = driver(autostart=False, device="abacus")
    assert not node.autostart() and "expected auto, cpu, cuda" in node.failure
    node = driver(autostart=False, checkpoint="weights")
    assert not node.autostart() and "persistence has no weights" in node.failure


@pytest.mark.parametrize("adapt", [True, False])
def test_regions_are_adapted_to_what_happened_unless_told_otherwise(probe, driver, adapt):
    """A hand that jitters by 5 mm an axis, seen by a forecaster that gives no deviations of its own."""
    d, numbers = driver(adapt_uncertainty=adapt), np.random.default_rng(0)
    jitter = 0.005
    for _ in range(80):
        futures = d.answer(d.message(BOTH + numbers.normal(0.0, jitter, (2, 1, 3))))
    for hand in futures.hands:
        std = np.sqrt(np.diagonal(hand.wrist_covariance[0], axis1=-2, axis2=-1))
        if adapt:  # that of the difference of two positions
            assert np.allclose(std[:, :3], math.sqrt(2) * jitter, rtol=0.3)
            assert np.allclose(hand.keypoint_std[0], math.sqrt(2) * jitter, rtol=0.3)
        else:
            assert np.isnan(std).all()
    shown = lambda: probe.diagnostics.get("forecaster", {})  # noqa: E731
    probe.wait(lambda: int(shown().get("forecasts scored", 0)) >= 60, 10, "scores in diagnostics")
    assert shown()["regions adapted"] == str(adapt)
    assert float(shown()["ADE [m]"]) == pytest.approx(math.sqrt(2) * jitter * 1.6, rel=0.15)  # mean length of 3 Gaussians
    if not adapt:  # regions of a metre hold everything
        assert float(shown()["coverage of 90% regions"]) == 1.0


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


def test_hypotheses_are_limited_by_the_model(probe, driver):
    node = driver(autostart=False, hypotheses=2)
    assert not node.autostart() and "at most 1" in node.failure
    d = driver(forecaster="kalman", hypotheses=4, seed=3)
    assert len(d.history().hand(LEFT).probability) == 4
    assert not d.node.set_parameters([Parameter("hypotheses", value=100)])[0].successful
    assert d.node.set_parameters([Parameter("hypotheses", value=2)])[0].successful
    assert len(d.history().hand(LEFT).probability) == 2


def test_an_unknown_forecaster_ends_the_process_with_the_known_ones(ros):
    process = Process("forecaster", forecaster="crystal_ball")
    errors = process._process.communicate(timeout=60)[1]
    assert process._process.returncode == 2
    assert "crystal_ball" in errors and "persistence" in errors and "Traceback" not in errors
