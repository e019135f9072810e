"""A hand's body as capsules, and which pairs of them may touch. Pure geometry, shared by live and horizon paths."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UserError
from .config import CollisionConfig
from .kinematics import HandKinematics
from .urdf import RobotTree, Shape

# A box wider than this times its thickness becomes several capsules side by side.
_FLAT = 1.4
# Pairs that stay so far beyond the margin [m] need no watching: solvers begin to push a little before it.
_LEEWAY = 2e-3
# What is tried to prove that pairs stay apart: joints that move them, random poses first, boxes at once.
_MOST_JOINTS, _SAMPLES, _MOST_BOXES = 4, 32, 128


@dataclass(frozen=True, eq=False)
class CapsuleModel:
    """C capsules and the P pairs of them that must stay apart.

    `ends` (C, 2, 3) m in the frame of `slots` (C,), `radius` (C,) m, `links` (C,) names, `pairs` (P, 2) indices.
    `reach` (P, n): for any motion, a pair's distance changes by at most reach @ |dq| [m/rad]. `thickness` (P,) m: both
    radii and what is to be kept on top of the margin (less, where tips are meant to touch).
    """

    links: tuple[str, ...]
    slots: np.ndarray
    ends: np.ndarray
    radius: np.ndarray
    pairs: np.ndarray
    reach: np.ndarray
    margin: float
    thickness: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs)

    def pair_names(self, index: int) -> tuple[str, str]:
        """Link names of a pair."""
        return self.links[self.pairs[index, 0]], self.links[self.pairs[index, 1]]

    def distances(self, kinematics: HandKinematics, q: np.ndarray) -> np.ndarray:
        """Distances (..., P) m at q (..., n), which are to be no less than `margin`; negative is penetration."""
        poses = kinematics.slot_transforms(q)[..., self.slots, :, :]
        ends = self.ends @ poses[..., :3, :3].swapaxes(-1, -2) + poses[..., None, :3, 3]
        first, second = ends[..., self.pairs[:, 0], :, :], ends[..., self.pairs[:, 1], :, :]
        gap, _, _ = segment_distance(first[..., 0, :], first[..., 1, :], second[..., 0, :], second[..., 1, :])
        return gap - self.thickness


def segment_distance(
    a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least distance between segments (..., 3): (distance (...), position s (...) on a, t (...) on b, both 0..1).

    Clamped closest points after Ericson, Real-Time Collision Detection (2005), section 5.1.9.
    """
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    uw, vw = (u * w).sum(-1), (v * w).sum(-1)
    tiny = 1e-12
    denominator = uu * vv - uv * uv
    s = np.clip((uv * vw - vv * uw) / np.maximum(denominator, tiny), 0.0, 1.0)
    t = np.clip((uv * s + vw) / np.maximum(vv, tiny), 0.0, 1.0)
    s = np.clip((uv * t - uw) / np.maximum(uu, tiny), 0.0, 1.0)
    gap = w + s[..., None] * u - t[..., None] * v
    return np.sqrt((gap * gap).sum(-1)), s, t


