"""Judge an arm's commands against its limits, from the commands and limits alone: nothing of `motion.py` is used."""

from dataclasses import dataclass

import numpy as np

_RELATIVE = 1e-3  # of a limit, for the rounding of differences
_WINDOW, _TOLERANCE = 0.05, 0.05  # s; of a limit


@dataclass(frozen=True)
class ArmAudit:
    """Commands that broke a limit, by kind, and the largest use of each (1 is exactly at it)."""

    commands: int
    position: int
    velocity: int
    acceleration: int
    jerk: int
    worst: tuple[float, float, float]

    @property
    def violations(self) -> int:
        """Of any kind."""
        return self.position + self.velocity + self.acceleration + self.jerk


def audit_arm(
    q: np.ndarray,
    period: float,
    lower: np.ndarray,
    upper: np.ndarray,
    velocity: np.ndarray,
    acceleration: np.ndarray,
    jerk: np.ndarray,
) -> ArmAudit:
    """Audit commands q (T, n) rad that were `period` s apart, by first, second and third differences. Where the true
    motion keeps a limit its differences do too, since they are means of it."""
    q = np.asarray(q, dtype=float)
    outside = ~((q >= lower - 1e-9) & (q <= upper + 1e-9))
    fast, hard, abrupt = (
        np.abs(np.diff(q, order, axis=0)) / period**order / limit
        for order, limit in ((1, velocity), (2, acceleration), (3, jerk))
    )
    return ArmAudit(
        len(q),
        int(outside.any(axis=1).sum()),
        _broken(fast),
        _broken(hard),
        _broken(abrupt),
        (float(fast.max(initial=0.0)), float(hard.max(initial=0.0)), float(abrupt.max(initial=0.0))),
    )


def count_broken_targets(
    stamp: np.ndarray, q: np.ndarray, period: float, lower: np.ndarray, upper: np.ndarray, velocity: np.ndarray
) -> tuple[int, float]:
    """Of an arm's recorded targets q (T, n) rad, `stamp` (T,) s: how many leave a joint's range or are further from one
    up to 50 ms before than full speed goes in that time and one `period` s, and the worst use of that speed.

    Targets are made for ticks that are `period` apart, and stamped when they go out, so two may be closer by stamp.
    Where stamps go back nothing is compared.
    """
    outside = ~((q >= lower - 1e-9) & (q <= upper + 1e-9)).all(axis=1)
    use = np.zeros(len(q))
    for back in range(1, round(_WINDOW / period) + 1):
        passed = stamp[back:] - stamp[:-back]
        moved = np.abs(q[back:] - q[:-back])
        share = (moved / (velocity * (np.maximum(passed, 0.0) + period)[:, None])).max(axis=1)
        use[back:] = np.maximum(use[back:], np.where((passed >= 0.0) & (passed <= _WINDOW), share, 0.0))
    return int((outside | (use > 1.0 + _TOLERANCE)).sum()), float(use.max(initial=0.0))


def _broken(use: np.ndarray) -> int:
    return int((use > 1.0 + _RELATIVE).any(axis=1).sum())
