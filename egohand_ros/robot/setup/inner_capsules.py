"""Capsules inside of the maker's shapes, added where the others say that two links are further apart than they are.

Few capsules miss the corners of a box. One that lies within the shape mends that and never says too little, so what
may meet, such as tips in a pinch, still does. Many are drawn at random within the convex pieces of a link, and the one
that puts most distances right is taken; then the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import ConvexHull

from ..hands.capsules import segment_distance
from ..hands.model import HandModel
from .fit_capsules import DistanceData, followed, near_distances, poses_in_contact, start_capsules
from .mesh_body import MeshDistance, Piece

_WELL = 4e-4  # m that a pair may seem too far apart without anything being done
_THIN = 6e-4  # m, the least radius that is of use
_CANDIDATES = 240  # a link
_WORTH = 0.03  # part of what is wrong that one more capsule has to mend
_AMONG = 6000  # distances that are looked at, the nearest first


def add_inner_capsules(
    hand: HandModel,
    pieces: list[Piece],
    moves: Sequence[np.ndarray] = (),
    most: int = 4,
    rounds: int = 2,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda what: None,
) -> dict[str, np.ndarray]:
    """The capsules (K, 7) m of a hand by body, with up to `most` more in each round.

    Each round looks where retargeting leads the hand: by random human hands, and by human motion `moves` (T, 21, 3) m
    in the palm frame.
    """
    judge, rng = MeshDistance(hand, pieces), np.random.default_rng(seed)
    capsules, shaped = start_capsules(hand), hand
    for number in range(rounds):
        poses = [poses_in_contact(shaped, 40, seed + number), *(followed(shaped, move, 4) for move in moves)]
        data = near_distances(shaped, judge, np.concatenate(poses), _AMONG, seed + number)
        capsules, added, wrong = mend(shaped, data, capsules, pieces, most, rng)
        on_progress(f"round {number + 1}: up to {1e3 * wrong:.2f} mm too far, {added} capsules added")
        if not added:
            break
        shaped = _with(hand, capsules)
    return capsules


def _with(hand: HandModel, capsules: dict[str, np.ndarray]) -> HandModel:
    rows = dict.fromkeys(hand.shapes, ()) | {link: tuple(map(tuple, body)) for link, body in capsules.items()}
    return replace(
        hand, config=replace(hand.config, collision=replace(hand.config.collision, capsules=rows, capsule_extra=()))
    )


def mend(
    hand: HandModel,
    data: DistanceData,
    capsules: dict[str, np.ndarray],
    pieces: list[Piece],
    most: int,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], int, float]:
    """(capsules (K, 7) m by body with up to `most` more, how many, by how much [m] `data` was exceeded at worst)."""
    kept = {frozenset(pair[:2]): pair[2] for pair in hand.config.collision.extra}
    on_top = np.array([kept.get(frozenset(data.links[i] for i in pair), 0.0) for pair in data.pair])
    known = np.array([all(data.links[i] in capsules for i in pair) for pair in data.pair])
    said = np.array(
        [_least(data, n, capsules) - on_top[n] if known[n] else data.distance[n] for n in range(len(data.pair))]
    )
    error = said - data.distance
    wrong = np.flatnonzero((error > _WELL) & (data.distance < 2e-3))
    error, worst = error[wrong], float(error.max(initial=0.0))
    drawn = {
        link: inner_capsules([p for p in pieces if p.link == link], _CANDIDATES, rng)
        for link in {data.links[i] for i in data.pair[wrong].ravel()}
    }
    out = {link: rows.copy() for link, rows in capsules.items()}
    for added in range(most):
        before, best = _excess(error).sum(), (0.0, "", -1, error)
        for link, rows in drawn.items():
            new = _errors_with(data, wrong, error, on_top, out, link, rows)
            gain = before - _excess(new).sum(0)
            if len(rows) and gain.max() > best[0]:
                best = float(gain.max()), link, int(gain.argmax()), new[:, gain.argmax()]
        gain, link, index, mended = best
        if gain <= _WORTH * before:
            return out, added, worst
        out[link], error = np.concatenate([out[link], drawn[link][index : index + 1].round(5)]), mended
    return out, most, worst


def _excess(error: np.ndarray) -> np.ndarray:
    return np.maximum(error - _WELL, 0.0) ** 2


def _least(data: DistanceData, n: int, capsules: dict[str, np.ndarray]) -> float:
    """Least distance [m] that capsules say of the pair of links of one sample."""
    first, second = (_placed(capsules[data.links[data.pair[n, side]]], data.poses[n, side]) for side in (0, 1))
    return float(_gaps(first[:, None], second[None]).min())


def _errors_with(
    data: DistanceData,
    wrong: np.ndarray,
    error: np.ndarray,
    on_top: np.ndarray,
    capsules: dict[str, np.ndarray],
    link: str,
    rows: np.ndarray,
) -> np.ndarray:
    """Errors (W, R) of samples `wrong` (W,) if one of the capsules `rows` (R, 7) were added to `link`."""
    out = np.repeat(error[:, None], len(rows), axis=1)
    for w, n in enumerate(wrong):
        for side in (0, 1):
            if len(rows) and data.links[data.pair[n, side]] == link:
                other = capsules[data.links[data.pair[n, 1 - side]]]
                new, old = _placed(rows, data.poses[n, side]), _placed(other, data.poses[n, 1 - side])
                said = _gaps(new[:, None], old[None]).min(1) - on_top[n]
                out[w] = np.minimum(out[w], said - data.distance[n])
    return out


def _placed(rows: np.ndarray, pose: np.ndarray) -> np.ndarray:
    ends = rows[:, :6].reshape(-1, 2, 3) @ pose[:3, :3].T + pose[:3, 3]
    return np.concatenate([ends.reshape(-1, 6), rows[:, 6:]], axis=1)


def _gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    between, _, _ = segment_distance(a[..., :3], a[..., 3:6], b[..., :3], b[..., 3:6])
    return between - a[..., 6] - b[..., 6]


def inner_capsules(pieces: list[Piece], count: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `count` capsules (N, 7) m drawn at random, each within one of the convex pieces, near its corners."""
    out = []
    for piece, number in zip(pieces, rng.multinomial(count, np.full(len(pieces), 1.0 / max(len(pieces), 1)))):
        hull = ConvexHull(piece.corners)
        corners = piece.corners[hull.vertices]
        pick = rng.integers(len(corners), size=(number, 2))
        inwards = rng.uniform(0.05, 0.5, (number, 2, 1))
        ends = corners[pick] + inwards * (corners.mean(0) - corners[pick])
        depth = -(ends @ hull.equations[:, :3].T + hull.equations[:, 3]).max(-1)
        out.append(np.c_[ends.reshape(-1, 6), depth.min(1)])
    rows = np.concatenate(out) if out else np.zeros((0, 7))
    return rows[rows[:, 6] > _THIN]
