"""Judge a recorded command stream against a hand's limits, by the commands and their stamps alone."""

from dataclasses import dataclass

import numpy as np

from ..hands.model import HandModel

# Stamps are whole nanoseconds, and float64 holds seconds since 1970 to a quarter of a microsecond.
_STAMP_ERROR = 1e-9  # s
_EPS = 2.3e-16
_RELATIVE = 1e-3  # of a limit


@dataclass(frozen=True)
class LimitAudit:
    """Commands that broke a limit, by kind, and the worst use of each limit (1 is exactly at it)."""

    commands: int
    position: int
    velocity: int
    acceleration: int
    worst_velocity: float
    worst_acceleration: float

    @property
    def violations(self) -> int:
        return self.position + self.velocity + self.acceleration


def audit_limits(hand: HandModel, stamp: np.ndarray, q: np.ndarray, position_error: float = 1e-9) -> LimitAudit:
    """Audit commands q (T, n) rad sent at `stamp` (T,) s: position, first and second differences.

    `position_error` rad is how exactly q is known (1e-9 for a float64 wire). A stamp that does not increase starts a
    new stretch, over which no differences are taken. NaN counts as a broken position limit.
    """
    stamp, q = np.asarray(stamp, dtype=float), np.asarray(q, dtype=float).reshape(len(stamp), hand.n)
    inside = (q >= hand.lower - position_error) & (q <= hand.upper + position_error)
    broken = int((~inside).any(axis=1).sum())
    cuts = np.flatnonzero(np.diff(stamp) <= 0) + 1
    velocity, acceleration = [np.empty((0, hand.n))], [np.empty((0, hand.n))]
    for t, x in zip(np.split(stamp, cuts), np.split(q, cuts)):
        use_v, use_a = _use_of_limits(hand, t, x, position_error)
        velocity.append(use_v)
        acceleration.append(use_a)
    use_v, use_a = np.concatenate(velocity), np.concatenate(acceleration)
    return LimitAudit(
        commands=len(stamp),
        position=broken,
        velocity=int((use_v > 1.0).any(axis=1).sum()),
        acceleration=int((use_a > 1.0).any(axis=1).sum()),
        worst_velocity=float(use_v.max(initial=0.0)),
        worst_acceleration=float(use_a.max(initial=0.0)),
    )


def _use_of_limits(
    hand: HandModel, t: np.ndarray, x: np.ndarray, position_error: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the velocity (T-1, n) and acceleration (T-2, n) limits, what may be measurement error taken off."""
    if len(t) < 2:
        return np.empty((0, hand.n)), np.empty((0, hand.n))
    dt = np.diff(t)[:, None]
    v = np.diff(x, axis=0) / dt
    stamp_error = _STAMP_ERROR + 2 * _EPS * float(np.abs(t).max())
    v_error = 2 * position_error / dt + np.abs(v) * (2 * stamp_error / dt) + _RELATIVE * hand.velocity_limit
    use_v = np.maximum(np.abs(v) - v_error, 0.0) / hand.velocity_limit
    span = (dt[1:] + dt[:-1]) / 2
    a_error = (
        v_error[1:] + v_error[:-1] - 2 * _RELATIVE * hand.velocity_limit
    ) / span + _RELATIVE * hand.acceleration_limit
    use_a = np.maximum(np.abs(np.diff(v, axis=0)) / span - a_error, 0.0) / hand.acceleration_limit
    return use_v, use_a
