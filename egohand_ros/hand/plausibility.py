"""Distrust of hands: geometry is checked here before anything uses it.

Every refusal is a `RejectedInput` whose `reason` the node counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import RejectedInput
from .skeleton import WRIST


@dataclass(frozen=True)
class HandLimits:
    """What a human hand can be, m: reach from wrist to any keypoint, and distance from the frame's origin."""

    max_extent: float = 0.4
    min_extent: float = 0.02
    max_distance: float = 1.0e4


def check_hand(keypoints: np.ndarray, valid: np.ndarray, limits: HandLimits = HandLimits()) -> None:
    """Refuse one hand, keypoints (21, 3) m and valid (21,), that cannot be one.

    Raises `RejectedInput`: non_finite_keypoint, wrist_missing, huge_value, implausible_hand.
    """
    used = keypoints[valid]
    if not np.isfinite(used).all():
        raise RejectedInput("non_finite_keypoint", "a keypoint marked valid is NaN or infinite")
    if not valid[WRIST]:
        raise RejectedInput("wrist_missing", "the wrist keypoint has to be valid")
    if np.abs(used).max() > limits.max_distance:
        raise RejectedInput("huge_value", f"a keypoint is over {limits.max_distance:g} m from the origin; metres?")
    extent = np.linalg.norm(used - keypoints[WRIST], axis=-1).max()
    if extent > limits.max_extent or (len(used) > 1 and extent < limits.min_extent):
        raise RejectedInput("implausible_hand", f"reaches {extent:.3g} m from its wrist; are the units metres?")


def plausible_hands(keypoints: np.ndarray, valid: np.ndarray, reject: Callable[[RejectedInput], None]) -> np.ndarray:
    """Which sides (2,) of keypoints (2, 21, 3) m, valid (2, 21), to use; a side that is not there counts as usable.

    What is wrong with one hand goes to `reject`. Raises the reason when a hand was given and none can be used.
    """
    keep, refused = np.ones(2, dtype=bool), None
    for side in range(2):
        if not valid[side].any():
            continue
        try:
            check_hand(keypoints[side], valid[side])
        except RejectedInput as error:
            keep[side] = False
            if refused is not None:
                reject(refused)
            refused = error
    if refused is not None:
        if not valid[keep].any():
            raise refused
        reject(refused)
    return keep


def check_pose(transform: np.ndarray, limits: HandLimits = HandLimits()) -> None:
    """Refuse a rigid transform (4, 4) with non-finite or huge entries (non_finite_pose, huge_value)."""
    if not np.isfinite(transform).all():
        raise RejectedInput("non_finite_pose", "a pose has NaN or infinite entries")
    if np.abs(transform[:3, 3]).max() > limits.max_distance:
        raise RejectedInput("huge_value", f"a pose is over {limits.max_distance:g} m from the origin; metres?")
