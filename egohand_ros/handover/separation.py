"""Speed and separation monitoring: how fast a robot may close in on a person, now and over every forecast.

The protective separation distance of ISO 10218-2:2025 (formerly ISO/TS 15066:2016, 5.5.4):

    S = v_h (T_r + T_s) + v_r T_r + v_r T_s / 2 + C + Z_d + Z_r

with the person's speed v_h, the robot's closing speed v_r, reaction and stopping times T_r and T_s, the intrusion
distance C and the uncertainties Z of person and robot. T_s is v_r / a, and the time in which deceleration builds up. A
robot that does not close in needs no distance: it has stopped, as a protective stop asks. Lengths in m, times in s.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..hand.skeleton import SIDES, TIPS, WRIST
from ..messages.forecast import Futures, HandFuture
from ..robot.hands.capsules import segment_distance

RADIUS_90 = 2.5003  # of three Gaussian coordinates of unit deviation, this radius holds 90 %

HEAD = -1  # `Body.side` of head and torso
_FLESH = 0.012  # m around a hand's keypoints, which lie in its joints


@dataclass(frozen=True)
class BodySize:
    """m of what no tracker tells of a person. These are ours: large adults fit into them, in summer clothes and with a
    camera on the head; for heavy clothes or a helmet they have to be made larger. `forearm` is the length from the
    wrist that in a transfer counts as part of the hand, from which it cannot be told; shoulders lie `shoulder_drop`
    below and `shoulder_out` beside the camera, hips `hip_drop` below."""

    forearm: float = 0.27
    forearm_radius: float = 0.055
    head_radius: float = 0.14
    torso_radius: float = 0.19
    shoulder_drop: float = 0.25
    shoulder_out: float = 0.18
    hip_drop: float = 0.75


@dataclass(frozen=True)
class SeparationOptions:
    """`human_speed` is the least that is reckoned with, whatever was measured (ISO 13855 walks with 1.6 m/s);
    `reaction_time` from an exposure of the camera to the arm's first deceleration, as measured; `deceleration` of the
    robot's fastest point and `build_up`, the time until it acts; `transfer_speed` of the last stretch, at which alone
    the transferring hand may be touched, and `leave_speed`, by which a robot that leaves may still close in on it;
    `near_speed`, no more than which the tool moves in any direction while somebody is very near;
    `forecast_deceleration`, with which the arm slows for what is only forecast."""

    human_speed: float = 1.6
    reaction_time: float = 0.08
    deceleration: float = 5.0
    build_up: float = 0.03
    intrusion: float = 0.0
    person_uncertainty: float = 0.03
    robot_uncertainty: float = 0.005
    transfer_speed: float = 0.15
    leave_speed: float = 0.03
    near_speed: float = 0.02
    forecast_deceleration: float = 2.0
    body: BodySize = BodySize()

    def __post_init__(self) -> None:
        if min(self.human_speed, self.reaction_time, self.deceleration, self.transfer_speed) <= 0.0:
            raise ValueError("human_speed, reaction_time, deceleration and transfer_speed have to be positive")
        if self.forecast_deceleration > self.deceleration:
            raise ValueError("forecast_deceleration cannot be more than deceleration")

    @property
    def stop_distance(self) -> float:
        """m; nobody who is nearer may be closed in on at all."""
        return self.fixed + self.human_speed * (self.reaction_time + self.build_up)

    @property
    def fixed(self) -> float:
        """What has to be there at any speed: C + Z_d + Z_r."""
        return self.intrusion + self.person_uncertainty + self.robot_uncertainty


def required_separation(
    closing_speed: np.ndarray | float, options: SeparationOptions, human_speed: np.ndarray | float = 0.0
) -> np.ndarray:
    """S (...) m at closing speeds (...) m/s of the robot; 0 where it does not close in. `human_speed` counts where it
    is more than the options' own."""
    v = np.asarray(closing_speed, dtype=float)
    human = np.maximum(human_speed, options.human_speed)
    stop = np.maximum(v, 0.0) / options.deceleration + options.build_up
    needed = human * (options.reaction_time + stop) + v * options.reaction_time + v * stop / 2.0 + options.fixed
    return np.where(v > 0.0, needed, 0.0)


