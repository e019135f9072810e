"""The live path: one pose at a time in NumPy, tuned for few and cheap array calls.

`PointKinematics` gives positions and Jacobians of a fixed set of points with preallocated arrays; `minimize_box` is a
bounded Gauss-Newton method with an active set.
"""

import numpy as np
from scipy.linalg.lapack import dposv

from .kinematics import HandKinematics

_YZX, _ZXY = np.array([1, 2, 0]), np.array([2, 0, 1])


class PointKinematics:
    """Positions and Jacobians of K points that are fixed to links, for one pose at a time.

    `slots` (K,) and `offsets` (K, 3) place the points (see `HandKinematics.frames`); the base slot is D * F.
    Results are views of reused buffers: copy what must outlive the next call.
    """

    def __init__(self, kinematics: HandKinematics, slots: np.ndarray, offsets: np.ndarray):
        k = kinematics
        self.kinematics, self.count = k, len(slots)
        self._shape = (k.depth, k.chains)
        self._matrix, self._offset = np.ascontiguousarray(k.slot_matrix), k.slot_offset.copy()
        slots_total = k.depth * k.chains
        self._xy = np.ascontiguousarray(k.constant[..., 0] + 1j * k.constant[..., 1]).reshape(slots_total, 4)
        self._slide = None
        if k.prismatic.any():
            self._slide = k.prismatic.reshape(-1)
            self._slide_axis = k.constant.reshape(-1, 4, 4)[:, :3, 2] * self._slide[:, None]
        self._angle = np.empty(slots_total)
        self._local = np.ascontiguousarray(k.constant.copy())
        self._local_xy = self._local.reshape(slots_total, 4, 4).view(complex)[..., 0]
        self._translation = k.constant.reshape(-1, 4, 4)[:, :3, 3].copy()
        self._buffers = [np.empty_like(self._local) for _ in range(max(1, int(np.ceil(np.log2(max(k.depth, 2))))))]
        self.poses = np.empty((slots_total + 1, 4, 4))
        self.poses[-1] = np.eye(4)
        self._poses = self.poses[:-1].reshape(*self._shape, 4, 4)
        self._slots = np.asarray(slots)
        self._points = np.concatenate([offsets, np.ones((len(slots), 1))], axis=1)[..., None]
        self._index, weight = k.jacobian_arrays(self._slots)
        self._flat_index = self._index.reshape(-1)
        self._weight = np.ascontiguousarray(weight)
        self._sliding_column = None if self._slide is None else self._slide[self._flat_index].reshape(self.count, k.depth, 1)
        self.positions = np.empty((self.count, 3))

    def update(self, q: np.ndarray) -> np.ndarray:
        """Positions (K, 3) m in the base frame for the pose q (n,)."""
        angle = np.dot(self._matrix, q, self._angle)
        angle += self._offset
        turn = angle if self._slide is None else np.where(self._slide, 0.0, angle)
        np.multiply(self._xy, np.exp(-1j * turn)[:, None], self._local_xy)
        if self._slide is not None:
            self._local.reshape(-1, 4, 4)[:, :3, 3] = self._translation + angle[:, None] * self._slide_axis
        depth, product, step = self._shape[0], self._local, 1
        for buffer in self._buffers:
            if step >= depth:
                break
            last = 2 * step >= depth
            out = self._poses if last else buffer
            out[:step] = product[:step]
            np.matmul(product[:-step], product[step:], out[step:])
            product, step = out, 2 * step
        if depth == 1:
            self._poses[:] = self._local
        np.matmul(self.poses.take(self._slots, 0)[:, :3], self._points, self.positions[..., None])
        return self.positions

    def jacobian(self) -> np.ndarray:
        """d(positions)/dq (K, 3, n) at the pose of the last `update`."""
        frames = self.poses.take(self._flat_index, 0).reshape(self.count, -1, 4, 4)
        axis = frames[..., :3, 2]
        arm = self.positions[:, None] - frames[..., :3, 3]
        column = axis.take(_YZX, -1) * arm.take(_ZXY, -1)
        column -= axis.take(_ZXY, -1) * arm.take(_YZX, -1)
        if self._sliding_column is not None:
            column = np.where(self._sliding_column, axis, column)
        return np.matmul(column.transpose(0, 2, 1), self._weight)


def box_newton_step(gradient, hessian, q, lower, upper, max_changes: int = 8):
    """The step d that minimises g.d + d.H.d / 2 subject to lower <= q + d <= upper, by an active set.

    H (n, n) must be positive definite. Joints are fixed at the bound they would cross and freed again where the
    gradient pulls them back inside. Returns (d, fixed (n,) bool).
    """
    low, high = lower - q, upper - q
    fixed = ((low >= 0.0) & (gradient > 0.0)) | ((high <= 0.0) & (gradient < 0.0))
    step = np.zeros_like(q)
    for _ in range(max_changes):
        if fixed.any():
            matrix = hessian.copy()
            right = -(gradient + hessian[:, fixed] @ step[fixed])
            matrix[fixed, :] = 0.0
            matrix[:, fixed] = 0.0
            matrix[fixed, fixed] = 1.0
            right[fixed] = step[fixed]
            candidate = dposv(matrix, right)[1]
        else:
            candidate = dposv(hessian, -gradient)[1]
        crossed = ((candidate < low) | (candidate > high)) & ~fixed
        if not crossed.any():
            step = candidate
            slope = gradient + hessian @ step
            release = fixed & (((step <= low) & (slope < -1e-12)) | ((step >= high) & (slope > 1e-12)) & (low < high))
            if not release.any():
                break
            fixed = fixed & ~release
            continue
        fixed = fixed | crossed
        step = np.where(crossed, np.clip(candidate, low, high), np.where(fixed, step, candidate))
    return np.minimum(np.maximum(step, low), high), fixed
