"""HandPoseArray, ForecasterInfo and Latency from arrays and plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from ...hand.skeleton import KEYPOINT_NAMES
from ...messages.basic import covariance_triangles, quaternions_or_zero
from ...messages.hands import LOST, Hands
from ...msg import ForecasterInfo, HandPose, HandPoseArray, Latency
from .basic import header_msg, points32_msg, quaternion_msg

if TYPE_CHECKING:  # nodes that run no model start without torch
    from ...forecast.common.protocol import ForecasterSpec


def build_hand_pose_array_msg(hands: Hands, stamp: Time | None = None) -> HandPoseArray:
    """HandPoseArray of the hands that are not LOST; `stamp` is the exact one where it is at hand."""
    header = header_msg(hands.stamp if stamp is None else stamp, hands.frame_id)
    quaternions = quaternions_or_zero(hands.wrist_rotation)
    present = [side for side in range(2) if hands.state[side] != LOST]
    return HandPoseArray(
        header=header, hands=[_build_hand_pose_msg(hands, side, header, quaternions[side]) for side in present]
    )


def _build_hand_pose_msg(hands: Hands, side: int, header: Header, quaternion: np.ndarray) -> HandPose:
    confidence = hands.keypoint_confidence[side]
    return HandPose(
        header=header,
        side=side,
        track_id=int(hands.track_id[side]),
        confidence=-1.0 if np.isnan(hands.confidence[side]) else float(hands.confidence[side]),
        tracking_state=int(hands.state[side]),
        wrist_orientation=quaternion_msg(quaternion),
        wrist_covariance=covariance_triangles(hands.wrist_covariance[side]),
        keypoints=points32_msg(hands.keypoints[side]),
        valid=hands.valid[side].tolist(),
        keypoint_confidence=np.where(np.isnan(confidence), -1.0, confidence).astype(np.float32),
    )


def build_forecaster_info_msg(spec: ForecasterSpec, device: str, stamp: float | Time) -> ForecasterInfo:
    """ForecasterInfo of what runs now and where."""
    return ForecasterInfo(
        header=header_msg(stamp, ""),
        preset=spec.name,
        checkpoint_hash=spec.checkpoint_hash,
        device=device,
        keypoint_names=list(KEYPOINT_NAMES),
        window_length=spec.window_length,
        step=float(spec.step),
        horizon=float(spec.horizon),
        max_hypotheses=spec.max_hypotheses,
        gives=list(spec.gives),
        needs=[need.reason for need in spec.needs],
        covariance_calibrated=spec.calibrated,
    )


def build_latency_msg(stamp: float | Time, stages: dict[str, float], useful_horizon: float = float("nan")) -> Latency:
    """Latency of one processed message: stages in order, s."""
    return Latency(
        header=header_msg(stamp, ""),
        stages=list(stages),
        durations=list(stages.values()),
        useful_horizon=useful_horizon,
    )
