"""What a URDF says about a hand: where the palm is, which chains are fingers, where they end, how they close."""

import re
from dataclasses import dataclass, field

import numpy as np

from ...errors import UserError
from ...hand.skeleton import FINGERS
from ..hands.kinematics import HandKinematics, build_kinematics
from ..hands.urdf import RobotTree

_NAMES = {
    "thumb": r"thumb|(^|[_\W])th|finger1(?!\d)",
    "index": r"index|(^|[_\W])ff|fore|finger2(?!\d)",
    "middle": r"mid|(^|[_\W])mf|finger3(?!\d)",
    "ring": r"ring|(^|[_\W])rf|finger4(?!\d)",
    "little": r"little|pinky|pinkie|(^|[_\W])lf|finger5(?!\d)",
}
_SURE = 0.015  # m, that a thumb's root lies to one side of the fingers' to tell a left hand from a right
_HUMAN_PALM = 0.085  # m, from the wrist to the knuckles of a hand whose fingers are _HUMAN_FINGER long
_HUMAN_FINGER = 0.084
_TIP_BEYOND = 0.6  # where a link has no tip frame, its tip is that much of the segment before further on


@dataclass(frozen=True, eq=False)
class Finger:
    """A chain from the palm: its links outwards, the joints that move it, and where its tip is (link, xyz m)."""

    links: tuple[str, ...]
    joints: tuple[str, ...]
    tip_link: str
    tip_offset: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A hand found in a URDF. `rotation` is R_base_palm, `wrist` (3,) m the palm frame's origin in the base frame."""

    tree: RobotTree
    kinematics: HandKinematics
    fingers: dict[str, Finger]
    side: str
    rotation: np.ndarray
    wrist: np.ndarray
    scale: float
    open_q: np.ndarray
    closed_q: np.ndarray
    notes: list[str] = field(default_factory=list)


# Makers that number fingers begin with the thumb: dg_1_tip, link_5_tip, Link_14R, r_f_link2_tip, finger1_joint3.
_NUMBERED = r"(?:dg|finger|link|joint|f_link|f)_?([1-5])(?:_|[1-4]?[RL]?$|\d?_)"


def find_anatomy(tree: RobotTree, root: str | None = None, side: str | None = None) -> Anatomy:
    """Find the palm, fingers, tips, palm frame, side and size of a hand. Raises `UserError` when it has no fingers."""
    notes: list[str] = []
    root = _palm(tree) if root is None else root
    if root != tree.root:
        notes.append(f"the hand begins at link {root!r}")
    tree = tree.subtree(root)
    kinematics = build_kinematics(tree)
    if kinematics.n == 0:
        raise UserError(f"no joint of {tree.name!r} moves: is this the URDF of a hand?")
    chains = [_finger(tree, kinematics, f) for f in range(kinematics.chains)]
    chains = [finger for finger in chains if finger.joints]
    if not 2 <= len(chains) <= 5:
        found = ", ".join(finger.tip_link for finger in chains)
        raise UserError(f"{len(chains)} fingers found ({found}); 2 to 5 are needed: give the palm link with --root")
    start = np.clip(0.0, kinematics.lower, kinematics.upper)
    open_q, closed_q = _open_and_closed(kinematics, chains, start)
    at = _Places(kinematics, chains)
    thumb = _thumb(chains, at, open_q, closed_q, notes)
    rotation, side = _palm_frame(chains, at, thumb, open_q, closed_q, side, notes)
    fingers = _named(chains, at, thumb, rotation, side, open_q, notes)
    scale, wrist = _size(fingers, at, chains, rotation, open_q)
    return Anatomy(tree, kinematics, fingers, side, rotation, wrist, scale, open_q, closed_q, notes)


class _Places:
    """Roots and tips of the fingers at a pose."""

    def __init__(self, kinematics: HandKinematics, chains: list[Finger]):
        self.kinematics, self.chains = kinematics, chains

    def tips(self, q: np.ndarray) -> np.ndarray:
        poses = self.kinematics.link_poses(q, [finger.tip_link for finger in self.chains])
        return np.array([p[:3, :3] @ f.tip_offset + p[:3, 3] for p, f in zip(poses, self.chains)])

    def joint_points(self, q: np.ndarray, i: int) -> np.ndarray:
        return self.kinematics.link_positions(q, self.chains[i].links)

    def middles(self, q: np.ndarray) -> np.ndarray:
        """The middle of each finger: that of its joints and tip."""
        tips = self.tips(q)
        return np.array([np.r_[self.joint_points(q, i), tips[i : i + 1]].mean(0) for i in range(len(self.chains))])

    def roots(self, q: np.ndarray) -> np.ndarray:
        """Where each finger's flexing part begins: its first joint that is not shared with other fingers."""
        shared = [set.intersection(*(set(f.links) for f in self.chains))][0]
        firsts = [next(link for link in f.links if link not in shared) for f in self.chains]
        return self.kinematics.link_positions(q, firsts)


