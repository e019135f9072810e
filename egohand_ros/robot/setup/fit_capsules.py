"""Capsules fitted to the maker's shapes by what they are for: the distances between links that may meet.

Poses are drawn where links come near each other: random ones, and those that retargeting leads to for random human
hands, with and without self-collision avoidance. At each, the makers' shapes say how far near pairs of links are apart
(`mesh_body`), and all capsules of the hand are moved at once (Adam) until theirs say the same: more than the truth by
at most `_OVER`, which is what makes them conservative, and less by as little as so few capsules can. What then is still
said to be further apart than it is goes into `extra`, a distance that is kept on top for that pair of links.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import ConvexHull

from ...hand.poses import pinching_hand, posed_hand
from ...hand.skeleton import FINGERS
from ..hands.capsules import capsules_of
from ..hands.model import HandModel
from ..retarget.retargeter import Retargeter
from .mesh_body import MeshDistance, Piece, load_pieces

_NEAR, _DEEP = 0.006, -0.004  # m: pairs further apart teach nothing, and depth is not well defined far in
_OVER, _UNDER = 2e-4, -2e-4  # m, errors that are as good as none
_CONSERVATIVE, _LIGHT, _TIPS = 30.0, 1.0, 20.0  # weights of too far, too near, and too near between tips
_STANDOFF = 2.5e-4  # m that the solver's springs keep between tips that press on each other
_STEPS, _MORE_STEPS, _RATE = 160, 70, 2.5e-4  # of the first round and of those after it
_REST = 8  # times that the pose at rest counts, at which nothing may seem to touch
_SURELY = 0.99  # part of the distances that `extra` makes safe: single ones at odd angles would hold pinches open
_ALLOWED = 0.8e-3  # m, by which capsules may say too much before `extra` is kept


@dataclass(frozen=True, eq=False)
class DistanceData:
    """N times two links near each other: link indices (N, 2) of `links`, their poses (N, 2, 4, 4), distance (N,) m."""

    links: tuple[str, ...]
    pair: np.ndarray
    poses: np.ndarray
    distance: np.ndarray

    def joined(self, other: "DistanceData") -> "DistanceData":
        """Both together."""
        both = [np.concatenate([getattr(self, k), getattr(other, k)]) for k in ("pair", "poses", "distance")]
        return DistanceData(self.links, *both)


@dataclass(frozen=True, eq=False)
class FittedCapsules:
    """`capsules` (K, 7) m by body, `extra` m by pair, and errors (N,) m: capsules' distance less the truth.

    `known` (M,) bool says which of the M distances these are: those of bodies that have capsules.
    """

    capsules: dict[str, np.ndarray]
    extra: dict[tuple[str, str], float]
    error: np.ndarray
    between_tips: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, eq=False)
class FittedHand:
    """`hand` with its fitted `capsules` (K, 7) m by body; `extra` and `ignore` as in its config's `collision`."""

    hand: HandModel
    capsules: dict[str, np.ndarray]
    extra: dict[tuple[str, str], float]
    ignore: list[tuple[str, str]]
    result: FittedCapsules | None = None


def kept_hand(hand: HandModel) -> FittedHand:
    """A hand with the capsules that it has."""
    collision = hand.config.collision
    extra = {(first, second): distance for first, second, distance in collision.extra}
    return FittedHand(hand, start_capsules(hand), extra, list(collision.ignore))


