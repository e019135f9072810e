"""Distrust of time stamps: each is checked here before anything uses what it came with.

Every refusal is a `RejectedInput` whose `reason` the node counts.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import RejectedInput


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
