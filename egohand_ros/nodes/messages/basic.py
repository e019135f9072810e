"""The small parts that every message is made of: stamps, headers, poses, covariances; built and parsed."""

import math

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Quaternion
from std_msgs.msg import Header

from ...errors import RejectedInput
from ...geometry.rotations import matrix_from_quaternion, quaternion_from_matrix
from ...hand.skeleton import SIDES
from ...msg import HandPose

MAX_COORDINATE = 1e6  # m; beyond it a number is a fault, not a place
QUATERNION_TOLERANCE = 1e-2  # of its norm from 1; float32 sources stay far below
_UNKNOWN_COVARIANCE = np.concatenate([[-1.0], np.zeros(35)])


def time_msg(seconds: float | Time) -> Time:
    """builtin_interfaces/Time of seconds, to the nearest ns. A Time is passed through, so that stamps survive
    exactly.
    """
    if isinstance(seconds, Time):
        return seconds
    whole = math.floor(seconds)  # taken off first: the nanoseconds since 1970 do not fit into a float64
    more, nanoseconds = divmod(round((seconds - whole) * 1e9), 1_000_000_000)
    return Time(sec=whole + more, nanosec=nanoseconds)


def duration_msg(seconds: float) -> Duration:
    """builtin_interfaces/Duration of seconds, to the nearest ns."""
    whole, nanoseconds = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(sec=whole, nanosec=nanoseconds)


def seconds(stamp: Time | Duration) -> float:
    """Seconds of a Time or Duration message."""
    return stamp.sec + stamp.nanosec * 1e-9


def header_msg(stamp: float | Time, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=time_msg(stamp), frame_id=frame_id)


def parse_header(header: Header) -> tuple[float, str]:
    """(stamp s, frame_id). Raises `RejectedInput`: empty_frame, bad_stamp. Age and order are judged by `StampGuard`."""
    if not header.frame_id:
        raise RejectedInput("empty_frame", "header.frame_id is empty; set it to the frame of the poses")
    return parse_time_parts(header.stamp.sec, header.stamp.nanosec), header.frame_id


def parse_time_parts(sec: int, nanosec: int) -> float:
    """Seconds of the parts of a stamp. Raises `RejectedInput`: bad_stamp."""
    if nanosec >= 1_000_000_000:
        raise RejectedInput("bad_stamp", f"nanosec is {nanosec}, a whole second or more")
    return sec + nanosec * 1e-9


def pose_msg(position: np.ndarray, quaternion: np.ndarray) -> Pose:
    """geometry_msgs/Pose of a position (3,) m and a quaternion (4,) xyzw."""
    x, y, z = position.tolist()
    qx, qy, qz, qw = quaternion.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def parse_position(point: Point) -> np.ndarray:
    """(3,) m. Raises `RejectedInput`: non_finite_pose, huge_value."""
    position = np.array([point.x, point.y, point.z])
    if not np.isfinite(position).all():
        raise RejectedInput("non_finite_pose", "a position is NaN or infinite")
    if np.abs(position).max() > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    return position


def parse_orientation(q: Quaternion) -> np.ndarray | None:
    """Rotation (3, 3), or None for the all-zero quaternion that says "unknown". Raises `RejectedInput`:
    non_finite_pose, non_unit_quaternion."""
    values = np.array([q.x, q.y, q.z, q.w])
    norm = np.linalg.norm(values)
    if not np.isfinite(norm):
        raise RejectedInput("non_finite_pose", "a quaternion is NaN or infinite")
    if norm == 0.0:
        return None
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise RejectedInput("non_unit_quaternion", f"norm {norm:.4g}; normalise the orientation")
    return matrix_from_quaternion(values)


def parse_transform(pose: Pose) -> np.ndarray:
    """T_frame_body (4, 4) of a pose. Raises `RejectedInput` as the parts do; an unknown orientation is
    non_unit_quaternion.
    """
    rotation = parse_orientation(pose.orientation)
    if rotation is None:
        raise RejectedInput("non_unit_quaternion", "the orientation is all zeros")
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = parse_position(pose.position)
    return transform


def quaternions_or_zero(rotation: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 4) xyzw; zeros where the rotation is NaN, which says "unknown"."""
    known = np.isfinite(rotation).all((-1, -2))
    quaternion = np.zeros((*rotation.shape[:-2], 4))
    if known.any():
        quaternion[known] = quaternion_from_matrix(rotation[known])
    return quaternion


def parse_covariance(values: np.ndarray) -> np.ndarray:
    covariance = np.asarray(values, dtype=np.float64).reshape(6, 6)
    if covariance[0, 0] == -1.0:
        return np.full((6, 6), np.nan)
    if not np.isfinite(covariance).all() or (np.diagonal(covariance) < 0).any():
        raise RejectedInput("bad_covariance", "NaN, infinite or negative variance; -1 in the first place says unknown")
    return covariance


def covariance_or_unknown(covariance: np.ndarray) -> np.ndarray:
    return covariance.reshape(36) if np.isfinite(covariance).all() else _UNKNOWN_COVARIANCE


def points_msg(keypoints: np.ndarray) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in keypoints.tolist()]


def check_side(side: int, seen: set[int]) -> None:
    if side not in (HandPose.LEFT, HandPose.RIGHT):
        raise RejectedInput("unknown_side", f"side is {side}; 0 is left, 1 is right")
    if side in seen:
        raise RejectedInput("duplicate_side", f"two {SIDES[side]} hands in one message")
    seen.add(side)