def fit_hand(
    hand: HandModel,
    urdf: str | Path,
    least: tuple[int, int] = (1, 4),
    rounds: int = 2,
    moves: Sequence[np.ndarray] = (),
    start: dict[str, np.ndarray] | None = None,
    on_progress: Callable[[str], None] = lambda what: None,
) -> FittedHand:
    """Fit a hand's capsules to the shapes of the maker's `urdf`, at least `least` of them for each body and each tip.

    Each round looks where the hand goes with the capsules of the round before. `moves`: further human motion
    (T, 21, 3) m in the palm frame to look at, such as recordings. From `start` the capsules stay and only `extra` is
    found.
    """
    pieces = load_pieces(hand, urdf)
    judge = MeshDistance(hand, pieces)
    tips = set(hand.tip_bodies.values())
    capsules = start
    if capsules is None:
        counts = {piece.link: least[piece.link in tips] for piece in pieces}
        capsules = enriched(start_capsules(hand), pieces, counts)
    shaped = with_capsules(hand, capsules, {}, judge.ignored)
    data = None
    for number in range(rounds if start is None else 1):
        poses = [poses_in_contact(shaped, 40, seed=number)]
        poses += [followed(shaped, move) for move in moves]
        new = near_distances(shaped, judge, np.concatenate(poses), seed=number)
        data = new if data is None else data.joined(new)
        result = fit(shaped, data, 0 if start is not None else _MORE_STEPS if number else _STEPS)
        shaped = with_capsules(hand, result.capsules, result.extra, judge.ignored)
        worst = 1e3 * result.error[data.distance[result.known] < 2e-3].max(initial=0.0)
        on_progress(f"round {number + 1}: {len(result.error)} distances, at most {worst:.2f} mm too much")
    ignore = [*judge.ignored, *_at_rest(shaped)]
    shaped = with_capsules(hand, result.capsules, result.extra, ignore)
    return FittedHand(shaped, result.capsules, result.extra, ignore, result)


def with_capsules(
    hand: HandModel,
    capsules: dict[str, np.ndarray],
    extra: dict[tuple[str, str], float],
    ignore: Sequence[tuple[str, str]],
) -> HandModel:
    """The hand with these capsules (K, 7) m by body, and no others; what single ones keep is forgotten."""
    rows = dict.fromkeys(hand.shapes, ()) | {link: tuple(map(tuple, body)) for link, body in capsules.items()}
    collision = replace(
        hand.config.collision,
        capsules=rows,
        ignore=tuple(ignore),
        extra=tuple((*pair, m) for pair, m in extra.items()),
        capsule_extra=(),
    )
    return replace(hand, config=replace(hand.config, collision=collision))


def _at_rest(hand: HandModel) -> list[tuple[str, str]]:
    """Pairs that capsules take to touch at rest, where the shapes do not: bodies beside one hinge."""
    if not len(hand.capsules):
        return []
    near = hand.capsules.distances(hand.kinematics, hand.rest_q) < hand.capsules.margin + 3e-4
    pairs = sorted({hand.capsules.pair_names(i) for i in np.flatnonzero(near)})
    return [pair for pair in pairs if _same_chain(hand, *pair) or _same_chain(hand, *pair[::-1])]


def _same_chain(hand: HandModel, inner: str, outer: str) -> bool:
    joint = hand.tree.parent_joint(outer)
    while joint is not None and joint.parent != inner:
        joint = hand.tree.parent_joint(joint.parent)
    return joint is not None


def followed(hand: HandModel, move: np.ndarray, every: int = 12, dt: float | None = None) -> np.ndarray:
    """Poses (N, n) that human motion (T, 21, 3) m in the palm frame leads to, by every objective; within all limits
    where its step `dt` s is given."""
    out = []
    for objective in hand.config.objectives:
        retargeter = Retargeter(hand, objective=objective)
        human = move @ retargeter.problem.rotation.T
        out += [retargeter.solve_in_base(frame, dt=dt).q for frame in human][::every]
    return np.array(out)


