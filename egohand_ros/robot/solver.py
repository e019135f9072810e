"""The live solver: one bounded, collision-free minimum of an objective, from a warm start."""

from dataclasses import dataclass

import numpy as np

from .collision import CollisionWatch
from .live import LivePose, box_newton_step
from .objective import LiveObjective
from .problem import Problem

# Newton's method converges quadratically: one more step after this relative gain leaves far less than 0.1 %.
_GAIN = 1e-3
_STEPS = 12
# Contacts are held by a stiff penalty that starts a little before the margin, so that its rest stays outside.
_STIFFNESS = 2e5
_BEFORE = 3e-4  # m
_LOOK = 0.03  # m, pairs this near may come into contact within one solve
_BACK = (0.9, 0.7, 0.5, 0.3, 0.15, 0.05, 0.0)


@dataclass(frozen=True, eq=False)
class Solution:
    """x (n,) with the objective's value there, Newton steps taken, and whether contacts shaped it."""

    x: np.ndarray
    value: float
    steps: int
    in_contact: bool


class LiveSolver:
    """Minimises an objective within bounds and without self-collision, from one frame to the next."""

    def __init__(self, problem: Problem, avoid_collisions: bool = True):
        self.problem = problem
        self.pose = LivePose(problem.kinematics)
        self.objective = LiveObjective(problem, self.pose)
        self._n = problem.hand.n
        # A free base moves all capsules alike, so contacts are judged on the hand alone.
        self._own_pose = LivePose(problem.hand.kinematics) if problem.free_base else None
        self.watch: CollisionWatch | None = None
        if avoid_collisions and len(problem.hand.capsules):
            self.watch = CollisionWatch(problem.hand.capsules, self._own_pose or self.pose)
        self._touching = False

    def reset(self) -> None:
        """Forget pinches and contacts of the last frame."""
        self.objective.reset()
        self._touching = False

    def solve(self, start: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Solution:
        """The minimum near `start` (n,), which lies within [lower, upper] and is free of collision."""
        steps = 0
        if not self._touching:
            x, value, steps = self._newton(start, lower, upper, None)
            if self.watch is None or self._clearance(x) >= 0.0:
                return Solution(x, value, steps, False)
        x, value, more = self._in_contact(start, lower, upper)
        return Solution(x, value, steps + more, True)

    def _in_contact(self, start, lower, upper):
        """As `_newton`, with the pairs that are near kept apart, and back to `start` as far as needed."""
        self._set_pose(start)
        near, total = self.watch.near(start[: self._n], _LOOK), 0
        for _ in range(3):
            x, value, steps = self._newton(start, lower, upper, near)
            total += steps
            clearance = self._clearance(x)
            if clearance >= 0.0:
                break
            self._set_pose(x)
            grown = np.union1d(near, self.watch.near(x[: self._n], 0.0))
            if len(grown) == len(near):
                break
            near = grown
        self._touching = bool(self.watch.penalty(near, self.watch.margin + 2.0 * _BEFORE) > 0.0) if len(near) else False
        if clearance < 0.0:
            x = self._back(start, x)
        return x, self.objective.value(x), total

    def _back(self, start, x):
        """The point furthest from `start` towards x that is clear; `start` itself when none is."""
        for part in _BACK:
            candidate = start + part * (x - start)
            if self._clearance(candidate) >= 0.0:
                return candidate
        return start

    def _newton(self, x, lower, upper, near):
        """Bounded Newton steps with halving: (x, objective, steps). `near`: pairs to keep apart, or None."""
        keep = 0.0 if near is None else self.watch.margin + _BEFORE
        value = self._value(x, near, keep)
        for step in range(1, _STEPS + 1):
            move, gain = self._step(x, lower, upper, near, keep)
            if gain <= 1e-12:
                break
            accepted = None
            for scale in (1.0, 0.5, 0.25, 0.1, 0.02):
                candidate = np.minimum(np.maximum(x + scale * move, lower), upper)
                new = self._value(candidate, near, keep)
                if new < value:
                    accepted = candidate
                    break
            if accepted is None:
                self._value(x, near, keep)
                break
            x, value = accepted, new
            if gain <= _GAIN * value:
                break
        return x, value, step

    def _step(self, x, lower, upper, near, keep):
        """(step (n,), decrease that the quadratic model promises)."""
        low, high = lower - x, upper - x
        for exact in (True, False):
            gradient, matrix = self.objective.derivatives(exact)
            if near is not None and len(near):
                self.watch.add_penalty_derivatives(keep, _STIFFNESS, gradient, matrix)
            move = box_newton_step(gradient, matrix, low, high)
            if move is not None:
                gain = -(gradient.dot(move) + 0.5 * move.dot(np.dot(matrix, move)))
                if gain > 0.0 or not exact:
                    return move, gain
        return np.zeros_like(x), 0.0

    def _value(self, x, near, keep) -> float:
        value = self.objective.value(x)
        if near is not None and len(near):
            if self._own_pose is not None:
                self._own_pose.update(x[: self._n])
            value += _STIFFNESS * self.watch.penalty(near, keep)
        return value

    def _set_pose(self, x) -> None:
        (self._own_pose or self.pose).update(x[: self._n] if self._own_pose else x)

    def _clearance(self, x) -> float:
        return self.watch.clearance(x[: self._n], pose_is_current=False)
