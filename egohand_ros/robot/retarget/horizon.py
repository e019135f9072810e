"""A whole forecast at once: all hypotheses, steps and hands -> joint trajectories, in one batched solve.

Every step (every second one, where they are less than 35 ms apart) minimises the live path's objective, close to the
step before it, within position limits and without self-collision. The trajectories are then smoothed along time and
brought within velocity and acceleration limits.

For those who look at what the robot is going to do, not for commands: handover, which has to know how the robot's hand
will be bent when it meets the person's, and the viewer, which draws it ahead. They give a forecast's keypoints and
wrist rotations as they are, and where the robot is.
"""

import time
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from ...errors import UserError
from ...hand.palm import to_palm_frame
from ..hands.model import HandModel
from ..limits.limiter import JointLimiter
from .batch_kinematics import BatchCollision, Poses
from .batch_objective import BatchObjective, State, signature, solve_positive
from .compiled_objective import FREE_BASE, build_problem

_PINNED, _STIFFNESS = 1e6, 2e4
_BEFORE, _LOOK = 1e-3, 0.012  # m: smoothing and limits still move a path a little, so more is kept than live
_NEAREST = 6  # pairs a pose keeps apart at once
_WATCH = 0.03  # m, pairs further apart than this after the first iteration are left out
_KEY_TIME = 0.07  # s, a hand bends evenly for so long: steps closer than that are interpolated
_PUSHES = 6  # times that colliding paths are pushed apart before they are gone through step by step
_SPREAD = 6  # steps over which a push fades
_SURE = 1e-4  # m, a path whose distances fall below is gone through step by step
_SETTLED, _UNSETTLED = 0.02, 0.05  # rad, and the part of poses that may still move more when the solve ends
_DAMPING, _GENTLER, _HARDER = 1e-4, 0.1, 30.0


@dataclass(frozen=True, eq=False)
class HorizonResult:
    """Trajectories per hand: q[h] (K hypotheses, T steps, n) rad. `held` (K, T, H) marks steps without usable
    keypoints.

    `solve_ms` is the wall time of the call.
    """

    q: tuple[np.ndarray, ...]
    held: np.ndarray
    solve_ms: float


