"""Kinematics, objectives and self-collision of many poses of several hands at once, in torch (CPU or GPU).

The batch of B poses is the last axis of every tensor, so that each operation runs along it; the H hands of a batch are
laid end to end in the axes before. Definitions are those of the live path: the same `Problem` and `CapsuleModel`.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

from ..hands.kinematics import HandKinematics
from .compiled_objective import PinchState, Problem, Rows, posture

_TINY = 1e-12

Poses: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # rotations and origins of slots
Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # of tensors that belong together
# Of an evaluation: q, poses, positions of points, and each term's errors with their lengths.
State: TypeAlias = tuple[torch.Tensor, Poses, torch.Tensor, list[Pair]]
Coordinates: TypeAlias = torch.Tensor | Sequence[torch.Tensor]


def signature(problem: Problem) -> tuple:
    """Hands with equal signatures can be solved in one batch."""
    k = problem.kinematics
    kinds = tuple((rows.term.type, rows.term.delta, len(rows.tip), tuple(rows.origin < 0)) for rows in problem.rows)
    return k.n, k.depth, k.chains, len(problem.slots), kinds


class BatchKinematics:
    """Stacked forward kinematics of hands with n joints, chains of D slots; G chains in all.

    Slot (d, g) has number d * G + g; the number S = D * G is the base. Every slot follows one joint:
    q_slot = `factor` * q[`joint`] + `shift`.
    """

    def __init__(self, ks: list[HandKinematics], device: torch.device, dtype: torch.dtype):
        self.hands, self.n, self.depth, self.chains = len(ks), ks[0].n, ks[0].depth, ks[0].chains
        self.width = self.hands * self.chains
        joint = np.stack([np.abs(k.slot_matrix).argmax(1) + h * self.n for h, k in enumerate(ks)])
        factor = np.stack([k.slot_matrix[np.arange(len(k.slot_matrix)), np.abs(k.slot_matrix).argmax(1)] for k in ks])

        def by_slot(given: np.ndarray | list[np.ndarray], kind: torch.dtype = dtype) -> torch.Tensor:
            """(H, D * F, ...) -> (D * G, ...)."""
            array = np.asarray(given).reshape(self.hands, self.depth, self.chains, *np.shape(given)[2:])
            return torch.as_tensor(
                array.swapaxes(0, 1).reshape(self.depth * self.width, *array.shape[3:]), device=device, dtype=kind
            )

        self.joint, self.factor = by_slot(joint, torch.long), by_slot(factor)
        self.shift = by_slot([k.slot_offset for k in ks])
        constant = by_slot([k.constant.reshape(-1, 4, 4) for k in ks]).reshape(self.depth, self.width, 4, 4)
        self.turn, self.offset = constant[..., :3, :3].transpose(-1, -2).contiguous(), constant[..., :3, 3].contiguous()
        self.sliding = by_slot([k.prismatic.reshape(-1) for k in ks], torch.bool)
        self.any_sliding = bool(self.sliding.any())

    def renumber(self, hand: int, slots: np.ndarray) -> np.ndarray:
        """A hand's own slot numbers -> numbers in this batch."""
        depth, chain = np.divmod(slots, self.chains)
        moved = depth * self.width + hand * self.chains + chain
        return np.where(slots >= self.depth * self.chains, self.depth * self.width, moved)

    def poses(self, q: torch.Tensor) -> Poses:
        """Rotations (S + 1, 3, 3, B) and origins (S + 1, 3, B) of all slots for q (H * n, B)."""
        batch, width = q.shape[-1], self.width
        angle = self.factor[:, None] * q[self.joint] + self.shift[:, None]
        turn = torch.where(self.sliding[:, None], 0.0, angle) if self.any_sliding else angle
        c, s = torch.cos(turn)[:, None], torch.sin(turn)[:, None]
        rotation = q.new_empty(self.depth * width + 1, 3, 3, batch)
        origin = q.new_empty(self.depth * width + 1, 3, batch)
        rotation[-1], origin[-1] = torch.eye(3, device=q.device, dtype=q.dtype)[..., None], 0.0
        for d in range(self.depth):
            here = slice(d * width, (d + 1) * width)
            if d == 0:
                local = self.turn[0].transpose(-1, -2)[..., None].expand(width, 3, 3, batch)
                origin[here] = self.offset[0][..., None]
            else:
                above = slice((d - 1) * width, d * width)
                local = torch.matmul(self.turn[d][:, None], rotation[above])
                origin[here] = origin[above] + torch.matmul(self.offset[d][:, None, None], rotation[above])[:, :, 0]
            x, y = local[:, :, 0], local[:, :, 1]
            rotation[here, :, 0] = c[here] * x + s[here] * y
            rotation[here, :, 1] = c[here] * y - s[here] * x
            rotation[here, :, 2] = local[:, :, 2]
            if self.any_sliding:
                origin[here] += torch.where(self.sliding[here, None], angle[here], 0.0)[:, None] * local[:, :, 2]
        return rotation, origin


