"""What single pairs of capsules keep on top, where the distance of their links would be too much elsewhere.

Tips are meant to meet, so their capsules keep no distance (`touch`), and one more for all capsules of two tips would
hold pinches open. Where a corner of a tip meets the side of another one, or the palm, other capsules are nearest than
in a pinch: it is these that keep further apart here, each no further than leaves pinches as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...hand.poses import hand_pose, pinching_hand
from ..hands.capsules import capsule_numbers
from ..hands.model import HandModel
from ..retarget.retargeter import Retargeter
from .fit_capsules import followed, poses_in_contact
from .meeting_poses import meeting_poses
from .mesh_body import MeshDistance

CapsulePair = tuple[str, int, str, int]

_NEAR = 4e-3  # m between capsules of poses that are looked at
_SPREAD = 0.05  # rad, of poses around those that retargeting leads to
_CLEAR = 2e-4  # m, by which capsules may be inside their margin
_DEEPEST = 6e-3  # m; depth is not well defined further in
_MEETINGS = 300  # poses of two tips that are brought to where their capsules meet
_FREE = 4e-4  # m, by which what is kept stays clear of pinches
_MOST = 5e-3  # m that one pair may keep: more stands in the way of poses that are far from touching
_LEAST = 5e-5  # m, less is not worth a row
_PINCHES, _FRAMES, _OPEN, _DT = (0.85, 1.0), 30, 5, 1.0 / 30.0
_EVERY = 3  # frames of a motion


def kept_by_single_capsules(
    hand: HandModel,
    judge: MeshDistance,
    moves: Sequence[np.ndarray] = (),
    allowed: float = 0.8e-3,
    rounds: int = 2,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda what: None,
) -> dict[CapsulePair, float]:
    """What pairs of capsules (link, number, link, number) are to keep [m], so that the maker's shapes are nowhere
    deeper than `allowed` where retargeting leads them; where that would open pinches, less.

    Each round looks where the hand goes with what the round before has found: random human hands, poses around them,
    and human motion `moves` (T, 21, 3) m in the palm frame.
    """
    rng, kept = np.random.default_rng(seed), {row[:4]: row[4] for row in hand.config.collision.capsule_extra}
    for number in range(rounds):
        shaped = with_capsule_extra(hand, kept)
        pinches = pinch_poses(shaped)
        led = [poses_in_contact(shaped, 40, seed + number), *(followed(shaped, m, _EVERY, _DT) for m in moves), pinches]
        poses = np.concatenate(led)
        around = np.clip(poses + rng.normal(0.0, _SPREAD, poses.shape), hand.lower, hand.upper)
        found, left = _round(shaped, judge, np.concatenate([poses, around]), pinches, allowed)
        for pair, more in found.items():
            kept[pair] = round(kept.get(pair, 0.0) + more, 5)
        on_progress(f"round {number + 1}: {len(kept)} pairs of capsules kept apart, {1e3 * left:.2f} mm left")
    return dict(sorted(kept.items()))


def with_capsule_extra(hand: HandModel, kept: dict[CapsulePair, float]) -> HandModel:
    """The hand with this kept between single capsules [m], and nothing else of that kind."""
    rows = tuple((*pair, distance) for pair, distance in kept.items())
    return replace(hand, config=replace(hand.config, collision=replace(hand.config.collision, capsule_extra=rows)))


def pinch_poses(hand: HandModel) -> np.ndarray:
    """Poses (N, n) of pinches of the thumb with each finger, while they close and held, within all limits."""
    if "dexpilot" not in hand.config.objectives:
        return np.zeros((0, hand.n))
    out = []
    for finger in (finger for finger in hand.tips if finger != "thumb"):
        for amount in _PINCHES:
            retargeter = Retargeter(hand, objective="dexpilot", jump_frames=0)
            human = [hand_pose("relaxed", hand.side)] * _OPEN + [pinching_hand(finger, amount, hand.side)] * _FRAMES
            out += [retargeter.solve_in_base(h @ retargeter.problem.rotation.T, dt=_DT).q for h in human][_OPEN:]
    return np.array(out).reshape(-1, hand.n)


def _round(
    hand: HandModel, judge: MeshDistance, poses: np.ndarray, pinches: np.ndarray, allowed: float
) -> tuple[dict[CapsulePair, float], float]:
    """What pairs of capsules are to keep more [m], and how deep beyond `allowed` [m] the bodies still go."""
    tips, of_bodies = hand.tip_bodies, _pairs_by_bodies(hand)
    thumb, fingers = tips.get("thumb"), {body for finger, body in tips.items() if finger != "thumb"}
    gap, pinched = _gaps(hand, poses), _gaps(hand, pinches)
    clear, numbers = gap.min(1, initial=np.inf) > -_CLEAR, capsule_numbers(hand.capsules.links)
    found, left = {}, 0.0
    for bodies in judge.pairs:
        links = {judge.links[i] for i in bodies}
        of = np.array(of_bodies.get(frozenset(links), ()), dtype=int)
        if not len(of):
            continue
        near = gap[:, of].min(1) < _NEAR
        samples = poses[near & clear]
        if thumb in links and links & fingers and near.any():
            starts = poses[near][np.argsort(np.abs(gap[near][:, of].min(1)))[:_MEETINGS]]
            samples = np.concatenate([samples, meeting_poses(hand, of, starts)])
        depth = np.array([judge.distances(q, [bodies])[0] for q in samples])
        deep = depth < -allowed
        if not deep.any():
            continue
        true = np.maximum(depth[deep], -_DEEPEST) + allowed
        most = _most(judge, bodies, pinched[:, of], pinches, allowed)
        more, over = further_by_pair(_gaps(hand, samples[deep])[:, of], true, most)
        left = max(left, over)
        for index in np.flatnonzero(more > _LEAST):
            i, j = hand.capsules.pairs[of[index]]
            first, second = hand.capsules.links[i], hand.capsules.links[j]
            found[first, numbers[i], second, numbers[j]] = float(more[index])
    return found, left


def _pairs_by_bodies(hand: HandModel) -> dict[frozenset[str], list[int]]:
    """The hand's pairs of capsules by the two bodies that they belong to."""
    out: dict[frozenset[str], list[int]] = {}
    body_of = {link: hand.tree.body_of(link) for link in hand.capsules.links}
    for index in range(len(hand.capsules)):
        a, b = hand.capsules.pair_names(index)
        out.setdefault(frozenset((body_of[a], body_of[b])), []).append(index)
    return out


