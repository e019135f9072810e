"""The small parts that every message is made of: stamps, headers, orientations, covariances; checked and as arrays.

Input is distrusted: a `parse_` function raises `RejectedInput` for anything odd.
"""

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from ..errors import RejectedInput
from ..geometry.rotations import matrix_from_quaternion, quaternion_from_matrix
from ..hand.skeleton import SIDES

# A message by its fields alone: of rclpy, of a bag's own types, or of before 0.1.0, whose fields differ. No protocol
# fits all three, and what a message holds is checked as it is read.
Message: TypeAlias = Any

MAX_COORDINATE = 1e6  # m; beyond it a number is a fault, not a place
QUATERNION_TOLERANCE = 1e-2  # of its norm from 1; float32 sources stay far below
COVARIANCE_SIZE = 21  # the upper triangle of 6x6, row by row
_UPPER = np.ravel_multi_index(np.triu_indices(6), (6, 6))  # places of the triangle in the 36 numbers of a matrix
_PLACES = np.zeros((6, 6), dtype=np.intp)  # of each entry of a matrix in the triangle
_PLACES.flat[_UPPER] = _PLACES.T[np.triu_indices(6)] = np.arange(COVARIANCE_SIZE)
_UNKNOWN = np.eye(1, COVARIANCE_SIZE, dtype=np.float32)[0] * -1.0
_VARIANCES = {COVARIANCE_SIZE: np.diagonal(_PLACES).copy(), 36: np.arange(0, 36, 7)}


def time_parts(seconds: float) -> tuple[int, int]:
    """(sec, nanosec) of a stamp in s, to the nearest ns."""
    whole = math.floor(seconds)  # taken off first: the nanoseconds since 1970 do not fit into a float64
    more, nanoseconds = divmod(round((seconds - whole) * 1e9), 1_000_000_000)
    return whole + more, nanoseconds


def seconds(stamp: Message) -> float:
    """Seconds of a Time or Duration message."""
    return stamp.sec + stamp.nanosec * 1e-9


def parse_header(header: Message) -> tuple[float, str]:
    """(stamp s, frame_id). Raises `RejectedInput`: empty_frame, bad_stamp. Age and order are judged by `StampGuard`."""
    return checked_header(header.stamp.sec, header.stamp.nanosec, header.frame_id)


def checked_header(sec: int, nanosec: int, frame_id: str) -> tuple[float, str]:
    """The same of a header's parts."""
    if not frame_id:
        raise RejectedInput("empty_frame", "header.frame_id is empty; set it to the frame of the poses")
    if nanosec >= 1_000_000_000:
        raise RejectedInput("bad_stamp", f"nanosec is {nanosec}, a whole second or more")
    return sec + nanosec * 1e-9, frame_id


def points_array(points: Iterable[Message]) -> np.ndarray:
    """(N, 3) of N Point, Point32 or Vector3 messages, unchecked."""
    return np.array([(point.x, point.y, point.z) for point in points], dtype=np.float64).reshape(-1, 3)


def parse_position(point: Message) -> np.ndarray:
    """(3,) m. Raises `RejectedInput`: non_finite_pose, huge_value."""
    position = np.array([point.x, point.y, point.z])
    if not np.isfinite(position).all():
        raise RejectedInput("non_finite_pose", "a position is NaN or infinite")
    if np.abs(position).max() > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    return position


def parse_orientation(q: Message) -> np.ndarray | None:
    """Rotation (3, 3) of a Quaternion message, or None for the all-zero one that says "unknown". Raises
    `RejectedInput`: non_finite_pose, non_unit_quaternion."""
    values = np.array([q.x, q.y, q.z, q.w])
    if not np.isfinite(values).all():
        raise RejectedInput("non_finite_pose", "a quaternion is NaN or infinite")
    if not values.any():
        return None
    norm = math.hypot(*values.tolist())  # neither overflows nor underflows
    if not abs(norm - 1.0) <= QUATERNION_TOLERANCE:
        raise RejectedInput("non_unit_quaternion", f"norm {norm:.4g}; normalise the orientation")
    return matrix_from_quaternion(values)


def quaternions_or_zero(rotation: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 4) xyzw; zeros where the rotation is NaN, which says "unknown"."""
    known = np.isfinite(rotation).all((-1, -2))
    quaternion = np.zeros((*rotation.shape[:-2], 4))
    if known.any():
        quaternion[known] = quaternion_from_matrix(rotation[known])
    return quaternion


def covariance_matrices(values: np.ndarray) -> np.ndarray:
    """(..., 6, 6) of upper triangles (..., 21), or of whole matrices (..., 36), as bags of before 0.1.0 have them; NaN
    for those that begin with -1, which says "unknown". Raises `RejectedInput`: bad_covariance.
    """
    values = np.asarray(values, dtype=np.float64)
    unknown = values[..., 0] == -1.0
    wrong = ~np.isfinite(values).all(-1) | (values.take(_VARIANCES[values.shape[-1]], -1) < 0.0).any(-1)
    if (wrong & ~unknown).any():
        raise RejectedInput("bad_covariance", "NaN, infinite or negative variance; -1 in the first place says unknown")
    whole = values.shape[-1] == 36
    matrices = values.reshape(*values.shape[:-1], 6, 6) if whole else values.take(_PLACES, -1)
    return np.where(unknown[..., None, None], np.nan, matrices) if unknown.any() else matrices


def covariance_triangles(covariance: np.ndarray) -> np.ndarray:
    """float32 upper triangles (..., 21) of (..., 6, 6); one that is not finite becomes -1 and zeros, "unknown"."""
    triangles = covariance.reshape(*covariance.shape[:-2], 36).take(_UPPER, -1).astype(np.float32)
    unknown = ~np.isfinite(triangles).all(-1)
    if unknown.any():
        triangles[unknown] = _UNKNOWN
    return triangles


def wrist_of(body: Message) -> tuple[Message, np.ndarray]:
    """(orientation, covariance) of a HandPose or HandForecastStep; bags of before 0.1.0 have them in a
    PoseWithCovariance."""
    if hasattr(body, "wrist"):
        return body.wrist.pose.orientation, body.wrist.covariance
    return body.wrist_orientation, body.wrist_covariance


def check_side(side: int, seen: set[int]) -> None:
    """Raises `RejectedInput` (unknown_side, duplicate_side), otherwise notes the side as seen."""
    if side not in (0, 1):
        raise RejectedInput("unknown_side", f"side is {side}; 0 is left, 1 is right")
    if side in seen:
        raise RejectedInput("duplicate_side", f"two {SIDES[side]} hands in one message")
    seen.add(side)


def check_hand_frame(hand_frame: str, frame_id: str) -> None:
    """Raises `RejectedInput` (frame_mismatch) for a hand in another frame than its array."""
    if hand_frame not in ("", frame_id):
        raise RejectedInput("frame_mismatch", f"a hand is in {hand_frame[:40]!r}, the array in {frame_id[:40]!r}")
