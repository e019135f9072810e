"""Poses of cameras (PoseStamped, Odometry, TransformStamped) and the joints of other trackers (PoseArray) to arrays."""

from dataclasses import dataclass

import numpy as np

from ..errors import RejectedInput
from ..hand.conventions import CONVENTIONS, convention_for_count, to_canonical
from ..hand.skeleton import WRIST
from .basic import MAX_COORDINATE, Message, parse_header, parse_orientation, parse_position, points_array


@dataclass(frozen=True)
class StampedPose:
    """T_frame_body (4, 4) at `stamp` s: the array form of PoseStamped and Odometry."""

    stamp: float
    frame_id: str
    transform: np.ndarray


def parse_stamped_pose_msg(message: Message) -> StampedPose:
    """`StampedPose` of a PoseStamped or an Odometry message.

    Raises `RejectedInput`: empty_frame, bad_stamp, non_finite_pose, huge_value, non_unit_quaternion.
    """
    pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
    return StampedPose(*parse_header(message.header), _transform(pose.position, pose.orientation))


def parse_stamped_transform_msg(message: Message) -> StampedPose:
    """`StampedPose` of a TransformStamped, of its child frame; raises as `parse_stamped_pose_msg`."""
    transform = _transform(message.transform.translation, message.transform.rotation)
    return StampedPose(*parse_header(message.header), transform)


def _transform(position: Message, orientation: Message) -> np.ndarray:
    rotation = parse_orientation(orientation)
    if rotation is None:
        raise RejectedInput("non_unit_quaternion", "the orientation is all zeros")
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = parse_position(position)
    return transform


def parse_pose_array_msg(message: Message, convention: str = "auto") -> tuple[float, str, np.ndarray]:
    """A tracker's joints: (stamp s, frame_id, keypoints (H, 21, 3) m, NaN where the convention lacks one) of H hands.

    H is 0 for an empty array (no hand seen), 2 for twice the joints of the convention. "auto" tells 21 (MediaPipe), 25
    (WebXR) and 26 (OpenXR) joints apart by their number. Joint orientations are not used; an unseen joint may be NaN.
    Raises `RejectedInput`: empty_frame, bad_stamp, wrong_count, non_finite_keypoint, huge_value.
    """
    stamp, frame_id = parse_header(message.header)
    count = len(message.poses)
    if count == 0:
        return stamp, frame_id, np.zeros((0, 21, 3))
    convention, joints = _convention_of(count, convention)
    points = points_array([pose.position for pose in message.poses])
    if np.isinf(points).any():
        raise RejectedInput("non_finite_keypoint", "a joint is infinite; NaN says unseen")
    keypoints = to_canonical(points.reshape(-1, joints, 3), convention)
    if not np.isfinite(keypoints[:, WRIST]).all():
        raise RejectedInput("non_finite_keypoint", "the wrist joint is NaN")
    if np.nanmax(np.abs(keypoints)) > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    return stamp, frame_id, keypoints


def _convention_of(count: int, convention: str) -> tuple[str, int]:
    if convention == "auto":
        name = convention_for_count(count) or (convention_for_count(count // 2) if count % 2 == 0 else None)
        if name is None:
            raise RejectedInput("wrong_count", f"{count} joints; expected 21, 25 or 26 for each hand")
        return name, CONVENTIONS[name][0]
    joints = CONVENTIONS[convention][0]
    if count not in (joints, 2 * joints):
        raise RejectedInput("wrong_count", f"{count} joints; {convention} has {joints} for each hand")
    return convention, joints
