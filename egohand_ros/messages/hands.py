"""HandPoseArray to arrays (`Hands`)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from ..errors import RejectedInput
from ..hand.skeleton import NUM_KEYPOINTS, WRIST
from .basic import (
    MAX_COORDINATE,
    Message,
    check_hand_frame,
    check_side,
    covariance_matrices,
    parse_header,
    parse_orientation,
    points_array,
    seconds,
    wrist_of,
)

MEASURED, EXTRAPOLATED, LOST = 0, 1, 2  # HandPose.tracking_state


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

    def measured(self) -> Hands:
        """The same with nothing valid of a hand that was not MEASURED: what a tracker made up is no observation."""
        return replace(self, valid=self.valid & (self.state == MEASURED)[:, None])

    def with_side(self, side: int, other: Hands) -> Hands:
        """The same with one side from another observation of the same time."""

        def taken(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
            mine = mine.copy()
            mine[side] = theirs[side]
            return mine

        arrays = [field.name for field in fields(self)][2:]  # after stamp and frame_id
        return Hands(self.stamp, self.frame_id, *(taken(getattr(self, name), getattr(other, name)) for name in arrays))


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


def hands_of_sides(stamp: float, frame_id: str, keypoints: dict[int, np.ndarray]) -> Hands:
    """`Hands` from the keypoints (21, 3) m of the sides that were seen, NaN where a keypoint was not."""
    both = np.full((2, NUM_KEYPOINTS, 3), np.nan)
    for side, hand in keypoints.items():
        both[side] = hand
    return hands(stamp, frame_id, both)


def parse_hand_pose_array_msg(message: Message) -> Hands:
    """`Hands` of a HandPoseArray; a hand that is not in it, or is LOST, has state LOST and nothing valid.

    Raises `RejectedInput`: empty_frame, bad_stamp, unknown_side, duplicate_side, frame_mismatch, stamp_mismatch,
    unknown_state, bad_confidence, bad_covariance, non_finite_keypoint, non_finite_pose, non_unit_quaternion,
    huge_value.
    """
    stamp, frame_id = parse_header(message.header)
    out = hands(stamp, frame_id, np.full((2, NUM_KEYPOINTS, 3), np.nan))
    seen: set[int] = set()
    for hand in message.hands:
        check_side(hand.side, seen)
        check_hand_frame(hand.header.frame_id, frame_id)
        if hand.header.stamp != message.header.stamp and seconds(hand.header.stamp) != 0.0:
            raise RejectedInput("stamp_mismatch", "a hand has another stamp than its array")
        if hand.tracking_state not in (MEASURED, EXTRAPOLATED, LOST):
            raise RejectedInput("unknown_state", f"tracking_state is {hand.tracking_state}")
        out.track_id[hand.side] = hand.track_id
        if hand.tracking_state != LOST:
            _parse_hand(hand, out)
    return out


def _parse_hand(hand: Message, out: Hands) -> None:
    side = hand.side
    valid = np.array(hand.valid, dtype=bool)
    keypoints = points_array(hand.keypoints)
    if not np.isfinite(keypoints[valid]).all():
        raise RejectedInput("non_finite_keypoint", "a keypoint marked valid is NaN or infinite")
    if valid.any() and np.abs(keypoints[valid]).max() > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    orientation, covariance = wrist_of(hand)
    rotation = parse_orientation(orientation)
    out.keypoints[side] = np.where(valid[:, None], keypoints, np.nan)
    out.valid[side] = valid
    if rotation is not None:
        out.wrist_rotation[side] = rotation
    out.wrist_covariance[side] = covariance_matrices(covariance)
    out.confidence[side] = _parse_confidence(np.asarray(hand.confidence, dtype=np.float64))
    out.keypoint_confidence[side] = _parse_confidence(np.asarray(hand.keypoint_confidence, dtype=np.float64))
    out.state[side] = hand.tracking_state


def _parse_confidence(values: np.ndarray) -> np.ndarray:
    """NaN for -1 (not given). Float32 sources may pass 1 by rounding."""
    given = values != -1.0
    if not np.all((values[given] >= 0.0) & (values[given] <= 1.0 + 1e-6)):
        raise RejectedInput("bad_confidence", "a confidence is neither in 0 to 1 nor -1")
    return np.where(given, values, np.nan)
