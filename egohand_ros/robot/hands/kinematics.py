"""Forward kinematics and Jacobians of a hand from constant arrays, for the live path (NumPy, one pose).

The tree is unrolled into one chain per outermost joint. Fixed joints are folded into their neighbours and every joint
is turned so that it moves about its own z, so a joint's transform is a constant times Rz(q). Chains shorter than the
longest end in identities, and a joint shared by several chains appears in each. Every such *slot* is tied to the
actuated joints by `slot_matrix` and `slot_offset`, which hold mimic joints of any depth as well:
q_slot = slot_matrix @ q + slot_offset. Poses along all chains then come from log2(depth) stacked 4x4 products
(Hillis and Steele's parallel prefix).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from .urdf import Joint, RobotTree, transform

_Chain = list[tuple[Joint, np.ndarray]]  # joints outwards, and T_previous_joint of each


@dataclass(frozen=True, eq=False)
class HandKinematics:
    """Constant arrays of a hand with n actuated joints, N movable joints, F chains of at most D joints.

    `mimic_matrix` (N, n) and `mimic_offset` (N,): q_full = M q + b. `frames[link]` = (slot, T_slot_link), slot
    -1 for what is fixed to the base. Slots are numbered depth * F + chain.
    """

    base: str
    joint_names: tuple[str, ...]
    full_joint_names: tuple[str, ...]
    mimic_matrix: np.ndarray
    mimic_offset: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    depth: int
    chains: int
    constant: np.ndarray
    prismatic: np.ndarray
    slot_matrix: np.ndarray
    slot_offset: np.ndarray
    slot_joint: tuple[str | None, ...]
    frames: dict[str, tuple[int, np.ndarray]]

    @property
    def n(self) -> int:
        """Number of actuated joints."""
        return len(self.joint_names)

    def full_position(self, q: np.ndarray) -> np.ndarray:
        """All movable joints (..., N), mimic joints included, in `full_joint_names` order."""
        return np.asarray(q) @ self.mimic_matrix.T + self.mimic_offset

    def slot_transforms(self, q: np.ndarray) -> np.ndarray:
        """T_base_slot (..., D * F + 1, 4, 4) for q (..., n); the last one is the base itself (identity)."""
        q = np.asarray(q, dtype=float)
        lead = q.shape[:-1]
        slot_q = (q @ self.slot_matrix.T + self.slot_offset).reshape(*lead, self.depth, self.chains)
        angle = np.where(self.prismatic, 0.0, slot_q)
        local = np.broadcast_to(self.constant, (*lead, *self.constant.shape)).copy()
        x, y = self.constant[..., 0], self.constant[..., 1]
        c, s = np.cos(angle)[..., None], np.sin(angle)[..., None]
        local[..., 0] = c * x + s * y
        local[..., 1] = c * y - s * x
        slide = np.where(self.prismatic, slot_q, 0.0)
        local[..., :3, 3] += slide[..., None] * self.constant[..., :3, 2]
        out = np.empty((*lead, self.depth * self.chains + 1, 4, 4))
        out[..., -1, :, :] = np.eye(4)
        out[..., :-1, :, :] = _prefix_products(local, self.depth).reshape(*lead, -1, 4, 4)
        return out

    def link_poses(self, q: np.ndarray, links: Iterable[str]) -> np.ndarray:
        """T_base_link (..., L, 4, 4) of the named links for q (..., n)."""
        slots, offsets = self.frame_arrays(links)
        return self.slot_transforms(q)[..., slots, :, :] @ offsets

    def link_positions(self, q: np.ndarray, links: Iterable[str]) -> np.ndarray:
        """Origins (..., L, 3) m of the named links in the base frame."""
        return self.link_poses(q, links)[..., :3, 3]

    def link_jacobians(self, q: np.ndarray, links: Iterable[str]) -> np.ndarray:
        """d(position)/dq (L, 3, n) of the named links' origins for one pose q (n,)."""
        slots, offsets = self.frame_arrays(links)
        poses = self.slot_transforms(q)
        points = (poses[slots] @ offsets)[:, :3, 3]
        index, weight = self.jacobian_arrays(slots)
        axis, origin = poses[index][..., :3, 2], poses[index][..., :3, 3]
        column = np.cross(axis, points[:, None] - origin)
        column = np.where(self.prismatic.reshape(-1)[index][..., None], axis, column)
        return np.einsum("kdc,kdn->kcn", column, weight)

    def frame_arrays(self, links: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Slots (L,) and T_slot_link (L, 4, 4) of the named links; the base slot is D * F."""
        base = self.depth * self.chains
        found = [self.frame(link) for link in links]
        slots = np.array([base if slot < 0 else slot for slot, _ in found], dtype=int)
        return slots, np.stack([offset for _, offset in found])

    def frame(self, link: str) -> tuple[int, np.ndarray]:
        """(slot, T_slot_link) of a link; `UserError` lists the links when it is unknown."""
        if link not in self.frames:
            raise UserError(f"link {link!r} is not in the URDF; its links: {', '.join(self.frames)}")
        return self.frames[link]

    def jacobian_arrays(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For points on `slots` (K,): the slots that move them (K, D) and their weight on the joints (K, D, n)."""
        index = np.zeros((len(slots), self.depth), dtype=int)
        weight = np.zeros((len(slots), self.depth, self.n))
        for k, slot in enumerate(slots):
            if slot >= self.depth * self.chains:
                continue
            chain, depth = slot % self.chains, slot // self.chains
            index[k] = np.arange(self.depth) * self.chains + chain
            weight[k, : depth + 1] = self.slot_matrix[index[k, : depth + 1]]
        return index, weight


def _prefix_products(local: np.ndarray, depth: int) -> np.ndarray:
    """Products of local transforms (..., D, F, 4, 4) from the root to each depth."""
    step = 1
    while step < depth:
        longer = np.matmul(local[..., :-step, :, :, :], local[..., step:, :, :, :])
        local = np.concatenate([local[..., :step, :, :, :], longer], axis=-4)
        step *= 2
    return local


def build_kinematics(
    tree: RobotTree, joint_names: tuple[str, ...] | None = None, points: dict[str, tuple] | None = None
) -> HandKinematics:
    """Unroll a tree. `joint_names` sets the order of the actuated joints (all that mimic nothing, by default).

    `points[name]` = (link, x, y, z) m adds frames that the tree has no link for. A movable joint that is neither
    actuated nor a mimic of one is held at the point of its range nearest to zero. Raises `UserError` for unknown, fixed
    or mimic joints among `joint_names`.
    """
    movable = [joint for joint in tree.joints if joint.movable]
    names = _actuated(tree, movable, joint_names)
    matrix, offset = _mimic_map(movable, names)
    chains, frames = _unroll(tree)
    depth, count = max((len(c) for c in chains), default=1), max(len(chains), 1)
    rows = {joint.name: i for i, joint in enumerate(movable)}
    slot_matrix, slot_offset = np.zeros((depth * count, len(names))), np.zeros(depth * count)
    constant = np.broadcast_to(np.eye(4), (depth, count, 4, 4)).copy()
    prismatic = np.zeros((depth, count), dtype=bool)
    slot_joint: list[str | None] = [None] * (depth * count)
    for f, chain in enumerate(chains):
        for d, (joint, local) in enumerate(chain):
            slot = d * count + f
            slot_matrix[slot], slot_offset[slot] = matrix[rows[joint.name]], offset[rows[joint.name]]
            constant[d, f], prismatic[d, f] = local, joint.kind == "prismatic"
            slot_joint[slot] = joint.name
    lower, upper, velocity = _limits(movable, matrix, offset, names)
    for name, (link, *xyz) in (points or {}).items():
        if link not in frames:
            raise UserError(
                f"point {name!r} is on link {link!r}, which is not in the URDF; its links: {', '.join(frames)}"
            )
        f, d, local = frames[link]
        frames[name] = f, d, local @ transform(xyz, None)
    return HandKinematics(
        base=tree.root,
        joint_names=names,
        full_joint_names=tuple(joint.name for joint in movable),
        mimic_matrix=matrix,
        mimic_offset=offset,
        lower=lower,
        upper=upper,
        velocity=velocity,
        depth=depth,
        chains=count,
        constant=constant,
        prismatic=prismatic,
        slot_matrix=slot_matrix,
        slot_offset=slot_offset,
        slot_joint=tuple(slot_joint),
        frames={link: (d * count + f if d >= 0 else -1, local) for link, (f, d, local) in frames.items()},
    )


def _actuated(tree: RobotTree, movable: list[Joint], joint_names: Iterable[str] | None) -> tuple[str, ...]:
    free = tuple(joint.name for joint in movable if joint.mimic is None)
    if joint_names is None:
        return free
    for name in joint_names:
        if name not in free:
            reason = "mimics another joint" if name in {j.name for j in movable} else "is not a movable joint"
            raise UserError(f"joint {name!r} {reason} in robot {tree.name!r}; joints to choose from: {', '.join(free)}")
    return tuple(joint_names)


def _mimic_map(movable: list[Joint], names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """q_full = M q + b, following chains of mimic joints to the actuated one."""
    by_name = {joint.name: joint for joint in movable}
    matrix, offset = np.zeros((len(movable), len(names))), np.zeros(len(movable))
    for i, joint in enumerate(movable):
        scale, shift, at = 1.0, 0.0, joint
        while at.mimic is not None:
            shift += scale * at.mimic.offset
            scale *= at.mimic.multiplier
            at = by_name[at.mimic.joint]
        if at.name in names:
            matrix[i, names.index(at.name)], offset[i] = scale, shift
        else:
            offset[i] = shift + scale * float(np.clip(0.0, at.lower, at.upper))
    return matrix, offset


def _limits(
    movable: list[Joint], matrix: np.ndarray, offset: np.ndarray, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limits (n,) of the actuated joints under which their mimic joints keep theirs too. 0 velocity means unknown."""
    lower, upper = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    velocity = np.full(len(names), np.inf)
    for i, joint in enumerate(movable):
        for j in np.flatnonzero(matrix[i]):
            ends = sorted((np.array([joint.lower, joint.upper]) - offset[i]) / matrix[i, j])
            lower[j], upper[j] = max(lower[j], ends[0]), min(upper[j], ends[1])
            if joint.velocity > 0:
                velocity[j] = min(velocity[j], joint.velocity / abs(matrix[i, j]))
    return lower, upper, np.where(np.isfinite(velocity), velocity, 0.0)


def _unroll(tree: RobotTree) -> tuple[list[_Chain], dict[str, tuple[int, int, np.ndarray]]]:
    """Chains [[(joint, T_previous_joint with z on its axis)]] and frames {link: (chain, depth, T_slot_link)}."""
    paths: dict[str, tuple[_Chain, np.ndarray]] = {tree.root: ([], np.eye(4))}
    for joint in tree.joints:
        above, tail = paths[joint.parent]
        local = tail @ joint.origin
        if joint.movable:
            turn = np.eye(4)
            turn[:3, :3] = _z_onto(joint.axis)
            paths[joint.child] = ([*above, (joint, local @ turn)], turn.T)
        else:
            paths[joint.child] = (above, local)
    used = {joint.name for path, _ in paths.values() for joint, _ in path[:-1]}
    chains: list[_Chain] = []
    taken: set[str] = set()
    for path, _ in paths.values():
        if path and path[-1][0].name not in used | taken:
            taken.add(path[-1][0].name)
            chains.append(path)
    frames = {}
    for link, (path, tail) in paths.items():
        last = [joint.name for joint, _ in path]
        f = next((f for f, chain in enumerate(chains) if [j.name for j, _ in chain[: len(last)]] == last), 0)
        frames[link] = (f, len(path) - 1, tail)
    return chains, frames


def _z_onto(axis: np.ndarray) -> np.ndarray:
    """A rotation whose z column is `axis`."""
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    x = np.cross(helper, axis)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(axis, x), axis], axis=1)
