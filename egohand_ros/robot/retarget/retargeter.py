"""Human keypoints -> robot-hand joint positions, one frame at a time."""

import time
from dataclasses import dataclass

import numpy as np

from ...hand.palm import palm_or_given_rotation
from ...hand.skeleton import KEYPOINT_NAMES, NUM_KEYPOINTS, WRIST, side_index
from ..hands.model import HandModel
from ..limits.limiter import HOLD, JointLimiter
from .compiled_objective import FREE_BASE, build_problem
from .smoothing import OneEuroFilter
from .solver import LiveSolver

SOLVED, HELD = "solved", "held"
_USUAL_STEP = 1.0 / 30.0  # s between calls that do not tell


@dataclass(frozen=True, eq=False)
class RetargetResult:
    """One frame: q (n,) rad in `joint_names` order, what happened, and how well and fast.

    `status` is "solved", or "held: <reason>" when the keypoints could not be used and the last pose is kept.
    `residual` is the objective's value at q (NaN when held), `solve_ms` the wall time of the call. `in_contact` says
    that self-collision shaped the pose. `base` (6,) is where a free base was put: x, y, z m; roll, pitch, yaw rad.
    """

    q: np.ndarray
    joint_names: tuple[str, ...]
    status: str
    residual: float
    solve_ms: float
    iterations: int = 0
    in_contact: bool = False
    base: np.ndarray | None = None

    @property
    def solved(self) -> bool:
        return self.status == SOLVED


