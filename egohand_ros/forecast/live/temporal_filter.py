"""Temporal Orthogonal Filtering: every overlapping forecast of one moment averaged, rotations projected back to SO(3).

MEgoHand (section "Decoding Strategy"): the mean rotation over all chunks that predicted a time step is replaced by the
closest rotation, argmin_R |R - mean|_F = U V^T. Training-free. Positions are plain means; the fingers are averaged in
the palm frame, because averaging them in a fixed frame would shrink a hand whose forecasts disagree on its orientation.
"""

import numpy as np

from ...geometry.rotations import nearest_rotation, slerp
from ...hand.skeleton import NUM_KEYPOINTS


class TemporalOrthogonalFilter:
    """Streaming aggregation of one hand's forecasts on a fixed time grid.

    Adding a forecast costs O(steps) however many overlap: sums are kept for each grid time in a ring. `recency` (s)
    weights a forecast exp(stamp / recency), so that newer ones count more; None weights all alike, as published.
    """

    def __init__(self, horizon: float, grid: float = 0.02, recency: float | None = None):
        if not (0.0 < grid <= horizon):
            raise ValueError(f"grid is {grid} s; expected above 0 and at most the horizon of {horizon} s")
        self.horizon, self.grid, self.recency = horizon, grid, recency
        # Twice the horizon, so that a slot is never asked for after it was taken over by a later time.
        self._size = 2 * int(np.ceil(horizon / grid)) + 2
        self.reset()

    def reset(self) -> None:
        """Forget every forecast."""
        self._slot_time = np.full(self._size, -1, dtype=np.int64)
        self._weight = np.zeros(self._size)
        self._wrist = np.zeros((self._size, 3))
        self._rotation = np.zeros((self._size, 3, 3))
        self._fingers = np.zeros((self._size, NUM_KEYPOINTS, 3))
        self._newest = -np.inf

    def add(self, stamp: float, times: np.ndarray, keypoints: np.ndarray, rotation: np.ndarray) -> None:
        """One forecast: made at `stamp` s, for absolute times (S,) s, keypoints (S, 21, 3) m, R_frame_palm (S, 3, 3).

        A stamp far enough back to be a clock reset (over one horizon) starts anew; a merely late one is added like any
        other.
        """
        if stamp < self._newest - self.horizon:
            self.reset()
        weight = self._weight_of(stamp)
        self._newest = max(self._newest, stamp)
        first, last = int(np.ceil(times[0] / self.grid - 1e-9)), int(np.floor(times[-1] / self.grid + 1e-9))
        index = np.arange(first, min(last, first + self._size - 1) + 1)
        if not len(index):
            return
        wrist, turn, fingers = _at(index * self.grid, times, keypoints, rotation)
        slot = index % self._size
        stale = slot[self._slot_time[slot] != index]
        for sums in (self._weight, self._wrist, self._rotation, self._fingers):
            sums[stale] = 0.0
        self._slot_time[slot] = index
        self._weight[slot] += weight
        self._wrist[slot] += weight * wrist
        self._rotation[slot] += weight * turn
        self._fingers[slot] += weight * fingers

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Aggregated keypoints (M, 21, 3), R_frame_palm (M, 3, 3) at absolute times (M,) s, and whether any forecast
        reaches each time (M,); NaN where none does."""
        position = times / self.grid
        before = np.floor(position + 1e-9).astype(np.int64)
        weight = np.clip(position - before, 0.0, 1.0)
        after = before + (weight > 1e-9)
        known = self._known(before) & self._known(after)
        keypoints = np.full((len(times), NUM_KEYPOINTS, 3), np.nan)
        rotation = np.full((len(times), 3, 3), np.nan)
        if known.any():
            a, b = self._mean(before[known]), self._mean(after[known])
            w = weight[known, None]
            turn = slerp(a[1], b[1], weight[known])
            fingers = (1.0 - w[..., None]) * a[2] + w[..., None] * b[2]
            keypoints[known] = ((1.0 - w) * a[0] + w * b[0])[:, None] + fingers @ np.swapaxes(turn, -1, -2)
            rotation[known] = turn
        return keypoints, rotation, known

    def _weight_of(self, stamp: float) -> float:
        if self.recency is None or not np.isfinite(self._newest):
            return 1.0
        # Weights are relative to the newest stamp, so old sums are scaled down instead of new weights growing without
        # bound.
        ahead = stamp - self._newest
        if ahead <= 0.0:
            return float(np.exp(ahead / self.recency))
        for sums in (self._weight, self._wrist, self._rotation, self._fingers):
            sums *= np.exp(-ahead / self.recency)
        return 1.0

    def _known(self, index: np.ndarray) -> np.ndarray:
        slot = index % self._size
        return (self._slot_time[slot] == index) & (self._weight[slot] > 0.0)

    def _mean(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        slot = index % self._size
        weight = self._weight[slot]
        return (
            self._wrist[slot] / weight[:, None],
            nearest_rotation(self._rotation[slot] / weight[:, None, None]),
            self._fingers[slot] / weight[:, None, None],
        )


def _at(grid_times: np.ndarray, times: np.ndarray, keypoints: np.ndarray, rotation: np.ndarray):
    """Wrist (M, 3), rotation (M, 3, 3) and fingers in the palm frame (M, 21, 3) of one forecast at the grid's times."""
    after = (
        np.clip(np.searchsorted(times, grid_times), 1, len(times) - 1)
        if len(times) > 1
        else np.zeros(len(grid_times), int)
    )
    before = np.maximum(after - 1, 0)
    gap = times[after] - times[before]
    weight = np.clip(np.divide(grid_times - times[before], gap, out=np.zeros(len(gap)), where=gap > 0), 0.0, 1.0)
    wrist = keypoints[:, :1]
    palm = (keypoints - wrist) @ rotation
    w = weight[:, None]
    mixed = (1.0 - w) * wrist[before, 0] + w * wrist[after, 0]
    fingers = (1.0 - w[..., None]) * palm[before] + w[..., None] * palm[after]
    return mixed, slerp(rotation[before], rotation[after], weight), fingers
