"""The live solver: one bounded, collision-free minimum of an objective, from a warm start."""

from dataclasses import dataclass

import numpy as np

from .collision import CollisionWatch
from .live import LivePose, box_newton_step
from .objective import LiveObjective
from .problem import Problem

# Newton's method converges quadratically: one more step after this relative gain leaves far less than 0.1 %.
_GAIN, _STEPS = 1e-3, 8
# Contacts go on over many frames, so each frame may leave some of the way to the next.
_GAIN_IN_CONTACT, _STEPS_IN_CONTACT = 1e-2, 3
# Contacts are held by stiff springs that start a little before the margin, so that what they give stays outside.
_STIFFNESS = 2e5
_BEFORE, _SLACK = 3e-4, 5e-5  # m
_TRUST = 0.25  # rad, how far a step near contacts may go: distances are taken as linear
_LOOK = 0.012  # m, pairs this near may come into contact within one step
_MOST = 24  # of them; what this leaves out is caught afterwards
_BACK = (0.9, 0.7, 0.5, 0.3, 0.15, 0.05)
# A hand held up by a contact may be on the wrong side of it: then the far side is tried, at most this often [frames].
_TRAPPED, _TRY_EVERY = 1.1, 5


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
        self._touching, self._trapped, self._free = 0, False, None

    def reset(self) -> None:
        """Forget which pinches were closed, and contacts."""
        self.objective.reset()
        self._touching, self._trapped = 0, False

    def solve(self, start: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Solution:
        """The minimum near `start` (n,), which lies within [lower, upper] and is free of collision."""
        free, steps = None, 0
        if self.watch is None or not self._touching:
            free, free_value, steps = self._newton(start, lower, upper, None)
            if self.watch is None or self.watch.clearance(free[: self._n], self._own_pose is None) >= 0.0:
                return Solution(free, free_value, steps, False)
            self._free = free
        x, value, more, pressing = self._in_contact(start, start, lower, upper)
        steps += more
        if self._touching and (self._trapped or self._touching % _TRY_EVERY == 0):
            other, other_value, more = self._other_side(start, value, lower, upper)
            steps, self._trapped = steps + more, False
            if other_value < value:
                x, value, pressing = other, other_value, True
        elif free is not None:
            self._trapped = value > _TRAPPED * free_value  # looked after in the next frame, to share the work out
        self._touching = self._touching + 1 if pressing else 0
        return Solution(x, value, steps, pressing)

    def _other_side(self, safe, value, lower, upper):
        """Contacts from where the hand would be without them: (x, its value or infinity, steps)."""
        free = np.minimum(np.maximum(self._free, lower), upper)
        free, free_value, steps = self._newton(free, lower, upper, None, 2)
        self._free = free
        if value <= _TRAPPED * free_value:
            return free, np.inf, steps
        x, other, more, _ = self._in_contact(safe, free, lower, upper)
        return x, other, steps + more

    def _in_contact(self, safe, x, lower, upper):
        """As `_newton` from x with near pairs kept apart; what still collides goes back towards `safe`.

        Returns (x, value, steps, whether a contact presses).
        """
        self._set_pose(x)
        near = self.watch.near(x[: self._n], _LOOK)
        if len(near) > _MOST:
            near = near[np.argpartition(self.watch.measure(near), _MOST)[:_MOST]]
        x, _, steps = self._newton(x, lower, upper, near, _STEPS_IN_CONTACT)
        for _ in range(4):
            self._set_pose(x)
            pressed = self.watch.near(x[: self._n], 0.0)
            if not len(pressed):
                pressing = len(near) and bool((self.watch.measure(near) < self.watch.margin + 2.0 * _BEFORE).any())
                return x, self.objective.value(x), steps, pressing
            x = self._part(x, pressed, lower, upper)
        if self.watch.clearance(x[: self._n]) < 0.0:
            x = self._back(safe, x)
        return x, self.objective.value(x), steps, True

    def _part(self, x, pressed, lower, upper):
        """The smallest move that takes the `pressed` pairs apart, to first order."""
        gap = self.watch.margin + _BEFORE - self.watch.measure(pressed)
        rows = self.watch.gradients()
        push = np.linalg.solve(np.dot(rows, rows.T) + 1e-8 * np.eye(len(rows)), gap)
        moved = x.copy()
        moved[: self._n] += np.clip(np.dot(push, rows), -_TRUST, _TRUST)
        return np.minimum(np.maximum(moved, lower), upper)

    def _back(self, safe, x):
        """The point furthest from `safe` towards x that is clear; `safe` itself when none is."""
        for part in _BACK:
            candidate = safe + part * (x - safe)
            if self.watch.clearance(candidate[: self._n]) >= 0.0:
                return candidate
        return safe

    def _newton(self, x, lower, upper, near, limit=_STEPS):
        """Bounded Newton steps with halving: (x, value with springs, steps). `near`: pairs to keep apart, or None."""
        value = self._value(x, near)
        enough = _GAIN if near is None else _GAIN_IN_CONTACT
        for step in range(1, limit + 1):
            move, gain = self._step(x, lower, upper, near)
            if gain <= 1e-12:
                break
            accepted = None
            for scale in (1.0, 0.5, 0.25, 0.1, 0.02):
                candidate = np.minimum(np.maximum(x + scale * move, lower), upper)
                new = self._value(candidate, near)
                if new < value:
                    accepted = candidate
                    break
            if accepted is None:
                break
            x, value = accepted, new
            if gain <= enough * value:
                break
        return x, value, step

    def _step(self, x, lower, upper, near):
        """(step (n,), decrease that the quadratic model promises)."""
        low, high = lower - x, upper - x
        if near is not None:
            low, high = np.maximum(low, -_TRUST), np.minimum(high, _TRUST)
        # Between contacts the true Hessian converges fastest; in contact Gauss-Newton is cheaper and as good.
        for exact in (True, False) if near is None else (False,):
            gradient, matrix = self.objective.derivatives(exact)
            if near is not None and len(near):
                move, gain = self._step_apart(gradient, matrix, low, high)
            else:
                move = box_newton_step(gradient, matrix, low, high)
                gain = 0.0 if move is None else -(gradient.dot(move) + 0.5 * move.dot(np.dot(matrix, move)))
            if move is not None and (gain > 0.0 or not exact):
                # Bounds can make a good direction too long for the model: then its slope is what counts.
                return move, gain if gain > 0.0 else -float(gradient.dot(move))
        return np.zeros_like(x), 0.0

    def _step_apart(self, gradient, matrix, low, high):
        """A step that also keeps the near pairs apart, to first order: springs on those that it would press."""
        keep, distance, rows = self._keep, self._distance, np.zeros((len(self._distance), len(gradient)))
        rows[:, : self._n] = self.watch.gradients()
        active = distance < keep
        for _ in range(4):
            pressed, gap = rows[active], keep - distance[active]
            sprung = matrix + _STIFFNESS * np.dot(pressed.T, pressed)
            move = box_newton_step(gradient - _STIFFNESS * gap.dot(pressed), sprung, low, high)
            if move is None:
                return None, 0.0
            after = distance + np.dot(rows, move)
            wrong = (~active & (after < keep - _SLACK)) | (active & (after > keep + _SLACK))
            if not wrong.any():
                break
            active = active ^ wrong
        before, left = np.maximum(keep - distance, 0.0), np.maximum(keep - after, 0.0)
        gain = -(gradient.dot(move) + 0.5 * move.dot(np.dot(matrix, move)))
        return move, gain + 0.5 * _STIFFNESS * (before.dot(before) - left.dot(left))

    def _value(self, x, near) -> float:
        value = self.objective.value(x)
        if near is not None and len(near):
            if self._own_pose is not None:
                self._own_pose.update(x[: self._n])
            self._keep, self._distance = self.watch.margin + _BEFORE, self.watch.measure(near)
            depth = np.maximum(self._keep - self._distance, 0.0)
            value += 0.5 * _STIFFNESS * float(depth.dot(depth))
        return value

    def _set_pose(self, x) -> None:
        if self._own_pose is not None:
            self._own_pose.update(x[: self._n])
        else:
            self.pose.update(x)
