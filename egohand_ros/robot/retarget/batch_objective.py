"""Objectives of many poses of several hands at once, in torch (CPU or GPU), with their derivatives.

Axes are those of `batch_kinematics.py`: poses last, the hands of a batch end to end before them. Definitions are those
of the live path: the same `Problem`.
"""

from typing import TypeAlias

import numpy as np
import torch

from .batch_kinematics import BatchKinematics, BatchPoints, Pair, Poses, outer
from .compiled_objective import PinchState, Problem, Rows, posture

# Of an evaluation: q, poses, positions of points, and each term's errors with their lengths.
State: TypeAlias = tuple[torch.Tensor, Poses, torch.Tensor, list[Pair]]


def signature(problem: Problem) -> tuple:
    """Hands with equal signatures can be solved in one batch."""
    k = problem.kinematics
    kinds = tuple((rows.term.type, rows.term.delta, len(rows.tip), tuple(rows.origin < 0)) for rows in problem.rows)
    return k.n, k.depth, k.chains, len(problem.slots), kinds


class BatchObjective:
    """Value and derivatives of the objectives of H hands at q (H * n, B)."""

    def __init__(self, problems: list[Problem], device: torch.device, dtype: torch.dtype):
        self.problems = problems
        ks = [p.kinematics for p in problems]
        self.kinematics = BatchKinematics(ks, device, dtype)
        self.points = BatchPoints(
            self.kinematics, ks, [p.slots for p in problems], [p.offsets for p in problems], device, dtype
        )
        self.terms = [
            _batch_term(rows, len(problems[0].slots), self, device, dtype) for rows in zip(*(p.rows for p in problems))
        ]
        self.regularization = torch.tensor([p.objective.regularization for p in problems], device=device, dtype=dtype)
        self.regularization = self.regularization.repeat_interleave(self.kinematics.n)[:, None]
        pulls = [posture(p) for p in problems]
        self.pull = torch.as_tensor(np.concatenate([w for w, _ in pulls]), device=device, dtype=dtype)[:, None]
        to = np.concatenate([np.zeros_like(w) if pose is None else pose for w, pose in pulls])
        self.pull_to = torch.as_tensor(to, device=device, dtype=dtype)[:, None]
        self.has_pull = bool(self.pull.any())
        self.scales = torch.as_tensor(np.stack([p.scales for p in problems]), device=device, dtype=dtype)

    def aim(self, human: torch.Tensor) -> None:
        """Targets from keypoints (H, K hypotheses, T steps, 21, 3) in the base axes, palm-centred; B = K * T."""
        for term in self.terms:
            term.aim(human, self.scales)

    def evaluate(self, q: torch.Tensor) -> tuple[torch.Tensor, State]:
        """Values (H, B) without the pull to the last pose, and what `derivatives` needs."""
        poses = self.kinematics.poses(q)
        positions = self.points.positions(poses)
        value = 0.0
        if self.has_pull:
            value = value + self.per_hand(self.pull * (q - self.pull_to).square())
        parts = []
        for term in self.terms:
            part, state = term.value(positions)
            value = value + part
            parts.append(state)
        return value, (q, poses, positions, parts)

    def stay(self, delta: torch.Tensor) -> torch.Tensor:
        """The pull to the last pose (H, B), `delta` (H * n, B) away from it."""
        return self.per_hand(self.regularization * delta.square())

    def per_hand(self, values: torch.Tensor) -> torch.Tensor:
        """Sum (H * n, B) over each hand's joints: (H, B)."""
        return values.reshape(self.kinematics.hands, -1, values.shape[-1]).sum(1)

    def derivatives(self, state: State, delta: torch.Tensor, exact: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradient (H * n, B) and Hessian (H, n, n, B) of value plus `stay`; `exact` may make it indefinite."""
        q, poses, positions, parts = state
        hands, n = self.kinematics.hands, self.kinematics.n
        axis, column = self.points.columns(poses, positions)
        gradient = 2.0 * self.regularization * delta
        diagonal = self.regularization.expand_as(delta)
        if self.has_pull:
            gradient = gradient + 2.0 * self.pull * (q - self.pull_to)
            diagonal = diagonal + self.pull
        matrix = q.new_zeros(hands * n * n, q.shape[-1])
        matrix.reshape(hands, n * n, -1)[:, :: n + 1] = 2.0 * diagonal.reshape(hands, n, -1)
        force = torch.zeros_like(positions)
        for term, part in zip(self.terms, parts):
            term.add(part, column, matrix, force, exact)
        self.points.add_gradient(gradient, column, force)
        if exact:
            self.points.add_curvature(matrix, axis, column, force)
        return gradient, matrix.reshape(hands, n, n, -1)


def _batch_term(
    rows: tuple[Rows, ...], points: int, objective: BatchObjective, device: torch.device, dtype: torch.dtype
) -> "_BatchTerm":
    """The term of all hands that `rows`, one of each, make together."""
    return _BATCH_TERMS[rows[0].term.type](rows, points, objective, device, dtype)


class _BatchTerm:
    """One term's rows of all hands: vectors between points, whose lengths of error are Huber's.

    Rows whose origin does not move are kept apart: they need half the columns. Kinds of terms say what is aimed at
    (`_targets`), what the error is (`_error`), and how it curves (`add`).
    """

    def __init__(
        self, rows: tuple[Rows, ...], points: int, objective: BatchObjective, device: torch.device, dtype: torch.dtype
    ):
        self.rows, self.term, self.device = rows, rows[0].term, device
        self.hands = len(rows)

        def tensor(array: np.ndarray, kind: torch.dtype = dtype) -> torch.Tensor:
            return torch.as_tensor(np.asarray(array), device=device, dtype=kind)

        shift = points * np.arange(self.hands)[:, None]
        tip = np.stack([r.tip for r in rows]) + shift
        origin = np.stack([r.origin for r in rows])
        self.tip = tensor(tip.reshape(-1), torch.long)
        self.origin = tensor(np.where(origin >= 0, origin + shift, -1).reshape(-1), torch.long)
        base = objective.kinematics.depth * objective.kinematics.width
        moving = (self.origin >= 0) & (objective.points.slots[self.origin.clamp_min(0)] != base)
        self.has_origin = bool((self.origin >= 0).any())
        self.fixed, self.pairs = (~moving).nonzero()[:, 0], moving.nonzero()[:, 0]
        n, joint = objective.kinematics.n, objective.points.joint
        self.entry = objective.points.entry.reshape(*joint.shape, joint.shape[1])[self.tip[self.fixed]].reshape(-1)
        both = torch.cat([joint[self.tip[self.pairs]], joint[self.origin[self.pairs]]], dim=1)
        self.pair_entry = (both[:, :, None] * n + (both % n)[:, None, :]).reshape(-1)
        self.weight = tensor(np.stack([r.weights for r in rows])).flatten(0, 1)
        self.human_tip, self.human_origin = (
            tensor(np.stack([getattr(r, f"human_{k}") for r in rows]), torch.long) for k in ("tip", "origin")
        )
        self.anchor = tensor(np.stack([r.anchor for r in rows]))

    def aim(self, human: torch.Tensor, scales: torch.Tensor) -> None:
        hands = torch.arange(self.hands, device=human.device)[:, None]
        by_row = human.permute(0, 3, 4, 1, 2)  # (H, 21, 3, K, T)
        tip, origin = by_row[hands, self.human_tip], by_row[hands, self.human_origin]  # (H, m, 3, K, T)
        scale_tip, scale_origin = (
            scales.gather(1, i)[:, :, None, None, None] for i in (self.human_tip, self.human_origin)
        )
        target, weight = self._targets(tip, origin, scale_tip, scale_origin)
        self.target = target.flatten(3).flatten(0, 1)  # (H * m, 3, B)
        self.frame_weight = weight.flatten(0, 1)  # (H * m, B or 1), or (H * m, 3, B)

    def _row_weight(self) -> torch.Tensor:
        """(H, m, 1), or (H, m, 3, 1) where each coordinate has its own."""
        return self.weight.reshape(self.hands, -1, *self.weight.shape[1:], 1)

    def _targets(
        self, tip: torch.Tensor, origin: torch.Tensor, scale_tip: torch.Tensor, scale_origin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Targets (H, m, 3, K, T) and row weights, from keypoints (H, m, 3, K, T) and their scales."""
        target = scale_tip * tip - scale_origin * origin
        return torch.nan_to_num(target), self._row_weight() * _known(target)

    def _error(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Errors (H * m, 3, B) of the robot's vectors, and what Huber's loss is of."""
        error = vector - self.target
        return error, error.norm(dim=1)

    def value(self, positions: torch.Tensor) -> tuple[torch.Tensor, Pair]:
        vector = positions[self.tip]
        if self.has_origin:
            vector = vector - torch.where((self.origin >= 0)[:, None, None], positions[self.origin.clamp_min(0)], 0.0)
        error, distance = self._error(vector)
        near = distance.clamp_max(self.term.delta)
        loss = self.frame_weight * near * (distance - 0.5 * near)
        return loss.reshape(self.hands, -1, loss.shape[-1]).sum(1) / self.term.delta, (error, distance)

    def add(self, state: Pair, column: torch.Tensor, matrix: torch.Tensor, force: torch.Tensor, exact: bool) -> None:
        """Add the term's part of the Hessian (H * n * n, B) and its forces on the points (K, 3, B), in place."""
        error, distance = state
        pull = self.frame_weight / distance.clamp_min(self.term.delta)
        each = pull[:, None] * error
        force.index_add_(0, self.tip, each)
        if len(self.pairs):
            force.index_add_(0, self.origin[self.pairs], -each[self.pairs])
        pull, lesser = self._stiffness(pull, distance, exact)
        unit = error / distance.clamp_min(1e-9)[:, None]
        if len(self.fixed):
            self._add_block(matrix, self.entry, column[self.tip[self.fixed]], pull, lesser, unit, self.fixed)
        if len(self.pairs):
            both = torch.cat([column[self.tip[self.pairs]], -column[self.origin[self.pairs]]], dim=1)
            self._add_block(matrix, self.pair_entry, both, pull, lesser, unit, self.pairs)

    def _stiffness(
        self, pull: torch.Tensor, distance: torch.Tensor, exact: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Second derivatives of the loss: in all directions, and how much less along the error."""
        return pull, pull * (distance > self.term.delta) if exact else None

    @staticmethod
    def _add_block(
        matrix: torch.Tensor,
        entry: torch.Tensor,
        column: torch.Tensor,
        pull: torch.Tensor,
        lesser: torch.Tensor | None,
        unit: torch.Tensor,
        rows: torch.Tensor,
    ) -> None:
        """pull J^T J, less what is flat along the error: a distance beyond delta counts only sideways."""
        block = outer(column, column).mul_(pull[rows][:, None, None])
        if lesser is not None:
            along = (column * unit[rows][:, None]).sum(2)
            block.addcmul_((lesser[rows][:, None] * along)[:, :, None], along[:, None], value=-1.0)
        matrix.index_add_(0, entry, block.flatten(0, 2))


class _PositionTerm(_BatchTerm):
    """Points where keypoints are, each coordinate with its own Huber loss."""

    def _targets(
        self, tip: torch.Tensor, origin: torch.Tensor, scale_tip: torch.Tensor, scale_origin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        target = scale_tip * tip + self.anchor[:, None, :, None, None]
        return torch.nan_to_num(target), self._row_weight() * _known(target)[:, :, None]

    def _error(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        error = vector - self.target
        return error, error.abs()

    def add(self, state: Pair, column: torch.Tensor, matrix: torch.Tensor, force: torch.Tensor, exact: bool) -> None:
        error, distance = state
        pull = self.frame_weight / distance.clamp_min(self.term.delta)
        force.index_add_(0, self.tip, pull * error)
        stiff = pull * (distance <= self.term.delta) if exact else pull
        used = column[self.tip]
        matrix.index_add_(0, self.entry, outer(stiff[:, None] * used, used).flatten(0, 2))


class _PinchTerm(_BatchTerm):
    """DexPilot's vectors between fingertips, pulled together where they are pinched."""

    def __init__(
        self, rows: tuple[Rows, ...], points: int, objective: BatchObjective, device: torch.device, dtype: torch.dtype
    ):
        super().__init__(rows, points, objective, device, dtype)
        self.pinch = PinchState(rows[0])

    def _targets(
        self, tip: torch.Tensor, origin: torch.Tensor, scale_tip: torch.Tensor, scale_origin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Targets and weights (H, m, B), switching with hysteresis along the steps."""
        vector, scale = torch.nan_to_num(tip) - torch.nan_to_num(origin), scale_tip
        pinch, pairs, thumbs = self.pinch, self.pinch.pairs, self.pinch.thumb_pairs
        between = vector[:, :pairs]
        distance = between.norm(dim=2)  # (H, pairs, K, T)
        thumb = _latch(distance[:, :thumbs] < self.term.project, distance[:, :thumbs] > self.term.escape)
        both = thumb[:, pinch.first] & thumb[:, pinch.second] & (distance[:, thumbs:] <= self.term.project)
        closed = torch.cat([thumb, both], dim=1)
        gap, high = (
            torch.as_tensor(a, device=vector.device, dtype=vector.dtype)[:, None, None] for a in (pinch.gap, pinch.high)
        )
        pinched = between * (gap / (distance + 1e-6))[:, :, None]
        target = scale * vector
        target[:, :pairs] = torch.where(closed[:, :, None], pinched, target[:, :pairs])
        base = torch.full_like(vector[:, pairs:, 0], float(pairs + pinch.fingers))
        weight = torch.cat([torch.where(closed, high, 1.0), base], dim=1)
        return target, (weight * (self.term.weight / vector.shape[1])).flatten(2)


class _ContactTerm(_BatchTerm):
    """Distances between points that are kept where those of the keypoints are small."""

    def __init__(
        self, rows: tuple[Rows, ...], points: int, objective: BatchObjective, device: torch.device, dtype: torch.dtype
    ):
        if rows[0].to_object:
            raise NotImplementedError("contacts with objects are for the live path: a forecast has no objects")
        super().__init__(rows, points, objective, device, dtype)

    def _targets(
        self, tip: torch.Tensor, origin: torch.Tensor, scale_tip: torch.Tensor, scale_origin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        apart = torch.nan_to_num(tip) - torch.nan_to_num(origin)
        self.keep = apart.norm(dim=2).flatten(2).flatten(0, 1)
        near = (self.keep < self.term.near).reshape(self.hands, -1, self.keep.shape[-1])
        return torch.zeros_like(apart), self._row_weight() * near

    def _error(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        length = vector.norm(dim=1).clamp_min(1e-9)
        error = vector * (1.0 - self.keep / length)[:, None]
        return error, error.norm(dim=1)

    def _stiffness(
        self, pull: torch.Tensor, distance: torch.Tensor, exact: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A distance has a gradient along itself alone."""
        return torch.zeros_like(pull), -pull


_BATCH_TERMS: dict[str, type[_BatchTerm]] = {
    "vector": _BatchTerm,
    "position": _PositionTerm,
    "pinch": _PinchTerm,
    "contact": _ContactTerm,
}


def _known(target: torch.Tensor) -> torch.Tensor:
    """Rows (H, m, B) whose target (H, m, 3, K, T) is known: the others are left out, as live."""
    return torch.isfinite(target).all(dim=2).flatten(2)


def solve_positive(matrix: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x (H, n, B) with matrix (H, n, n, B) x = right (H, n, B) by Cholesky, and where it failed (H, B)."""
    a, y, n = matrix.clone(), right.clone(), matrix.shape[1]
    failed = torch.zeros_like(matrix[:, 0, 0], dtype=torch.bool)
    scale = []
    for j in range(n):
        pivot = a[:, j, j]
        failed |= pivot <= 1e-9
        root = pivot.clamp_min(1e-9).rsqrt()
        scale.append(root)
        y[:, j] *= root
        if j + 1 < n:
            column = a[:, j + 1 :, j].mul_(root[:, None])
            a[:, j + 1 :, j + 1 :].addcmul_(column[:, :, None], column[:, None], value=-1.0)
            y[:, j + 1 :].addcmul_(column, y[:, j : j + 1], value=-1.0)
    for j in range(n - 1, -1, -1):
        if j + 1 < n:
            y[:, j] -= (a[:, j + 1 :, j] * y[:, j + 1 :]).sum(1)
        y[:, j] *= scale[j]
    return y, failed


def _latch(on: torch.Tensor, off: torch.Tensor) -> torch.Tensor:
    """True from each `on` to the next `off` along the last axis; False before the first event."""
    steps = torch.arange(1, on.shape[-1] + 1, device=on.device)
    last_on = torch.where(on, steps, 0).cummax(dim=-1).values
    last_off = torch.where(off, steps, 0).cummax(dim=-1).values
    return last_on > last_off
