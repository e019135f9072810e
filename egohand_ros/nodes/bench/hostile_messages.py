"""Malformed, senseless and contradictory messages for every input of every node, to see what the nodes make of them.

`attacks()` lists them. Pure functions; no node needed. Times are s; `now` is what the attacked nodes take for now.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Point, Point32, Pose, PoseArray, PoseStamped, Quaternion
from nav_msgs.msg import Odometry
from sensor_msgs.msg import (
    CameraInfo,
    CompressedImage,
    Image,
    JointState,
    RegionOfInterest,
)
from std_msgs.msg import Header, String

from ...data.synthetic.hand import POSTURES, HandShape
from ...hand.skeleton import NUM_KEYPOINTS, RIGHT
from ...messages.basic import COVARIANCE_SIZE
from ...messages.forecast import Futures, HandFuture
from ...messages.hands import Hands, hands
from ...msg import HandForecastArray, HandPoseArray
from ...robot.follow.braking import Stop
from ...robot.hands.command import CommandMapping
from ..messages.basic import header_msg, time_msg
from ..messages.forecast import serialize_futures
from ..messages.hands import build_hand_pose_array_msg
from ..messages.joints import build_joint_command_msg

FRAME = "camera"  # of the hands, valid and hostile
STEPS = 10
GARBAGE = "garbage bytes"
_SHAPE = HandShape.sample(np.random.default_rng(0))


@dataclass(frozen=True)
class Attack:
    """One way to be wrong on one topic. `refused`: such a message must be rejected and counted; the others are odd but
    allowed, and must do no harm. `make(rng, now)` gives a message or serialized bytes."""

    topic: str
    kind: str
    make: Callable[[np.random.Generator, float], Any]
    refused: bool = True


MESSAGE_TYPES = {
    "hand_poses": HandPoseArray,
    "hand_forecasts": HandForecastArray,
    "tracker_poses": PoseArray,
    "camera_pose": PoseStamped,
    "odometry": Odometry,
    "prompt": String,
    "image": Image,
    "image/compressed": CompressedImage,
    "camera_info": CameraInfo,
    "joint_commands": JointState,
    "joint_states": JointState,
}


def attacks(mapping: CommandMapping) -> list[Attack]:
    """Every attack there is; `mapping` is that of a hand whose commands are JointState."""
    return [
        *_hand_pose_attacks(),
        *_forecast_attacks(),
        *_tracker_pose_attacks(),
        *_camera_attacks(),
        *_prompt_attacks(),
        *_image_attacks(),
        *_compressed_attacks(),
        *_camera_info_attacks(),
        *_joint_attacks(mapping),
        *(Attack(topic, GARBAGE, _garbage, refused=False) for topic in MESSAGE_TYPES),
    ]


def human_hand(closed: float) -> np.ndarray:
    """Keypoints (21, 3) m of a right hand half a metre before the camera, open at 0, a fist at 1."""
    angles = (1.0 - closed) * POSTURES["open"] + closed * POSTURES["fist"]
    return _SHAPE.keypoints(angles, RIGHT) + np.array([0.0, 0.0, 0.5])


def hand_poses(stamp: float, keypoints: np.ndarray, **known) -> Hands:
    """`Hands` with the right hand alone."""
    both = np.full((2, NUM_KEYPOINTS, 3), np.nan)
    both[RIGHT] = keypoints
    return hands(stamp, FRAME, both, **known)


def valid_hand_poses(stamp: float, closed: float) -> HandPoseArray:
    """What a good tracker sends."""
    return build_hand_pose_array_msg(hand_poses(stamp, human_hand(closed)))


def valid_picture(rng: np.random.Generator, now: float) -> Image:
    """A picture without a hand in it."""
    pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return Image(header=header_msg(now, FRAME), height=48, width=64, encoding="rgb8", step=192, data=pixels.tobytes())


def valid_compressed_picture(rng: np.random.Generator, now: float) -> CompressedImage:
    """The same as a JPEG."""
    return CompressedImage(header=header_msg(now, FRAME), format="jpeg", data=_jpeg(rng))


def valid_camera_info(now: float) -> CameraInfo:
    """The calibration of both."""
    k = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]
    return CameraInfo(
        header=header_msg(now, FRAME), width=64, height=48, distortion_model="plumb_bob", d=[0.0] * 5, k=k
    )


# ---------------------------------------------------------------- stamps and frames: the same for every header


def _bad_headers(frame_matters: bool = True) -> dict[str, Callable[[float], Header]]:
    def with_nanoseconds(now: float) -> Header:
        header = header_msg(now, FRAME)
        header.stamp.nanosec = 4_000_000_000
        return header

    headers = {
        "stamp of the past": lambda now: header_msg(max(now - 100.0, 1e-3), FRAME),
        "stamp of the future": lambda now: header_msg(now + 100.0, FRAME),
        "stamp of the end of time": lambda now: Header(stamp=time_msg(2.0**31 - 2), frame_id=FRAME),
        "stamp before time": lambda now: Header(stamp=time_msg(-5.0), frame_id=FRAME),
        "nanoseconds over a second": with_nanoseconds,
    }
    if frame_matters:
        headers["zero stamp"] = lambda now: header_msg(0.0, FRAME)
        headers["empty frame"] = lambda now: header_msg(now, "")
    return headers


def _set_header(message, header: Header):
    message.header = header
    for hand in getattr(message, "hands", ()):
        hand.header = header
    return message


def _header_attacks(topic: str, good: Callable, frame_matters: bool = True) -> list[Attack]:
    return [
        Attack(topic, kind, lambda rng, now, make=make: _set_header(good(rng, now), make(now)))
        for kind, make in _bad_headers(frame_matters).items()
    ]


def _garbage(rng: np.random.Generator, now: float) -> bytes:
    """No message at all, behind a valid or invalid encapsulation header."""
    return rng.choice([b"\x00\x01\x00\x00", b"\xff\xff\xff\xff"]) + rng.bytes(int(rng.integers(0, 200)))


# ---------------------------------------------------------------- hands


def _good_hand(rng: np.random.Generator, now: float) -> HandPoseArray:
    return valid_hand_poses(now, rng.random())


def _spoiled_hand(rng: np.random.Generator, now: float, spoil: Callable[[Any], None]) -> HandPoseArray:
    message = _good_hand(rng, now)
    spoil(message.hands[0])
    return message


def _hand_pose_attacks() -> list[Attack]:
    topic = "hand_poses"

    def keypoint(x: float):
        return lambda hand: hand.keypoints.__setitem__(5, Point32(x=x))

    def setting(name: str, value):
        return lambda hand: setattr(hand, name, value)

    spoiled = {
        "NaN keypoint": keypoint(np.nan),
        "infinite keypoint": keypoint(-np.inf),
        "huge keypoint": keypoint(1e30),
        "NaN quaternion": setting("wrist_orientation", Quaternion(w=np.nan)),
        "quaternion of length 2": setting("wrist_orientation", Quaternion(w=2.0)),
        "NaN covariance": setting("wrist_covariance", np.full(COVARIANCE_SIZE, np.nan, dtype=np.float32)),
        "negative variance": setting("wrist_covariance", np.full(COVARIANCE_SIZE, -5.0, dtype=np.float32)),
        "confidence 7": setting("confidence", 7.0),
        "NaN confidence": setting("confidence", float("nan")),
        "NaN keypoint confidence": setting("keypoint_confidence", np.full(NUM_KEYPOINTS, np.nan, dtype=np.float32)),
        "side 9": setting("side", 9),
        "tracking state 77": setting("tracking_state", 77),
        "another frame inside": setting("header", Header(frame_id="elsewhere")),
        "another stamp inside": setting("header", header_msg(12.0, FRAME)),
        "hand of 20 m": lambda hand: hand.keypoints.__setitem__(8, Point32(x=20.0)),
        "wrist not valid": lambda hand: setting("valid", [False] + [True] * 20)(hand),
    }

    def one_sided(rng, now):
        message = _good_hand(rng, now)
        message.hands = [*message.hands, *message.hands]
        return message

    def unknown_frame(rng, now):
        return _set_header(_good_hand(rng, now), header_msg(now, "mars"))

    def wild(rng, now):
        keypoints = human_hand(rng.random()) + rng.normal(0, 0.03, (NUM_KEYPOINTS, 3))
        return build_hand_pose_array_msg(hand_poses(now, keypoints))

    return [
        *_header_attacks(topic, _good_hand),
        *(Attack(topic, kind, partial(_spoiled_hand, spoil=spoil)) for kind, spoil in spoiled.items()),
        Attack(topic, "two right hands", one_sided),
        Attack(topic, "unknown frame", unknown_frame, refused=False),  # after a silence or a clock jump it is a new one
        Attack(topic, "no hands", lambda rng, now: HandPoseArray(header=header_msg(now, FRAME)), refused=False),
        Attack(topic, "wild hand", wild, refused=False),
    ]


def _future(rng: np.random.Generator, **changes) -> HandFuture:
    keypoints = np.stack([human_hand(closed) for closed in rng.random(STEPS)])[None]
    rotation = np.broadcast_to(np.eye(3), (1, STEPS, 3, 3))
    std, covariance = np.full((1, STEPS, NUM_KEYPOINTS), np.nan), np.full((1, STEPS, 6, 6), np.nan)
    return replace(HandFuture(RIGHT, 1, np.ones(1), keypoints, rotation, std, covariance), **changes)


def _futures(now: float, *futures: HandFuture, step: float = 0.1, steps: int = STEPS, frame: str = FRAME) -> Futures:
    return Futures(now, frame, step * np.arange(1, steps + 1), futures)


def _forecast_attacks() -> list[Attack]:
    topic = "hand_forecasts"

    def spoiled(rng, now, change: Callable[[HandFuture], HandFuture], **about):
        return serialize_futures(_futures(now, change(_future(rng)), **about))

    def keypoints(value: float):
        def change(future):
            points = future.keypoints.copy()
            points[0, :, 0] = value
            return replace(future, keypoints=points)

        return change

    nothing = dict(
        probability=np.ones(0),
        keypoints=np.zeros((0, STEPS, NUM_KEYPOINTS, 3)),
        wrist_rotation=np.zeros((0, STEPS, 3, 3)),
        keypoint_std=np.zeros((0, STEPS, NUM_KEYPOINTS)),
        wrist_covariance=np.zeros((0, STEPS, 6, 6)),
    )
    changes = {
        "NaN wrist": keypoints(np.nan),
        "infinite wrist": keypoints(np.inf),
        "huge wrist": keypoints(1e200),
        "all keypoints in one place": lambda f: replace(f, keypoints=np.ones_like(f.keypoints)),
        "hand of 20 m": lambda f: replace(f, keypoints=100.0 * f.keypoints),
        "orientation of zero": lambda f: replace(f, wrist_rotation=np.full_like(f.wrist_rotation, np.nan)),
        "probability 5": lambda f: replace(f, probability=np.full(1, 5.0)),
        "NaN probability": lambda f: replace(f, probability=np.full(1, np.nan)),
        "side 9": lambda f: replace(f, side=9),
        "no hypothesis": lambda f: replace(f, **nothing),
    }
    stamps = {"past": lambda now: max(now - 100.0, 1e-3), "future": lambda now: now + 100.0, "zero": lambda now: 0.0}

    def good(rng, now, **about):
        return serialize_futures(_futures(now, _future(rng), **about))

    def truncated(rng, now):
        whole = good(rng, now)
        return bytes(whole[: int(rng.integers(8, len(whole) - 8))])

    def twice(rng, now):
        return serialize_futures(_futures(now, _future(rng), _future(rng)))

    return [
        *(Attack(topic, kind, partial(spoiled, change=change)) for kind, change in changes.items()),
        *(Attack(topic, f"stamp: {kind}", lambda rng, now, at=at: good(rng, at(now))) for kind, at in stamps.items()),
        Attack(topic, "empty frame", partial(good, frame="")),
        Attack(topic, "steps into the past", partial(good, step=-0.1)),
        Attack(topic, "steps that stand still", partial(good, step=0.0)),
        Attack(topic, "steps of a year", partial(good, step=3e7)),
        Attack(topic, "truncated", truncated),
        Attack(topic, "two right hands", twice),
        Attack(topic, "no hands", lambda rng, now: serialize_futures(_futures(now)), refused=False),
        Attack(topic, "contradictory", good, refused=False),
    ]


def _tracker_pose_attacks() -> list[Attack]:
    topic = "tracker_poses"

    def joints(rng, now, count: int = NUM_KEYPOINTS, x: float | None = None, joint: int = 10):
        points = np.resize(human_hand(rng.random()), (count, 3))
        poses = [Pose(position=Point(x=a, y=b, z=c)) for a, b, c in points.tolist()]
        if x is not None:
            poses[joint].position.x = x
        return PoseArray(header=header_msg(now, FRAME), poses=poses)

    return [
        *_header_attacks(topic, joints),
        *(Attack(topic, f"{count} joints", partial(joints, count=count)) for count in (1, 20, 22, 27, 1000)),
        Attack(topic, "NaN wrist", partial(joints, x=np.nan, joint=0)),
        Attack(topic, "NaN joint", partial(joints, x=np.nan), refused=False),  # says that it was not seen
        Attack(topic, "infinite joint", partial(joints, x=np.inf)),
        Attack(topic, "huge joint", partial(joints, x=1e300)),
        Attack(topic, "no joints", partial(joints, count=0), refused=False),
    ]


# ---------------------------------------------------------------- camera


def _camera_attacks() -> list[Attack]:
    bad = {
        "NaN position": Pose(position=Point(x=np.nan)),
        "infinite position": Pose(position=Point(y=np.inf)),
        "huge position": Pose(position=Point(z=1e300)),
        "quaternion of zero": Pose(orientation=Quaternion(w=0.0)),
        "quaternion of length 3": Pose(orientation=Quaternion(w=3.0)),
        "NaN quaternion": Pose(orientation=Quaternion(x=np.nan)),
    }

    def stamped(rng, now, pose=None):
        return PoseStamped(header=header_msg(now, "world"), pose=pose or Pose())

    def odometry(rng, now, pose=None):
        message = Odometry(header=header_msg(now, "world"))
        message.pose.pose = pose or Pose()
        return message

    return [
        *_header_attacks("camera_pose", stamped),
        *_header_attacks("odometry", odometry),
        *(Attack("camera_pose", kind, partial(stamped, pose=pose)) for kind, pose in bad.items()),
        *(Attack("odometry", kind, partial(odometry, pose=pose)) for kind, pose in bad.items()),
    ]


def _prompt_attacks() -> list[Attack]:
    texts = {
        "empty": "",
        "control characters": "\x07\x1b[2J\n\r",
        "100 kB": "x" * 100_000,
        "not ASCII": "\U0001f590" * 50,
    }
    return [
        Attack("prompt", kind, lambda rng, now, text=text: String(data=text), refused=False)
        for kind, text in texts.items()
    ]


def _jpeg(rng: np.random.Generator, size: tuple[int, int] = (48, 64), channels: int = 3, kind: str = ".jpg") -> bytes:
    return cv2.imencode(kind, rng.integers(0, 255, (*size, channels), dtype=np.uint8))[1].tobytes()


def _image_attacks() -> list[Attack]:
    def changed(rng, now, **changes):
        message = valid_picture(rng, now)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    bad = {
        "encoding banana": dict(encoding="banana"),
        "no encoding": dict(encoding=""),
        "depth encoding": dict(encoding="32FC1"),
        "encoding of 10 kB": dict(encoding="x" * 10_000),
        "truncated": dict(data=bytes(100)),
        "no data": dict(data=b""),
        "step too small": dict(step=10),
        "no pixels": dict(width=0, height=0, data=b""),
        "one pixel": dict(width=1, height=1, step=3, data=bytes(3)),
        "claims 4 gigapixels": dict(width=65535, height=65535, step=65535 * 3),
        "claims most of 2^64 pixels": dict(width=2**32 - 1, height=2**32 - 1),
    }
    return [
        *_header_attacks("image", valid_picture),
        *(Attack("image", kind, partial(changed, **changes)) for kind, changes in bad.items()),
        Attack("image", "noise", valid_picture, refused=False),
    ]


def _compressed_attacks() -> list[Attack]:
    topic = "image/compressed"

    def pictured(rng, now, data: Callable[[np.random.Generator], bytes]):
        return CompressedImage(header=header_msg(now, FRAME), format="jpeg", data=data(rng))

    bomb = _png_bomb()
    bad = {
        "truncated header": lambda rng: _jpeg(rng)[: int(rng.integers(1, 20))],
        "truncated data": lambda rng: _jpeg(rng)[: int(rng.integers(700, 1000))],
        "no data": lambda rng: b"",
        "random bytes": lambda rng: rng.bytes(300),
        "text": lambda rng: b"<svg onload='alert(1)'/>",
        "grey picture": lambda rng: _jpeg(rng, channels=1),
        "one pixel": lambda rng: _jpeg(rng, (1, 1)),
        "bomb of 900 megapixels": lambda rng: bomb,
    }
    return [
        *_header_attacks(topic, valid_compressed_picture),
        *(Attack(topic, kind, partial(pictured, data=data)) for kind, data in bad.items()),
        Attack(topic, "noise", valid_compressed_picture, refused=False),
    ]


def _png_bomb() -> bytes:
    """A PNG whose header claims 30,000 x 30,000 px."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(90_001)))
        + chunk(b"IEND", b"")
    )


