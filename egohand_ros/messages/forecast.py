"""HandForecastArray to arrays (`Futures`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..errors import RejectedInput
from ..geometry.rotations import matrix_from_quaternion
from ..hand.skeleton import NUM_KEYPOINTS, SIDES, WRIST
from .basic import (
    MAX_COORDINATE,
    QUATERNION_TOLERANCE,
    Message,
    check_hand_frame,
    check_side,
    covariance_matrices,
    covariance_triangles,
    parse_header,
    points_array,
    quaternions_or_zero,
    seconds,
    wrist_of,
)

MAX_HORIZON = 3600.0  # s
POSITION_GRID = 2.0**-16  # m, 15 µm; float32 itself is no finer beyond 128 m
QUATERNION_GRID = 2.0**-16  # 2e-5: 0.002 degrees


@dataclass(frozen=True, eq=False)
class HandFuture:
    """The possible futures of one hand: K hypotheses, most probable first, of S steps.

    side 0 left, 1 right; probability (K,); keypoints (K, S, 21, 3) m, NaN where not forecast; wrist_rotation
    (K, S, 3, 3) R_frame_palm; keypoint_std (K, S, 21) m and wrist_covariance (K, S, 6, 6), NaN where unknown.
    """

    side: int
    track_id: int
    probability: np.ndarray
    keypoints: np.ndarray
    wrist_rotation: np.ndarray
    keypoint_std: np.ndarray
    wrist_covariance: np.ndarray

    @property
    def wrist(self) -> np.ndarray:
        """Wrist positions (K, S, 3) m."""
        return self.keypoints[:, :, WRIST]


@dataclass(frozen=True)
class Waypoint:
    """A moment foreseen by itself: `time` s from the stamp, `side` 0 left, 1 right; the wrist's position (3,) m, its
    rotation (3, 3) R_frame_palm and the probability of contact, both NaN where not given."""

    time: float
    side: int
    label: str
    position: np.ndarray
    rotation: np.ndarray
    contact: float = float("nan")


@dataclass(frozen=True)
class Futures:
    """One result of the forecaster: the array form of HandForecastArray. step_times (S,) s from `stamp`; goals (G, 4),
    of what the hands go for the place, m, and its probability, is for markers alone. `gives` names what of the hands is
    forecast, as ForecasterInfo does; () is not told."""

    stamp: float
    frame_id: str
    step_times: np.ndarray
    hands: tuple[HandFuture, ...]
    stage: str = ""
    model_id: str = ""
    inference_start: float = 0.0
    inference_end: float = 0.0
    goals: np.ndarray | None = None
    gives: tuple[str, ...] = ()
    waypoints: tuple[Waypoint, ...] = ()

    @property
    def holds_fingers(self) -> bool:
        """Whether the fingers that are shown are not forecast, but held as they were seen last."""
        return bool(self.gives) and "fingers" not in self.gives

    def hand(self, side: int) -> HandFuture | None:
        """The futures of the left (0) or right (1) hand, None where it is not forecast."""
        return next((h for h in self.hands if h.side == side), None)


def parse_hand_forecast_array_msg(message: Message, max_hypotheses: int | None = None) -> Futures:
    """`Futures` of a HandForecastArray, of the first `max_hypotheses` of each hand where given.

    Raises `RejectedInput`: empty_frame, bad_stamp, unknown_side, duplicate_side, frame_mismatch, no_steps,
    uneven_steps, bad_step_times, bad_probability, bad_covariance, non_finite_keypoint, non_unit_quaternion, huge_value,
    bad_waypoint. Messages of before 0.2.0 have no waypoints and do not tell what they give.
    """
    stamp, frame_id = parse_header(message.header)
    times: list[np.ndarray] = []
    futures = []
    for hand in message.forecasts:
        check_hand_frame(hand.header.frame_id, frame_id)
        hypotheses = hand.hypotheses[:max_hypotheses]
        steps = [step for hypothesis in hypotheses for step in hypothesis.steps]
        if len({len(hypothesis.steps) for hypothesis in hypotheses}) > 1:
            raise RejectedInput("uneven_steps", "hypotheses differ in their number of steps")
        given = [[seconds(step.time_from_start) for step in hypothesis.steps] for hypothesis in hypotheses]
        times.append(np.array(given).reshape(len(hypotheses), -1) if steps else np.zeros((0, 0)))
        wrists = [wrist_of(step) for step in steps]
        future = RawFuture(
            hand.side,
            hand.track_id,
            np.array([h.probability for h in hypotheses], dtype=np.float64),
            np.array([points_array(step.keypoints) for step in steps]),
            np.array([(q.x, q.y, q.z, q.w) for q, _ in wrists]),
            np.array([step.standard_deviation for step in steps], dtype=np.float64),
            np.array([covariance for _, covariance in wrists], dtype=np.float64),
        )
        futures.append(future)
    start, end = seconds(message.inference_start), seconds(message.inference_end)
    parts = checked_futures(stamp, frame_id, times, futures, message.stage, message.model_id, start, end)
    waypoints = [
        RawWaypoint(
            seconds(waypoint.time_from_start),
            waypoint.side,
            waypoint.label,
            np.array([(p := waypoint.wrist_position).x, p.y, p.z], dtype=np.float64),
            np.array([(q := waypoint.wrist_orientation).x, q.y, q.z, q.w], dtype=np.float64),
            float(waypoint.contact_probability),
        )
        for waypoint in getattr(message, "waypoints", ())
    ]
    return replace(parts, gives=tuple(getattr(message, "gives", ())), waypoints=checked_waypoints(waypoints))


class WireFuture(NamedTuple):
    """One hand's forecast as messages have it, for K hypotheses x S steps: quaternion (K, S, 4) float64, zeros where
    unknown; covariance (K, S, 21) float32, first -1 where unknown; keypoints (K, S, 21, 3) float32; std (K, S, 21)
    float32, -1 where unknown.

    Positions are rounded to `POSITION_GRID`, entries of quaternions to `QUATERNION_GRID`, standard deviations to 12
    significant bits (0.01 %): what lies below is noise, and would be a quarter of a compressed recording.
    Covariances are not rounded, which keeps them positive.
    """

    quaternion: np.ndarray
    covariance: np.ndarray
    keypoints: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, hand: HandFuture) -> WireFuture:
        """The same forecast."""
        quaternion = quaternions_or_zero(hand.wrist_rotation)
        quaternion = np.rint(quaternion * (1.0 / QUATERNION_GRID)) * QUATERNION_GRID
        std = np.where(np.isfinite(hand.keypoint_std), hand.keypoint_std, -1.0)
        return cls(
            quaternion, covariance_triangles(hand.wrist_covariance), published_positions(hand.keypoints), _short(std)
        )


def published_positions(positions: np.ndarray) -> np.ndarray:
    """Positions in m as forecasts are published: float32 on `POSITION_GRID`."""
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        steps = (positions * (1.0 / POSITION_GRID)).astype(np.float32)
    np.rint(steps, steps)
    steps *= np.float32(POSITION_GRID)
    return steps


def _short(values: np.ndarray) -> np.ndarray:
    """float32 rounded to 12 significant bits, half away from zero: the lowest half of 3 bytes is zero."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x800)) & np.uint32(0xFFFFF000)).view(np.float32)


