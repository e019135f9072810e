"""What the naive forecasters share: a window as arrays, the split of a hand into wrist and articulation, and the
assembly of a `Forecast`. NumPy inside, because on tensors this small it is several times faster than torch.

Articulation is the wrist-relative hand seen from the palm: keypoint = wrist + R_frame_palm @ articulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...geometry.rotations import exp_rotation, log_rotation  # noqa: F401  (for the forecasters beside)
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.window import Window
from .protocol import Forecast, ForecasterSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Observed:
    """A window as arrays, sides [left, right]. B windows, T observations.

    keypoints (B, T, 2, 21, 3) m, 0 where not `valid` (B, T, 2, 21)
    rotation (B, T, 2, 3, 3) R_frame_palm, filled from the nearest observation (earlier first) where not
    `rotation_valid` (B, T, 2); the identity for a hand whose rotation was never seen
    """

    keypoints: np.ndarray
    valid: np.ndarray
    rotation: np.ndarray
    rotation_valid: np.ndarray

    @classmethod
    def from_window(cls, window: Window) -> Observed:
        valid = window.valid.cpu().numpy()
        keypoints = window.keypoints.cpu().numpy().astype(np.float64, copy=False)
        rotation = window.wrist_rotation.cpu().numpy().astype(np.float64, copy=False)
        rotation_valid = window.rotation_valid.cpu().numpy()
        if not valid.all():
            keypoints = np.where(valid[..., None], keypoints, 0.0)
        if not rotation_valid.all():
            rotation = fill_rotation(rotation, rotation_valid)
        return cls(keypoints, valid, rotation, rotation_valid)

    @property
    def wrist(self) -> np.ndarray:
        """(B, T, 2, 3) m."""
        return self.keypoints[..., WRIST, :]

    @property
    def wrist_valid(self) -> np.ndarray:
        """(B, T, 2) bool."""
        return self.valid[..., WRIST]

    def articulation(self) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (B, T, 2, 21, 3) m in the palm frame, and where they are known (B, T, 2, 21)."""
        relative = self.keypoints - self.keypoints[..., WRIST : WRIST + 1, :]
        return relative @ self.rotation, self.valid & self.valid[..., WRIST : WRIST + 1]

    def forecastable(self, minimum_observations: int) -> np.ndarray:
        """(B, 2, 21) bool: keypoints seen at all, of hands whose wrist was seen often enough."""
        enough = self.wrist_valid.sum(axis=1) >= minimum_observations
        return self.valid.any(axis=1) & enough[..., None]


