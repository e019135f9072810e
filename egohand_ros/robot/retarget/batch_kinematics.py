"""Kinematics and self-collision of many poses of several hands at once, in torch (CPU or GPU).

The batch of B poses is the last axis of every tensor, so that each operation runs along it; the H hands of a batch are
laid end to end in the axes before. Definitions are those of the live path: the same kinematics and `CapsuleModel`.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

from ..hands.kinematics import HandKinematics
from ..hands.model import HandModel

_TINY = 1e-12

Poses: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # rotations and origins of slots
Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # of tensors that belong together
Coordinates: TypeAlias = torch.Tensor | Sequence[torch.Tensor]


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
        second = outer(turn, column) * self.upper
        second = second + second.transpose(1, 2)
        matrix.index_add_(0, self.entry, second.flatten(0, 2))


class BatchCollision:
    """Capsule distances of the hands of a batch, and their gradients. Pair lists are padded to P pairs a hand."""

    def __init__(self, hands: list[HandModel], device: torch.device, dtype: torch.dtype):
        models = [hand.capsules for hand in hands]
        ks = [hand.kinematics for hand in hands]
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
        uv, uw, vw, ww = (dot(a, b) for a, b in ((u, v), (u, w), (v, w), (w, w)))
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
        length = dot(normal, normal).sqrt_().clamp_min_(1e-9)
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


def dot(a: Coordinates, b: Coordinates) -> torch.Tensor:
    """Dot product of vectors given as three coordinate tensors."""
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])


def outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Dot products (K, D, D, B) of all columns of a (K, D, 3, B) with all of b."""
    return dot([a[:, :, None, i] for i in range(3)], [b[:, None, :, i] for i in range(3)])


def cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cross product along the last but one axis."""
    ax, ay, az = a.unbind(-2)
    bx, by, bz = b.unbind(-2)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim=-2)