def allowed_speed(
    distance: np.ndarray | float, options: SeparationOptions, human_speed: np.ndarray | float = 0.0
) -> np.ndarray:
    """Largest closing speed (...) m/s whose separation is no more than `distance` (...) m: the inverse of the above."""
    human = np.maximum(human_speed, options.human_speed)
    spare = np.asarray(distance, dtype=float) - options.fixed - human * (options.reaction_time + options.build_up)
    linear = human / options.deceleration + options.reaction_time + options.build_up / 2.0
    root = np.sqrt(linear**2 + 2.0 * np.maximum(spare, 0.0) / options.deceleration)
    return options.deceleration * (root - linear)


@dataclass(frozen=True, eq=False)
class Body:
    """Capsules (N) in one frame: `start` and `end` (N, 3) m, `radius` (N,) m, and what they belong to: `side` (N,) 0
    left, 1 right, HEAD; `is_hand` (N,) for those that may be exempt in a transfer; `speed` (N,) m/s as measured."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    side: np.ndarray
    is_hand: np.ndarray
    speed: np.ndarray

    def __len__(self) -> int:
        return len(self.radius)


def person_body(
    keypoints: np.ndarray,
    head: np.ndarray | None = None,
    speed: np.ndarray | None = None,
    size: BodySize = BodySize(),
) -> Body:
    """The person of keypoints (2, 21, 3) m, NaN where unknown, z up, and the camera on the head (3,) m.

    A hand is one capsule from the wrist to the middle of the fingertips, wide enough for every keypoint, and one for
    its forearm; the arm goes on towards the shoulder, which is where the head says, or away from the fingers. `speed`
    (2,) m/s of the hands.
    """
    speed = np.zeros(2) if speed is None else np.nan_to_num(speed)
    rows: list[tuple[np.ndarray, np.ndarray, float, int, bool, float]] = []
    for side in range(2):
        points = keypoints[side][np.isfinite(keypoints[side]).all(-1)]
        wrist = keypoints[side, WRIST]
        if not np.isfinite(wrist).all():
            continue
        tips = keypoints[side, list(TIPS)]
        far = np.nanmean(tips, axis=0) if np.isfinite(tips).any() else wrist
        shoulder = _shoulder(side, head, wrist, far, size)
        back = shoulder - wrist
        length = float(np.linalg.norm(back))
        elbow = wrist + back * min(1.0, size.forearm / max(length, 1e-6))
        off = _from_segment(points, wrist, far)
        rows.append((wrist, far, float(off.max(initial=0.0)) + _FLESH, side, True, float(speed[side])))
        rows.append((wrist, elbow, size.forearm_radius, side, True, float(speed[side])))
        rows.append((elbow, shoulder, size.forearm_radius, side, False, float(speed[side])))
    if head is not None and np.isfinite(head).all():
        neck, hip = head - (0.0, 0.0, size.shoulder_drop), head - (0.0, 0.0, size.hip_drop)
        rows.append((head, head, size.head_radius, HEAD, False, 0.0))
        rows.append((neck, hip, size.torso_radius, HEAD, False, 0.0))
    columns = list(zip(*rows)) if rows else [[], [], [], [], [], []]
    start, end = (np.array(column, dtype=float).reshape(-1, 3) for column in columns[:2])
    kinds = (float, int, bool, float)
    return Body(start, end, *(np.array(column, dtype=kind) for column, kind in zip(columns[2:], kinds)))


def _shoulder(side: int, head: np.ndarray | None, wrist: np.ndarray, far: np.ndarray, size: BodySize) -> np.ndarray:
    """Where a shoulder is, (3,) m: beside and below the head, on the side that lies across the line to the hand."""
    if head is None or not np.isfinite(head).all():
        along = far - wrist
        norm = float(np.linalg.norm(along))
        return wrist - 0.5 * (along / norm if norm > 1e-6 else np.array([0.0, 0.0, 1.0]))
    forward = wrist - head
    forward[2] = 0.0
    norm = float(np.linalg.norm(forward))
    forward = forward / norm if norm > 1e-6 else np.array([1.0, 0.0, 0.0])
    leftwards = np.array([-forward[1], forward[0], 0.0])
    out = size.shoulder_out if SIDES[side] == "left" else -size.shoulder_out
    return head + out * leftwards - np.array([0.0, 0.0, size.shoulder_drop])


def _from_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    along = end - start
    t = np.clip((points - start) @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
    return np.linalg.norm(points - start - t[:, None] * along, axis=-1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Robot capsules against the person's, flat (P,): surface `distance` m, `normal` (P, 3) from robot to person,
    `point` (P, 3) on the robot's axis, `robot` (P,) and `person` (P,) indices of capsules, and `allowed` (P,) m/s by
    which the point may close in."""

    distance: np.ndarray
    normal: np.ndarray
    point: np.ndarray
    robot: np.ndarray
    person: np.ndarray
    allowed: np.ndarray


