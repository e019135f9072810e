"""The same bytes give the same arrays, or the same refusal, in a live node, from a bag, in a replay and in a report.

`EGOHAND_GENERATED_MESSAGES=10000` generates so many messages in place of a few hundred.
"""

import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseArray, PoseStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from egohand_ros.data.bags.bag import _Collector
from egohand_ros.data.bags.message_types import MessageTypes
from egohand_ros.data.bags.reading import read_messages
from egohand_ros.data.bags.recording import new_writer
from egohand_ros.errors import RejectedInput
from egohand_ros.evaluation.recording import read_recording
from egohand_ros.evaluation.replay import _feed
from egohand_ros.hand.plausibility import check_pose, plausible_hands
from egohand_ros.messages.forecast import parse_hand_forecast_array_msg
from egohand_ros.messages.hands import parse_hand_pose_array_msg
from egohand_ros.messages.joints import parse_joint_sample_msg
from egohand_ros.messages.poses import parse_pose_array_msg, parse_stamped_pose_msg
from egohand_ros.msg import HandForecastArray, HandPoseArray
from egohand_ros.nodes.messages.forecast import deserialize_futures

MESSAGES = int(os.environ.get("EGOHAND_GENERATED_MESSAGES", 300))
BATCH = 25 if MESSAGES < 1000 else 50  # messages in a bag
TYPES = MessageTypes()
SPECIAL = [0.0, -1.0, 1.0, 0.7, np.nan, np.inf, -np.inf, 1e-30, 1e30, -1e37]


def make(msgtype, /, **fields):
    kind = msgtype if "/" in msgtype else f"egohand_ros/msg/{msgtype}"
    TYPES.learn(kind)
    return TYPES.store.types[kind](**fields)


def header(stamp, frame):
    return make("std_msgs/msg/Header", stamp=make("builtin_interfaces/msg/Time", sec=stamp, nanosec=5), frame_id=frame)


def xyz(kind, values):
    return make(f"geometry_msgs/msg/{kind}", **dict(zip("xyzw", map(float, values))))


def pose(numbers):
    rotation = numbers.normal(size=4)
    orientation = xyz("Quaternion", rotation / np.linalg.norm(rotation))
    return make("geometry_msgs/msg/Pose", position=xyz("Point", numbers.normal(size=3)), orientation=orientation)


def triangle(numbers):
    values = np.zeros(21, dtype=np.float32)
    values[[0, 6, 11, 15, 18, 20]] = numbers.random(6)
    return values


# ---------------------------------------------------------------- messages of plausible numbers, and what spoils them


def hand_pose_array(numbers, draw):
    hands = []
    for side in draw(st.sampled_from([(0, 1), (1,), (), (1, 0), (0, 0), (7,)])):
        hand = make(
            "HandPose",
            header=header(3, "camera"),
            side=side,
            track_id=int(numbers.integers(5)),
            confidence=float(np.float32(numbers.random())),
            tracking_state=draw(st.sampled_from([0, 0, 0, 1, 2, 3])),
            wrist_orientation=pose(numbers).orientation,
            wrist_covariance=triangle(numbers),
            keypoints=[xyz("Point32", 0.06 * numbers.normal(size=3) + (0, 0, 0.5)) for _ in range(21)],
            valid=numbers.random(21) < 0.95,
            keypoint_confidence=numbers.random(21).astype(np.float32),
        )
        hand.valid[0] |= numbers.random() < 0.9
        hands.append(hand)
    return make("HandPoseArray", header=header(3, "camera"), hands=hands)