class Retargeter:
    """Follows a human hand with a robot hand, within its position limits and free of self-collision.

    `side` is the human hand's and defaults to the robot's. `finger_scale` multiplies the objective's scale per finger
    (see `calibration`). `smoothing` filters the keypoints in the palm frame. A keypoint that moves more than `jump` m
    within the palm frame from one frame of 30 Hz to the next, in proportion more where frames are further apart, is
    taken for a tracking error for `jump_frames` frames; then it is believed.
    """

    def __init__(
        self,
        hand: HandModel,
        side: str | None = None,
        objective: str = "vector",
        finger_scale: dict[str, float] | None = None,
        avoid_collisions: bool = True,
        smoothing: OneEuroFilter | None = None,
        jump: float = 0.12,
        jump_frames: int = 3,
    ):
        self.hand, self.side = hand, hand.side if side is None else side
        side_index(self.side)
        self.problem = build_problem(hand, objective, finger_scale)
        self._solver = LiveSolver(self.problem, avoid_collisions)
        self._needed = np.union1d(self.problem.needed_keypoints, [WRIST])
        self._jump, self._jump_frames = float(jump), int(jump_frames)
        self._smoothing = smoothing
        self._to_base = np.ascontiguousarray(self.problem.rotation.T)
        self._limiter = JointLimiter(hand, avoid_collisions=avoid_collisions)
        self.reset()

    @property
    def q(self) -> np.ndarray:
        """The last pose (n,) rad."""
        return self._x[: self.hand.n].copy()

    def reset(self, q: np.ndarray | None = None) -> None:
        """Forget all motion; start from q (n,), by default the middle of the joint ranges, or rest if that collides."""
        hand = self.hand
        if q is None:
            q = 0.5 * (hand.lower + hand.upper)
            if len(hand.capsules) and hand.capsules.distances(hand.kinematics, q).min() < hand.capsules.margin:
                q = hand.rest_q
        self._limiter.reset(np.asarray(q, dtype=float))
        self._x = np.concatenate([self._limiter.q, np.zeros(len(FREE_BASE) if self.problem.free_base else 0)])
        self._previous: np.ndarray | None = None  # the keypoints of the last good frame, and when they were seen
        self._previous_stamp: float | None = None
        self._jumped = 0
        self._solver.reset()
        if self._smoothing is not None:
            self._smoothing.reset()

    def solve(
        self,
        keypoints: np.ndarray,
        valid: np.ndarray | None = None,
        dt: float | None = None,
        objects: np.ndarray | None = None,
        rotation: np.ndarray | None = None,
        stamp: float | None = None,
    ) -> RetargetResult:
        """The pose for keypoints (21, 3) m in any frame, `valid` (21,) saying which are known (all by default).

        Wrist and fingertips have to be known; rows of the objective whose other keypoints are missing are left out.
        `rotation` (3, 3): R_frame_palm as the tracker gives it, NaN where unknown; it serves where the palm's keypoints
        do not define one (see `hand.palm`). `stamp`: when the hand is so [s]; without it frames are 1/30 s apart.
        `dt`: seconds since the last call; then velocity and acceleration limits bound the pose as well. Without it
        the pose is a target for a `JointLimiter`. `objects` (5, 3): in the keypoints' frame, a point on an object for
        each finger, NaN where there is none, for `contact` terms. Never raises on bad data: it holds and says why.
        """
        start = time.perf_counter()
        seen = self._in_palm_frame(keypoints, valid, rotation, stamp)
        if isinstance(seen, str):
            if dt is not None:
                self._x[: self.hand.n] = self._limiter.step(None, dt, HOLD)[0]
            return self._result(f"{HELD}: {seen}", float("nan"), start)
        local, palm = seen
        if self._smoothing is not None:
            local = self._smoothing(local, _USUAL_STEP if dt is None else dt)
        contacts = None
        if objects is not None:
            contacts = (np.asarray(objects, dtype=float) - keypoints[WRIST]) @ palm @ self._to_base
        return self._follow(local @ self._to_base, contacts, dt, start)

    def solve_in_base(self, keypoints: np.ndarray, dt: float | None = None) -> RetargetResult:
        """As `solve`, for finite keypoints (21, 3) m that are wrist-centred and turned into the robot's base axes."""
        return self._follow(np.asarray(keypoints, dtype=float), None, dt, time.perf_counter())

    def _follow(self, human: np.ndarray, contacts: np.ndarray | None, dt: float | None, start: float) -> RetargetResult:
        n, problem = self.hand.n, self.problem
        last, lower, upper = self._x, problem.lower, problem.upper
        bounds = self._limiter.bounds(dt) if dt is not None else None
        if dt is not None and bounds is None:
            return self._result(f"{HELD}: no time has passed", float("nan"), start)
        if dt is not None and bounds is not None:
            lower, upper = lower.copy(), upper.copy()
            lower[:n] = np.maximum(lower[:n], last[:n] + bounds.lower * dt)
            upper[:n] = np.maximum(np.minimum(upper[:n], last[:n] + bounds.upper * dt), lower[:n])
        self._solver.objective.aim(human, last, contacts)
        solution = self._solver.solve(np.clip(last, lower, upper), lower, upper)
        self._x = solution.x
        if dt is not None and bounds is not None:
            self._limiter.move((solution.x[:n] - last[:n]) / dt, bounds)
            self._x = np.concatenate([self._limiter.q, solution.x[n:]])
        return self._result(SOLVED, solution.value, start, solution.steps, solution.in_contact)

    def _result(
        self, status: str, residual: float, start: float, steps: int = 0, in_contact: bool = False
    ) -> RetargetResult:
        n = self.hand.n
        base = self._x[n:].copy() if self.problem.free_base else None
        elapsed = 1e3 * (time.perf_counter() - start)
        return RetargetResult(
            self._x[:n].copy(), self.hand.joint_names, status, residual, elapsed, steps, in_contact, base
        )

    def _in_palm_frame(
        self, keypoints: np.ndarray, valid: np.ndarray | None, given: np.ndarray | None, stamp: float | None
    ) -> tuple[np.ndarray, np.ndarray] | str:
        """Keypoints (21, 3) in the palm frame, NaN where not known, and R_frame_palm; or why they cannot be used."""
        points = np.asarray(keypoints, dtype=float)
        if points.shape != (NUM_KEYPOINTS, 3):
            return f"keypoints have shape {points.shape}, expected (21, 3)"
        if valid is not None:
            known = np.asarray(valid, dtype=bool)
            if not known.take(self._needed).all():
                return "keypoints are missing"
            if not known.all():
                points = np.where(known[:, None], points, np.nan)
        if not np.isfinite(points.take(self._needed, 0)).all():
            return "keypoints are not finite"
        rotation = palm_or_given_rotation(points, self.side, given)
        if not np.isfinite(rotation).all():
            return "the palm has no orientation"
        local = (points - points[WRIST]) @ rotation
        return "keypoints jumped" if self._jumps(local.take(self._needed, 0), stamp) else (local, rotation)

    def _jumps(self, used: np.ndarray, stamp: float | None) -> bool:
        """Whether keypoints are too far from those of the last good frame; believed after `jump_frames` of them."""
        before = self._previous if self._jumped < self._jump_frames else None
        passed = 0.0 if stamp is None or self._previous_stamp is None else stamp - self._previous_stamp
        if before is not None and np.abs(used - before).max() > self._jump * max(1.0, passed / _USUAL_STEP):
            self._jumped += 1
            return True
        self._previous, self._previous_stamp, self._jumped = used, stamp, 0
        return False

    def missing(self, keypoints: np.ndarray, rotation: np.ndarray | None = None) -> str:
        """What of keypoints (..., 21, 3), NaN where unknown, never comes and would have to, in words; "" if nothing."""
        known = np.isfinite(keypoints).all(axis=-1).reshape(-1, NUM_KEYPOINTS)
        lacking = [KEYPOINT_NAMES[i] for i in self._needed if not known[:, i].any()]
        palm = palm_or_given_rotation(keypoints, self.side, rotation)
        if not np.isfinite(palm).all(axis=(-1, -2)).any():
            lacking.append("an orientation of the palm (wrist, index_mcp and little_mcp, or a wrist rotation)")
        return ", ".join(lacking)