def _palm(tree: RobotTree) -> str:
    """The outermost link from which all long chains branch: the root itself, or the end of an arm."""
    below: dict[str, int] = {}
    children: dict[str, list] = {}
    for joint in tree.joints:
        children.setdefault(joint.parent, []).append(joint)

    def tips(link: str) -> int:
        inner = [
            tips(joint.child) + (0 if tips(joint.child) else int(joint.movable)) for joint in children.get(link, [])
        ]
        below[link] = sum(inner)
        return below[link]

    total, at = tips(tree.root), tree.root
    while True:
        branch = [joint for joint in children.get(at, []) if below[joint.child] == total]
        if len(branch) != 1:
            return at
        at = branch[0].child


def _finger(tree: RobotTree, k: HandKinematics, f: int) -> Finger:
    """The chain numbered f, and its tip: the furthest frame beyond its last joint, or a point further on."""
    slots = [d * k.chains + f for d in range(k.depth) if k.slot_joint[d * k.chains + f]]
    names = [str(k.slot_joint[slot]) for slot in slots]
    child = {joint.name: joint.child for joint in tree.joints}
    links = tuple(child[name] for name in names)
    last = slots[-1]
    beyond = {link: offset for link, (slot, offset) in k.frames.items() if slot == last}
    base = beyond[links[-1]]
    reach = {link: float(np.linalg.norm(offset[:3, 3] - base[:3, 3])) for link, offset in beyond.items()}
    named = [link for link in beyond if re.search("tip|end|head", link, re.I) and reach[link] > 1e-4]
    tip = max(named or beyond, key=reach.__getitem__)
    if reach[tip] > 1e-3:
        return Finger(links, tuple(names), tip, (0.0, 0.0, 0.0))
    segment = k.constant.reshape(-1, 4, 4)[last][:3, 3]
    length = float(np.linalg.norm(segment))
    start = np.linalg.inv(k.constant.reshape(-1, 4, 4)[last][:3, :3]) @ segment
    offset = _TIP_BEYOND * (base[:3, :3].T @ start) if length > 1e-3 else np.zeros(3)
    return Finger(links, tuple(names), links[-1], tuple(np.round(offset, 5)))


