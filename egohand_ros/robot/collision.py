"""Self-collision on the live path: which capsule pairs are near, how far apart, and what pushes them apart."""

import numpy as np

from .capsules import CapsuleModel, segment_distance
from .kinematics import HandKinematics
from .live import YZX, ZXY, LivePose


class CollisionWatch:
    """Distances of capsule pairs at one pose, computed only for pairs that may have come near.

    A pair's distance changes by at most reach @ |dq|, so distances known at one pose bound those at others, and most
    pairs need no work in most frames.
    """

    def __init__(self, capsules: CapsuleModel, pose: LivePose):
        self.capsules, self.pose = capsules, pose
        self.margin = capsules.margin
        k: HandKinematics = pose.kinematics
        c = capsules
        self._ends = np.concatenate([c.ends, np.ones((*c.ends.shape[:2], 1))], axis=2).transpose(0, 2, 1)
        self._first, self._second = c.pairs[:, 0], c.pairs[:, 1]
        self._thick = c.radius[self._first] + c.radius[self._second]
        self._reach = np.ascontiguousarray(c.reach)
        index, weight = k.jacobian_arrays(c.slots)
        self._index, self._weight = index, weight
        self._sliding = k.prismatic.reshape(-1) if k.prismatic.any() else None
        # Lower bounds of the distances at `_known_q`; nothing is known yet.
        self._known_q, self._known = np.zeros(self._reach.shape[1]), np.full(len(c), -np.inf)

    def clearance(self, q: np.ndarray, pose_is_current: bool = False) -> float:
        """Least distance [m] above the margin at q (n,), over the pairs that can be below it; inf when there are none."""
        self._advance(q)
        near = np.flatnonzero(self._known < self.margin)
        if not len(near):
            return np.inf
        if not pose_is_current:
            self.pose.update(q)
        distance = self._known[near] = self._distances(near)[0]
        return float(distance.min()) - self.margin

    def near(self, q: np.ndarray, within: float) -> np.ndarray:
        """Indices of the pairs closer than `within` m plus the margin at q (n,), which is the LivePose's pose."""
        self._advance(q)
        near = np.flatnonzero(self._known < self.margin + within)
        if len(near):
            distance = self._known[near] = self._distances(near)[0]
            near = near[distance < self.margin + within]
        return near

    def path_is_clear(self, path: np.ndarray) -> bool:
        """Whether every pose of `path` (S, n) keeps the margin."""
        return all(self.clearance(q) >= 0.0 for q in path)

    def _advance(self, q: np.ndarray) -> None:
        """Carry the known distances to q as lower bounds."""
        self._known -= np.dot(self._reach, np.abs(q - self._known_q))
        self._known_q = q.copy()

    def penalty(self, near: np.ndarray, keep: float) -> float:
        """sum max(0, keep - distance)^2 / 2 over the pairs `near`, at the LivePose's pose."""
        self._state = near, self._distances(near)
        depth = np.maximum(keep - self._state[1][0], 0.0)
        return 0.5 * float(depth.dot(depth))

    def add_penalty_derivatives(self, keep: float, stiffness: float, gradient: np.ndarray, matrix: np.ndarray) -> None:
        """Add the Gauss-Newton derivatives of stiffness * `penalty`, as last computed, to those of an objective."""
        near, (distance, normal, on_first, on_second) = self._state
        inside = np.flatnonzero(distance < keep)
        if len(inside):
            n = self._reach.shape[1]
            rows = self._gradients(near[inside], normal[inside], on_first[inside], on_second[inside])
            gradient[:n] -= stiffness * (keep - distance[inside]).dot(rows)
            matrix[:n, :n] += stiffness * np.dot(rows.T, rows)

    def gradients(self, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (K,) m of the pairs `near` and their derivatives by the joints (K, n), at the LivePose's pose."""
        distance, normal, on_first, on_second = self._distances(near)
        return distance, self._gradients(near, normal, on_first, on_second)

    def _gradients(self, near, normal, on_first, on_second) -> np.ndarray:
        rows = self._rows(self._first[near], on_first, normal)
        return rows - self._rows(self._second[near], on_second, normal)

    def _distances(self, near):
        """Surface distance (K,), unit normal from second to first (K, 3) and closest axis points (K, 3) of both."""
        ends = np.matmul(self.pose.poses.take(self.capsules.slots, 0)[:, :3], self._ends)
        a, b = ends[self._first[near]], ends[self._second[near]]
        a0, b0 = a[..., 0], b[..., 0]
        gap, s, t = segment_distance(a0, a[..., 1], b0, b[..., 1])
        on_first = a0 + s[:, None] * (a[..., 1] - a0)
        on_second = b0 + t[:, None] * (b[..., 1] - b0)
        normal = (on_first - on_second) / np.maximum(gap, 1e-9)[:, None]
        return gap - self._thick[near], normal, on_first, on_second

    def _rows(self, capsules: np.ndarray, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """d(normal . point)/dq (K, n) for points on capsules."""
        index = self._index[capsules]
        frames = self.pose.poses[index]
        axis, arm = frames[..., :3, 2], point[:, None] - frames[..., :3, 3]
        column = axis.take(YZX, -1) * arm.take(ZXY, -1) - axis.take(ZXY, -1) * arm.take(YZX, -1)
        if self._sliding is not None:
            column = np.where(self._sliding[index][..., None], axis, column)
        along = np.matmul(column, normal[..., None])[..., 0]
        return np.matmul(along[:, None], self._weight[capsules])[:, 0]
