"""What the firmware of a hand does with position commands: it clips, slews, holds and relaxes, whoever commands it.

The simulated hand runs behind this, so that it is safe however its commander fails. All times are the caller's, in s.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ...errors import RejectedInput


class DriveState(Enum):
    """What the drive does: no command came yet, follow commands, stand still, or move slowly to the rest pose."""

    IDLE = "idle"
    TRACKING = "tracking"
    HOLDING = "holding"
    RELAXING = "relaxing"


@dataclass(frozen=True)
class DriveOptions:
    """`hold_after`, `relax_after`: s since the last command. `relax_speed`: fraction of the velocity limits."""

    hold_after: float = 0.2
    relax_after: float = 1.0
    relax_speed: float = 0.15


class HandDrive:
    """Position set-points (n,) rad of a hand, whatever comes in. Not thread-safe.

    The set-point never leaves [lower, upper] and never moves faster than `velocity` rad/s. Once commands stop it
    stands still; later it goes to `rest`. `counts` says how many commands were accepted and how many were clipped.
    """

    def __init__(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        velocity: np.ndarray,
        rest: np.ndarray,
        options: DriveOptions = DriveOptions(),
    ):
        self._lower, self._upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
        self._velocity, self._rest = np.asarray(velocity, dtype=float), np.asarray(rest, dtype=float)
        self.options = options
        self.setpoint = self._rest.copy()
        self.state = DriveState.IDLE
        self.counts: Counter[str] = Counter()
        self._target = self.setpoint
        self._commanded_at: float | None = None

    def command(self, q: np.ndarray, now: float) -> None:
        """Follow q (n,) rad from now on. Raises `RejectedInput` as `check` does."""
        q = self.check(q)
        target = np.clip(q, self._lower, self._upper)
        self.counts["accepted"] += 1
        self.counts["clipped"] += bool(np.abs(target - q).max(initial=0.0) > 1e-6)
        self._target, self._commanded_at = target, now

    def check(self, q: np.ndarray) -> np.ndarray:
        """q as an array (n,). Raises `RejectedInput`: wrong_count, non_finite."""
        q = np.asarray(q, dtype=float)
        if q.shape != self._rest.shape:
            raise RejectedInput("wrong_count", f"{q.size} positions given, the hand has {self._rest.size} joints")
        if not np.isfinite(q).all():
            raise RejectedInput("non_finite", "a commanded position is NaN or infinite")
        return q

    def advance(self, now: float, dt: float) -> np.ndarray:
        """The set-point (n,) at time `now`, dt s after the last one."""
        self.state = self._state(now)
        if self.state is DriveState.TRACKING:
            self._slew(self._target, dt, 1.0)
        elif self.state is DriveState.RELAXING:
            self._slew(self._rest, dt, self.options.relax_speed)
        return self.setpoint

    def rebase(self, now: float) -> None:
        """The clock jumped to `now`: hold, and count the time to relaxing from here."""
        if self._commanded_at is not None:
            self._commanded_at = now - self.options.hold_after
            self._target = self.setpoint

    def _state(self, now: float) -> DriveState:
        if self._commanded_at is None:
            return DriveState.IDLE
        age = now - self._commanded_at
        if age < self.options.hold_after:
            return DriveState.TRACKING
        return DriveState.HOLDING if age < self.options.relax_after else DriveState.RELAXING

    def _slew(self, target: np.ndarray, dt: float, speed: float) -> None:
        most = self._velocity * (speed * dt)
        self.setpoint = self.setpoint + np.clip(target - self.setpoint, -most, most)
