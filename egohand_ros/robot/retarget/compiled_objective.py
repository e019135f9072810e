"""An objective of a hand's config as arrays: which points, which keypoints, which loss. Shared by live and horizon.

Definitions follow dex-retargeting 0.5.0 (Qin et al., AnyTeleop, 2023) and DexPilot (Handa et al., 2020):
vector: mean over rows of Huber(|v_robot - s v_human|); position: mean over coordinates of Huber(x_robot - s x_human);
dexpilot: vectors between all fingertips and from the base, with closed pinches pulled together. All add
regularization * |q - q_last|^2. Huber(d) = d^2 / (2 delta) below delta, d - delta / 2 above.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...hand.skeleton import FINGERS, NUM_KEYPOINTS, TIPS, WRIST
from ..hands.config import Objective, Term
from ..hands.kinematics import HandKinematics, build_kinematics
from ..hands.model import HandModel
from ..hands.urdf import Joint, RobotTree

# A free base adds these six joints in front of the hand: three slides, then three turns, as dex-retargeting does.
FREE_BASE = ("base_x", "base_y", "base_z", "base_roll", "base_pitch", "base_yaw")
_FREE_RANGE = np.array([5.0] * 3 + [2.0 * np.pi] * 3)


@dataclass(frozen=True, eq=False)
class Rows:
    """m rows of one term.

    `origin`, `tip` (m,) are point indices (origin -1: the base frame's origin) and `human_origin`, `human_tip` (m,)
    keypoint indices. `weights` is (m,), or (m, 3) where each coordinate has its own loss. `anchor` (3,) m is where the
    palm's origin is in the base frame.
    """

    term: Term
    origin: np.ndarray
    tip: np.ndarray
    human_origin: np.ndarray
    human_tip: np.ndarray
    weights: np.ndarray
    coordinatewise: bool
    anchor: np.ndarray
    to_object: bool = False
    object_finger: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective on a hand. `rotation` (3, 3) is R_base_palm; `scales` (21,) multiply the keypoints.

    `kinematics` has n variables: the hand's joints, followed by `FREE_BASE` where the base may move. `lower`, `upper`
    (n,) bound them. `slots`, `offsets` place the points of `links`.
    """

    hand: HandModel
    objective: Objective
    kinematics: HandKinematics
    lower: np.ndarray
    upper: np.ndarray
    slots: np.ndarray
    offsets: np.ndarray
    links: tuple[str, ...]
    rows: tuple[Rows, ...]
    rotation: np.ndarray
    scales: np.ndarray

    @property
    def free_base(self) -> bool:
        return self.kinematics.n > self.hand.n

    @property
    def keypoints(self) -> np.ndarray:
        """Indices of the keypoints that the rows use."""
        return np.unique(np.concatenate([np.r_[rows.human_origin, rows.human_tip] for rows in self.rows]))

    @property
    def needed_keypoints(self) -> np.ndarray:
        """Those without which no pose is worth taking: wrist and fingertips, and all that a pinch is between.

        Rows on the joints between only say how a finger gets there, and are left out where those are not known.
        """
        pinched = [np.r_[rows.human_origin, rows.human_tip] for rows in self.rows if rows.term.type == "pinch"]
        always = np.concatenate([[WRIST], TIPS, *pinched])
        return np.intersect1d(self.keypoints, always)


def build_problem(hand: HandModel, objective: str | Objective, finger_scale: dict[str, float] | None = None) -> Problem:
    """Compile an objective (by name or given as data) for a hand; `finger_scale` multiplies the scale per finger."""
    if isinstance(objective, str):
        objective = hand.objective(objective)
    k, lower, upper = hand.kinematics, hand.lower, hand.upper
    if objective.free_base:
        k = build_kinematics(_with_free_base(hand.tree), (*hand.joint_names, *FREE_BASE), hand.config.points)
        lower, upper = np.r_[lower, -_FREE_RANGE], np.r_[upper, _FREE_RANGE]
    links: list[str] = []

    def point(link: str) -> int:
        if link not in links:
            links.append(link)
        return links.index(link)

    anchor = np.zeros(3) if objective.free_base else hand.kinematics.frame(hand.config.palm_link)[1][:3, 3]
    slot, _ = hand.kinematics.frame(hand.config.palm_link)
    if slot >= 0 and any(term.type == "contact" and len(term.links[0]) == 1 for term in objective.terms):
        raise UserError(f"hand {hand.name!r}: contacts with objects need a palm link that is fixed to the base")
    rows = tuple(_rows(term, point, anchor) for term in objective.terms if term.type != "posture")
    slots, frames = k.frame_arrays(links or [hand.config.palm_link])
    rotation = np.asarray(hand.config.palm_rotation, dtype=float)
    scales = keypoint_scales(objective.scale, finger_scale)
    return Problem(hand, objective, k, lower, upper, slots, frames[:, :3, 3], tuple(links), rows, rotation, scales)


def keypoint_scales(scale: float, finger_scale: dict[str, float] | None) -> np.ndarray:
    """One factor for each keypoint (21,): the objective's times the operator's for that finger."""
    scales = np.full(NUM_KEYPOINTS, scale)
    for finger, factor in (finger_scale or {}).items():
        if finger not in FINGERS:
            raise UserError(f"finger {finger!r} is unknown; fingers: {', '.join(FINGERS)}")
        start = 1 + 4 * FINGERS.index(finger)
        scales[start : start + 4] *= factor
    return scales


def _rows(term: Term, point: Callable[[str], int], anchor: np.ndarray) -> Rows:
    if term.type == "pinch":
        names = term.links[0]
        pairs = np.array(pinch_pairs(len(names) - 1))
        keypoints = np.array(term.keypoints[0] if term.keypoints else 4 * np.arange(len(names)))
        robot = np.array([point(name) for name in names])[pairs]
        human = keypoints[pairs]
        weights = np.full(len(pairs), term.weight / len(pairs))
        return Rows(term, robot[:, 0], robot[:, 1], human[:, 0], human[:, 1], weights, False, anchor)
    human = np.array(term.keypoints)
    m = len(term.links)
    tip = np.array([point(row[-1]) for row in term.links])
    if term.type == "position":
        weights = np.full((m, 3), term.weight / (3 * m))
        return Rows(term, np.full(m, -1), tip, human[:, 0], human[:, 0], weights, True, anchor)
    weights = np.full(m, term.weight / m)
    if len(term.links[0]) == 1:
        finger = (human[:, 0] - 1) // 4
        return Rows(term, np.full(m, -1), tip, human[:, 0], human[:, 0], weights, False, anchor, True, finger)
    origin = np.array([point(row[0]) for row in term.links])
    return Rows(term, origin, tip, human[:, 0], human[:, 1], weights, False, anchor)


def pinch_pairs(fingers: int) -> list[tuple[int, int]]:
    """DexPilot's vectors as (origin, tip) among 0 base, 1 thumb, 2.. fingers: thumb pairs, other pairs, then the
    base.
    """
    between = [(j, i) for i in range(1, fingers) for j in range(i + 1, fingers + 1)]
    return between + [(0, i) for i in range(1, fingers + 1)]


class PinchState:
    """DexPilot's switching targets: which fingertip pairs are taken as pinched, with hysteresis."""

    def __init__(self, rows: Rows):
        self.term = rows.term
        self.fingers = len(rows.term.links[0]) - 1
        self.thumb_pairs = self.fingers - 1
        self.pairs = self.fingers * (self.fingers - 1) // 2
        self.closed = np.zeros(self.pairs, dtype=bool)
        between = [(i, j) for i in range(self.thumb_pairs) for j in range(i + 1, self.thumb_pairs)]
        self.first = np.array([i for i, _ in between], dtype=int)
        self.second = np.array([j for _, j in between], dtype=int)
        others = self.pairs - self.thumb_pairs
        self.gap = np.r_[np.full(self.thumb_pairs, self.term.eta1), np.full(others, self.term.eta2)]
        self.high = np.r_[np.full(self.thumb_pairs, 200.0), np.full(others, 400.0)]
        self._rows = self.pairs + self.fingers
        self._base_weight = np.full(self.fingers, float(self.pairs + self.fingers))
        self._human = rows.human_tip

    def targets(self, vector: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Target vectors (m, 3) and row weights (m,) for the human vectors (m, 3); updates `closed`."""
        between = vector[: self.pairs]
        distance = np.sqrt((between * between).sum(1))
        self.switch(distance)
        target = scales.take(self._human)[:, None] * vector
        pinched = between * (self.gap / (distance + 1e-6))[:, None]
        target[: self.pairs] = np.where(self.closed[:, None], pinched, target[: self.pairs])
        return target, self.weights()

    def switch(self, distance: np.ndarray) -> None:
        """Update `closed` from the human fingertip distances (pairs,) m."""
        thumb, rest = self.closed[: self.thumb_pairs], slice(self.thumb_pairs, self.pairs)
        thumb[distance[: self.thumb_pairs] < self.term.project] = True
        thumb[distance[: self.thumb_pairs] > self.term.escape] = False
        self.closed[rest] = thumb[self.first] & thumb[self.second] & (distance[rest] <= self.term.project)

    def weights(self) -> np.ndarray:
        """Row weights (m,): closed pairs weigh 200 (400 between fingers), vectors from the base as many as rows."""
        weight = np.concatenate([np.where(self.closed, self.high, 1.0), self._base_weight])
        return weight * (self.term.weight / self._rows)


def posture(problem: Problem) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights (n,) and pose (n,) of all posture terms together; None where there is none."""
    n, names = problem.kinematics.n, problem.hand.joint_names
    weight, weighted = np.zeros(n), np.zeros(n)
    for term in problem.objective.terms:
        if term.type == "posture":
            pose = dict(term.pose) or dict(zip(names, problem.hand.rest_q))
            for joint, value in pose.items():
                weight[names.index(joint)] += term.weight
                weighted[names.index(joint)] += term.weight * value
    if not weight.any():
        return weight, None
    return weight, weighted / np.where(weight > 0, weight, 1.0)


def _with_free_base(tree: RobotTree) -> RobotTree:
    """The tree on six joints that let its base move freely."""
    joints, parent = [], "free_base_0"
    for i, name in enumerate(FREE_BASE):
        child = tree.root if i == 5 else f"free_base_{i + 1}"
        kind = "prismatic" if i < 3 else "revolute"
        joints.append(
            Joint(name, kind, parent, child, np.eye(4), np.eye(3)[i % 3], -_FREE_RANGE[i], _FREE_RANGE[i], 1.0, None)
        )
        parent = child
    return RobotTree(tree.name, "free_base_0", {"free_base_0": (), **tree.links}, (*joints, *tree.joints))
