"""Forecast errors and the metrics made of them, in metres.

ADE, FDE, MPJPE and MPJPE-F are those of EgoH4 and EggHand on Ego-Exo4D. Every metric is a weighted mean, so that the
metrics of batches add up to the metric of all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..hand.skeleton import WRIST

# 90 % quantile of the chi-squared distribution with 3 degrees of freedom: a position inside its 90 % ellipsoid.
CHI2_3_90 = 6.251389


@dataclass(frozen=True)
class Mean:
    """A mean in the making: `total` of weighted values and their `weight`. The mean of nothing is NaN."""

    total: float = 0.0
    weight: float = 0.0

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.weight + other.weight)

    @property
    def value(self) -> float:
        return self.total / self.weight if self.weight else float("nan")

    @classmethod
    def of(cls, values: np.ndarray, where: np.ndarray | bool = True) -> "Mean":
        """The plain mean of `values` at the places `where`."""
        where = np.broadcast_to(where, values.shape)
        return cls(float(values[where].sum()), float(where.sum()))


@dataclass(frozen=True)
class Errors:
    """Distances between forecast and actual keypoints of B samples over S frames, sides [left, right].

    absolute (B, S, 2, 21) m; relative (B, S, 2, 21) m, each keypoint relative to its own wrist (0 for the wrists);
    valid (B, S, 2, 21) bool: keypoints that count. A keypoint whose wrist does not count has no relative error.
    """

    absolute: np.ndarray
    relative: np.ndarray
    valid: np.ndarray

    @classmethod
    def between(cls, forecast: np.ndarray, actual: np.ndarray, valid: np.ndarray) -> "Errors":
        """Errors of keypoints (B, S, 2, 21, 3) m; `valid` broadcasts to (B, S, 2, 21)."""
        difference = forecast - actual
        relative = difference - difference[..., WRIST : WRIST + 1, :]
        valid = np.broadcast_to(valid, difference.shape[:-1])
        return cls(np.linalg.norm(difference, axis=-1), np.linalg.norm(relative, axis=-1), valid)

    def frames(self, selection: slice) -> "Errors":
        """The same for some of the frames."""
        return Errors(self.absolute[:, selection], self.relative[:, selection], self.valid[:, selection])

    def displacement(self) -> np.ndarray:
        """(B,) m: the mean over a frame's valid wrists, then over the frames that have one; NaN in samples without."""
        counted = self.valid[..., WRIST]
        hands = counted.sum(axis=-1)
        total = np.where(counted, self.absolute[..., WRIST], 0.0).sum(axis=-1)
        frames = hands > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total / np.maximum(hands, 1)).sum(axis=-1) / frames.sum(axis=-1)

    def articulated(self) -> np.ndarray:
        """(B, S, 2, 21) bool: keypoints with a relative error."""
        return self.valid & self.valid[..., WRIST : WRIST + 1]


_LAST = slice(-1, None)


def ade(errors: Errors) -> Mean:
    """Average displacement error: mean over valid wrists, then frames, then samples."""
    displacement = errors.displacement()
    return Mean.of(displacement, np.isfinite(displacement))


def fde(errors: Errors) -> Mean:
    """Final displacement error: `ade` of the last frame."""
    return ade(errors.frames(_LAST))


def mpjpe(errors: Errors) -> Mean:
    """Wrist-relative error pooled over all valid keypoints, including the wrists' own zeros, as published."""
    return Mean.of(errors.relative, errors.articulated())


def mpjpe_final(errors: Errors) -> Mean:
    """`mpjpe` of the last frame."""
    return mpjpe(errors.frames(_LAST))


def mpjpe_without_wrists(errors: Errors) -> Mean:
    """`mpjpe` without the wrists' own zeros."""
    counted = errors.articulated().copy()
    counted[..., WRIST] = False
    return Mean.of(errors.relative, counted)


def mpjpe_final_without_wrists(errors: Errors) -> Mean:
    """`mpjpe_without_wrists` of the last frame."""
    return mpjpe_without_wrists(errors.frames(_LAST))


METRICS: dict[str, Callable[[Errors], Mean]] = {
    "ADE": ade,
    "FDE": fde,
    "MPJPE": mpjpe,
    "MPJPE-F": mpjpe_final,
    "MPJPE without wrists": mpjpe_without_wrists,
    "MPJPE-F without wrists": mpjpe_final_without_wrists,
}


def wrist_coverage(forecast: np.ndarray, covariance: np.ndarray, actual: np.ndarray, valid: np.ndarray) -> Mean:
    """How often the true wrist lies in the 90 % ellipsoid of its forecast.

    forecast, actual (..., 3) m, covariance (..., 3, 3) m^2, valid (...). Places without a covariance do not count.
    """
    counted = valid & np.isfinite(covariance).all(axis=(-1, -2))
    difference = (actual - forecast)[counted]
    # A micrometre keeps a forecaster that is sure of itself, with a covariance of zero, from being a division by zero.
    sure = covariance[counted] + 1e-12 * np.eye(3)
    distance = np.einsum("ni,ni->n", difference, np.linalg.solve(sure, difference[..., None])[..., 0])
    return Mean(float((distance <= CHI2_3_90).sum()), float(len(distance)))
