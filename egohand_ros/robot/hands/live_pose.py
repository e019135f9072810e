"""Building blocks of the live path: one pose at a time in NumPy, with few and cheap array calls.

`LivePose` is forward kinematics into reused buffers; `PointSet` adds positions, Jacobians and curvature of points fixed
to links; `box_newton_step` solves one bounded Newton step.
"""

import numpy as np
from scipy.linalg.lapack import dposv

from .kinematics import HandKinematics

YZX, ZXY = np.array([1, 2, 0]), np.array([2, 0, 1])
_PINNED = 1e9  # added to the diagonal of a joint that an active bound holds
_MOST_BOUNDS = 12  # that one step runs into, one after another


class LivePose:
    """T_base_slot of every slot at one q, in `poses` (D * F + 1, 4, 4), which each `update` overwrites."""

    def __init__(self, kinematics: HandKinematics):
        k = self.kinematics = kinematics
        count = k.depth * k.chains
        self._matrix, self._offset = np.ascontiguousarray(k.slot_matrix), k.slot_offset.copy()
        self._local = np.ascontiguousarray(k.constant)
        # The first two columns of a slot's matrix as complex numbers: turning about z multiplies them by exp(-i q).
        self._xy = np.ascontiguousarray(k.constant[..., 0] + 1j * k.constant[..., 1]).reshape(count, 4)
        self._local = self._local.copy()
        self._local_xy = self._local.reshape(count, 4, 4).view(complex)[..., 0]
        self._angle = np.empty(count)
        self._slide = k.prismatic.reshape(-1) if k.prismatic.any() else None
        if self._slide is not None:
            self._start = k.constant.reshape(-1, 4, 4)[:, :3, 3].copy()
            self._slide_axis = k.constant.reshape(-1, 4, 4)[:, :3, 2] * self._slide[:, None]
        self.poses = np.empty((count + 1, 4, 4))
        self.poses[-1] = np.eye(4)
        self._poses = self.poses[:-1].reshape(k.depth, k.chains, 4, 4)
        rounds = max(int(np.ceil(np.log2(k.depth))), 0)
        self._products = [np.empty_like(self._local) for _ in range(rounds - 1)] + [self._poses]

    def update(self, q: np.ndarray) -> np.ndarray:
        """Set `poses` for q (n,) and return it."""
        angle = np.dot(self._matrix, q, self._angle)
        angle += self._offset
        turn = angle if self._slide is None else np.where(self._slide, 0.0, angle)
        np.multiply(self._xy, np.exp(-1j * turn)[:, None], self._local_xy)
        if self._slide is not None:
            self._local.reshape(-1, 4, 4)[:, :3, 3] = self._start + angle[:, None] * self._slide_axis
        product, step = self._local, 1
        for out in self._products:
            if step >= len(product):
                break
            out[:step] = product[:step]
            np.matmul(product[:-step], product[step:], out[step:])
            product, step = out, 2 * step
        if product is self._local:
            self._poses[:] = product
        return self.poses


class PointSet:
    """K points fixed to slots (K,) at `offsets` (K, 3) m, at the pose of a `LivePose`."""

    def __init__(self, pose: LivePose, slots: np.ndarray, offsets: np.ndarray):
        self.pose, self.count = pose, len(slots)
        k = pose.kinematics
        self._slots = np.asarray(slots, dtype=int)
        self._offsets = np.concatenate([offsets, np.ones((len(slots), 1))], axis=1)[..., None]
        index, weight = k.jacobian_arrays(self._slots)
        self._index, self._depth = index.reshape(-1), k.depth
        self._weight = np.ascontiguousarray(weight)
        self._weight_t = np.ascontiguousarray(weight.transpose(0, 2, 1))
        sliding = k.prismatic.reshape(-1)[self._index].reshape(self.count, -1, 1)
        self._sliding = sliding if sliding.any() else None
        # Half of the diagonal, so that S + S^T counts each pair of joints once.
        self._upper = np.triu(np.ones((k.depth, k.depth)), 1) + 0.5 * np.eye(k.depth)
        self.positions = np.empty((self.count, 3))

    def update(self) -> np.ndarray:
        """Positions (K, 3) m in the base frame."""
        np.matmul(self.pose.poses.take(self._slots, 0)[:, :3], self._offsets, self.positions[..., None])
        return self.positions

    def jacobian(self) -> np.ndarray:
        """d(positions)/dq (K, 3, n), at the last `update`."""
        frames = self.pose.poses.take(self._index, 0).reshape(self.count, self._depth, 4, 4)
        self._axis = axis = frames[..., :3, 2]
        arm = self.positions[:, None] - frames[..., :3, 3]
        column = axis.take(YZX, -1) * arm.take(ZXY, -1)
        column -= axis.take(ZXY, -1) * arm.take(YZX, -1)
        if self._sliding is not None:
            column = np.where(self._sliding, axis, column)
        self._column = column.transpose(0, 2, 1)
        return np.matmul(self._column, self._weight)

    def curvature(self, force: np.ndarray) -> np.ndarray:
        """sum_k force_k . d2(position_k)/dq2 (n, n) for forces (K, 3), after `jacobian`.

        For joint i above joint j on a chain: d2x / dq_i dq_j = axis_i x (dx / dq_j).
        """
        force = np.broadcast_to(force[:, None], self._axis.shape)
        turn = force.take(YZX, -1) * self._axis.take(ZXY, -1)
        turn -= force.take(ZXY, -1) * self._axis.take(YZX, -1)
        if self._sliding is not None:
            turn = np.where(self._sliding, 0.0, turn)
        second = np.matmul(turn, self._column)
        second *= self._upper
        second += second.transpose(0, 2, 1)
        return np.matmul(np.matmul(self._weight_t, second), self._weight).sum(0)