def hand_forecast_array(numbers, draw):
    forecasts = []
    for side in draw(st.sampled_from([(0, 1), (1,), (), (0, 0), (9,)])):
        hypotheses = []
        for _ in range(draw(st.integers(0, 2))):
            steps = [
                make(
                    "HandForecastStep",
                    time_from_start=make("builtin_interfaces/msg/Duration", sec=0, nanosec=100_000_000 * (s + 1)),
                    wrist_orientation=pose(numbers).orientation,
                    wrist_covariance=triangle(numbers),
                    keypoints=[xyz("Point32", numbers.normal(size=3)) for _ in range(21)],
                    standard_deviation=numbers.random(21).astype(np.float32),
                )
                for s in range(draw(st.sampled_from([2, 2, 2, 0, 1])))
            ]
            hypotheses.append(make("HandForecastHypothesis", probability=0.5, steps=steps))
        about = dict(header=header(3, "map"), side=side, track_id=3)
        forecasts.append(make("HandForecast", **about, hypotheses=hypotheses))
    begin, end = header(4, "").stamp, header(5, "").stamp
    return make(
        "HandForecastArray",
        header=header(3, "map"),
        forecasts=forecasts,
        stage=draw(st.sampled_from(["", "reach"])),
        inference_start=begin,
        inference_end=end,
        model_id="kalman",
        gives=draw(st.sampled_from([[], ["wrist_position", "fingers"]])),
        waypoints=[
            make(
                "HandWaypoint",
                time_from_start=make("builtin_interfaces/msg/Duration", sec=i, nanosec=0),
                side=draw(st.sampled_from([0, 1, 1, 2])),
                label="contact",
                wrist_position=xyz("Point32", numbers.normal(size=3)),
                wrist_orientation=pose(numbers).orientation,
                contact_probability=float(np.float32(numbers.random())),
            )
            for i in range(draw(st.sampled_from([0, 0, 1, 2])))
        ],
    )


def pose_stamped(numbers, draw):
    return make("geometry_msgs/msg/PoseStamped", header=header(3, "map"), pose=pose(numbers))


def odometry(numbers, draw):
    zero = xyz("Vector3", np.zeros(3))
    twist = make("geometry_msgs/msg/Twist", linear=zero, angular=zero)
    with_covariance = dict(pose=pose(numbers), covariance=np.zeros(36))
    return make(
        "nav_msgs/msg/Odometry",
        header=header(3, "map"),
        child_frame_id="camera",
        pose=make("geometry_msgs/msg/PoseWithCovariance", **with_covariance),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )


def pose_array(numbers, draw):
    poses = [pose(numbers) for _ in range(draw(st.sampled_from([0, 20, 21, 25, 26, 42])))]
    for each in poses:
        each.position.x, each.position.y = 0.05 * each.position.x, 0.05 * each.position.y
    return make("geometry_msgs/msg/PoseArray", header=header(3, "tracker"), poses=poses)


def joint_state(numbers, draw):
    count = draw(st.integers(0, 3))
    return make(
        "sensor_msgs/msg/JointState",
        header=header(3, ""),
        name=[f"joint{i}" for i in range(count)],
        position=numbers.normal(size=draw(st.sampled_from([count, count, 1]))),
        velocity=numbers.normal(size=draw(st.sampled_from([count, 0, 1]))),
        effort=np.zeros(0),
    )


def parts_of(message):
    """Every part of a message that has fields, itself first."""
    yield message
    for value in vars(message).values():
        for part in value if isinstance(value, list) else [value]:
            if hasattr(part, "__msgtype__"):
                yield from parts_of(part)


def spoil(message, draw):
    """One field of one part gets an odd value of its kind."""
    parts = list(parts_of(message))
    part = draw(st.sampled_from(parts))
    fields = [
        name for name in vars(part) if not name.startswith("_") and not hasattr(getattr(part, name), "__msgtype__")
    ]
    if not fields:
        return
    name = draw(st.sampled_from(fields))
    value = getattr(part, name)
    if isinstance(value, str):
        setattr(part, name, draw(st.sampled_from(["", "odom", "camera", "Küche", "x" * 200])))
    elif isinstance(value, np.ndarray) and value.dtype == bool:
        value[draw(st.integers(0, len(value) - 1))] ^= True
    elif isinstance(value, np.ndarray) and len(value):
        value[draw(st.integers(0, len(value) - 1))] = draw(st.sampled_from(SPECIAL))
    elif isinstance(value, float):
        setattr(part, name, draw(st.sampled_from(SPECIAL) | st.floats(-2.0, 2.0, width=32)))
    elif isinstance(value, list) and value and hasattr(value[0], "__msgtype__") and len(value) != 21:
        del value[draw(st.integers(0, len(value) - 1))]
    elif name == "nanosec":
        part.nanosec = draw(st.sampled_from([0, 999_999_999, 1_000_000_000, 4_000_000_000]))
    elif name == "sec":
        part.sec = draw(st.sampled_from([-1, 0, 1, 2**31 - 1]))
    elif isinstance(value, int):
        setattr(part, name, draw(st.integers(0, 255)))


KINDS = {
    "hand_poses": (hand_pose_array, HandPoseArray),
    "hand_forecasts": (hand_forecast_array, HandForecastArray),
    "camera_pose": (pose_stamped, PoseStamped),
    "odometry": (odometry, Odometry),
    "tracker_poses": (pose_array, PoseArray),
    "joint_targets": (joint_state, JointState),
}