class HorizonRetargeter:
    """Retargets forecasts. `hands`: one model for each hand side that is forecast, e.g. [left, right].

    `smoothing`: weights of squared velocity [s^2] and acceleration [s^4] against squared deviation from the targets.
    """

    def __init__(
        self,
        hands: list[HandModel],
        objective: str = "vector",
        device: str | torch.device = "cpu",
        iterations: int = 4,
        smoothing: tuple[float, float] = (2e-4, 2e-6),
        avoid_collisions: bool = True,
        finger_scale: dict[str, float] | None = None,
    ):
        self.hands, self.iterations, self.smoothing = tuple(hands), int(iterations), smoothing
        self.device, self._dtype = torch.device(device), torch.float32
        self.problems = [build_problem(hand, objective, finger_scale) for hand in hands]
        groups: dict[tuple, list[int]] = {}
        for i, problem in enumerate(self.problems):
            groups.setdefault(signature(problem), []).append(i)
        self._groups = [_Group(self, members, avoid_collisions) for members in groups.values()]

    def reset(self) -> None:
        """Forget the last forecast, where the next solve would begin."""
        for group in self._groups:
            group._last = None

    def solve(
        self,
        keypoints: np.ndarray,
        q: list[np.ndarray],
        dt: float,
        qd: list[np.ndarray] | None = None,
        rotation: np.ndarray | None = None,
    ) -> HorizonResult:
        """Trajectories for keypoints (K, T, H, 21, 3) m in any frame, steps `dt` s apart, the first one `dt` ahead.

        `q`, `qd`: where each hand is and moves now, H arrays (n,) rad and rad/s (at rest by default). `rotation`
        (K, T, H, 3, 3): R_frame_palm where it is forecast, NaN elsewhere; as live, it serves where the palm's keypoints
        do not define one. Steps whose wrist or fingertips are not known hold the step before. Raises `UserError` when
        shapes do not fit.
        """
        start = time.perf_counter()
        keypoints = np.asarray(keypoints, dtype=np.float64)
        if keypoints.ndim != 5 or keypoints.shape[2:] != (len(self.hands), 21, 3):
            raise UserError(f"keypoints have shape {keypoints.shape}; expected (K, T, {len(self.hands)}, 21, 3)")
        if rotation is not None and np.shape(rotation) != (*keypoints.shape[:3], 3, 3):
            raise UserError(f"rotation has shape {np.shape(rotation)}; expected {(*keypoints.shape[:3], 3, 3)}")
        if not dt > 0:
            raise UserError(f"dt is {dt} s; steps of a horizon lie a positive time apart")
        q = [np.asarray(x, dtype=float) for x in q]
        qd = [np.zeros_like(x) for x in q] if qd is None else [np.asarray(x, dtype=float) for x in qd]
        human, held = self._human(keypoints, rotation)
        keys = _key_steps(human.shape[2], dt)
        out: dict[int, np.ndarray] = {}
        for group in self._groups:
            members = group.members
            solved = group.solve(human[:, :, keys], q)
            targets = [_between(x, q[i], keys) for i, x in zip(members, solved)]
            smooth = [_smooth(x, q[i], qd[i], dt, self.smoothing) for i, x in zip(members, targets)]
            paths = [limit_path(self.hands[i], x, q[i], qd[i], dt) for i, x in zip(members, smooth)]
            if group.collision is not None:
                self._clear(group, smooth, paths, [q[i] for i in members], [qd[i] for i in members], dt)
            for i, path in zip(members, paths):
                out[i] = path
        return HorizonResult(
            tuple(out[i] for i in range(len(self.hands))), held.cpu().numpy(), 1e3 * (time.perf_counter() - start)
        )

    def _clear(
        self,
        group: "_Group",
        smooth: list[np.ndarray],
        paths: list[np.ndarray],
        q: list[np.ndarray],
        qd: list[np.ndarray],
        dt: float,
    ) -> None:
        """Change paths (K, T, n) that collide, in place: push them apart, then go through what is left step by step.

        Smoothing and limits cut corners, so a path between poses that are clear need not be clear itself.
        """
        hands = [self.hands[i] for i in group.members]
        bad = np.arange(len(paths[0]))
        for push in range(_PUSHES + 1):
            hit = [(least < _SURE).any(1) for least in group.least_distances([path[bad] for path in paths])]
            bad, hit = bad[np.any(hit, axis=0)], [h[np.any(hit, axis=0)] for h in hit]
            if not len(bad) or push == _PUSHES:
                break
            parted = group.part([path[bad] for path in paths], 0.5 * min(push, 2) * _BEFORE)
            for j, hand in enumerate(hands):
                pushed = paths[j][bad] + _spread(parted[j] - paths[j][bad])
                paths[j][bad] = limit_path(hand, np.clip(pushed, hand.lower, hand.upper), q[j], qd[j], dt)
        for j, hand in enumerate(hands):
            for k in bad[hit[j]]:
                paths[j][k] = _guarded(hand, smooth[j][k], q[j], qd[j], dt)

    def _human(self, keypoints: np.ndarray, rotation: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Palm-centred keypoints (H, K, T, 21, 3) in base axes, gaps filled with the step before; and the gaps."""
        given = [None if rotation is None else np.asarray(rotation)[:, :, i] for i in range(len(self.hands))]
        palm = [to_palm_frame(keypoints[:, :, i], hand.side, given[i]) for i, hand in enumerate(self.hands)]
        in_base = [points @ problem.rotation.T for points, problem in zip(palm, self.problems)]
        local = torch.as_tensor(np.stack(in_base), device=self.device, dtype=self._dtype)
        oriented = torch.as_tensor(
            np.stack([np.isfinite(p).all(-1).sum(-1) > 1 for p in palm]), device=self.device
        )  # else the wrist alone is known
        needed = torch.ones(len(self.hands), 21, dtype=torch.bool, device=self.device)
        for i, problem in enumerate(self.problems):
            needed[i] = False
            needed[i, problem.needed_keypoints.tolist()] = True
        known = (torch.isfinite(local).all(-1) | ~needed[:, None, None]).all(-1) & oriented  # (H, K, T)
        steps = torch.arange(known.shape[-1], device=self.device)
        newest = torch.where(known, steps, -1).cummax(dim=-1).values
        filled = local.gather(2, newest.clamp_min(0)[..., None, None].expand_as(local))
        return filled, (~known).permute(1, 2, 0)


Springs: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # distance less what to keep, and its gradients


@dataclass(frozen=True, eq=False)
class _Watched:
    """Pairs (H, P, 2) of capsules that may come near, and their thickness (H, P) m."""

    pairs: torch.Tensor
    thick: torch.Tensor


class _Group:
    """Like-shaped hands that are solved as one batch of B = hypotheses x steps poses."""

    def __init__(self, owner: HorizonRetargeter, members: list[int], avoid_collisions: bool):
        self.members, self.iterations = members, owner.iterations
        problems = self.problems = [owner.problems[i] for i in members]
        device, dtype = owner.device, owner._dtype
        self.objective = BatchObjective(problems, device, dtype)
        self.lower, self.upper = (
            torch.as_tensor(np.concatenate([getattr(p, k) for p in problems]), device=device, dtype=dtype)[:, None]
            for k in ("lower", "upper")
        )
        self.collision = None
        if avoid_collisions and all(len(p.hand.capsules) for p in problems):
            self.collision = BatchCollision([problem.hand for problem in problems], device, dtype)
        n, own = problems[0].kinematics.n, problems[0].hand.n
        self._last: torch.Tensor | None = None
        # Where the hand's own joints are among those of a problem with a free base.
        self.own = torch.as_tensor(
            np.concatenate([h * n + np.arange(own) for h in range(len(problems))]), device=device
        )

    @property
    def _capsules(self) -> BatchCollision:
        assert self.collision is not None, "nothing watches for contacts"
        return self.collision

    @torch.no_grad()
    def solve(self, human: torch.Tensor, q: list[np.ndarray]) -> list[np.ndarray]:
        """Targets (K, T, n) of each member for keypoints (H, K, T, 21, 3), starting at q."""
        human = human[self.members]
        hands, hypotheses, steps = human.shape[:3]
        self.objective.aim(human)
        pad = np.zeros(len(FREE_BASE) if self.problems[0].free_base else 0)
        now = np.concatenate([np.r_[q[i], pad] for i in self.members])[:, None]
        now = torch.as_tensor(now, device=human.device, dtype=human.dtype)
        x = now.expand(-1, hypotheses * steps).clamp(self.lower, self.upper).contiguous()
        damping = torch.full((hands, x.shape[-1]), _DAMPING, device=x.device, dtype=x.dtype)
        base, state = self.objective.evaluate(x)
        if self._last is not None and self._last.shape == x.shape:
            x, base, state = self._from_last(self._last, x, base, (hypotheses, steps))
        watched: _Watched | None = None
        for iteration in range(self.iterations):
            before = x.reshape(-1, hypotheses, steps)
            before = torch.cat([now[:, None].expand(-1, hypotheses, 1), before[..., :-1]], dim=2).reshape(x.shape)
            springs = None
            if iteration and self.collision is not None:
                poses = self._hand_poses(x, state[1])
                watched = self._watch(poses) if watched is None else watched
                springs = self._springs(poses, watched)
            value = base + self.objective.stay(x - before) + self._pressure(springs, None)
            candidate = (x + self._step(x, state, x - before, damping, springs)).clamp(self.lower, self.upper)
            new_base, _ = self.objective.evaluate(candidate)
            new = new_base + self.objective.stay(candidate - before) + self._pressure(springs, candidate - x)
            better = new <= value
            damping = torch.where(better, damping * _GENTLER, (damping * _HARDER).clamp_min(1e-2)).clamp(1e-6, 1e3)
            moved = (candidate - x).abs().amax(0)
            x = torch.where(self._per_joint(better), candidate, x)
            base = torch.where(better, new_base, base)
            x = self._follow_neighbours(x, base, now, (hypotheses, steps), iteration)
            if iteration and float((moved > _SETTLED).float().mean()) < _UNSETTLED:
                break
            if iteration + 1 < self.iterations:
                base, state = self.objective.evaluate(x)
        self._last = x
        x = x[self.own].reshape(hands, -1, hypotheses, steps).permute(0, 2, 3, 1)
        return list(x.double().cpu().numpy())

    def _from_last(
        self, solved: torch.Tensor, x: torch.Tensor, base: torch.Tensor, shape: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Begin each step at the solution that the forecast before had for that time, where that is better."""
        path = solved.reshape(-1, *shape)
        last = torch.cat([path[..., 1:], path[..., -1:]], dim=2).reshape(x.shape)
        last_base, _ = self.objective.evaluate(last)
        x = torch.where(self._per_joint(last_base < base), last, x)
        base, state = self.objective.evaluate(x)
        return x, base, state

    def _follow_neighbours(
        self, x: torch.Tensor, base: torch.Tensor, now: torch.Tensor, shape: tuple[int, int], iteration: int
    ) -> torch.Tensor:
        """Take over the pose of the step before (or after, by turns) where that is better: it keeps to one minimum.

        Without this, steps that start alike may end in different minima, and the path between them would jump.
        """
        path = x.reshape(-1, *shape)
        first = now[:, None].expand(-1, shape[0], 1)
        earlier = torch.cat([first, path[..., :-1]], dim=2)
        other = earlier if iteration % 2 == 0 else torch.cat([path[..., 1:], path[..., -1:]], dim=2)
        before, other = earlier.reshape(x.shape), other.reshape(x.shape)
        other_base, _ = self.objective.evaluate(other)
        mine, theirs = base + self.objective.stay(x - before), other_base + self.objective.stay(other - before)
        return torch.where(self._per_joint(theirs < mine), other, x)

    def _per_joint(self, flags: torch.Tensor) -> torch.Tensor:
        """(H, B) -> (H * n, B)."""
        return flags.repeat_interleave(len(self.lower) // len(self.members), dim=0)

    def _hand_poses(self, x: torch.Tensor, poses: Poses | None = None) -> Poses:
        """Poses of the hands' own slots at x; `poses` are those of the objective at x, which serve on a fixed base."""
        own = len(self.own) == len(x)
        return poses if own and poses is not None else self._capsules.kinematics.poses(x[self.own])

    def _springs(self, poses: Poses, watched: "_Watched") -> tuple[torch.Tensor, torch.Tensor] | None:
        """Of the pairs that each pose keeps apart: distance less what to keep (H, k, B), and gradients (H, k, n, B)."""
        segments = self._capsules.segments(poses)
        distance, where = self._capsules.distances(segments, watched.pairs, watched.thick)
        if float(distance.min()) > self._capsules.margin + _LOOK:
            return None
        count = min(_NEAREST, watched.pairs.shape[1])
        distance, rows = self._capsules.nearest(poses, segments, watched.pairs, distance, where, count)
        if self.problems[0].free_base:
            rows = torch.nn.functional.pad(rows, (0, 0, 0, len(FREE_BASE)))
        return distance - (self._capsules.margin + _BEFORE), rows

    def _watch(self, poses: Poses) -> "_Watched":
        """The pairs that come near in any pose of every third step."""
        segments = self._capsules.segments(poses)
        distance, _ = self._capsules.distances(tuple(part[..., ::3].contiguous() for part in segments))
        count = int((distance.amin(-1) < self._capsules.margin + _WATCH).sum(1).max().clamp_min(1))
        nearest = distance.amin(-1).topk(count, dim=1, largest=False).indices
        hands = torch.arange(len(nearest), device=nearest.device)[:, None]
        return _Watched(self._capsules.pairs[hands, nearest], self._capsules.thick[hands, nearest])

    def _pressure(self, springs: Springs | None, move: torch.Tensor | None) -> torch.Tensor | float:
        """Energy (H, B) of the springs after a move (H * n, B), to first order."""
        if springs is None:
            return 0.0
        gap, rows = springs
        after = gap if move is None else gap + self._along(rows, move)
        return 0.5 * _STIFFNESS * after.clamp_max(0.0).square().sum(1)

    def _along(self, rows: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
        """Change of the distances (H, k, B) by a move (H * n, B)."""
        return (rows * move.reshape(rows.shape[0], 1, -1, rows.shape[-1])).sum(2)

    def _step(
        self, x: torch.Tensor, state: State, delta: torch.Tensor, damping: torch.Tensor, springs: Springs | None
    ) -> torch.Tensor:
        """A damped, bounded Newton step (H * n, B)."""
        low, high = self.lower - x, self.upper - x
        gradient, matrix = self.objective.derivatives(state, delta, exact=True)
        step, failed = self._bounded(gradient, matrix, low, high, damping, springs)
        if bool(failed.any()):
            _, safe = self.objective.derivatives(state, delta, exact=False)
            matrix = torch.where(failed[:, None, None], safe, matrix)
            step, _ = self._bounded(gradient, matrix, low, high, damping, springs)
        return step.clamp(low, high)

    def _bounded(
        self,
        gradient: torch.Tensor,
        matrix: torch.Tensor,
        low: torch.Tensor,
        high: torch.Tensor,
        damping: torch.Tensor,
        springs: Springs | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Solve, then once more with what crossed a bound pinned there and what was pressed together sprung apart."""
        hands, n = matrix.shape[:2]
        pinned = ((low >= 0) & (gradient > 0)) | ((high <= 0) & (gradient < 0))
        at = torch.zeros_like(gradient)
        pressed = None if springs is None else springs[0] < 0
        for last in (False, True):
            full, right = matrix.clone(), -gradient
            if springs is not None and pressed is not None:
                right = self._add_springs(full, right, springs, pressed)
            diagonal = full.reshape(hands, n * n, -1)[:, :: n + 1]
            diagonal += damping[:, None] + _PINNED * pinned.reshape(hands, n, -1)
            right = torch.where(pinned, _PINNED * at, right).reshape(hands, n, -1)
            step, failed = solve_positive(full, right)
            step = step.reshape(gradient.shape)
            if last:
                break
            crossed = ((step < low) | (step > high)) & ~pinned
            if springs is not None and pressed is not None:
                pressed |= springs[0] + self._along(springs[1], step) < 0
            elif not bool(crossed.any()):
                break
            at = torch.where(crossed, step.clamp(low, high), at)
            pinned = pinned | crossed
        return step, failed

    def _add_springs(
        self, full: torch.Tensor, right: torch.Tensor, springs: Springs, pressed: torch.Tensor
    ) -> torch.Tensor:
        """Add pressed springs to the matrix (H, n, n, B) in place; the right side (H * n, B) with them."""
        gap, rows = springs
        stiff = _STIFFNESS * pressed
        for k in range(rows.shape[1]):
            full.addcmul_((stiff[:, k, None] * rows[:, k])[:, :, None], rows[:, k, None])
        return right - ((stiff * gap)[:, :, None] * rows).sum(1).reshape(right.shape)

    def _part(self, x: torch.Tensor, further: float) -> torch.Tensor:
        """Move poses that still collide apart, by small steps along the gradients of their nearest pairs."""
        watched: _Watched | None = None
        for _ in range(3):
            poses = self._hand_poses(x)
            watched = self._watch(poses) if watched is None else watched
            springs = self._springs(poses, watched)
            if springs is None:
                break
            gap, rows = springs
            gap = gap - further
            short = (-gap) * (gap + 0.5 * _BEFORE < 0)
            if not bool((short > 0).any()):
                break
            push = 1.2 * short / (rows * rows).sum(2).clamp_min(1e-6)
            x = (x + (push[:, :, None] * rows).sum(1).reshape(x.shape)).clamp(self.lower, self.upper)
        return x

    def part(self, paths: list[np.ndarray], further: float = 0.0) -> list[np.ndarray]:
        """Paths (K, T, n) of each member with the poses that collide moved apart, by `further` m more than needed."""
        n, lead = paths[0].shape[-1], paths[0].shape[:2]
        q = np.zeros((len(self.lower), lead[0] * lead[1]))
        q[self.own.cpu().numpy()] = np.concatenate([path.reshape(-1, n).T for path in paths])
        x = torch.as_tensor(q, device=self.lower.device, dtype=self.lower.dtype)
        x = self._part(x, further)[self.own].reshape(len(paths), n, *lead).permute(0, 2, 3, 1)
        return list(x.double().cpu().numpy())

    def least_distances(self, paths: list[np.ndarray]) -> list[np.ndarray]:
        """Least distance (K, T) m of the capsules of each member at its path (K, T, n)."""
        q = np.concatenate([path.reshape(-1, path.shape[-1]).T for path in paths])
        q = torch.as_tensor(q, device=self.lower.device, dtype=self.lower.dtype)
        distance, _ = self._capsules.distances(self._capsules.segments(self._capsules.kinematics.poses(q)))
        least = distance.amin(1).reshape(len(paths), *paths[0].shape[:2])
        return list(least.cpu().numpy())


def _key_steps(steps: int, dt: float) -> np.ndarray:
    """The steps that are solved, among them the last one."""
    return np.arange(steps - 1, -1, -max(1, int(_KEY_TIME / dt)))[::-1].copy()


def _between(solved: np.ndarray, q: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Poses (K, T, n) of all steps from those (K, keys, n) of some and q (n,), one step before the first."""
    before = np.broadcast_to(q, (len(solved), 1, len(q)))
    at = np.r_[-1, keys]
    known, steps = np.concatenate([before, solved], axis=1), np.arange(keys[-1] + 1)
    right = np.searchsorted(at, steps)
    share = ((at[right] - steps) / (at[right] - at[right - 1]))[:, None]
    return share * known[:, right - 1] + (1.0 - share) * known[:, right]


def _smooth(targets: np.ndarray, q: np.ndarray, qd: np.ndarray, dt: float, weights: tuple[float, float]) -> np.ndarray:
    """Least squares along time: deviation from targets (K, T, n) against velocity and acceleration.

    The two steps before the first are where the hand is and was. The system is the same for all, so it is solved once.
    """
    steps = targets.shape[1]
    first = (np.eye(steps + 2)[1:] - np.eye(steps + 2)[:-1]) / dt
    second = (first[1:] - first[:-1]) / dt
    cost = weights[0] * first.T @ first + weights[1] * second.T @ second
    known = np.stack([q - qd * dt, q])
    system = np.eye(steps) + cost[2:, 2:]
    right = targets - cost[2:, :2] @ known
    return np.linalg.solve(system, right)


def _spread(push: np.ndarray) -> np.ndarray:
    """A push (K, T, n) that begins before and ends after the steps that need it: limits would undo a sudden one."""
    out, steps = push.copy(), push.shape[1]
    for away in range(1, _SPREAD):
        share = 1.0 - away / _SPREAD
        for here, there in ((slice(away, steps), slice(0, steps - away)), (slice(0, steps - away), slice(away, steps))):
            part = share * push[:, there]
            out[:, here] = np.where(np.abs(part) > np.abs(out[:, here]), part, out[:, here])
    return out


def _guarded(hand: HandModel, targets: np.ndarray, q: np.ndarray, qd: np.ndarray, dt: float) -> np.ndarray:
    """As `limit_path` for one path (T, n), step by step and free of self-collision."""
    limiter = JointLimiter(hand)
    limiter.reset(q, qd)
    return np.stack([limiter.step(target, dt)[0] for target in targets])


def limit_path(hand: HandModel, targets: np.ndarray, q: np.ndarray, qd: np.ndarray, dt: float) -> np.ndarray:
    """Paths (K, T, n) towards targets (K, T, n) that keep position, velocity and acceleration limits from (q, qd)
    on.
    """
    limiter = JointLimiter(hand, avoid_collisions=False)
    limiter.reset(np.broadcast_to(q, targets[:, 0].shape), qd)
    return np.stack([limiter.step(targets[:, t], dt)[0] for t in range(targets.shape[1])], axis=1)