def box_newton_step(
    gradient: np.ndarray, hessian: np.ndarray, low: np.ndarray, high: np.ndarray, releases: int = 2
) -> np.ndarray | None:
    """The step d (n,) that minimises g.d + d.H.d / 2 within low <= d <= high (low <= 0 <= high), by an active set.

    Joints are pinned at the bound that they would cross, all at once, until none crosses; then those that the gradient
    pulls back inside are freed, up to `releases` times. Where that ends no better than standing still, as it may when
    bounds are tight, joints are pinned one after another instead (`_step_by_step`). Returns None when H (n, n) is not
    positive definite.
    """
    stuck = ((low >= 0.0) & (gradient > 0.0)) | ((high <= 0.0) & (gradient < 0.0))
    pinned, at = stuck, None
    while True:
        step = _pinned_minimum(gradient, hessian, pinned, 0.0 if at is None else at)
        if step is None:
            return None
        inside = np.minimum(np.maximum(step, low), high)
        crossed = (inside != step) & ~pinned
        if np.logical_or.reduce(crossed):
            at = np.where(crossed, inside, 0.0 if at is None else at)
            pinned = pinned | crossed
            continue
        if at is None:
            return inside
        half = 0.5 * np.dot(hessian, inside)
        better = inside.dot(gradient + half) < 0.0
        if better and releases == 0:
            return inside
        slope = gradient + 2.0 * half
        wrong = pinned & ~stuck & np.where(at <= low, slope < 0.0, slope > 0.0)
        if releases == 0 or not np.logical_or.reduce(wrong):
            return inside if better else _step_by_step(gradient, hessian, low, high)
        pinned, at, releases = pinned & ~wrong, np.where(wrong, 0.0, at), releases - 1


def _pinned_minimum(
    gradient: np.ndarray, hessian: np.ndarray, pinned: np.ndarray, at: np.ndarray | float
) -> np.ndarray | None:
    """The minimum (n,) of g.d + d.H.d / 2 with the joints `pinned` (n,) held `at` (n,)."""
    matrix = hessian.copy()
    matrix.reshape(-1)[:: len(gradient) + 1] += _PINNED * pinned
    _, step, failed = dposv(matrix, np.where(pinned, _PINNED * at, -gradient), overwrite_a=1, overwrite_b=1)
    return None if failed else step


def _step_by_step(gradient: np.ndarray, hessian: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """A step (n,) within the bounds that is better than none where any is: from one bound to the next, always downhill
    (the primal active-set method; Nocedal and Wright, 2006, algorithm 16.3, without releases)."""
    step, slope = np.zeros_like(gradient), gradient
    for _ in range(_MOST_BOUNDS):
        pinned = ((step <= low) & (slope > 0.0)) | ((step >= high) & (slope < 0.0))
        further = _pinned_minimum(slope, hessian, pinned, 0.0)
        if further is None:
            return None
        further[pinned] = 0.0
        room = np.where(further > 0.0, high - step, np.where(further < 0.0, low - step, np.inf))
        part = np.min(room / np.where(further == 0.0, 1.0, further), initial=1.0)
        step = np.minimum(np.maximum(step + part * further, low), high)
        slope = gradient + np.dot(hessian, step)
        if part >= 1.0:
            break
    return step