def _gaps(hand: HandModel, poses: np.ndarray) -> np.ndarray:
    """Distances (N, P) m above the margin."""
    if not len(poses):
        return np.zeros((0, len(hand.capsules)))
    parts = np.array_split(poses, len(poses) // 200 + 1)
    return np.concatenate([hand.capsules.distances(hand.kinematics, q) for q in parts]) - hand.capsules.margin


def _most(
    judge: MeshDistance, bodies: tuple[int, int], gap: np.ndarray, pinches: np.ndarray, allowed: float
) -> np.ndarray:
    """What each of P pairs may keep more at most [m], by its distances `gap` (N, P) m in pinches: these are to stay as
    they are, or as deep as allowed."""
    near = gap.min(1) < _NEAR
    deeper = np.array([max(-judge.distances(q, [bodies])[0] - allowed, 0.0) for q in pinches[near]])
    return np.clip((gap[near] + deeper[:, None]).min(0, initial=np.inf) - _FREE, 0.0, _MOST)


def further_by_pair(gap: np.ndarray, true: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, float]:
    """What P pairs of capsules are to keep (P,) so that the least of their distances `gap` (N, P) m is nowhere more
    than the `true` (N,) one; each keeps at most `most` (P,). And by how much that is still exceeded.

    The sample that is exceeded most is put right by the pair that has to keep the least for it, again and again.
    """
    kept, still_open = np.zeros(gap.shape[1]), np.ones(len(gap), dtype=bool)
    left = 0.0
    while True:
        over = np.where(still_open, (gap - kept).min(1) - true, -np.inf)
        worst = int(over.argmax())
        if over[worst] <= 1e-6:
            return kept, left
        needed = gap[worst] - true[worst]
        fits = needed <= most
        if fits.any():
            pair = int(np.where(fits, needed - kept, np.inf).argmin())
            kept[pair] = needed[pair]
        else:
            left = max(left, float(over[worst]))
        still_open[worst] = False