def poses_in_contact(hand: HandModel, count: int = 120, seed: int = 0) -> np.ndarray:
    """Poses (N, n) that random human hands, `count` an objective, lead to; and as many anywhere within the limits."""
    rng = np.random.default_rng(seed)
    out = [rng.uniform(hand.lower, hand.upper, (count, hand.n)), np.tile(hand.rest_q, (_REST, 1))]
    for objective in hand.config.objectives:
        for avoid in (True, False):
            retargeter = Retargeter(hand, objective=objective, avoid_collisions=avoid, jump_frames=0)
            for i in range(count // 2):
                points = _human(hand, rng, i)
                for _ in range(2):
                    q = retargeter.solve(points).q
                out.append(q[None])
                out.append(np.clip(q + rng.normal(0.0, 0.06, q.shape), hand.lower, hand.upper)[None])
    return np.concatenate(out)


def _human(hand: HandModel, rng: np.random.Generator, i: int) -> np.ndarray:
    """A random human hand; every second one pinches or nearly does."""
    fingers = [finger for finger in hand.tips if finger != "thumb"]
    if i % 2:
        return pinching_hand(fingers[i // 2 % len(fingers)], rng.uniform(0.7, 1.0), hand.side)
    curl = {finger: rng.uniform(-0.1, 1.5) for finger in FINGERS}
    return posed_hand(curl, rng.uniform(-0.5, 1.2), rng.uniform(0.0, 1.0), hand.side)


def near_distances(
    hand: HandModel, judge: MeshDistance, poses: np.ndarray, most: int = 1600, seed: int = 0
) -> DistanceData:
    """What the makers' shapes say about all pairs of links that are near each other at poses (N, n)."""
    pair, placed, distance = [], [], []
    for q in poses:
        d = judge.distances(q)
        near = np.flatnonzero((d < _NEAR) & (d > _DEEP))
        if len(near):
            links = hand.kinematics.link_poses(q, list(judge.links))
            pair += [judge.pairs[i] for i in near]
            placed += [links[list(judge.pairs[i])] for i in near]
            distance += list(d[near])
    keep = np.arange(len(pair))
    if len(keep) > most:
        odds = np.exp(-np.maximum(distance, 0.0) / 2e-3)
        keep = np.random.default_rng(seed).choice(keep, most, replace=False, p=odds / odds.sum())
    return DistanceData(judge.links, np.array(pair)[keep], np.array(placed)[keep], np.array(distance)[keep])


def fit(hand: HandModel, data: DistanceData, steps: int = _STEPS) -> FittedCapsules:
    """Capsules whose distances are the makers', beginning with those that the hand has."""
    torch.set_num_threads(1)
    start = start_capsules(hand)
    links = [link for link in data.links if link in start]
    flat = np.concatenate([start[link] for link in links])
    rows = {link: np.arange(len(start[link])) + sum(len(start[m]) for m in links[:i]) for i, link in enumerate(links)}
    known = np.array([all(data.links[i] in rows for i in pair) for pair in data.pair])
    pair, poses, truth = data.pair[known], data.poses[known], data.distance[known]
    sample, first, second = _combinations(data.links, pair, rows)
    tips = _between_tips(hand, data.links, pair)
    problem = _Distances(poses, sample, first, second, len(pair))
    ends = torch.tensor(flat[:, :6].reshape(-1, 2, 3) * 1e3, requires_grad=True)
    radius = torch.tensor(np.log(flat[:, 6] * 1e3), requires_grad=True)
    ends0, radius0 = ends.detach().clone(), radius.detach().clone()
    goal = torch.as_tensor((truth + np.where(tips, _STANDOFF, 0.0)) * 1e3)
    weight = torch.exp(-goal.clamp_min(0.0) / 2.5)
    low = torch.as_tensor(np.where(tips, _TIPS, _LIGHT))
    optimiser = torch.optim.Adam([{"params": [ends], "lr": 1e3 * _RATE}, {"params": [radius], "lr": 0.02}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 0.0)
    for _ in range(steps):
        optimiser.zero_grad()
        error = problem(ends, radius.exp()) - goal
        over, under = (error - 1e3 * _OVER).clamp_min(0.0), (1e3 * _UNDER - error).clamp_min(0.0)
        # Beyond 2 mm too near counts linearly: there no capsule can be right everywhere.
        under = torch.where(under < 2.0, under * under, 4.0 * under - 4.0)
        loss = (weight * (_CONSERVATIVE * over * over + low * under)).mean()
        loss = loss + 2e-3 * ((ends - ends0) ** 2).mean() + 2e-2 * ((radius - radius0) ** 2).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    found = np.c_[ends.detach().numpy().reshape(-1, 6), radius.detach().exp().numpy()] * 1e-3
    found = found.round(5)
    error = _errors(problem, found) - truth
    extra = _extra(data.links, pair, error, truth)
    capsules = {link: found[index] for link, index in rows.items()} | {k: v for k, v in start.items() if k not in rows}
    return FittedCapsules(capsules, extra, error, tips, known)


def start_capsules(hand: HandModel) -> dict[str, np.ndarray]:
    """The capsules (K, 7) that a hand has, by body (see `load_pieces`), in the bodies' frames."""
    given, q = hand.config.collision.capsules, hand.rest_q
    out: dict[str, list[np.ndarray]] = {}
    for link in dict.fromkeys([*hand.shapes, *given]):
        own = given[link] if link in given else [[*a, *b, r] for a, b, r in capsules_of(hand.shapes[link])]
        if len(own):
            body = hand.tree.body_of(link)
            at, to = hand.kinematics.link_poses(q, [body, link])
            turn = np.linalg.inv(at) @ to
            rows = np.array(own, dtype=float)
            ends = rows[:, :6].reshape(-1, 2, 3) @ turn[:3, :3].T + turn[:3, 3]
            out.setdefault(body, []).append(np.c_[ends.reshape(-1, 6), rows[:, 6]])
    return {body: np.concatenate(parts) for body, parts in out.items()}


def enriched(
    start: dict[str, np.ndarray], pieces: list[Piece], least: dict[str, int], seed: int = 0
) -> dict[str, np.ndarray]:
    """The same with at least so many capsules for a body that has shapes: clusters of its surface, one capsule each."""
    rng, out = np.random.default_rng(seed), dict(start)
    for body in dict.fromkeys(piece.link for piece in pieces):
        count = least.get(body, 1)
        if len(start.get(body, ())) < count:
            out[body] = _clusters(surface([p for p in pieces if p.link == body], rng), count, rng)
    return out


def surface(pieces: list[Piece], rng: np.random.Generator, count: int = 1500) -> np.ndarray:
    """About `count` points (N, 3) m on the outside of the union of pieces."""
    hulls, out = [ConvexHull(piece.corners) for piece in pieces], []
    total = sum(hull.area for hull in hulls)
    for i, (piece, hull) in enumerate(zip(pieces, hulls)):
        a, b, c = (piece.corners[hull.simplices[:, k]] for k in range(3))
        size = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        number = max(20, int(count * hull.area / total))
        face = rng.choice(len(size), number, p=size / size.sum())
        u, v = np.sqrt(rng.random((number, 1))), rng.random((number, 1))
        points = (1 - u) * a[face] + u * (1 - v) * b[face] + u * v * c[face]
        for k, other in enumerate(hulls):
            if k != i:
                points = points[(points @ other.equations[:, :3].T + other.equations[:, 3]).max(1) > -2e-4]
        out.append(points)
    return np.concatenate(out)


def _clusters(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Capsules (count, 7): the points in clusters, a capsule along the longest direction of each."""
    centres = points[rng.choice(len(points), count, replace=False)]
    for _ in range(15):
        nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
        centres = np.array([points[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(count)])
    rows = []
    for k in range(count):
        part = points[nearest == k] if (nearest == k).sum() > 4 else points
        middle = part.mean(0)
        axis = np.linalg.svd(part - middle, full_matrices=False)[2][0]
        along = (part - middle) @ axis
        radius = float(np.quantile(np.linalg.norm(part - middle - along[:, None] * axis, axis=1), 0.8))
        half = max(0.5 * np.ptp(along) - radius, 1e-3)
        rows.append([*(middle - half * axis), *(middle + half * axis), radius])
    return np.array(rows)


def _combinations(links: Sequence[str], pair: np.ndarray, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Each capsule of a pair's first link with each of its second: (sample, capsule, capsule), flat."""
    out = []
    for number, (i, j) in enumerate(pair):
        a, b = np.meshgrid(rows[links[i]], rows[links[j]], indexing="ij")
        out.append(np.stack([np.full(a.size, number), a.ravel(), b.ravel()]))
    return np.concatenate(out, axis=1)


def _between_tips(hand: HandModel, links: Sequence[str], pair: np.ndarray) -> np.ndarray:
    tips = hand.tip_bodies
    thumb, others = tips.get("thumb"), {body for finger, body in tips.items() if finger != "thumb"}
    return np.array(
        [(links[i] == thumb and links[j] in others) or (links[j] == thumb and links[i] in others) for i, j in pair]
    )


class _Distances:
    """Least capsule distance [mm] of each sample for capsules in mm."""

    def __init__(self, poses: np.ndarray, sample: np.ndarray, first: np.ndarray, second: np.ndarray, count: int):
        self.sample, self.count = torch.as_tensor(sample), count
        self.capsules = [torch.as_tensor(first), torch.as_tensor(second)]
        self.turn = [torch.as_tensor(poses[sample, side, :3, :3]) for side in (0, 1)]
        self.shift = [torch.as_tensor(poses[sample, side, :3, 3] * 1e3) for side in (0, 1)]

    def __call__(self, ends: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        (a, u), (b, v) = (self._placed(ends, side) for side in (0, 1))
        w = a - b
        uu, vv, uv = (u * u).sum(-1).clamp_min(1e-6), (v * v).sum(-1).clamp_min(1e-6), (u * v).sum(-1)
        uw, vw = (u * w).sum(-1), (v * w).sum(-1)
        with torch.no_grad():  # where the closest points are needs no gradient (envelope theorem)
            s = ((uv * vw - vv * uw) / (uu * vv - uv * uv).clamp_min(1e-6)).clamp(0.0, 1.0)
            t = ((uv * s + vw) / vv).clamp(0.0, 1.0)
            s = ((uv * t - uw) / uu).clamp(0.0, 1.0)
        gap = ((w + s[:, None] * u - t[:, None] * v) ** 2).sum(-1).clamp_min(1e-6).sqrt()
        gap = gap - radius[self.capsules[0]] - radius[self.capsules[1]]
        return torch.full((self.count,), 1e3, dtype=gap.dtype).scatter_reduce(0, self.sample, gap, "amin")

    def _placed(self, ends: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        local = ends[self.capsules[side]]
        start = torch.einsum("sij,sj->si", self.turn[side], local[:, 0]) + self.shift[side]
        return start, torch.einsum("sij,sj->si", self.turn[side], local[:, 1] - local[:, 0])


def _errors(problem: _Distances, capsules: np.ndarray) -> np.ndarray:
    mm = torch.as_tensor(capsules * 1e3)
    with torch.no_grad():
        return problem(mm[:, :6].reshape(-1, 2, 3), mm[:, 6]).numpy() * 1e-3


def _extra(
    links: Sequence[str], pair: np.ndarray, error: np.ndarray, truth: np.ndarray
) -> dict[tuple[str, str], float]:
    """What to keep on top of the margin for pairs whose capsules say too much where they meet."""
    found: dict[tuple[str, str], list[float]] = {}
    for (i, j), value, distance in zip(pair, error, truth):
        if distance < 2e-3:
            found.setdefault((links[i], links[j]), []).append(float(value))
    worst = {key: float(np.quantile(values, _SURELY)) for key, values in found.items()}
    return {key: round(value - _ALLOWED, 5) for key, value in sorted(worst.items()) if value > _ALLOWED + 1e-5}