class RawWaypoint(NamedTuple):
    """A waypoint as it came, unchecked: quaternion (4,), zeros where unknown; contact -1 where not given."""

    time: float
    side: int
    label: str
    position: np.ndarray
    quaternion: np.ndarray
    contact: float


def raw_waypoint(waypoint: Waypoint) -> RawWaypoint:
    """A waypoint as messages have it."""
    contact = waypoint.contact if np.isfinite(waypoint.contact) else -1.0
    quaternion = quaternions_or_zero(waypoint.rotation[None])[0]
    return RawWaypoint(waypoint.time, waypoint.side, waypoint.label, waypoint.position, quaternion, contact)


def checked_waypoints(raw: list[RawWaypoint]) -> tuple[Waypoint, ...]:
    """Waypoints as they came. Raises `RejectedInput` (bad_waypoint, non_unit_quaternion, huge_value)."""
    return tuple(map(_checked_waypoint, raw))


def _checked_waypoint(raw: RawWaypoint) -> Waypoint:
    if raw.side not in (0, 1) or not 0.0 <= raw.time <= MAX_HORIZON or not np.isfinite(raw.position).all():
        raise RejectedInput("bad_waypoint", "a waypoint is of no side, no time ahead, or no finite place")
    if np.abs(raw.position).max() > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    if not (raw.contact == -1.0 or 0.0 <= raw.contact <= 1.0 + 1e-6):
        raise RejectedInput("bad_waypoint", "a probability of contact is neither in 0 to 1 nor -1")
    rotation = parse_orientation_array(raw.quaternion)
    contact = raw.contact if raw.contact >= 0.0 else float("nan")
    return Waypoint(raw.time, int(raw.side), raw.label, raw.position, rotation, contact)