def build_capsules(
    kinematics: HandKinematics,
    tree: RobotTree,
    shapes: dict[str, tuple[Shape, ...]],
    collision: CollisionConfig,
    tip_bodies: dict[str, str] | None = None,
) -> CapsuleModel:
    """Capsules of all links, and the pairs that are neither neighbours, nor ignored, nor always far apart.

    shapes: link -> its collision shapes in the link's frame; what `collision` gives for a link wins over them.
    tip_bodies: the outermost body of each finger (`HandModel.tip_bodies`).
    """
    k = kinematics
    links, slots, ends, radius = [], [], [], []
    given = collision.capsules
    for link in dict.fromkeys([*shapes, *given]):
        slot, offset = k.frame(link)
        body = (
            [(np.array(c[:3]), np.array(c[3:6]), c[6]) for c in given[link]]
            if link in given
            else capsules_of(shapes[link])
        )
        for a, b, r in body:
            links.append(link)
            slots.append(slot if slot >= 0 else k.depth * k.chains)
            ends.append([offset[:3, :3] @ a + offset[:3, 3], offset[:3, :3] @ b + offset[:3, 3]])
            radius.append(r)
    apart = _may_touch(tree, collision, links)
    sizes, places = np.array(radius, dtype=float), np.array(ends, dtype=float).reshape(-1, 2, 3)
    pairs = np.array(
        [(i, j) for i in range(len(links)) for j in range(i + 1, len(links)) if apart(links[i], links[j])], dtype=int
    ).reshape(-1, 2)
    thickness = sizes[pairs].sum(1) + _kept_on_top(tree, collision, tip_bodies or {}, links, pairs)
    reach = np.zeros((len(pairs), k.n))
    return _prune(
        k,
        CapsuleModel(
            tuple(links), np.array(slots, dtype=int), places, sizes, pairs, reach, collision.margin, thickness
        ),
    )


def _kept_on_top(
    tree: RobotTree, collision: CollisionConfig, tips: dict[str, str], links: list[str], pairs: np.ndarray
) -> np.ndarray:
    """What each pair (P,) keeps more than the margin [m]: `extra`, `capsule_extra`, and for thumb and fingertips
    `touch` in its place.
    """
    extra = {frozenset(pair[:2]): pair[2] for pair in collision.extra}
    out = np.array([extra.get(frozenset((links[i], links[j])), 0.0) for i, j in pairs])
    numbered = list(zip(links, capsule_numbers(links)))
    single = _between_capsules(collision, numbered)
    if single:
        out += [single.get(frozenset((numbered[i], numbered[j])), 0.0) for i, j in pairs]
    body = np.array([tree.body_of(link) for link in links])
    thumb = body == tips.get("thumb")
    tip = np.isin(body, [b for finger, b in tips.items() if finger != "thumb"])
    meet = thumb[pairs[:, 0]] & tip[pairs[:, 1]] | tip[pairs[:, 0]] & thumb[pairs[:, 1]]
    return out + np.where(meet, collision.touch - collision.margin, 0.0)


def _between_capsules(
    collision: CollisionConfig, numbered: list[tuple[str, int]]
) -> dict[frozenset[tuple[str, int]], float]:
    """`capsule_extra` [m] by its two capsules (link, number); `UserError` where one is not there."""
    for a, i, b, j, _ in collision.capsule_extra:
        for link, number in ((a, i), (b, j)):
            if (link, number) not in numbered:
                count = sum(name == link for name, _ in numbered)
                raise UserError(
                    f"collision.capsule_extra names capsule {number} of {link!r}, which has {count}; they count from 0"
                )
    return {frozenset(((a, i), (b, j))): distance for a, i, b, j, distance in collision.capsule_extra}


def capsule_numbers(links: Sequence[str]) -> list[int]:
    """Of each capsule, the how many-th (from 0) it is of its link, given their links in order."""
    seen: Counter[str] = Counter()
    out = []
    for link in links:
        out.append(seen[link])
        seen[link] += 1
    return out


