"""Distrust of inputs: time stamps and hand geometry are checked here before anything uses them.

Every refusal is a `RejectedInput` whose `reason` the node counts.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import RejectedInput
from ..hand.skeleton import WRIST


@dataclass(frozen=True)
class StampLimits:
    """How old, how far ahead, and how far backwards (s) a stamp may be. A step back beyond `jump` is a clock reset."""

    max_age: float = 1.0
    max_future: float = 0.1
    jump: float = 0.5


class StampGuard:
    """Judges the stamps of one input stream, all in s on one clock."""

    def __init__(self, limits: StampLimits = StampLimits()):
        self.limits = limits
        self.last: float | None = None

    def reset(self) -> None:
        """Forget the past: the next stamp may be any."""
        self.last = None

    def check(self, stamp: float, now: float) -> bool:
        """Accept a stamp; True when it shows that time restarted (a bag loop), so that the caller drops its history.

        Raises `RejectedInput`: zero_stamp, future_stamp, stale_stamp, out_of_order (also a repeated stamp).
        """
        if not np.isfinite(stamp) or stamp <= 0.0:
            raise RejectedInput("zero_stamp", f"stamp {stamp}; set header.stamp to the acquisition time")
        age = now - stamp
        if age < -self.limits.max_future:
            raise RejectedInput("future_stamp", f"{-age:.3f} s ahead; are the clocks synchronised?")
        if age > self.limits.max_age:
            raise RejectedInput("stale_stamp", f"{age:.3f} s old, at most {self.limits.max_age} s is used")
        restarted = self.last is not None and stamp < self.last - self.limits.jump
        if self.last is not None and not restarted and stamp <= self.last:
            raise RejectedInput("out_of_order", f"{self.last - stamp:.3f} s before the previous one")
        self.last = stamp
        return restarted


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


def check_pose(transform: np.ndarray, limits: HandLimits = HandLimits()) -> None:
    """Refuse a rigid transform (4, 4) with non-finite or huge entries (non_finite_pose, huge_value)."""
    if not np.isfinite(transform).all():
        raise RejectedInput("non_finite_pose", "a pose has NaN or infinite entries")
    if np.abs(transform[:3, 3]).max() > limits.max_distance:
        raise RejectedInput("huge_value", f"a pose is over {limits.max_distance:g} m from the origin; metres?")
