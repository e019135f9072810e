"""The live solver: one bounded, collision-free minimum of an objective, from a warm start."""

from dataclasses import dataclass

import numpy as np

from ..hands.collision import CollisionWatch
from ..hands.live_pose import LivePose, box_newton_step
from .compiled_objective import Problem
from .objective import LiveObjective

# Newton's method converges quadratically: one more step after this relative gain leaves far less than 0.1 %.
_GAIN, _STEPS, _STEPS_BEFORE_LOOKING = 1e-3, 8, 3
# Contacts go on over many frames, so each frame may leave some of the way to the next.
_GAIN_IN_CONTACT, _STEPS_IN_CONTACT = 1e-2, 2
# A frame does about so much work, and leaves the rest to the next one: late is worse than not quite there. In units of
# the time that judging a pose with contacts takes; no clock, so that the same frames give the same poses anywhere.
_WORK_FREE, _WORK, _WORK_ON_CONTACTS = 28.0, 11.0, 5.0  # without contacts, with, and what is left for them at least
_EVALUATION, _DERIVATIVES, _LINEAR_SOLVE = 0.5, 1.3, 0.8
# Contacts are held by stiff springs that start a little before the margin, so that what they give stays outside.
_STIFFNESS = 2e5
_BEFORE, _SLACK = 3e-4, 5e-5  # m
_TRUST = 0.25  # rad, how far a step near contacts may go: distances are taken as linear
_LOOK = 0.012  # m, pairs this near may come into contact within one step
_PARTINGS = 4  # times that pairs which a step left too near are moved apart
_MOST = 24  # of them; what this leaves out is caught afterwards
_BACK = (0.9, 0.7, 0.5, 0.3, 0.15, 0.05)
# A hand held up by a contact may be on the wrong side of it: then the far side is tried, at most this often [frames].
# That takes some frames, each with one step on either side.
_TRAPPED, _TRY_EVERY = 1.1, 12
_STEPS_BESIDE, _FRAMES_TO_CROSS = 1, 5


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
        self._free: np.ndarray | None = None  # where the hand would be without contacts
        self._other: np.ndarray | None = None  # a pose on the far side of them that is tried
        self._tries, self._work, self._settled = 0, 0.0, True
        self._touching, self._trapped = 0, False

    @property
    def _contacts(self) -> CollisionWatch:
        assert self.watch is not None, "nothing watches for contacts"
        return self.watch

    def reset(self) -> None:
        """Forget which pinches were closed, and contacts."""
        self.objective.reset()
        self._touching, self._trapped, self._other = 0, False, None

    def solve(self, start: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Solution:
        """The minimum near `start` (n,), which lies within [lower, upper] and is free of collision."""
        free, steps = None, 0
        self._work = 0.0
        if self.watch is None or not self._touching:
            free, free_value, steps, clear = self._without_contacts(start, lower, upper)
            if clear:
                return Solution(free, free_value, steps, False)
            self._free = free
        limit = _STEPS_IN_CONTACT if self._other is None else _STEPS_BESIDE
        x, value, more, pressing = self._in_contact(start, start, lower, upper, limit)
        steps += more
        if self._other is not None:
            other, other_value, more = self._cross(lower, upper)
            steps += more
            if other_value < value:
                x, value, pressing, self._other = other, other_value, True, None
        elif self._touching and (self._trapped or self._touching % _TRY_EVERY == 0):
            steps += self._look_across(value, lower, upper)
        elif free is not None:
            self._trapped = value > _TRAPPED * free_value  # looked after in the next frame, to share the work out
        self._touching = self._touching + 1 if pressing else 0
        if not pressing:
            self._other = None
        return Solution(x, value, steps, pressing)

    def _without_contacts(
        self, start: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, float, int, bool]:
        """(x, value, steps, whether it is clear); looks early, so as not to seek to the end what cannot be taken."""
        x, value, steps = start, np.inf, 0
        for limit in (_STEPS_BEFORE_LOOKING, _STEPS - _STEPS_BEFORE_LOOKING):
            x, value, more = self._newton(x, lower, upper, None, limit)
            steps += more
            if self.watch is not None and self.watch.clearance(x[: self._n], self._own_pose is None) < 0.0:
                return x, value, steps, False
            if self._settled:
                break
        return x, value, steps, True

    def _look_across(self, value: float, lower: np.ndarray, upper: np.ndarray) -> int:
        """Begin to try the far side, where the hand would be without contacts, if that promises something."""
        assert self._free is not None, "where it would be without contacts was sought before any was found"
        free = np.minimum(np.maximum(self._free, lower), upper)
        self._free, free_value, steps = self._newton(free, lower, upper, None, 2)
        self._trapped = False
        if value > _TRAPPED * free_value:
            self._other, self._tries = self._free, _FRAMES_TO_CROSS
        return steps

    def _cross(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, float, int]:
        """A part of the way to the minimum on the far side: (x, its value, steps). Given up after some frames."""
        assert self._other is not None, "no far side is tried"
        other = np.minimum(np.maximum(self._other, lower), upper)
        x, value, steps, _ = self._in_contact(None, other, lower, upper, _STEPS_BESIDE)
        self._tries -= 1
        self._other = x if self._tries > 0 else None
        return x, value, steps

    def _in_contact(
        self, safe: np.ndarray | None, x: np.ndarray, lower: np.ndarray, upper: np.ndarray, limit: int
    ) -> tuple[np.ndarray, float, int, bool]:
        """As `_newton` from x with near pairs kept apart; what still collides goes back towards `safe`, where that is
        given.

        Returns (x, value, steps, whether a contact presses); the value of what still collides is infinite.
        """
        self._set_pose(x)
        near = self._contacts.near(x[: self._n], _LOOK)
        if len(near) > _MOST:
            near = near[np.argpartition(self._contacts.measure(near), _MOST)[:_MOST]]
        x, _, steps = self._newton(x, lower, upper, near, limit)
        for _ in range(_PARTINGS if safe is not None else 1):
            self._set_pose(x)
            pressed = self._contacts.near(x[: self._n], 0.0)
            if not len(pressed):
                pressing = len(near) > 0 and bool(
                    (self._contacts.measure(near) < self._contacts.margin + 2.0 * _BEFORE).any()
                )
                return x, self.objective.value(x), steps, pressing
            x = self._part(x, pressed, lower, upper)
        if self._contacts.clearance(x[: self._n]) < 0.0:
            if safe is None:
                return x, np.inf, steps, True
            x = self._back(safe, x)
        return x, self.objective.value(x), steps, True

    def _part(self, x: np.ndarray, pressed: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """The smallest move that takes the `pressed` pairs apart, to first order."""
        gap = self._contacts.margin + _BEFORE - self._contacts.measure(pressed)
        rows = self._contacts.gradients()
        push = np.linalg.solve(np.dot(rows, rows.T) + 1e-8 * np.eye(len(rows)), gap)
        moved = x.copy()
        moved[: self._n] += np.clip(np.dot(push, rows), -_TRUST, _TRUST)
        return np.minimum(np.maximum(moved, lower), upper)

    def _back(self, safe: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The point furthest from `safe` towards x that is clear; `safe` itself when none is."""
        for part in _BACK:
            candidate = safe + part * (x - safe)
            if self._contacts.clearance(candidate[: self._n]) >= 0.0:
                return candidate
        return safe

    def _newton(
        self, x: np.ndarray, lower: np.ndarray, upper: np.ndarray, near: np.ndarray | None, limit: int = _STEPS
    ) -> tuple[np.ndarray, float, int]:
        """Bounded Newton steps with halving: (x, value with springs, steps). `near`: pairs to keep apart, or None."""
        value = self._value(x, near)
        enough = _GAIN if near is None else _GAIN_IN_CONTACT
        most = _WORK_FREE if near is None else max(_WORK, self._work + _WORK_ON_CONTACTS)
        step, self._settled = 0, True
        while step < limit and self._work < most:
            step += 1
            move, gain = self._step(x, lower, upper, near)
            if gain <= 1e-12:
                break
            accepted = None
            for scale in (1.0, 0.5, 0.25, 0.1, 0.02):
                candidate = np.minimum(np.maximum(x + scale * move, lower), upper)
                new = self._value(candidate, near)
                if new < value:
                    accepted = candidate
                # Work that is up ends the search only after a step: without one the hand would never move again.
                if accepted is not None:
                    break
            if accepted is None:
                break
            x, value = accepted, new
            if gain <= enough * value:
                break
        else:
            self._settled = False
        return x, value, step

    def _step(
        self, x: np.ndarray, lower: np.ndarray, upper: np.ndarray, near: np.ndarray | None
    ) -> tuple[np.ndarray, float]:
        """(step (n,), decrease that the quadratic model promises)."""
        low, high = lower - x, upper - x
        if near is not None:
            low, high = np.maximum(low, -_TRUST), np.minimum(high, _TRUST)
        # Between contacts the true Hessian converges fastest; in contact Gauss-Newton is cheaper and as good.
        for exact in (True, False) if near is None else (False,):
            gradient, matrix = self.objective.derivatives(exact)
            self._work += _DERIVATIVES
            if near is not None and len(near):
                move, gain = self._step_apart(gradient, matrix, low, high)
            else:
                move = box_newton_step(gradient, matrix, low, high)
                self._work += _LINEAR_SOLVE
                gain = 0.0 if move is None else -(gradient.dot(move) + 0.5 * move.dot(np.dot(matrix, move)))
            if move is not None and (gain > 0.0 or not exact):
                # Bounds can make a good direction too long for the model: then its slope is what counts.
                return move, gain if gain > 0.0 else -float(gradient.dot(move))
        return np.zeros_like(x), 0.0

    def _step_apart(
        self, gradient: np.ndarray, matrix: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray | None, float]:
        """A step that also keeps the near pairs apart, to first order: springs on those that it would press."""
        keep, distance, rows = self._keep, self._distance, np.zeros((len(self._distance), len(gradient)))
        rows[:, : self._n] = self._contacts.gradients()
        active, move, after = distance < keep, np.zeros_like(gradient), distance
        for _ in range(4):
            pressed, gap = rows[active], keep - distance[active]
            sprung = matrix + _STIFFNESS * np.dot(pressed.T, pressed)
            found = box_newton_step(gradient - _STIFFNESS * gap.dot(pressed), sprung, low, high)
            self._work += _LINEAR_SOLVE
            if found is None:
                return None, 0.0
            move = found
            after = distance + np.dot(rows, move)
            wrong = (~active & (after < keep - _SLACK)) | (active & (after > keep + _SLACK))
            if not wrong.any():
                break
            active = active ^ wrong
        before, left = np.maximum(keep - distance, 0.0), np.maximum(keep - after, 0.0)
        gain = -(gradient.dot(move) + 0.5 * move.dot(np.dot(matrix, move)))
        return move, gain + 0.5 * _STIFFNESS * (before.dot(before) - left.dot(left))

    def _value(self, x: np.ndarray, near: np.ndarray | None) -> float:
        self._work += _EVALUATION if near is None else 1.0
        value = self.objective.value(x)
        if near is not None and len(near):
            if self._own_pose is not None:
                self._own_pose.update(x[: self._n])
            self._keep, self._distance = self._contacts.margin + _BEFORE, self._contacts.measure(near)
            depth = np.maximum(self._keep - self._distance, 0.0)
            value += 0.5 * _STIFFNESS * float(depth.dot(depth))
        return value

    def _set_pose(self, x: np.ndarray) -> None:
        if self._own_pose is not None:
            self._own_pose.update(x[: self._n])
        else:
            self.pose.update(x)