@dataclass(frozen=True)
class Generated:
    topic: str
    msgtype: str
    data: bytes = field(repr=False)


@st.composite
def generated(draw):
    topic = draw(st.sampled_from(list(KINDS)))
    message = KINDS[topic][0](np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw)
    for _ in range(draw(st.integers(0, 2))):
        spoil(message, draw)
    data = bytes(TYPES.store.serialize_cdr(message, message.__msgtype__))
    end = draw(st.sampled_from([None] * 8 + [0.5])) and draw(st.integers(4, len(data) - 5))
    return Generated(topic, message.__msgtype__, data[:end])


# ---------------------------------------------------------------- the four ways


def outcome(function, *given):
    """What a way makes of a message: its arrays, or the reason why it is refused."""
    try:
        return function(*given)
    except RejectedInput as error:
        return error.reason


def live_message(data, kind):
    try:
        return deserialize_message(data, kind)
    except Exception as error:
        raise RejectedInput("undecodable_message", str(error)) from None


def live(one):
    """As the nodes' callbacks begin."""
    kind = KINDS[one.topic][1]
    if one.topic == "hand_poses":
        return parse_hand_pose_array_msg(live_message(one.data, kind))
    if one.topic == "hand_forecasts":
        return deserialize_futures(one.data)
    if one.topic == "tracker_poses":
        return parse_pose_array_msg(live_message(one.data, kind))
    if one.topic == "joint_targets":
        return parse_joint_sample_msg(live_message(one.data, kind))
    return parse_stamped_pose_msg(live_message(one.data, kind))


def live_object(one):
    """A forecast through the middleware's own reader."""
    return parse_hand_forecast_array_msg(live_message(one.data, HandForecastArray))


class Intake:
    """Notes what a replay hands over."""

    def hands(self, *given):
        self.given = given[:-1]

    def camera_pose(self, *given):
        self.given = given[:3]


def from_bag(message):
    collector = _Collector()
    collector.add(message)
    if collector.refused and not any(collector.hands.values()):
        return list(collector.refused)[-1]  # of two hands that are refused, the live node raises the last reason
    if len(collector.camera):
        return next(iter(collector.camera._poses.arrays()[1]))
    found = [*collector.hands["hand_poses"], *collector.hands["tracker_poses"]]
    return found[0]


def in_replay(message):
    intake = Intake()
    _feed(intake, message, None)
    return intake.given


def usable(hands):
    """What the forecaster takes of hands."""
    keep = plausible_hands(hands.keypoints, hands.valid, lambda error: None)
    return hands.valid & keep[:, None]


def checked(transform):
    check_pose(transform)
    return transform


def same(a, b):
    if isinstance(a, str) or isinstance(b, str):
        return a is b or (isinstance(a, str) and isinstance(b, str) and a == b)
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f")


def same_fields(a, b, names):
    if isinstance(a, str) or isinstance(b, str):
        return same(a, b)
    return all(same(getattr(a, name), getattr(b, name)) for name in names)


HANDS = (
    "stamp",
    "frame_id",
    "keypoints",
    "valid",
    "wrist_rotation",
    "wrist_covariance",
    "confidence",
    "state",
    "track_id",
)
FUTURE = ("side", "track_id", "probability", "keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance")
FUTURES = ("stamp", "frame_id", "step_times", "stage", "model_id", "inference_start", "inference_end")


def same_futures(a, b):
    if not same_fields(a, b, FUTURES) or isinstance(a, str):
        return same_fields(a, b, FUTURES)
    return len(a.hands) == len(b.hands) and all(same_fields(x, y, FUTURE) for x, y in zip(a.hands, b.hands))


