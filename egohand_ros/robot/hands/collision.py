"""Self-collision on the live path: which capsule pairs are near, how far apart, and what pushes them apart."""

import numpy as np

from .capsules import CapsuleModel
from .live_pose import YZX, ZXY, LivePose

_TINY = 1e-12


class CollisionWatch:
    """Distances of capsule pairs at one pose, computed only for pairs that may have come near.

    A pair's distance changes by at most reach @ |dq|, so distances known at one pose bound those at others, and most
    pairs need no work in most frames. `pose` is shared with whoever evaluates the hand; methods that do not take a q
    work at the pose that it holds.
    """

    def __init__(self, capsules: CapsuleModel, pose: LivePose):
        self.capsules, self.pose = capsules, pose
        self.margin = capsules.margin
        k, c = pose.kinematics, capsules
        # One end, and the vector to the other end, of each capsule in its slot: columns of (C, 4, 2).
        start = np.concatenate([c.ends[:, 0], np.ones((len(c.ends), 1))], axis=1)
        along = np.concatenate([c.ends[:, 1] - c.ends[:, 0], np.zeros((len(c.ends), 1))], axis=1)
        self._segments = np.ascontiguousarray(np.stack([start, along], axis=2))
        self._first, self._second = np.ascontiguousarray(c.pairs[:, 0]), np.ascontiguousarray(c.pairs[:, 1])
        self._thick = c.thickness
        self._reach = np.ascontiguousarray(c.reach)
        self._index, self._weight = k.jacobian_arrays(c.slots)
        self._sliding = k.prismatic.reshape(-1) if k.prismatic.any() else None
        # Lower bounds of the distances at `_known_q`; nothing is known yet.
        self._known_q, self._known = np.zeros(self._reach.shape[1]), np.full(len(c), -np.inf)
        self._near = np.zeros(0, dtype=int)

    def clearance(self, q: np.ndarray, pose_is_current: bool = False) -> float:
        """Least distance [m] above the margin at q (n,), over the pairs that can be below it; inf when there are
        none.
        """
        near = self._maybe_below(self.margin, q)
        if not len(near):
            return np.inf
        if not pose_is_current:
            self.pose.update(q)
        return float(self._measure_known(near).min()) - self.margin

    def near(self, q: np.ndarray, within: float) -> np.ndarray:
        """Indices of the pairs closer than `within` m plus the margin at q (n,), which is the LivePose's pose."""
        near = self._maybe_below(self.margin + within, q)
        return near[self._measure_known(near) < self.margin + within] if len(near) else near

    def surely_clear(self, q: np.ndarray, travel: np.ndarray) -> bool:
        """Whether no motion from q (n,) by up to `travel` (n,) rad a joint can break the margin, by what is known."""
        moved = np.abs(q - self._known_q) + travel
        return bool((self._known - np.dot(self._reach, moved)).min() >= self.margin)

    def measure(self, near: np.ndarray) -> np.ndarray:
        """Distances (K,) m of the pairs `near`."""
        self._near = near
        return self._distances(near)

    def gradients(self) -> np.ndarray:
        """Derivatives (K, n) by the joints of the distances last measured."""
        near, s, t = self._near, self._s[:, None], self._t[:, None]
        first, second = self._first[near], self._second[near]
        on_first = self._start[first] + s * self._along[first]
        on_second = self._start[second] + t * self._along[second]
        normal = on_first - on_second
        normal /= np.maximum(np.sqrt((normal * normal).sum(1)), 1e-9)[:, None]
        rows = self._rows(
            np.concatenate([first, second]), np.concatenate([on_first, on_second]), np.concatenate([normal, -normal])
        )
        return rows[: len(near)] + rows[len(near) :]

    def _maybe_below(self, limit: float, q: np.ndarray) -> np.ndarray:
        """Indices of the pairs that may be closer than `limit` m at q (n,), by what is known, carried along to q."""
        self._known -= np.dot(self._reach, np.abs(q - self._known_q))
        self._known_q = q.copy()
        return np.flatnonzero(self._known < limit)

    def _measure_known(self, near: np.ndarray) -> np.ndarray:
        """Distances (K,) m of the pairs `near` at the pose, which is `_known_q`'s, remembered."""
        distance = self._known[near] = self._distances(near)
        return distance

    def _distances(self, near: np.ndarray) -> np.ndarray:
        """Surface distances (K,); keeps where on the segments they are (clamped, after Ericson 2005, section 5.1.9)."""
        placed = np.matmul(self.pose.poses.take(self.capsules.slots, 0)[:, :3], self._segments)
        self._start, self._along = start, along = placed[..., 0], placed[..., 1]
        first, second = self._first[near], self._second[near]
        edges = np.empty((len(near), 3, 3))
        edges[:, 0], edges[:, 1], edges[:, 2] = along[first], along[second], start[first] - start[second]
        dots = np.matmul(edges, edges.transpose(0, 2, 1))
        uu, vv, uv = np.maximum(dots[:, 0, 0], _TINY), np.maximum(dots[:, 1, 1], _TINY), dots[:, 0, 1]
        uw, vw = dots[:, 0, 2], dots[:, 1, 2]
        s = (uv * vw - vv * uw) / np.maximum(uu * vv - uv * uv, _TINY)
        s = np.minimum(np.maximum(s, 0.0), 1.0)
        t = np.minimum(np.maximum((uv * s + vw) / vv, 0.0), 1.0)
        s = np.minimum(np.maximum((uv * t - uw) / uu, 0.0), 1.0)
        self._s, self._t = s, t
        square = dots[:, 2, 2] + s * (s * uu + 2.0 * uw) + t * (t * vv - 2.0 * vw) - 2.0 * s * t * uv
        return np.sqrt(np.maximum(square, 0.0)) - self._thick[near]

    def _rows(self, capsules: np.ndarray, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """d(normal . point)/dq (K, n) for points on capsules."""
        index = self._index[capsules]
        frames = self.pose.poses.take(index.reshape(-1), 0).reshape(*index.shape, 4, 4)
        axis, arm = frames[..., :3, 2], point[:, None] - frames[..., :3, 3]
        column = axis.take(YZX, -1) * arm.take(ZXY, -1)
        column -= axis.take(ZXY, -1) * arm.take(YZX, -1)
        if self._sliding is not None:
            column = np.where(self._sliding[index][..., None], axis, column)
        along = np.matmul(column, normal[..., None])
        return np.matmul(along.transpose(0, 2, 1), self._weight[capsules])[:, 0]