def _open_and_closed(k: HandKinematics, chains: list[Finger], start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses of a flat hand and of a fist: each flexing joint closes towards the larger part of its range."""
    closed = start.copy()
    for j in range(k.n):
        up, down = k.upper[j] - start[j], start[j] - k.lower[j]
        if max(up, down) < 1.6 * max(min(up, down), 1e-6):
            continue  # a joint that goes both ways spreads
        closed[j] = start[j] + 0.8 * (up if up > down else -down)
    return start, closed


def _thumb(chains: list[Finger], at: _Places, open_q: np.ndarray, closed_q: np.ndarray, notes: list[str]) -> int:
    """The thumb: by its name, otherwise the finger whose tip points most unlike the others'."""
    for i, finger in enumerate(chains):
        if any(re.search(_NAMES["thumb"], name, re.I) for name in (*finger.links, finger.tip_link)):
            return i
    directions = at.tips(open_q) - at.roots(open_q)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    odd = int(np.argmin((directions @ directions.T).sum(1)))
    notes.append(f"no finger is called thumb; taken: {chains[odd].tip_link}")
    return odd


def _palm_frame(
    chains: list[Finger],
    at: _Places,
    thumb: int,
    open_q: np.ndarray,
    closed_q: np.ndarray,
    side: str | None,
    notes: list[str],
) -> tuple[np.ndarray, str]:
    """R_base_palm (3, 3) and the side: x along the fingers, z away from where they curl to."""
    others = [i for i in range(len(chains)) if i != thumb]
    tips, closed, roots = at.tips(open_q), at.tips(0.5 * (open_q + closed_q)), at.roots(open_q)
    x = _unit((tips - roots)[others].sum(0))
    palmar = (closed - tips)[others].sum(0)
    if np.linalg.norm(palmar - (palmar @ x) * x) < 1e-6:
        raise UserError("the fingers do not bend: every joint range is symmetric; give `palm` in the config by hand")
    z = -_unit(palmar - (palmar @ x) * x)
    towards_thumb = (roots[thumb] - roots[others].mean(0)) @ np.cross(z, x)
    found = "right" if towards_thumb > 0 else "left"
    text = " ".join((at.kinematics.base, *(f.tip_link for f in chains), *(j for f in chains for j in f.joints)))
    said = [
        name
        for name, mark in (("left", r"left|(^|[_\W])l[_h]"), ("right", r"right|(^|[_\W])r[_h]"))
        if re.search(mark, text, re.I)
    ]
    chosen = side or (said[0] if len(said) == 1 else found)
    if chosen != found and abs(towards_thumb) > _SURE:
        why = "--side says" if side else f"its names say ({', '.join(said)})"
        raise UserError(
            f"its thumb is where a {found} hand has it, but {why} it is a {chosen} one: is it mirrored? "
            f"Give --side {found} if it is a {found} hand"
        )
    return np.stack([x, np.cross(z, x), z], axis=1), chosen


def _named(
    chains: list[Finger],
    at: _Places,
    thumb: int,
    rotation: np.ndarray,
    side: str,
    open_q: np.ndarray,
    notes: list[str],
) -> dict[str, Finger]:
    """Fingers by name, thumb first: by their links' names where they tell, otherwise by their place beside the
    thumb.
    """
    # The first joint of a finger may lie in the palm, as that of a little finger that opposes: the order of the
    # knuckles is that of the flexing parts, and so of the middle of each finger.
    roots = at.middles(open_q) @ rotation
    away = -roots[:, 1] if side == "right" else roots[:, 1]
    others = sorted((i for i in range(len(chains)) if i != thumb), key=lambda i: away[i])
    names: dict[int, str] = {}
    for i in others:
        text = " ".join((chains[i].tip_link, *chains[i].links))
        hits = [name for name in FINGERS[1:] if re.search(_NAMES[name], text, re.I)]
        if len(hits) == 1 and hits[0] not in names.values():
            names[i] = hits[0]
    if len(names) < len(others):
        names = _numbered(chains, thumb, others)
    if len(names) < len(others):
        names = {i: FINGERS[1 + rank] for rank, i in enumerate(others)}
        notes.append(
            "fingers named by their order from the thumb: "
            + ", ".join(f"{names[i]} = {chains[i].tip_link}" for i in others)
        )
    found = {"thumb": chains[thumb], **{names[i]: chains[i] for i in others}}
    return {name: found[name] for name in FINGERS if name in found}


def _numbered(chains: list[Finger], thumb: int, others: list[int]) -> dict[int, str]:
    """Names of the fingers whose links are numbered as hands are, from the thumb; none where that does not fit."""
    number = {}
    for i in (thumb, *others):
        found = [re.search(_NUMBERED, name, re.I) for name in (chains[i].tip_link, *chains[i].links)]
        digits = {match.group(1) for match in found if match}
        if len(digits) != 1:
            return {}
        number[i] = int(digits.pop())
    if len(chains) < 4 or number[thumb] != 1 or len(set(number.values())) < len(number):
        return {}
    return {i: FINGERS[number[i] - 1] for i in others}


def _size(
    fingers: dict[str, Finger], at: _Places, chains: list[Finger], rotation: np.ndarray, open_q: np.ndarray
) -> tuple[float, np.ndarray]:
    """Scale of the hand relative to a human's, and where its wrist is: as far behind the knuckles as on a human
    hand.
    """
    tips, roots = at.tips(open_q), at.roots(open_q)
    index = [chains.index(finger) for name, finger in fingers.items() if name != "thumb"]
    length = float(np.mean(np.linalg.norm((tips - roots)[index], axis=1)))
    scale = length / _HUMAN_FINGER
    return scale, roots[index].mean(0) - scale * _HUMAN_PALM * rotation[:, 0]


def _unit(v: np.ndarray) -> np.ndarray:
    return v / max(float(np.linalg.norm(v)), 1e-12)
