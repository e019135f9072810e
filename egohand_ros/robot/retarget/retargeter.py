"""Human keypoints -> robot-hand joint positions, one frame at a time."""

import math
import time
from dataclasses import dataclass

import numpy as np

from ...hand.skeleton import (
    INDEX_MCP,
    LEFT,
    LITTLE_MCP,
    NUM_KEYPOINTS,
    WRIST,
    side_index,
)
from ..hands.model import HandModel
from ..limits.limiter import HOLD, JointLimiter
from .compiled_objective import FREE_BASE, build_problem
from .smoothing import OneEuroFilter
from .solver import LiveSolver

SOLVED, HELD = "solved", "held"
MIN_SINE = 0.05  # as in `hand.palm`: a palm flatter than this has no orientation worth using
_USUAL_STEP = 1.0 / 30.0  # s between calls that do not tell


@dataclass(frozen=True, eq=False)
class RetargetResult:
    """One frame: q (n,) rad in `joint_names` order, what happened, and how well and fast.

    `status` is "solved", or "held: <reason>" when the keypoints could not be used and the last pose is kept.
    `residual` is the objective's value at q (NaN when held), `solve_ms` the wall time of the call. `in_contact` says
    that self-collision shaped the pose. `base` (6,) is where a free base was put: x, y, z m; roll, pitch, yaw rad.
    """

    q: np.ndarray
    joint_names: tuple[str, ...]
    status: str
    residual: float
    solve_ms: float
    iterations: int = 0
    in_contact: bool = False
    base: np.ndarray | None = None

    @property
    def solved(self) -> bool:
        return self.status == SOLVED