def _camera_info_attacks() -> list[Attack]:
    def changed(rng, now, **changes):
        message = valid_camera_info(now)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    nan = [float("nan")] * 9
    bad = {
        "all zeros": dict(k=[0.0] * 9),
        "NaN matrix": dict(k=nan),
        "negative focal length": dict(k=[-60.0, 0.0, 32.0, 0.0, -60.0, 24.0, 0.0, 0.0, 1.0]),
        "no size": dict(width=0, height=0),
        "region outside the sensor": dict(roi=RegionOfInterest(x_offset=4_000_000_000, width=64, height=48)),
        "binned to nothing": dict(binning_x=2**32 - 1),
        "unknown lens": dict(distortion_model="fishbowl", d=[0.1] * 5),
        "two coefficients": dict(d=[0.1, 0.2]),
        "NaN coefficients": dict(d=nan[:5]),
    }
    return [Attack("camera_info", kind, partial(changed, **changes)) for kind, changes in bad.items()]


# ---------------------------------------------------------------- joints


def _joint_attacks(mapping: CommandMapping) -> list[Attack]:
    count = len(mapping.names)

    def command(rng, now, **changes):
        q = rng.uniform(-1, 2, count)
        message = build_joint_command_msg(mapping, now, q, np.zeros(count), 0.01, Stop(q, 0.1))
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    nan, infinite = [float("nan")] * count, [float("inf")] + [0.0] * (count - 1)
    bad = {
        "NaN": dict(position=nan),
        "infinite": dict(position=infinite),
        "huge": dict(position=[1e300] * count),
        "too few": dict(position=[0.0] * 3),
        "too many": dict(position=[0.0] * (count + 1)),
        "empty": dict(position=[], name=[]),
        "names of others": dict(name=["elbow"] * count),
        "one name twice": dict(name=[mapping.names[0], *mapping.names[:-1]]),
    }
    states = {name: bad[name] for name in ("NaN", "infinite", "too few", "too many", "empty", "names of others")}

    def far(rng, now):
        return command(rng, now, position=rng.normal(0, 100, count).tolist())

    return [
        *_header_attacks("joint_commands", command, frame_matters=False),
        *(Attack("joint_commands", kind, partial(command, **changes)) for kind, changes in bad.items()),
        Attack("joint_commands", "out of range", far, refused=False),
        *(Attack("joint_states", kind, partial(command, **changes)) for kind, changes in states.items()),
    ]