def capsules_of(shapes: tuple[Shape, ...]) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Capsules (end, end, radius) in the link frame. A cylinder with a sphere on each end is exactly one capsule."""
    spheres = [(s.origin[:3, 3], s.size[0]) for s in shapes if s.kind == "sphere"]
    out: list[tuple[np.ndarray, np.ndarray, float]] = []
    used: set[int] = set()
    for shape in shapes:
        if shape.kind == "cylinder":
            r, length = shape.size
            ends = [shape.origin[:3, 3] + sign * 0.5 * length * shape.origin[:3, 2] for sign in (-1, 1)]
            caps = [
                i
                for end in ends
                for i, (c, s) in enumerate(spheres)
                if np.linalg.norm(c - end) < 1e-5 and abs(s - r) < 1e-6
            ]
            if len(caps) >= 2:
                used.update(caps)
            else:  # a bare cylinder: round its ends off
                inner = max(0.5 * length - 0.5 * r, 0.0)
                ends = [shape.origin[:3, 3] + sign * inner * shape.origin[:3, 2] for sign in (-1, 1)]
            out.append((*ends, r))
        elif shape.kind == "box":
            out += box_capsules(shape.origin, np.array(shape.size))
    out += [(c, c, s) for i, (c, s) in enumerate(spheres) if i not in used]
    return out


def box_capsules(origin: np.ndarray, size: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Capsules along the longest side of a box, several side by side when it is flat."""
    order = np.argsort(size)[::-1]
    length, width, thick = size[order]
    count = max(1, int(np.ceil(width / (_FLAT * thick))))
    radius = 0.5 * (0.5 * width / count + 0.5 * thick)
    along, across = origin[:3, order[0]], origin[:3, order[1]]
    half = max(0.5 * length - radius, 0.0)
    shifts = (np.arange(count) - 0.5 * (count - 1)) * width / count
    return [
        (origin[:3, 3] + s * across - half * along, origin[:3, 3] + s * across + half * along, radius) for s in shifts
    ]


def _may_touch(tree: RobotTree, collision: CollisionConfig, links: list[str]) -> Callable[[str, str], bool]:
    """A test of two links: neighbours in the tree (skipping bodiless links) and ignored pairs may not be judged."""
    bodies = set(links)
    ignored = {frozenset(pair) for pair in collision.ignore}
    neighbour = {link: _body_above(tree, link, bodies) for link in bodies}

    def apart(a: str, b: str) -> bool:
        return a != b and frozenset((a, b)) not in ignored and neighbour[a] != b and neighbour[b] != a

    return apart


def _body_above(tree: RobotTree, link: str, bodies: set[str]) -> str | None:
    joint = tree.parent_joint(link)
    while joint is not None and joint.parent not in bodies:
        joint = tree.parent_joint(joint.parent)
    return None if joint is None else joint.parent


def _prune(k: HandKinematics, model: CapsuleModel) -> CapsuleModel:
    """Fill `reach` and drop pairs that the joint ranges keep apart anyway."""
    pair_reach = _pair_reach(k, model)
    middle, half = 0.5 * (k.lower + k.upper), 0.5 * (k.upper - k.lower)
    near = model.distances(k, middle) - pair_reach @ half < model.margin + _LEEWAY
    keep = np.flatnonzero(near & pair_reach.any(1))
    model = replace(model, pairs=model.pairs[keep], reach=pair_reach[keep], thickness=model.thickness[keep])
    keep = np.flatnonzero(~_always_apart(k, model))
    return replace(model, pairs=model.pairs[keep], reach=model.reach[keep], thickness=model.thickness[keep])


def _always_apart(k: HandKinematics, model: CapsuleModel) -> np.ndarray:
    """Pairs (P,) proven to stay apart within the joint ranges, by branch and bound over boxes of joint positions.

    Distances at the middle of a box, less reach times half its sides, bound those in it; boxes for which that does not
    do are halved along the joint that matters most. Pairs that many joints move are not tried: their proofs are long.
    """
    apart, limit = np.zeros(len(model), dtype=bool), model.margin + _LEEWAY
    moved = model.reach > 0.0
    poses = np.random.default_rng(0).uniform(k.lower, k.upper, (_SAMPLES, k.n))
    tried = (moved.sum(1) <= _MOST_JOINTS) & (model.distances(k, poses).min(0) > limit)
    for joints in np.unique(moved[tried], axis=0):
        index = np.flatnonzero(tried & (moved == joints).all(1))
        apart[index] = _proven_apart(k, pairs_alone(model, index), limit)
    return apart