class Retargeter:
    """Follows a human hand with a robot hand, within its position limits and free of self-collision.

    `side` is the human hand's and defaults to the robot's. `finger_scale` multiplies the objective's scale per finger
    (see `calibration`). `smoothing` filters the keypoints in the palm frame. A keypoint that moves more than `jump` m
    within the palm frame from one frame to the next is taken for a tracking error for `jump_frames` frames; then it is
    believed.
    """

    def __init__(
        self,
        hand: HandModel,
        side: str | None = None,
        objective: str = "vector",
        finger_scale: dict[str, float] | None = None,
        avoid_collisions: bool = True,
        smoothing: OneEuroFilter | None = None,
        jump: float = 0.12,
        jump_frames: int = 3,
    ):
        self.hand, self.side = hand, hand.side if side is None else side
        side_index(self.side)
        self.problem = build_problem(hand, objective, finger_scale)
        self._solver = LiveSolver(self.problem, avoid_collisions)
        self._needed = np.union1d(self.problem.keypoints, [WRIST, INDEX_MCP, LITTLE_MCP])
        self._jump, self._jump_frames = float(jump), int(jump_frames)
        self._smoothing = smoothing
        self._to_base = np.ascontiguousarray(self.problem.rotation.T)
        self._limiter = JointLimiter(hand, avoid_collisions=avoid_collisions)
        self.reset()

    @property
    def q(self) -> np.ndarray:
        """The last pose (n,) rad."""
        return self._x[: self.hand.n].copy()

    def reset(self, q: np.ndarray | None = None) -> None:
        """Forget all motion; start from q (n,), by default the middle of the joint ranges, or rest if that collides."""
        hand = self.hand
        if q is None:
            q = 0.5 * (hand.lower + hand.upper)
            if len(hand.capsules) and hand.capsules.distances(hand.kinematics, q).min() < hand.capsules.margin:
                q = hand.rest_q
        self._limiter.reset(np.asarray(q, dtype=float))
        self._x = np.concatenate([self._limiter.q, np.zeros(len(FREE_BASE) if self.problem.free_base else 0)])
        self._previous, self._jumped = None, 0
        self._solver.reset()
        if self._smoothing is not None:
            self._smoothing.reset()

    def solve(
        self,
        keypoints: np.ndarray,
        valid: np.ndarray | None = None,
        dt: float | None = None,
        objects: np.ndarray | None = None,
    ) -> RetargetResult:
        """The pose for keypoints (21, 3) m in any frame, `valid` (21,) saying which are known (all by default).

        `dt`: seconds since the last call; then velocity and acceleration limits bound the pose as well. Without it
        the pose is a target for a `JointLimiter`. `objects` (5, 3): in the keypoints' frame, a point on an object for
        each finger, NaN where there is none, for `contact` terms. Never raises on bad data: it holds and says why.
        """
        start = time.perf_counter()
        reason, local, rotation = self._palm_keypoints(keypoints, valid)
        if reason is not None:
            if dt is not None:
                self._x[: self.hand.n] = self._limiter.step(None, dt, HOLD)[0]
            return self._result(f"{HELD}: {reason}", float("nan"), start)
        if self._smoothing is not None:
            local = self._smoothing(local, _USUAL_STEP if dt is None else dt)
        contacts = None
        if objects is not None:
            contacts = (np.asarray(objects, dtype=float) - keypoints[WRIST]) @ rotation @ self._to_base
        return self._follow(local @ self._to_base, contacts, dt, start)

    def solve_in_base(self, keypoints: np.ndarray, dt: float | None = None) -> RetargetResult:
        """As `solve`, for finite keypoints (21, 3) m that are wrist-centred and turned into the robot's base axes."""
        return self._follow(np.asarray(keypoints, dtype=float), None, dt, time.perf_counter())

    def _follow(self, human, contacts, dt, start) -> RetargetResult:
        n, problem = self.hand.n, self.problem
        last, lower, upper = self._x, problem.lower, problem.upper
        bounds = self._limiter.bounds(dt) if dt is not None else None
        if dt is not None:
            if bounds is None:
                return self._result(f"{HELD}: no time has passed", float("nan"), start)
            lower, upper = lower.copy(), upper.copy()
            lower[:n] = np.maximum(lower[:n], last[:n] + bounds.lower * dt)
            upper[:n] = np.maximum(np.minimum(upper[:n], last[:n] + bounds.upper * dt), lower[:n])
        self._solver.objective.aim(human, last, contacts)
        solution = self._solver.solve(np.clip(last, lower, upper), lower, upper)
        self._x = solution.x
        if dt is not None:
            self._limiter.move((solution.x[:n] - last[:n]) / dt, bounds)
            self._x = np.concatenate([self._limiter.q, solution.x[n:]])
        return self._result(SOLVED, solution.value, start, solution.steps, solution.in_contact)

    def _result(self, status, residual, start, steps=0, in_contact=False) -> RetargetResult:
        n = self.hand.n
        base = self._x[n:].copy() if self.problem.free_base else None
        elapsed = 1e3 * (time.perf_counter() - start)
        return RetargetResult(
            self._x[:n].copy(), self.hand.joint_names, status, residual, elapsed, steps, in_contact, base
        )

    def _palm_keypoints(self, keypoints, valid):
        """(why not usable or None, keypoints (21, 3) in the palm frame, R_frame_palm)."""
        points = np.asarray(keypoints, dtype=float)
        if points.shape != (NUM_KEYPOINTS, 3):
            return f"keypoints have shape {points.shape}, expected (21, 3)", None, None
        if not np.isfinite(points.take(self._needed, 0)).all():
            return "keypoints are not finite", None, None
        if valid is not None and not np.asarray(valid, dtype=bool).take(self._needed).all():
            return "keypoints are missing", None, None
        rotation = palm_rotation(points, self.side)
        if rotation is None:
            return "the palm has no orientation", None, None
        local = (points - points[WRIST]) @ rotation
        used = local.take(self._needed, 0)
        if self._previous is not None and self._jumped < self._jump_frames:
            if np.abs(used - self._previous).max() > self._jump:
                self._jumped += 1
                return "keypoints jumped", None, None
        self._previous, self._jumped = used, 0
        return None, local, rotation


def palm_rotation(points: np.ndarray, side: str) -> np.ndarray | None:
    """R_frame_palm (3, 3) as `hand.palm.palm_rotation`, of one hand and in plain floats: that is 20 times as fast, and
    NumPy would take longer for it than for the rest of the solve. None where the palm is too flat."""
    wx, wy, wz = points[WRIST].tolist()
    ix, iy, iz = points[INDEX_MCP].tolist()
    lx, ly, lz = points[LITTLE_MCP].tolist()
    ix, iy, iz, lx, ly, lz = ix - wx, iy - wy, iz - wz, lx - wx, ly - wy, lz - wz
    zx, zy, zz = ly * iz - lz * iy, lz * ix - lx * iz, lx * iy - ly * ix  # little x index
    if side_index(side) == LEFT:
        zx, zy, zz = -zx, -zy, -zz
    xx, xy, xz = ix + lx, iy + ly, iz + lz
    area, length = math.sqrt(zx * zx + zy * zy + zz * zz), math.sqrt(xx * xx + xy * xy + xz * xz)
    edges = math.sqrt((ix * ix + iy * iy + iz * iz) * (lx * lx + ly * ly + lz * lz))
    if not area > MIN_SINE * edges or length == 0.0:
        return None
    zx, zy, zz, xx, xy, xz = zx / area, zy / area, zz / area, xx / length, xy / length, xz / length
    return np.array(((xx, zy * xz - zz * xy, zx), (xy, zz * xx - zx * xz, zy), (xz, zx * xy - zy * xx, zz)))
