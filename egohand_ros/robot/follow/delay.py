"""How far one motion lags behind another: cross-correlation of sampled signals, to a fraction of a sample.

Used to identify a robot's actuation delay (commanded against measured joints) and to judge following (human against
robot motion).
"""

from dataclasses import dataclass

import numpy as np

from ...errors import UserError

GRID = 0.005  # s, on which signals are compared
_STILL = 1e-3  # rad or m (std) below which a signal says nothing of delays
_LEAST_OVERLAP = 2.0  # s


@dataclass(frozen=True, eq=False)
class Lag:
    """Of C signals together: `seconds` by which the second lags behind the first, NaN where it cannot be told;
    `correlation` (-1 to 1) at that lag; `each` (C,) s and `each_correlation` (C,) of the signals one by one."""

    seconds: float
    correlation: float
    each: np.ndarray
    each_correlation: np.ndarray


def cross_correlation_lag(first: np.ndarray, second: np.ndarray, step: float, longest: float = 0.6) -> Lag:
    """The lag of `second` behind `first`, both (T, C) at the same times, `step` s apart; between -longest and longest.

    For every shift the correlation coefficient of the overlapping parts; its maximum is refined by a parabola through
    the neighbours. A signal that hardly moves has no lag of its own and does not count.
    """
    first, second = np.atleast_2d(np.asarray(first, float).T).T, np.atleast_2d(np.asarray(second, float).T).T
    most = round(longest / step)
    if len(first) < most + round(_LEAST_OVERLAP / step):
        raise UserError(
            f"the motion is {len(first) * step:.1f} s long; {longest + _LEAST_OVERLAP:.1f} s are needed to tell its lag"
        )
    shifts = np.arange(-most, most + 1)
    moves = (first.std(0) > _STILL) & (second.std(0) > _STILL)
    products = np.stack([_moments(first, second, shift) for shift in shifts])  # (shifts, 3, C)
    each = np.full(first.shape[1], np.nan)
    each_correlation = np.full(first.shape[1], np.nan)
    for i in np.flatnonzero(moves):
        each[i], each_correlation[i] = _peak(products[:, :, i], step, most)
    if not moves.any():
        return Lag(np.nan, np.nan, each, each_correlation)
    return Lag(*_peak(products[:, :, moves].sum(-1), step, most), each, each_correlation)


def _moments(first: np.ndarray, second: np.ndarray, shift: int) -> np.ndarray:
    """Covariance and both variances (3, C) of first(t) with second(t + shift), over their overlap."""
    count = len(first) - abs(shift)
    a, b = first[max(0, -shift) :][:count], second[max(0, shift) :][:count]
    a, b = a - a.mean(0), b - b.mean(0)
    return np.stack([(a * b).mean(0), (a * a).mean(0), (b * b).mean(0)])


def _peak(moments: np.ndarray, step: float, middle: int) -> tuple[float, float]:
    """Lag (s) and correlation at the maximum over shifts (shifts, 3); NaN for a maximum at an end of the range."""
    r = moments[:, 0] / np.sqrt(np.maximum(moments[:, 1] * moments[:, 2], 1e-300))
    best = int(np.argmax(r))
    if best in (0, len(r) - 1):
        return float("nan"), float(r[best])
    bend = r[best - 1] - 2.0 * r[best] + r[best + 1]
    offset = 0.5 * (r[best - 1] - r[best + 1]) / bend if bend < 0.0 else 0.0
    return float((best - middle + offset) * step), float(r[best])
