"""Human keypoints -> robot-hand joint positions, one frame at a time."""

import time
from dataclasses import dataclass

import numpy as np

from egohand_ros.hand.palm import palm_rotation
from egohand_ros.hand.skeleton import NUM_KEYPOINTS, WRIST, side_index

from .live import box_newton_step
from .model import HandModel
from .objective import LiveObjective
from .problem import build_problem

SOLVED, HELD = "solved", "held"


@dataclass(frozen=True, eq=False)
class RetargetResult:
    """One frame: q (n,) rad in `joint_names` order, what happened, and how well and fast.

    `status` is "solved", or "held: <reason>" when the keypoints could not be used and the last pose is kept.
    `residual` is the objective's value at q (NaN when held), `solve_ms` the wall time of the call.
    """

    q: np.ndarray
    joint_names: tuple[str, ...]
    status: str
    residual: float
    solve_ms: float
    iterations: int = 0

    @property
    def solved(self) -> bool:
        return self.status == SOLVED


class Retargeter:
    """Follows a human hand with a robot hand.

    `solve` takes keypoints (21, 3) m in any frame; the palm frame is computed from them. `side` is the human hand's
    and defaults to the robot's. A keypoint that moves more than `jump` m within the palm frame from one frame to the
    next is taken for a tracking error for `jump_frames` frames; then it is believed.
    """

    def __init__(self, hand: HandModel, side: str | None = None, objective: str = "vector", jump: float = 0.12, jump_frames: int = 3):
        self.hand, self.side = hand, hand.side if side is None else side
        side_index(self.side)
        self.problem = build_problem(hand, objective)
        self._objective = LiveObjective(self.problem)
        self._needed = np.unique(np.concatenate([np.r_[r.human_origin, r.human_tip] for r in self.problem.rows] + [[WRIST, 5, 17]]))
        self._jump, self._jump_frames = float(jump), int(jump_frames)
        self._rotation = np.ascontiguousarray(self.problem.rotation.T)
        self.reset()

    def reset(self, q: np.ndarray | None = None) -> None:
        """Forget all motion; start from q (n,), or the middle of the joint ranges."""
        middle = 0.5 * (self.hand.lower + self.hand.upper)
        self.q = np.clip(middle if q is None else np.asarray(q, dtype=float), self.hand.lower, self.hand.upper)
        self._previous, self._jumped = None, 0
        for term in self._objective.terms:
            if term._pinch is not None:
                term._pinch.reset()

    def solve(self, keypoints: np.ndarray, valid: np.ndarray | None = None) -> RetargetResult:
        """The pose for keypoints (21, 3) m and their `valid` flags (21,) (all by default). Never raises on bad data."""
        start = time.perf_counter()
        reason, local = self._palm_keypoints(keypoints, valid)
        if reason is not None:
            return self._result(f"{HELD}: {reason}", float("nan"), start)
        self._objective.aim(local @ self._rotation, self.q)
        self.q, residual, iterations = self._minimize(self.q, self.hand.lower, self.hand.upper)
        return self._result(SOLVED, residual, start, iterations)

    def _result(self, status, residual, start, iterations=0) -> RetargetResult:
        elapsed = 1e3 * (time.perf_counter() - start)
        return RetargetResult(self.q.copy(), self.hand.joint_names, status, residual, elapsed, iterations)

    def _palm_keypoints(self, keypoints, valid):
        """(why not usable or None, keypoints (21, 3) in the palm frame)."""
        points = np.asarray(keypoints, dtype=float)
        if points.shape != (NUM_KEYPOINTS, 3):
            return f"keypoints have shape {points.shape}, expected (21, 3)", None
        used = points.take(self._needed, 0)
        if not np.isfinite(used).all():
            return "keypoints are not finite", None
        if valid is not None and not np.asarray(valid, dtype=bool).take(self._needed).all():
            return "keypoints are missing", None
        rotation = palm_rotation(points, self.side)
        if not np.isfinite(rotation).all():
            return "the palm has no orientation", None
        local = (points - points[WRIST]) @ rotation
        used = local.take(self._needed, 0)
        if self._previous is not None:
            moved = np.abs(used - self._previous).max()
            if moved > self._jump and self._jumped < self._jump_frames:
                self._jumped += 1
                return "keypoints jumped", None
        self._previous, self._jumped = used, 0
        return None, local

    def _minimize(self, q, lower, upper, max_iterations: int = 12, tolerance: float = 1e-4):
        """Bounded Gauss-Newton from q: (pose, objective, iterations)."""
        objective = self._objective
        value = objective.value(q)
        for iteration in range(1, max_iterations + 1):
            gradient, matrix = objective.derivatives()
            step, _ = box_newton_step(gradient, matrix, q, lower, upper)
            expected = -(gradient @ step + 0.5 * step @ matrix @ step)
            if expected <= 1e-12:
                break
            scale, better = 1.0, False
            for _ in range(5):
                candidate = np.minimum(np.maximum(q + scale * step, lower), upper)
                new = objective.value(candidate)
                if new < value:
                    better = True
                    break
                scale *= 0.5
            if not better:
                break
            q, value = candidate, new
            if expected <= tolerance * value:
                break
        return q, value, iteration
