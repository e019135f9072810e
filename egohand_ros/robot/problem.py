"""An objective of a hand's config as arrays: which points, which keypoints, which loss. Shared by live and horizon.

Definitions follow dex-retargeting 0.5.0 (Qin et al., AnyTeleop, 2023) and DexPilot (Handa et al., 2020):
vector: mean over rows of Huber(|v_robot - s v_human|); position: mean over coordinates of Huber(x_robot - s x_human);
dexpilot: vectors between all fingertips and from the base, with closed pinches pulled together. All add
regularization * |q - q_last|^2. Huber(d) = d^2 / (2 delta) below delta, d - delta / 2 above.
"""

from dataclasses import dataclass

import numpy as np

from egohand_ros.errors import UserError

from .config import Objective, Term
from .model import HandModel


@dataclass(frozen=True, eq=False)
class Rows:
    """m rows of one term: point indices (m,) of origin and tip, keypoint indices (m,) likewise, and the loss."""

    term: Term
    origin: np.ndarray
    tip: np.ndarray
    human_origin: np.ndarray
    human_tip: np.ndarray
    weight: float
    coordinatewise: bool


@dataclass(frozen=True, eq=False)
class Problem:
    """Points (slots, offsets, names) and rows of an objective. `rotation` (3, 3) is R_base_palm."""

    hand: HandModel
    objective: Objective
    slots: np.ndarray
    offsets: np.ndarray
    links: tuple[str, ...]
    rows: tuple[Rows, ...]
    rotation: np.ndarray


def build_problem(hand: HandModel, objective: str | Objective) -> Problem:
    """Compile an objective (by name or given as data) for a hand."""
    if isinstance(objective, str):
        objective = hand.objective(objective)
    links: list[str] = []

    def point(link: str) -> int:
        if link not in links:
            links.append(link)
        return links.index(link)

    rows = tuple(_rows(term, point) for term in objective.terms if term.type != "posture")
    slots, frames = hand.kinematics.frame_arrays(links or [hand.config.palm_link])
    return Problem(hand, objective, slots, frames[:, :3, 3], tuple(links), rows, np.asarray(hand.config.palm_rotation))


def _rows(term: Term, point) -> Rows:
    if term.type == "pinch":
        base, tips = term.links[0][0], term.links[0][1:]
        pairs = pinch_pairs(len(tips))
        names = [base, *tips]
        human = 4 * np.array(pairs)
        robot = np.array([[point(names[a]), point(names[b])] for a, b in pairs])
        return Rows(term, robot[:, 0], robot[:, 1], human[:, 0], human[:, 1], term.weight, False)
    robot = np.array([[point(link) for link in row] for row in term.links])
    human = np.array(term.keypoints)
    if term.type == "position":
        return Rows(term, robot[:, 0], robot[:, 0], human[:, 0], human[:, 0], term.weight, True)
    return Rows(term, robot[:, 0], robot[:, 1], human[:, 0], human[:, 1], term.weight, False)


def pinch_pairs(fingers: int) -> list[tuple[int, int]]:
    """DexPilot's vectors as (origin, tip) among 0 base, 1 thumb, 2.. fingers: thumb pairs, other pairs, then the base."""
    if not 2 <= fingers <= 5:
        raise UserError(f"a pinch term takes 2 to 5 fingertips, {fingers} were given")
    between = [(j, i) for i in range(1, fingers) for j in range(i + 1, fingers + 1)]
    return between + [(0, i) for i in range(1, fingers + 1)]