def fill_rotation(rotation: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Rotations (B, T, 2, 3, 3) with gaps filled from the last valid one before, else the first valid one after."""
    time = np.arange(valid.shape[1])[None, :, None]
    before = np.maximum.accumulate(np.where(valid, time, -1), axis=1)
    first = np.argmax(valid, axis=1)[:, None]
    index = np.where(before >= 0, before, first)
    filled = np.take_along_axis(rotation, index[..., None, None], axis=1)
    never = ~valid.any(axis=1)
    return np.where(never[:, None, :, None, None], np.eye(3), filled)


def last_index(valid: np.ndarray) -> np.ndarray:
    """Index along axis 1 of the last True of (B, T, ...): (B, ...); T - 1 where there is none."""
    return valid.shape[1] - 1 - np.argmax(valid[:, ::-1], axis=1)


def take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """values (B, T, ..., D) at `index` (B, ...) of axis 1: (B, ..., D)."""
    return np.take_along_axis(values, index[:, None, ..., None], axis=1)[:, 0]


def last_and_velocity(
    values: np.ndarray, valid: np.ndarray, step: float, span: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last valid value, its velocity and its age.

    values (B, T, ..., D), valid (B, T, ...). The velocity is the difference quotient between the last valid value and
    the latest valid one at least `span` observations before it (the earliest one there is, if none is that old);
    zero with fewer than two. Returns (B, ..., D), (B, ..., D) per s, and the age (B, ...) in s.
    """
    length = valid.shape[1]
    last = last_index(valid)
    time = np.arange(length).reshape(1, length, *(1,) * (valid.ndim - 2))
    old_enough = valid & (time <= last[:, None] - span)
    earlier = np.where(old_enough.any(axis=1), last_index(old_enough), np.argmax(valid, axis=1))
    newest = take(values, last)
    elapsed = (last - earlier) * step
    velocity = (newest - take(values, earlier)) / np.maximum(elapsed, step)[..., None]
    age = np.where(valid.any(axis=1), (length - 1 - last) * step, 0.0)
    return newest, velocity, age


def damped_displacement(elapsed: np.ndarray, time_constant: float) -> np.ndarray:
    """Seconds of travel at the initial speed after `elapsed` s, when speed decays as exp(-t / time_constant)."""
    return time_constant * -np.expm1(-elapsed / time_constant)


def pose_hand(wrist: np.ndarray, rotation: np.ndarray, articulation: np.ndarray) -> np.ndarray:
    """Keypoints (..., 21, 3) m from a wrist (..., 3), R_frame_palm (..., 3, 3) and articulation (..., 21, 3)."""
    return wrist[..., None, :] + articulation @ np.swapaxes(rotation, -1, -2)


def assemble(
    spec: ForecasterSpec,
    window: Window,
    observed: Observed,
    keypoints: np.ndarray,
    rotation: np.ndarray,
    keypoint_std: np.ndarray | None = None,
    wrist_covariance: np.ndarray | None = None,
) -> Forecast:
    """A `Forecast` of equally probable hypotheses; leading axes of the arrays broadcast to (B, K, S).

    keypoints (B, K, S, 2, 21, 3), rotation (B, K, S, 2, 3, 3), keypoint_std (B, K, S, 2, 21), wrist_covariance
    (B, K, S, 2, 6, 6). Keypoints that are not forecast are zero and have no standard deviation.
    """
    import torch  # here, so that asking a naive forecaster for its spec does not take seconds

    valid = observed.forecastable(spec.minimum_observations)
    lead = (window.batch, keypoints.shape[1], spec.horizon_steps, 2)
    shown = valid[:, None, None]
    keypoints = np.where(shown[..., None], keypoints, 0.0)
    std = np.where(shown, np.nan if keypoint_std is None else keypoint_std, np.nan)
    covariance = np.where(
        shown[..., WRIST, None, None], np.nan if wrist_covariance is None else wrist_covariance, np.nan
    )

    def tensor(array: np.ndarray, *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.require(np.broadcast_to(array, (*lead, *shape)), requirements=["C", "W"]))

    return Forecast(
        stamp=window.stamp.cpu(),
        step_times=spec.step_times(),
        keypoints=tensor(keypoints, NUM_KEYPOINTS, 3),
        wrist_rotation=tensor(rotation, 3, 3),
        keypoint_std=tensor(std, NUM_KEYPOINTS),
        wrist_covariance=tensor(covariance, 6, 6),
        probability=torch.full(lead[:2], 1.0 / lead[1], dtype=torch.float64),
        valid=torch.from_numpy(valid),
        gives=spec.gives,
    )


def nothing(spec: ForecasterSpec, window: Window) -> Forecast:
    """The forecast of neither hand: what there is where a window lacks what the forecaster needs."""
    unseen = Observed(
        np.zeros((window.batch, 1, 2, NUM_KEYPOINTS, 3)),
        np.zeros((window.batch, 1, 2, NUM_KEYPOINTS), dtype=bool),
        np.broadcast_to(np.eye(3), (window.batch, 1, 2, 3, 3)),
        np.zeros((window.batch, 1, 2), dtype=bool),
    )
    return assemble(spec, window, unseen, np.zeros((1, 1, 1, 1, 1, 1)), np.eye(3)[None, None, None, None])
