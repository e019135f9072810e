"""Conversions between arrays and messages: round trips, the fast path byte for byte the same, refusals by reason."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker

from egohand_ros.errors import RejectedInput
from egohand_ros.hand.conventions import CONVENTIONS
from egohand_ros.messages.basic import seconds
from egohand_ros.messages.forecast import (
    POSITION_GRID,
    QUATERNION_GRID,
    Futures,
    HandFuture,
    Waypoint,
    parse_hand_forecast_array_msg,
)
from egohand_ros.messages.hands import EXTRAPOLATED, LOST, MEASURED, hands, parse_hand_pose_array_msg
from egohand_ros.messages.poses import parse_pose_array_msg
from egohand_ros.msg import HandForecastArray, HandPoseArray
from egohand_ros.nodes.messages.basic import duration_msg, pose_msg, time_msg
from egohand_ros.nodes.messages.forecast import build_hand_forecast_array_msg, deserialize_futures, serialize_futures
from egohand_ros.nodes.messages.hands import build_hand_pose_array_msg
from egohand_ros.nodes.messages.image import parse_depth_msg
from egohand_ros.nodes.messages.standard import ELLIPSOID_SIGMAS, build_marker_array_msg

STAMP = 1_700_000_000.25
FIELDS = ("probability", "keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance")


def make_futures(hypotheses=2, steps=3, sides=(0, 1), frame="map", seed=0):
    numbers = np.random.default_rng(seed)
    shape = (hypotheses, steps)
    made = []
    for side in sides:
        root = numbers.normal(size=(*shape, 6, 6)) * 0.1
        covariance = root @ root.swapaxes(-1, -2)
        keypoints = numbers.normal(size=(*shape, 21, 3))
        std = numbers.uniform(0.001, 0.1, size=(*shape, 21)).astype(np.float32).astype(np.float64)
        keypoints[:, :, 7], std[:, :, 7], covariance[0, 0] = np.nan, np.nan, np.nan  # not forecast, not known
        rotation = Rotation.random(hypotheses * steps, random_state=seed).as_matrix().reshape(*shape, 3, 3)
        probability = np.full(hypotheses, np.float32(1 / hypotheses), dtype=np.float64)
        made.append(HandFuture(side, 40 + side, probability, keypoints, rotation, std, covariance))
    times = 0.1 * np.arange(1, steps + 1)
    gives = ("wrist_position", "wrist_rotation")[: 1 + seed % 2]
    waypoints = tuple(
        Waypoint(0.25 * i, side, f"{i}"[:i], np.array([i, 0.5, -2.0]), np.full((3, 3), np.nan) if i else np.eye(3))
        for i, side in enumerate(sides)
    )
    waypoints = tuple(replace(waypoint, contact=0.25) if waypoint.side else waypoint for waypoint in waypoints)
    begin, end = STAMP + 0.01, STAMP + 0.02
    return Futures(STAMP, frame, times, tuple(made), "reach", "model@12345678", begin, end, None, gives, waypoints)


def assert_same(a: Futures, b: Futures, exactly: bool = False):
    """Equal, as exactly as float32 and the grids of positions and orientations allow, or to the last bit."""
    assert [h.side for h in a.hands] == [h.side for h in b.hands]
    for name in ("stamp", "frame_id", "stage", "model_id", "inference_start", "inference_end", "gives"):
        assert getattr(a, name) == getattr(b, name), name
    assert len(a.waypoints) == len(b.waypoints)
    for one, two in zip(a.waypoints, b.waypoints):
        assert (one.side, one.label) == (two.side, two.label) and one.time == pytest.approx(two.time, abs=1e-9)
        for name in ("position", "rotation", "contact"):
            assert np.allclose(getattr(one, name), getattr(two, name), equal_nan=True), name
    if a.hands:
        assert np.allclose(a.step_times, b.step_times, atol=1e-9)
    most = {"keypoints": 0.51 * POSITION_GRID, "wrist_rotation": 4 * QUATERNION_GRID, "keypoint_std": 0.1 * 2**-12}
    for one, two in zip(a.hands, b.hands):
        assert one.track_id == two.track_id
        for name in FIELDS:
            mine, theirs = getattr(one, name), getattr(two, name)
            if exactly:
                assert np.array_equal(mine, theirs, equal_nan=True), name
            else:
                assert np.allclose(mine, theirs, rtol=1e-6, atol=most.get(name, 1e-9), equal_nan=True), name


@given(st.floats(0, 4e9))
def test_stamps_survive(stamp):
    assert seconds(time_msg(stamp)) == pytest.approx(stamp, abs=1e-6)
    assert seconds(time_msg(seconds(time_msg(stamp)))) == seconds(time_msg(stamp))


def test_hand_poses_survive_the_wire():
    numbers = np.random.default_rng(1)
    keypoints = numbers.normal(size=(2, 21, 3))
    keypoints[0, 3] = np.nan
    known = dict(
        wrist_rotation=np.stack([Rotation.random(random_state=2).as_matrix(), np.full((3, 3), np.nan)]),
        wrist_covariance=np.stack([np.eye(6) * 0.01, np.full((6, 6), np.nan)]),
        confidence=np.array([0.5, np.nan]),
        keypoint_confidence=np.stack([np.full(21, np.nan), np.full(21, 0.25)]),
        state=np.array([EXTRAPOLATED, MEASURED]),
        track_id=np.array([3, 0]),
    )
    sent = hands(STAMP, "camera", keypoints, **known)
    wire = serialize_message(build_hand_pose_array_msg(sent))
    got = parse_hand_pose_array_msg(deserialize_message(wire, HandPoseArray))
    assert (got.stamp, got.frame_id) == (STAMP, "camera")
    for name in ("keypoints", "valid", "state", "track_id", *known):
        assert np.allclose(getattr(got, name), getattr(sent, name), atol=1e-7, equal_nan=True), name


def test_a_lost_hand_is_left_out_and_its_geometry_is_never_read():
    message = build_hand_pose_array_msg(hands(STAMP, "camera", np.zeros((2, 21, 3)), state=np.array([LOST, MEASURED])))
    assert [hand.side for hand in message.hands] == [1]
    message.hands[0].tracking_state = LOST
    message.hands[0].keypoints[0].x = math.nan
    got = parse_hand_pose_array_msg(message)
    assert (got.state == LOST).all() and not got.valid.any()
    assert (
        parse_hand_pose_array_msg(
            build_hand_pose_array_msg(hands(STAMP, "camera", np.full((2, 21, 3), np.nan)))
        ).state.tolist()
        == [LOST] * 2
    )


@pytest.mark.parametrize("hypotheses, steps, sides", [(1, 1, (1,)), (3, 10, (0, 1)), (2, 3, ())])
@pytest.mark.parametrize("frame", ["a", "ab", "abc", "abcd", "abcde", "a very long frame name"])
def test_forecasts_survive_the_wire_on_the_slow_and_the_fast_path(hypotheses, steps, sides, frame):
    sent = make_futures(hypotheses, steps, sides, frame)
    slow, fast = serialize_message(build_hand_forecast_array_msg(sent)), serialize_futures(sent)
    assert isinstance(fast, bytes), "the middleware does not serialize as CDR says"
    for wire in (slow, fast):
        assert_same(sent, parse_hand_forecast_array_msg(deserialize_message(wire, HandForecastArray)))
        assert_same(sent, deserialize_futures(wire))
        message = deserialize_message(wire, HandForecastArray)
        assert_same(parse_hand_forecast_array_msg(message), deserialize_futures(wire), exactly=True)
    stamp = time_msg(STAMP)
    stamp.nanosec += 1  # finer than seconds as a float can tell
    again = deserialize_message(serialize_futures(sent, stamp), HandForecastArray)
    assert again.header.stamp == stamp and all(hand.header.stamp == stamp for hand in again.forecasts)


def test_only_the_hypotheses_that_are_asked_for_are_read():
    sent = make_futures(hypotheses=4)
    wire = serialize_futures(sent)
    for got in (
        deserialize_futures(wire, 1),
        parse_hand_forecast_array_msg(deserialize_message(wire, HandForecastArray), 1),
    ):
        assert got.hands[0].keypoints.shape[0] == 1
        assert np.allclose(got.hands[0].keypoints[0], sent.hands[0].keypoints[0], atol=POSITION_GRID, equal_nan=True)


def bad_forecasts():
    def with_(change):
        message = build_hand_forecast_array_msg(make_futures())
        # every hand shares its header with the array, as builders do; a copy may differ
        message.forecasts[0].header = type(message.header)(stamp=message.header.stamp, frame_id="map")
        change(message)
        return message

    def step(m):
        return m.forecasts[0].hypotheses[0].steps[1]

    yield "empty_frame", with_(lambda m: setattr(m.header, "frame_id", ""))
    yield "bad_stamp", with_(lambda m: setattr(m.header.stamp, "nanosec", 4_000_000_000))
    yield "unknown_side", with_(lambda m: setattr(m.forecasts[0], "side", 2))
    yield "duplicate_side", with_(lambda m: setattr(m.forecasts[0], "side", 1))
    yield "frame_mismatch", with_(lambda m: setattr(m.forecasts[0].header, "frame_id", "odom"))
    yield "no_steps", with_(lambda m: setattr(m.forecasts[0], "hypotheses", []))
    yield "no_steps", with_(lambda m: [setattr(h, "steps", []) for h in m.forecasts[0].hypotheses])
    yield "uneven_steps", with_(lambda m: m.forecasts[0].hypotheses[0].steps.pop())
    yield "uneven_steps", with_(lambda m: setattr(step(m), "time_from_start", duration_msg(5.0)))
    yield (
        "bad_step_times",
        with_(
            lambda m: [
                setattr(s.time_from_start, "sec", -1) for f in m.forecasts for h in f.hypotheses for s in h.steps
            ]
        ),
    )
    yield "bad_probability", with_(lambda m: setattr(m.forecasts[0].hypotheses[0], "probability", math.nan))
    yield "bad_covariance", with_(lambda m: step(m).wrist_covariance.__setitem__(6, math.nan))
    yield "bad_covariance", with_(lambda m: step(m).wrist_covariance.__setitem__(6, -2.0))
    yield "non_finite_keypoint", with_(lambda m: setattr(step(m).keypoints[0], "y", math.nan))
    yield "non_finite_keypoint", with_(lambda m: setattr(step(m).keypoints[5], "y", math.inf))
    yield "huge_value", with_(lambda m: setattr(step(m).keypoints[5], "y", 1e30))
    yield "non_unit_quaternion", with_(lambda m: setattr(step(m).wrist_orientation, "w", 1e200))
    yield "non_unit_quaternion", with_(lambda m: setattr(step(m).wrist_orientation, "w", math.nan))
    yield "bad_waypoint", with_(lambda m: setattr(m.waypoints[0], "side", 3))
    yield "bad_waypoint", with_(lambda m: setattr(m.waypoints[0].time_from_start, "sec", -1))
    yield "bad_waypoint", with_(lambda m: setattr(m.waypoints[0].wrist_position, "z", math.nan))
    yield "bad_waypoint", with_(lambda m: setattr(m.waypoints[0], "contact_probability", 1.5))
    yield "non_unit_quaternion", with_(lambda m: setattr(m.waypoints[0].wrist_orientation, "w", 3.0))


@pytest.mark.parametrize("reason, message", list(bad_forecasts()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_bad_forecast_is_refused_alike_on_both_paths(reason, message):
    for read in (parse_hand_forecast_array_msg, lambda m: deserialize_futures(serialize_message(m))):
        with pytest.raises(RejectedInput) as caught:
            read(message)
        assert caught.value.reason == reason


@settings(max_examples=300)
@given(st.data())
def test_mangled_bytes_are_refused_or_read_but_never_anything_else(data):
    wire = bytearray(serialize_futures(make_futures()))
    end = data.draw(st.integers(0, len(wire)))
    for _ in range(data.draw(st.integers(0, 4))):
        wire[data.draw(st.integers(4, 120))] = data.draw(st.integers(0, 255))
    try:
        got = deserialize_futures(bytes(wire[:end]))
    except RejectedInput:
        return
    assert all(np.isfinite(hand.wrist).all() for hand in got.hands)


def joints(count, frame="tracker"):
    poses = [pose_msg(np.array([i, i / 2, 1.0]), np.array([0.0, 0, 0, 1])) for i in range(count)]
    message = PoseArray(poses=poses)
    message.header.frame_id, message.header.stamp = frame, time_msg(STAMP)
    return message


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_joints_of_every_convention_are_put_in_order(convention):
    count, indices = CONVENTIONS[convention]
    stamp, frame, keypoints = parse_pose_array_msg(joints(2 * count), convention)
    assert (stamp, frame, keypoints.shape) == (STAMP, "tracker", (2, 21, 3))
    wanted = np.array([np.nan if i < 0 else i for i in indices])
    assert np.allclose(keypoints[0, :, 0], wanted, equal_nan=True)
    assert np.allclose(keypoints[1, :, 0], wanted + count, equal_nan=True)
    assert parse_pose_array_msg(joints(0), convention)[2].shape == (0, 21, 3)


def test_joint_counts_tell_conventions_apart_and_others_are_refused():
    for count in (21, 25, 26, 42, 50, 52):
        assert len(parse_pose_array_msg(joints(count))[2]) == (1 if count < 40 else 2)
    for count, convention in ((20, "auto"), (63, "auto"), (25, "openxr")):
        with pytest.raises(RejectedInput, match="wrong_count"):
            parse_pose_array_msg(joints(count), convention)
    for axis, value, reason in (("x", math.nan, "non_finite"), ("y", math.inf, "non_finite"), ("z", 1e9, "huge_value")):
        message = joints(21)
        setattr(message.poses[0].position, axis, value)
        with pytest.raises(RejectedInput, match=reason):
            parse_pose_array_msg(message)


def test_ellipsoids_are_as_wide_as_the_covariance():
    futures = make_futures(hypotheses=1, steps=2, sides=(1,))
    axes = Rotation.random(random_state=5).as_matrix()
    variances = np.array([1e-4, 4e-4, 9e-4])
    futures.hands[0].wrist_covariance[0, 1, :3, :3] = axes @ np.diag(variances) @ axes.T
    markers = build_marker_array_msg(futures, 0.5).markers
    (ellipsoid,) = [m for m in markers if m.ns == "right/covariance" and m.id == 1]
    assert ellipsoid.type == Marker.SPHERE and not [m for m in markers if m.ns == "right/covariance" and m.id == 0]
    q, s = ellipsoid.pose.orientation, ellipsoid.scale
    rotation = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    half = np.array([s.x, s.y, s.z]) / 2 / ELLIPSOID_SIGMAS
    assert np.allclose(rotation @ np.diag(half**2) @ rotation.T, axes @ np.diag(variances) @ axes.T, atol=1e-9)
    # A bone with an end that is not forecast is not drawn: keypoint 7 is the middle of a finger and ends two bones.
    (hand,) = [m for m in markers if m.ns == "right/hand"]
    assert len(hand.points) == 2 * (20 - 2) and all(math.isfinite(p.x) for p in hand.points)


def test_goals_are_markers_where_they_are_probable():
    futures = replace(make_futures(), goals=np.array([[0.4, 0.1, 0.8, 0.9], [0.5, -0.1, 0.7, 0.01]]))
    (marker,) = [m for m in build_marker_array_msg(futures, 0.5).markers if m.ns == "goals"]
    assert marker.id == 0 and marker.type == Marker.SPHERE
    assert (marker.pose.position.x, marker.pose.position.y, marker.pose.position.z) == (0.4, 0.1, 0.8)
    assert not [m for m in build_marker_array_msg(make_futures(), 0.5).markers if m.ns == "goals"]


def test_depth_comes_in_metres_with_zero_for_unknown():
    millimetres = np.array([[0, 1500], [65535, 250]], dtype="<u2").repeat(16, 0).repeat(16, 1)
    message = Image(height=32, width=32, encoding="16UC1", step=64, data=millimetres.tobytes())
    assert np.allclose(parse_depth_msg(message), millimetres / 1000.0)
    big = Image(
        height=32, width=32, encoding="16UC1", step=64, is_bigendian=1, data=millimetres.astype(">u2").tobytes()
    )
    assert np.allclose(parse_depth_msg(big), millimetres / 1000.0)
    metres = np.full((32, 32), 2.0, dtype=np.float32)
    metres[0, :3] = np.nan, np.inf, -1.0
    message = Image(height=32, width=32, encoding="32FC1", step=128, data=metres.tobytes())
    got = parse_depth_msg(message)
    assert (got[0, :3] == 0).all() and (got[1] == 2.0).all()
    for change, reason in (
        (dict(encoding="rgb8"), "unsupported"),
        (dict(step=3), "bad_step"),
        (dict(height=33), "truncated"),
    ):
        bad = Image(height=32, width=32, encoding="32FC1", step=128, data=metres.tobytes())
        for name, value in change.items():
            setattr(bad, name, value)
        with pytest.raises(RejectedInput, match=reason):
            parse_depth_msg(bad)


def test_waypoints_and_held_fingers_are_told_by_markers():
    futures = make_futures()
    markers = build_marker_array_msg(futures, 0.5).markers
    points = {m.ns: m for m in markers if m.ns.endswith("/waypoints")}
    assert set(points) == {"left/waypoints", "right/waypoints"} and points["right/waypoints"].type == Marker.SPHERE
    assert points["right/waypoints"].pose.position.x == 1.0
    assert points["right/waypoints"].color.r != points["right/waypoints"].color.b, "towards red, as it may touch"
    (held,) = [m for m in markers if m.ns == "left/hand"]
    forecast = replace(futures, gives=("wrist_position", "wrist_rotation", "fingers"))
    (shown,) = [m for m in build_marker_array_msg(forecast, 0.5).markers if m.ns == "left/hand"]
    assert futures.holds_fingers and not forecast.holds_fingers and held.color.a < shown.color.a
