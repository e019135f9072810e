"""Where capsules say just enough: poses at which two bodies are as near as is allowed, and how deep they are there.

Fitting looks at poses that retargeting and chance lead to, which leaves corners of shapes unseen. This goes to them:
from random poses the hand is moved until its capsules of one pair of bodies are at their margin exactly, with all other
pairs clear, since that is where a solver may end. What the maker's shapes say there bounds what capsules say too much.
"""

from collections.abc import Callable

import numpy as np

from ..hands.capsules import CapsuleModel, pairs_alone
from ..hands.model import HandModel
from .fit_capsules import poses_in_contact
from .mesh_body import MeshDistance

_STEPS, _EXACT = 8, 1e-4  # of Newton's method, m
_CLEAR = 2e-4  # m, by which other pairs may be inside their margin
_DIFFERENCE = 1e-5  # rad
_SPREAD = 0.15  # rad, of poses around those that retargeting leads to
_NEAREST = 200  # poses that a pair is sought from
_SURELY = 0.995  # part of the poses that are made safe
_DEEPEST = 6e-3  # m; depth is not well defined further in


def further_apart(
    hand: HandModel,
    judge: MeshDistance,
    count: int = 6000,
    allowed: float = 0.8e-3,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[tuple[str, str], float]:
    """What pairs of bodies are to keep [m] on top of what they do, so that the maker's shapes are nowhere deeper than
    `allowed` where capsules are at their margin. Thumb and fingertips are left out: they are meant to meet.

    It goes out from `count` poses, a third of them anywhere, the rest around those that retargeting leads to.
    """
    rng, tips = np.random.default_rng(seed), hand.tip_bodies
    thumb, fingers = tips.get("thumb"), {body for finger, body in tips.items() if finger != "thumb"}
    led = rng.choice(poses_in_contact(hand, 40, seed), count - count // 3)
    starts = np.concatenate(
        [rng.uniform(hand.lower, hand.upper, (count // 3, hand.n)), led + rng.normal(0.0, _SPREAD, led.shape)]
    ).clip(hand.lower, hand.upper)
    gaps = np.concatenate([hand.capsules.distances(hand.kinematics, q) for q in np.array_split(starts, count // 100)])
    found = {}
    for number, (i, j) in enumerate(judge.pairs):
        on_progress(number, len(judge.pairs))
        links = judge.links[i], judge.links[j]
        of = capsule_pairs(hand, links)
        if len(of) and not (thumb in links and fingers & set(links)):
            near = np.argsort(gaps[:, of].min(1))[:_NEAREST]
            depth = -np.array([judge.distances(q, [(i, j)])[0] for q in meeting_poses(hand, of, starts[near])])
            worst = min(float(np.quantile(depth, _SURELY)), _DEEPEST) if len(depth) else 0.0
            if worst > allowed:
                found[links] = worst - allowed
    on_progress(len(judge.pairs), len(judge.pairs))
    return found


def with_further(
    extra: dict[tuple[str, str], float], further: dict[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    """What is kept on top already [m], and `further_apart` on top of that."""
    out = dict(extra)
    for (a, b), distance in further.items():
        key = (b, a) if (b, a) in out else (a, b)
        out[key] = round(out.get(key, 0.0) + distance, 5)
    return dict(sorted(out.items()))


def capsule_pairs(hand: HandModel, links: tuple[str, str]) -> np.ndarray:
    """Which of the hand's pairs of capsules are of these two bodies."""
    bodies, names = frozenset(links), hand.capsules.pair_names
    body_of = hand.tree.body_of
    of = [i for i in range(len(hand.capsules)) if bodies == {body_of(link) for link in names(i)}]
    return np.array(of, dtype=int)


def meeting_poses(hand: HandModel, of: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Poses (M, n) rad near `starts` (N, n), M <= N, at which the nearest of the pairs `of` of capsules is at its
    margin and all others are clear."""
    capsules, q = hand.capsules, starts
    two = pairs_alone(capsules, of)
    for _ in range(_STEPS):
        gap, slope = _gap_and_slope(hand, two, q)
        way = -gap[:, None] * slope / np.maximum((slope * slope).sum(1), 1e-8)[:, None]
        q = np.clip(q + np.clip(way, -0.2, 0.2), hand.lower, hand.upper)
    gap = capsules.distances(hand.kinematics, q) - capsules.margin
    others = np.delete(gap, of, axis=1).min(1, initial=np.inf)
    return q[(np.abs(gap[:, of].min(1)) < _EXACT) & (others > -_CLEAR)]


def _gap_and_slope(hand: HandModel, two: CapsuleModel, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least distance (N,) m above the margin at poses (N, n), and its derivatives (N, n)."""
    moved = np.concatenate([q[:, None], q[:, None] + _DIFFERENCE * np.eye(hand.n)], axis=1)
    gap = two.distances(hand.kinematics, moved).min(-1) - two.margin
    return gap[:, 0], (gap[:, 1:] - gap[:, :1]) / _DIFFERENCE