def pairs_alone(model: CapsuleModel, pairs: np.ndarray) -> CapsuleModel:
    """Some of the pairs, with no other capsules than theirs."""
    used, number = np.unique(model.pairs[pairs], return_inverse=True)
    return replace(
        model,
        links=tuple(model.links[i] for i in used),
        slots=model.slots[used],
        ends=model.ends[used],
        radius=model.radius[used],
        pairs=number.reshape(-1, 2),
        reach=model.reach[pairs],
        thickness=model.thickness[pairs],
    )


def _proven_apart(k: HandKinematics, model: CapsuleModel, limit: float) -> np.ndarray:
    """Which of the pairs (P,), moved by the same joints, no box of joint positions brings closer than `limit` m."""
    middle, half = 0.5 * (k.lower + k.upper)[None], 0.5 * (k.upper - k.lower)[None]
    open_boxes, apart = np.ones((1, len(model)), dtype=bool), np.ones(len(model), dtype=bool)
    while len(middle):
        distance = model.distances(k, middle)
        apart &= (distance > limit).all(0)
        open_boxes &= (distance - half @ model.reach.T < limit) & apart
        left = open_boxes.any(1)
        if 2 * left.sum() > _MOST_BOXES:
            return apart & ~open_boxes.any(0)
        middle, half, open_boxes = middle[left], half[left], np.repeat(open_boxes[left], 2, axis=0)
        widest = (half * model.reach.max(0)).argmax(1)
        half[np.arange(len(half)), widest] *= 0.5
        shift = np.zeros_like(half)
        shift[np.arange(len(half)), widest] = half[np.arange(len(half)), widest]
        middle = np.stack([middle - shift, middle + shift], axis=1).reshape(-1, k.n)
        half = np.repeat(half, 2, axis=0)
    return apart


def _pair_reach(k: HandKinematics, model: CapsuleModel) -> np.ndarray:
    """Most that a pair's distance changes by, (P, n) m/rad: each joint's arms, but of joints that move both alike."""
    index, weight = k.jacobian_arrays(model.slots)
    by_depth = np.abs(weight) * _arm_lengths(k, model)[..., None]
    # Reach (C, D + 1, n) of the joints from each depth outwards.
    outwards = np.concatenate([np.cumsum(by_depth[:, ::-1], axis=1)[:, ::-1], np.zeros((len(index), 1, k.n))], axis=1)
    depths = np.where(model.slots < k.depth * k.chains, model.slots // k.chains + 1, 0)
    paths = [tuple(k.slot_joint[slot] for slot in row[:depth]) for row, depth in zip(index, depths)]
    number = {path: i for i, path in enumerate(dict.fromkeys(paths))}
    shared = np.array([[_begin_alike(a, b) for b in number] for a in number], dtype=int)
    which = np.array([number[path] for path in paths], dtype=int)
    first, second = model.pairs.T
    together = shared[which[first], which[second]]
    return outwards[first, together] + outwards[second, together]


def _begin_alike(a: tuple[str | None, ...], b: tuple[str | None, ...]) -> int:
    """How many joints two paths from the base have in common."""
    return next((i for i, (one, other) in enumerate(zip(a, b)) if one != other), min(len(a), len(b)))


def _arm_lengths(k: HandKinematics, model: CapsuleModel) -> np.ndarray:
    """Greatest distance (C, D) from the joint at each depth of a capsule's chain to any point on it, in any pose."""
    arms = np.zeros((len(model.links), k.depth))
    for c, slot in enumerate(model.slots):
        if slot >= k.depth * k.chains:
            continue
        chain, depth = slot % k.chains, slot // k.chains
        far = np.linalg.norm(model.ends[c], axis=-1).max() + model.radius[c]
        for d in range(depth, -1, -1):
            arms[c, d] = 1.0 if k.prismatic[d, chain] else far
            far += np.linalg.norm(k.constant[d, chain, :3, 3])
    return arms