def measure_pairs(
    robot: tuple[np.ndarray, np.ndarray, np.ndarray],
    person: Body,
    options: SeparationOptions,
    exempt_side: int | None = None,
    leaving: bool = False,
) -> Pairs:
    """All pairs at one moment; `robot` is start and end (C, 3) m and radius (C,) m of its capsules.

    With `exempt_side` a transfer is under way: that hand alone may be closed in on by `transfer_speed` (`leave_speed`
    when `leaving`), whatever its distance, and nothing else is exempt."""
    start, end, radius = robot
    c, n = len(radius), len(person)
    i, j = np.repeat(np.arange(c), n), np.tile(np.arange(n), c)
    gap, s, t = segment_distance(start[i], end[i], person.start[j], person.end[j])
    on_robot = start[i] + s[..., None] * (end[i] - start[i])
    on_person = person.start[j] + t[..., None] * (person.end[j] - person.start[j])
    apart = on_person - on_robot
    normal = apart / np.maximum(np.linalg.norm(apart, axis=-1, keepdims=True), 1e-9)
    distance = gap - radius[i] - person.radius[j]
    allowed = allowed_speed(distance, options, person.speed[j])
    if exempt_side is not None:
        exempt = person.is_hand[j] & (person.side[j] == exempt_side)
        least = options.leave_speed if leaving else options.transfer_speed
        allowed = np.where(exempt, np.maximum(allowed, least), allowed)
    return Pairs(distance, normal, on_robot, i, j, allowed)


@dataclass(frozen=True, eq=False)
class ForecastSeparation:
    """`distance` m, smallest over hands, hypotheses and steps with the 90 % region taken off, `time` s of it from the
    forecast's stamp. For every robot capsule (C,) what limits it most: `allowed` m/s by which its `point` (C, 3) m may
    move along `normal` (C, 3) now, so that it can slow in time. inf and nan without a forecast."""

    distance: float
    time: float
    allowed: np.ndarray
    normal: np.ndarray
    point: np.ndarray

    @property
    def speed(self) -> float:
        """m/s, the least that is allowed."""
        return float(self.allowed.min(initial=np.inf))


def forecast_separation(
    robot: tuple[np.ndarray, np.ndarray, np.ndarray],
    futures: Futures | None,
    options: SeparationOptions,
    now: float,
    exempt_side: int | None = None,
    use_covariance: bool = True,
) -> ForecastSeparation:
    """The robot as it stands against every hand of every hypothesis at every step that is still to come.

    A hand is the ball around its keypoints. The speed that its distance at a step allows has to be reached by then with
    `forecast_deceleration`, so a forecast slows the robot earlier and never lets it be faster.
    """
    start, _, radius = robot
    best = ForecastSeparation(np.inf, np.nan, np.full(len(radius), np.inf), np.zeros_like(start), start.copy())
    if futures is None:
        return best
    to_go = futures.stamp + futures.step_times - now
    ahead = to_go > 0.0
    for hand in futures.hands:
        if ahead.any() and hand.side != exempt_side:
            centre, size = _balls(hand, use_covariance)
            times = futures.step_times[ahead]
            best = _nearer(best, _against(robot, centre[:, ahead], size[:, ahead], to_go[ahead], times, options))
    return best


