"""What single pairs of capsules of thumb and fingertip keep on top, where these meet at other places than in a pinch.

Tips are meant to meet, so their capsules keep no distance (`touch`), and one more for all capsules of two tips would
hold pinches open. Where a corner of a tip meets the side of another one, other capsules are nearest than in a pinch: it
is these that keep further apart here, each no further than leaves pinches as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...hand.poses import hand_pose, pinching_hand
from ..hands.capsules import capsule_numbers
from ..hands.model import HandModel
from ..retarget.retargeter import Retargeter
from .fit_capsules import followed, poses_in_contact
from .meeting_poses import capsule_pairs, meeting_poses
from .mesh_body import MeshDistance

CapsulePair = tuple[str, int, str, int]

_NEAR = 4e-3  # m between capsules of poses that are looked at
_SPREAD = 0.05  # rad, of poses around those that retargeting leads to
_CLEAR = 2e-4  # m, by which capsules may be inside their margin
_DEEPEST = 6e-3  # m; depth is not well defined further in
_FREE = 4e-4  # m, by which what is kept stays clear of pinches
_MOST = 4e-3  # m that one pair may keep: more stands in the way of poses that are far from touching
_LEAST = 5e-5  # m, less is not worth a row
_PINCHES, _FRAMES, _OPEN, _DT = (0.85, 0.95, 1.0), 30, 5, 1.0 / 30.0


def kept_between_tips(
    hand: HandModel,
    judge: MeshDistance,
    moves: Sequence[np.ndarray] = (),
    allowed: float = 0.8e-3,
    rounds: int = 2,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda what: None,
) -> dict[CapsulePair, float]:
    """What pairs of capsules (link, number, link, number) are to keep [m], so that the maker's shapes of thumb and
    fingertips are nowhere deeper than `allowed` where retargeting leads them; where that would open pinches, less.

    Each round looks where the hand goes with what the round before has found: random human hands, poses around them,
    and human motion `moves` (T, 21, 3) m in the palm frame.
    """
    rng, kept = np.random.default_rng(seed), {pair[:4]: pair[4] for pair in hand.config.collision.capsule_extra}
    for number in range(rounds):
        shaped = with_capsule_extra(hand, kept)
        pinches = pinch_poses(shaped)
        led = np.concatenate(
            [poses_in_contact(shaped, 40, seed + number), *(followed(shaped, move, 2, _DT) for move in moves), pinches]
        )
        around = np.clip(led + rng.normal(0.0, _SPREAD, led.shape), hand.lower, hand.upper)
        left = 0.0
        for links in _tip_pairs(shaped, judge):
            found, over = _kept(shaped, judge, links, np.concatenate([led, around]), pinches, allowed)
            left = max(left, over)
            for pair, more in found.items():
                kept[pair] = round(kept.get(pair, 0.0) + more, 5)
        on_progress(f"tips, round {number + 1}: {len(kept)} pairs of capsules kept apart, {1e3 * left:.2f} mm left")
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


def _tip_pairs(hand: HandModel, judge: MeshDistance) -> list[tuple[int, int]]:
    tips = hand.tip_bodies
    thumb, fingers = tips.get("thumb"), {body for finger, body in tips.items() if finger != "thumb"}
    named = [(pair, {judge.links[i] for i in pair}) for pair in judge.pairs]
    return [pair for pair, links in named if thumb in links and links & fingers]


def _kept(
    hand: HandModel,
    judge: MeshDistance,
    bodies: tuple[int, int],
    poses: np.ndarray,
    pinches: np.ndarray,
    allowed: float,
) -> tuple[dict[CapsulePair, float], float]:
    """What each pair of capsules of two tips is to keep more [m], and how deep beyond `allowed` [m] they still go."""
    capsules = hand.capsules
    of = capsule_pairs(hand, (judge.links[bodies[0]], judge.links[bodies[1]]))
    if not len(of):
        return {}, 0.0
    samples = _clear_poses(hand, of, poses)
    if not len(samples):
        return {}, 0.0
    gap = capsules.distances(hand.kinematics, samples)[:, of] - capsules.margin
    true = np.array([max(judge.distances(q, [bodies])[0], -_DEEPEST) for q in samples]) + allowed
    most = _most(hand, judge, bodies, of, pinches, allowed)
    more, left = further_by_pair(gap, true, most)
    names, numbers = capsules.links, capsule_numbers(capsules.links)
    found = {}
    for index, distance in zip(of, more):
        if distance > _LEAST:
            i, j = capsules.pairs[index]
            found[names[i], numbers[i], names[j], numbers[j]] = float(distance)
    return found, left


def _clear_poses(hand: HandModel, of: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Those of `poses` (N, n) that are clear, where the pairs `of` are near each other, and others at their margin."""
    gap = np.concatenate(
        [hand.capsules.distances(hand.kinematics, q) for q in np.array_split(poses, len(poses) // 200 + 1)]
    )
    gap -= hand.capsules.margin
    near = gap[:, of].min(1) < _NEAR
    return np.concatenate([poses[near & (gap.min(1) > -_CLEAR)], meeting_poses(hand, of, poses[near])])


def _most(
    hand: HandModel,
    judge: MeshDistance,
    bodies: tuple[int, int],
    of: np.ndarray,
    pinches: np.ndarray,
    allowed: float,
) -> np.ndarray:
    """What each of the pairs `of` may keep more at most [m]: pinches stay as they are, or as deep as allowed."""
    if not len(pinches):
        return np.full(len(of), _MOST)
    gap = hand.capsules.distances(hand.kinematics, pinches)[:, of] - hand.capsules.margin
    near = gap.min(1) < _NEAR
    deeper = np.array([max(-judge.distances(q, [bodies])[0] - allowed, 0.0) for q in pinches[near]])
    return np.clip((gap[near] + deeper[:, None]).min(0, initial=np.inf) - _FREE, 0.0, _MOST)


def further_by_pair(gap: np.ndarray, true: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, float]:
    """What P pairs of capsules are to keep (P,) so that the least of their distances `gap` (N, P) m is nowhere more
    than the `true` (N,) one; each keeps at most `most` (P,). And by how much that is still exceeded.

    The sample that is exceeded most is put right by the pair that has to keep the least for it, again and again.
    """
    kept, open_samples = np.zeros(gap.shape[1]), np.ones(len(gap), dtype=bool)
    left = 0.0
    while True:
        over = np.where(open_samples, (gap - kept).min(1) - true, -np.inf)
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
        open_samples[worst] = False