def check_bag_and_replay(one, expected, message):
    """`message` is None where the bag's reader refused the bytes."""
    if message is None:
        assert expected == "undecodable_message", (one, expected)
    elif one.topic == "hand_poses":
        assert same_fields(expected, outcome(parse_hand_pose_array_msg, message.data), HANDS), expected
        if isinstance(expected, str):
            assert from_bag(message) == outcome(in_replay, message) == expected
        else:
            stamp, frame, keypoints, valid, rotation = in_replay(message)
            measured = expected.measured()
            assert (stamp, frame) == (expected.stamp, expected.frame_id)
            assert same(keypoints, measured.keypoints) and same(valid, measured.valid)
            assert same(rotation, measured.wrist_rotation)
            bag = from_bag(message)
            assert same(bag if isinstance(bag, str) else bag.valid, outcome(usable, measured))
            assert isinstance(bag, str) or same_fields(bag, measured, HANDS[:3] + HANDS[4:])
    elif one.topic == "hand_forecasts":
        assert same_futures(expected, outcome(live_object, one))
        assert same_futures(expected, outcome(parse_hand_forecast_array_msg, message.data))
    elif one.topic == "tracker_poses":
        bag = from_bag(message)
        if isinstance(expected, str):
            assert bag == expected
        elif not isinstance(bag, str):  # otherwise no hand can be one, as the intake says
            assert same(bag.keypoints[: len(expected[2])], expected[2]) and bag.stamp == expected[0]
    elif one.topic in ("camera_pose", "odometry"):
        bag, replayed = from_bag(message), outcome(in_replay, message)
        if isinstance(expected, str):
            assert bag == replayed == expected
        else:
            assert replayed[:2] == (expected.stamp, expected.frame_id) and same(replayed[2], expected.transform)
            assert same(bag, outcome(checked, expected.transform))


def check_report(batch, expected, recording):
    """The arrays of a report, message by message, and the reasons of what it refused."""
    fields = {"camera_pose": "camera", "odometry": "camera"}
    refused = Counter(
        f"{one.topic}/{reason}"
        for one, reason in zip(batch, expected)
        if isinstance(reason, str) and one.topic != "tracker_poses"
    )
    assert recording.refused == refused
    used = {"hand_poses": [], "hand_forecasts": [], "camera": [], "joint_targets": []}
    for one, what in zip(batch, expected):
        if not isinstance(what, str):
            used.setdefault(fields.get(one.topic, one.topic), []).append(what)
    for i, hands in enumerate(used["hand_poses"]):
        found = recording.hands
        assert (found.stamp[i], found.frame[i]) == (hands.stamp, hands.frame_id)
        for name in ("keypoints", "valid", "state"):
            assert same(getattr(found, name)[i], getattr(hands, name)), name
    assert len(recording.forecasts) == len(used["hand_forecasts"])
    for futures, found in zip(used["hand_forecasts"], recording.forecasts):
        assert same(found.step_times, futures.step_times) and found.stamp == futures.stamp
        for hand in futures.hands:
            given = slice(len(hand.probability))
            assert same(found.keypoints[given, :, hand.side], hand.keypoints)
            assert same(found.std[given, :, hand.side], hand.keypoint_std)
    for i, camera in enumerate(used["camera"]):
        assert recording.camera.stamp[i] == camera.stamp and same(recording.camera.pose[i], camera.transform)
    alike = [joints for joints in used["joint_targets"] if joints.names == used["joint_targets"][0].names]
    for i, joints in enumerate(alike):
        assert same(recording.targets.q[i], joints.q) and same(recording.targets.qd[i], joints.qd)


COUNTED: Counter[str] = Counter()


@settings(max_examples=-(-MESSAGES // BATCH), suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.lists(generated(), min_size=BATCH, max_size=BATCH))
def test_the_same_bytes_are_the_same_everywhere(tmp_path_factory, batch):
    folder = tmp_path_factory.mktemp("same") / "bag"
    with new_writer(folder, "mcap") as writer:
        for i, one in enumerate(batch):
            text, type_hash = TYPES.definition(one.msgtype)
            connection = writer.add_connection(f"/m{i}/{one.topic}", one.msgtype, msgdef=text, rihs01=type_hash)
            writer.write(connection, (i + 1) * 10**9, one.data)
    expected = [outcome(live, one) for one in batch]
    COUNTED.update(what if isinstance(what, str) else "arrays" for what in expected)
    refused = set()
    found = {m.topic: m for m in read_messages(folder, reject=lambda topic, error: refused.add(topic))}
    assert len(found) + len(refused) == len(batch)
    for i, (one, what) in enumerate(zip(batch, expected)):
        check_bag_and_replay(one, what, found.get(f"/m{i}/{one.topic}"))
    check_report(batch, expected, read_recording(folder))


def test_both_outcomes_were_among_them():
    """Of the test before: neither the arrays nor any reason is missing."""
    if not COUNTED:
        pytest.skip("run with the test above")
    assert COUNTED["arrays"] > 0.2 * sum(COUNTED.values()), COUNTED
    assert len(COUNTED) > 8, COUNTED
    print(f"{sum(COUNTED.values())} messages: {dict(COUNTED.most_common())}")