def _against(
    robot: tuple[np.ndarray, np.ndarray, np.ndarray],
    centre: np.ndarray,
    size: np.ndarray,
    to_go: np.ndarray,
    times: np.ndarray,
    options: SeparationOptions,
) -> ForecastSeparation:
    """One hand's balls about centre (K, S, 3) m of radius (K, S) m, that come `to_go` (S,) s from now."""
    start, end, radius = robot
    hypotheses = len(centre)
    centre, size = centre.reshape(-1, 3), size.reshape(-1, 1)
    axis = end - start
    # By products, not by differences (K S, C, 3), which cost twice as much, a hundred times a second.
    along = _products(centre, axis) - (start * axis).sum(-1)
    t = np.clip(along / np.maximum((axis * axis).sum(-1), 1e-12), 0.0, 1.0)
    from_start = (centre * centre).sum(-1)[:, None] - 2.0 * _products(centre, start) + (start * start).sum(-1)
    far = np.sqrt(np.maximum(from_start + t * (t * (axis * axis).sum(-1) - 2.0 * along), 0.0))
    distance = (far - radius - size).reshape(hypotheses, len(to_go), -1)
    column = np.arange(len(radius))
    counts = np.maximum(distance, options.stop_distance)  # nearer than that, all allow nothing
    nearest = counts.argmin(axis=0)  # (S, C): the hypothesis that limits a capsule most at a step
    allowed = allowed_speed(counts.min(axis=0), options) + options.forecast_deceleration * to_go[:, None]
    step = allowed.argmin(axis=0)
    worst = nearest[step, column] * len(to_go) + step
    point = start + t[worst, column, None] * axis
    apart = centre[worst] - point
    smallest = distance.min(axis=(0, 2))
    where = int(smallest.argmin())
    return ForecastSeparation(
        float(smallest[where]),
        float(times[where]),
        allowed[step, column],
        apart / np.maximum(np.linalg.norm(apart, axis=-1), 1e-9)[:, None],
        point,
    )


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products (N, M) of vectors (N, 3) and (M, 3), rounded alike whatever N and M are."""
    return a[:, :1] * b[:, 0] + a[:, 1:2] * b[:, 1] + a[:, 2:] * b[:, 2]


def _nearer(a: ForecastSeparation, b: ForecastSeparation) -> ForecastSeparation:
    """What limits more, capsule by capsule."""
    second = b.allowed < a.allowed
    near = b if b.distance < a.distance else a
    return ForecastSeparation(
        near.distance,
        near.time,
        np.where(second, b.allowed, a.allowed),
        np.where(second[:, None], b.normal, a.normal),
        np.where(second[:, None], b.point, a.point),
    )


def region_90(covariance: np.ndarray) -> np.ndarray:
    """Radius (...) m of the ball around the 90 % ellipsoid of position covariances (..., 3, 3) m^2; 0 where unknown."""
    known = np.isfinite(covariance).all((-1, -2))
    filled = np.where(known[..., None, None], covariance, 0.0)
    return RADIUS_90 * np.sqrt(np.maximum(np.linalg.eigvalsh(filled)[..., -1], 0.0))


@lru_cache(maxsize=8)  # both hands of a few forecasts: arms are controlled ten times as often as they come
def _balls(hand: HandFuture, use_covariance: bool) -> tuple[np.ndarray, np.ndarray]:
    """Centre (K, S, 3) and radius (K, S) m of balls around a hand's keypoints, those that are NaN left out, and around
    its 90 % region."""
    known = np.isfinite(hand.keypoints).all(-1)
    filled = np.where(known[..., None], hand.keypoints, hand.wrist[..., None, :])
    centre = (filled.min(-2) + filled.max(-2)) / 2.0
    size = np.linalg.norm(filled - centre[..., None, :], axis=-1).max(-1) + _FLESH
    return centre, size + region_90(hand.wrist_covariance[..., :3, :3]) if use_covariance else size
