"""Messages of this package from arrays (`build_…_msg`) and to arrays (`parse_…_msg`). Pure functions; no node needed.

Input is distrusted: a `parse_` function raises `RejectedInput` for anything odd. What other modules need is found here;
forecasts are in `messages_forecast.py`, the small parts in `messages_basic.py`, standard messages (Path, MarkerArray,
…) in `messages_standard.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseWithCovariance
from std_msgs.msg import Header

from ...errors import RejectedInput
from ...hand.skeleton import KEYPOINT_NAMES, NUM_KEYPOINTS, WRIST
from ...msg import ForecasterInfo, HandPose, HandPoseArray, Latency
from .basic import (
    MAX_COORDINATE,
    check_side,
    covariance_or_unknown,
    duration_msg,
    header_msg,
    parse_covariance,
    parse_header,
    parse_orientation,
    parse_position,
    parse_transform,
    points_msg,
    pose_msg,
    quaternions_or_zero,
    seconds,
    time_msg,
)
from .forecast import (
    Futures,
    HandFuture,
    build_hand_forecast_array_msg,
    futures_from_forecast,
    parse_hand_forecast_array_msg,
)

if TYPE_CHECKING:  # nodes that run no model start without torch
    from ...forecast.common.protocol import ForecasterSpec

__all__ = [
    "EXTRAPOLATED", "LOST", "MAX_COORDINATE", "MEASURED",
    "Futures", "HandFuture", "Hands",
    "build_forecaster_info_msg", "build_hand_forecast_array_msg", "build_hand_pose_array_msg", "build_latency_msg",
    "duration_msg", "futures_from_forecast", "hands", "header_msg", "parse_hand_forecast_array_msg",
    "parse_hand_pose_array_msg", "parse_header", "parse_orientation", "parse_position", "parse_transform", "pose_msg",
    "quaternions_or_zero", "seconds", "time_msg",
]  # fmt: skip

MEASURED, EXTRAPOLATED, LOST = HandPose.MEASURED, HandPose.EXTRAPOLATED, HandPose.LOST


@dataclass(frozen=True)
class Hands:
    """Both hands at one time, sides [left, right]; the array form of HandPoseArray. Defaults are made by `hands()`.

    keypoints (2, 21, 3) m, NaN where invalid; valid (2, 21); wrist_rotation (2, 3, 3) R_frame_palm, NaN where unknown;
    wrist_covariance (2, 6, 6), NaN where unknown; confidence (2,) and keypoint_confidence (2, 21), NaN where not given;
    state (2,) MEASURED, EXTRAPOLATED or LOST (also for a hand that is not there); track_id (2,), 0 for none.
    """

    stamp: float
    frame_id: str
    keypoints: np.ndarray
    valid: np.ndarray
    wrist_rotation: np.ndarray
    wrist_covariance: np.ndarray
    confidence: np.ndarray
    keypoint_confidence: np.ndarray
    state: np.ndarray
    track_id: np.ndarray


def hands(stamp: float, frame_id: str, keypoints: np.ndarray, **known: np.ndarray) -> Hands:
    """`Hands` from keypoints (2, 21, 3), NaN where invalid, and whatever else is known; the rest is filled as
    unknown.
    """
    keypoints = np.asarray(keypoints, dtype=np.float64)
    valid = np.isfinite(keypoints).all(-1)
    unknown = dict(
        valid=valid,
        wrist_rotation=np.full((2, 3, 3), np.nan),
        wrist_covariance=np.full((2, 6, 6), np.nan),
        confidence=np.full(2, np.nan),
        keypoint_confidence=np.full((2, NUM_KEYPOINTS), np.nan),
        state=np.where(valid[:, WRIST], MEASURED, LOST),
        track_id=np.zeros(2, dtype=np.int64),
    )
    return Hands(stamp, frame_id, keypoints, **{**unknown, **known})


def build_hand_pose_array_msg(hands: Hands) -> HandPoseArray:
    """HandPoseArray of the hands that are not LOST."""
    header = header_msg(hands.stamp, hands.frame_id)
    quaternions = quaternions_or_zero(hands.wrist_rotation)
    present = [side for side in range(2) if hands.state[side] != LOST]
    return HandPoseArray(
        header=header, hands=[_build_hand_pose_msg(hands, side, header, quaternions[side]) for side in present]
    )


def _build_hand_pose_msg(hands: Hands, side: int, header: Header, quaternion: np.ndarray) -> HandPose:
    confidence = hands.keypoint_confidence[side]
    wrist = PoseWithCovariance(
        pose=pose_msg(hands.keypoints[side, WRIST], quaternion),
        covariance=covariance_or_unknown(hands.wrist_covariance[side]),
    )
    return HandPose(
        header=header,
        side=side,
        track_id=int(hands.track_id[side]),
        confidence=-1.0 if np.isnan(hands.confidence[side]) else float(hands.confidence[side]),
        tracking_state=int(hands.state[side]),
        wrist=wrist,
        keypoints=points_msg(hands.keypoints[side]),
        valid=hands.valid[side].tolist(),
        keypoint_confidence=np.where(np.isnan(confidence), -1.0, confidence).astype(np.float32),
    )


def parse_hand_pose_array_msg(message: HandPoseArray) -> Hands:
    """`Hands` of a HandPoseArray; a hand that is not in it, or is LOST, has state LOST and nothing valid.

    Raises `RejectedInput`: empty_frame, bad_stamp, unknown_side, duplicate_side, frame_mismatch, stamp_mismatch,
    unknown_state, bad_confidence, bad_covariance, non_finite_keypoint, non_finite_pose, non_unit_quaternion,
    huge_value, wrist_mismatch.
    """
    stamp, frame_id = parse_header(message.header)
    out = hands(stamp, frame_id, np.full((2, NUM_KEYPOINTS, 3), np.nan))
    seen: set[int] = set()
    for hand in message.hands:
        check_side(hand.side, seen)
        if hand.header.frame_id not in ("", frame_id):
            raise RejectedInput(
                "frame_mismatch", f"a hand is in {hand.header.frame_id[:40]!r}, the array in {frame_id[:40]!r}"
            )
        if hand.header.stamp != message.header.stamp and seconds(hand.header.stamp) != 0.0:
            raise RejectedInput("stamp_mismatch", "a hand has another stamp than its array")
        if hand.tracking_state not in (MEASURED, EXTRAPOLATED, LOST):
            raise RejectedInput("unknown_state", f"tracking_state is {hand.tracking_state}")
        if hand.tracking_state != LOST:
            _parse_hand(hand, out)
    return out


def _parse_hand(hand: HandPose, out: Hands) -> None:
    side = hand.side
    valid = np.array(hand.valid, dtype=bool)
    keypoints = np.array([(p.x, p.y, p.z) for p in hand.keypoints])
    if not np.isfinite(keypoints[valid]).all():
        raise RejectedInput("non_finite_keypoint", "a keypoint marked valid is NaN or infinite")
    if valid.any() and np.abs(keypoints[valid]).max() > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    rotation = parse_orientation(hand.wrist.pose.orientation)
    out.keypoints[side] = np.where(valid[:, None], keypoints, np.nan)
    out.valid[side] = valid
    if rotation is not None:
        out.wrist_rotation[side] = rotation
    out.wrist_covariance[side] = parse_covariance(hand.wrist.covariance)
    out.confidence[side] = _parse_confidence(np.float64(hand.confidence))
    out.keypoint_confidence[side] = _parse_confidence(np.asarray(hand.keypoint_confidence, dtype=np.float64))
    out.state[side] = hand.tracking_state
    out.track_id[side] = hand.track_id


def _parse_confidence(values: np.ndarray) -> np.ndarray:
    """NaN for -1 (not given). Float32 sources may pass 1 by rounding."""
    given = values != -1.0
    if not np.all((values[given] >= 0.0) & (values[given] <= 1.0 + 1e-6)):
        raise RejectedInput("bad_confidence", "a confidence is neither in 0 to 1 nor -1")
    return np.where(given, values, np.nan)


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