class BatchPoints:
    """Points on slots: positions, and per point the slots that move it with their columns d(position)/d(joint)."""

    def __init__(
        self,
        kinematics: BatchKinematics,
        ks: list[HandKinematics],
        slots: list[np.ndarray],
        offsets: torch.Tensor,
        device: torch.device,
        dtype: torch.dtype,
    ):
        self.kinematics, self.count = kinematics, sum(len(s) for s in slots)
        tables = [k.jacobian_arrays(np.asarray(s)) for k, s in zip(ks, slots)]
        index = np.concatenate([kinematics.renumber(h, i) for h, (i, _) in enumerate(tables)])
        active = np.concatenate([(np.abs(w).sum(-1) > 0) for _, w in tables])
        self.slots = torch.as_tensor(
            np.concatenate([kinematics.renumber(h, np.asarray(s)) for h, s in enumerate(slots)]), device=device
        )
        self.offsets = torch.as_tensor(np.concatenate(offsets), device=device, dtype=dtype)
        self.index = torch.as_tensor(index, device=device)
        flat = self.index.reshape(-1)
        self.factor = (kinematics.factor[flat] * torch.as_tensor(active.reshape(-1), device=device)).reshape(
            *index.shape, 1
        )
        self.joint = kinematics.joint[flat].reshape(index.shape)  # (K, D), numbers among all hands' joints
        self.sliding = kinematics.sliding[flat].reshape(*index.shape, 1, 1) if kinematics.any_sliding else None
        depth = index.shape[1]
        upper = torch.ones(depth, depth, device=device, dtype=dtype).triu(1)
        self.upper = (upper + 0.5 * torch.eye(depth, device=device, dtype=dtype))[..., None]
        local = self.joint % kinematics.n
        self.entry = (self.joint[:, :, None] * kinematics.n + local[:, None, :]).reshape(-1)  # rows of (H * n * n, B)

    def positions(self, poses: Poses) -> torch.Tensor:
        """(K, 3, B)."""
        rotation, origin = poses
        frames = rotation[self.slots]
        return origin[self.slots] + (frames * self.offsets[:, None, :, None]).sum(2)

    def columns(self, poses: Poses, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Axes and columns (K, D, 3, B) of the slots that move each point."""
        rotation, origin = poses
        flat = self.index.reshape(-1)
        lead = (*self.index.shape, 3, -1)
        axis = rotation[flat, :, 2].reshape(lead)
        column = cross(axis, positions[:, None] - origin[flat].reshape(lead))
        if self.sliding is not None:
            column = torch.where(self.sliding, axis, column)
        return axis, column * self.factor[..., None]

    def add_gradient(self, gradient: torch.Tensor, column: torch.Tensor, force: torch.Tensor) -> None:
        """gradient (H * n, B) += the forces (K, 3, B) on the points, as torques on the joints."""
        gradient.index_add_(0, self.joint.reshape(-1), (column * force[:, None]).sum(2).flatten(0, 1))

    def add_curvature(
        self, matrix: torch.Tensor, axis: torch.Tensor, column: torch.Tensor, force: torch.Tensor
    ) -> None:
        """matrix (H * n * n, B) += sum_k force_k . d2(position_k)/dq2, as `live.PointSet.curvature`."""
        turn = cross(force[:, None], axis) * self.factor[..., None]
        if self.sliding is not None:
            turn = torch.where(self.sliding, 0.0, turn)
        second = _outer(turn, column) * self.upper
        second = second + second.transpose(1, 2)
        matrix.index_add_(0, self.entry, second.flatten(0, 2))


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
        block = _outer(column, column).mul_(pull[rows][:, None, None])
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
        matrix.index_add_(0, self.entry, _outer(stiff[:, None] * used, used).flatten(0, 2))


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


class BatchCollision:
    """Capsule distances of the hands of a batch, and their gradients. Pair lists are padded to P pairs a hand."""

    def __init__(self, problems: list[Problem], device: torch.device, dtype: torch.dtype):
        models = [p.hand.capsules for p in problems]
        ks = [p.hand.kinematics for p in problems]
        self.hands = len(models)
        self.kinematics = BatchKinematics(ks, device, dtype)
        self.margin = max(m.margin for m in models)
        starts, ends = [m.ends[:, 0] for m in models], [m.ends[:, 1] - m.ends[:, 0] for m in models]
        self.capsules = BatchPoints(self.kinematics, ks, [m.slots for m in models], starts, device, dtype)
        self.along = torch.as_tensor(np.concatenate(ends), device=device, dtype=dtype)
        self.local = self.capsules.joint % self.kinematics.n
        self.square = self.along.square().sum(1, keepdim=True).clamp_min(_TINY)
        count, most = np.cumsum([0] + [len(m.links) for m in models]), max(len(m) for m in models)
        padded = [np.resize(np.arange(len(m)), most) for m in models]
        pairs = np.stack([m.pairs[i] + c for m, i, c in zip(models, padded, count)])
        thick = np.stack([m.thickness[i] for m, i in zip(models, padded)])
        self.pairs = torch.as_tensor(pairs, device=device)  # (H, P, 2)
        self.thick = torch.as_tensor(thick, device=device, dtype=dtype)

    def segments(self, poses: Poses) -> Pair:
        """One end and the vector to the other end of each capsule, both (3, C, B): coordinates first, to gather
        fast.
        """
        rotation = poses[0][self.capsules.slots]
        along = (rotation * self.along[:, None, :, None]).sum(2)
        return tuple(x.transpose(0, 1).contiguous() for x in (self.capsules.positions(poses), along))

    def distances(
        self, segments: Pair, pairs: torch.Tensor | None = None, thick: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Pair]:
        """Surface distances (H, P, B) m, all or of the given pairs (H, P, 2), and where on the capsules they are.

        The same closest points as `capsules.segment_distance`, in place and coordinate by coordinate: this is where a
        horizon spends its time.
        """
        start, along = segments
        if pairs is None or thick is None:
            pairs, thick = self.pairs, self.thick
        first, second = pairs[..., 0].reshape(-1), pairs[..., 1].reshape(-1)
        u, v = ([x.index_select(0, side) for x in along] for side in (first, second))
        w = [x.index_select(0, first).sub_(x.index_select(0, second)) for x in start]
        uu, vv = self.square[first], self.square[second]
        uv, uw, vw, ww = (_dot(a, b) for a, b in ((u, v), (u, w), (v, w), (w, w)))
        s = (uv * vw).addcmul_(vv, uw, value=-1.0).div_((uu * vv - uv * uv).clamp_min_(_TINY)).clamp_(0.0, 1.0)
        t = (uv * s).add_(vw).div_(vv).clamp_(0.0, 1.0)
        s = (uv * t).sub_(uw).div_(uu).clamp_(0.0, 1.0)
        ww.addcmul_(s, (s * uu).add_(uw, alpha=2.0)).addcmul_(t, (t * vv).sub_(vw, alpha=2.0))
        ww.addcmul_(s * t, uv, value=-2.0)
        lead = (self.hands, -1, ww.shape[-1])
        return ww.clamp_min_(0.0).sqrt_().reshape(lead) - thick[..., None], (s.reshape(lead), t.reshape(lead))

    def nearest(
        self, poses: Poses, segments: Pair, pairs: torch.Tensor, distance: torch.Tensor, where: Pair, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` nearest pairs of each pose: distances (H, k, B) and their gradients (H, k, n, B)."""
        start, along = segments
        distance, chosen = distance.topk(count, dim=1, largest=False, sorted=False)
        s, t = (x.gather(1, chosen).reshape(-1, x.shape[-1]) for x in where)
        hands, batch = distance.shape[0], distance.shape[-1]
        capsules = [
            pairs[..., side, None].expand(-1, -1, batch).gather(1, chosen).reshape(-1, batch) for side in (0, 1)
        ]
        points = [
            [x.gather(0, capsule).addcmul_(part, y.gather(0, capsule)) for x, y in zip(start, along)]
            for capsule, part in zip(capsules, (s, t))
        ]
        normal = [a - b for a, b in zip(*points)]
        length = _dot(normal, normal).sqrt_().clamp_min_(1e-9)
        normal = [x.div_(length) for x in normal]
        rotation, origin = poses
        rows = normal[0].new_zeros(hands * count, self.kinematics.n, batch)
        for capsule, point, sign in zip(capsules, points, (1.0, -1.0)):
            for d in range(self.capsules.index.shape[1]):
                slot = self.capsules.index[:, d][capsule]
                ax, ay, az = (rotation[:, i, 2].gather(0, slot) for i in range(3))
                rx, ry, rz = (p - origin[:, i].gather(0, slot) for i, p in enumerate(point))
                turn = (ay * rz - az * ry).mul_(normal[0])
                turn.addcmul_(az * rx - ax * rz, normal[1]).addcmul_(ax * ry - ay * rx, normal[2])
                joint = self.local[:, d][capsule]
                rows.scatter_add_(1, joint[:, None], (sign * self.capsules.factor[:, d, 0][capsule] * turn)[:, None])
        return distance, rows.reshape(hands, count, -1, batch)


def _dot(a: Coordinates, b: Coordinates) -> torch.Tensor:
    """Dot product of vectors given as three coordinate tensors."""
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])


def _outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Dot products (K, D, D, B) of all columns of a (K, D, 3, B) with all of b."""
    return _dot([a[:, :, None, i] for i in range(3)], [b[:, None, :, i] for i in range(3)])


def cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cross product along the last but one axis."""
    ax, ay, az = a.unbind(-2)
    bx, by, bz = b.unbind(-2)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim=-2)


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