def parse_orientation_array(quaternion: np.ndarray) -> np.ndarray:
    """R (3, 3) of a quaternion (4,) xyzw; NaN for zeros, which say "unknown". Raises `RejectedInput`
    (non_unit_quaternion)."""
    if not quaternion.any():
        return np.full((3, 3), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        norm = np.sqrt((quaternion * quaternion).sum())
    if not abs(norm - 1.0) <= QUATERNION_TOLERANCE:
        raise RejectedInput("non_unit_quaternion", "the orientation of a waypoint is not a unit quaternion")
    return matrix_from_quaternion(quaternion)


class RawFuture(NamedTuple):
    """One hand's forecast as it came, unchecked; N = K hypotheses x S steps."""

    side: int
    track_id: int
    probability: np.ndarray  # (K,)
    keypoints: np.ndarray  # (N, 21, 3)
    quaternion: np.ndarray  # (N, 4)
    std: np.ndarray  # (N, 21), -1 where unknown
    covariance: np.ndarray  # (N, 21), or (N, 36) of an old bag, first -1 where unknown


def checked_futures(
    stamp: float,
    frame_id: str,
    times: list[np.ndarray],
    raw: list[RawFuture],
    stage: str,
    model_id: str,
    inference_start: float,
    inference_end: float,
) -> Futures:
    """`Futures` of hands as they came, with the times (K, S) of the steps of each. Raises as the parse functions do."""
    seen: set[int] = set()
    for hand, given in zip(raw, times):
        check_side(hand.side, seen)
        if given.size == 0:
            raise RejectedInput("no_steps", f"the forecast of the {SIDES[hand.side]} hand is empty")
        if given.shape[1] != times[0].shape[1] or (given != times[0][0]).any():
            raise RejectedInput("uneven_steps", "hypotheses or hands differ in the times of their steps")
    step_times = times[0][0] if times else np.zeros(0)
    if len(step_times) and (step_times[0] <= 0 or (np.diff(step_times) <= 0).any() or step_times[-1] > MAX_HORIZON):
        raise RejectedInput("bad_step_times", "time_from_start has to be positive and to increase")
    checked = tuple(map(_checked_future, raw))
    return Futures(stamp, frame_id, step_times, checked, stage, model_id, inference_start, inference_end)


def _checked_future(hand: RawFuture) -> HandFuture:
    if np.isinf(hand.keypoints).any() or not np.isfinite(hand.keypoints[:, WRIST]).all():
        raise RejectedInput("non_finite_keypoint", "a forecast keypoint is infinite or its wrist is not finite")
    if np.nanmax(np.abs(hand.keypoints)) > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    with np.errstate(over="ignore", invalid="ignore"):  # the comparison below refuses both
        norm = np.sqrt((hand.quaternion * hand.quaternion).sum(-1))
    if not (np.abs(norm - 1.0) <= QUATERNION_TOLERANCE).all():
        raise RejectedInput("non_unit_quaternion", "a forecast orientation is not a unit quaternion")
    if not ((hand.probability >= 0.0) & (hand.probability <= 1.0 + 1e-6)).all():
        raise RejectedInput("bad_probability", "a hypothesis has a probability outside 0 to 1")
    shape = (len(hand.probability), -1)
    return HandFuture(
        side=hand.side,
        track_id=hand.track_id,
        probability=hand.probability,
        keypoints=hand.keypoints.reshape(*shape, NUM_KEYPOINTS, 3),
        wrist_rotation=matrix_from_quaternion(hand.quaternion).reshape(*shape, 3, 3),
        keypoint_std=np.where(hand.std >= 0.0, hand.std, np.nan).reshape(*shape, NUM_KEYPOINTS),
        wrist_covariance=covariance_matrices(hand.covariance).reshape(*shape, 6, 6),
    )
