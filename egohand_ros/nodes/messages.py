"""Messages of this package from arrays (`build_…_msg`) and to arrays (`parse_…_msg`). Pure functions; no node needed.

Input is distrusted: a `parse_` function raises `RejectedInput` for anything odd. Standard messages (Path, MarkerArray, …)
are in `messages_standard.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion
from std_msgs.msg import Header

from egohand_ros.msg import (
    ForecasterInfo,
    HandForecast,
    HandForecastArray,
    HandForecastHypothesis,
    HandForecastStep,
    HandPose,
    HandPoseArray,
    Latency,
)

from ..errors import RejectedInput
from ..forecast.base import Forecast, ForecasterSpec
from ..geometry.rotations import matrix_from_quaternion, quaternion_from_matrix
from ..hand.skeleton import KEYPOINT_NAMES, NUM_KEYPOINTS, SIDES, WRIST

MEASURED, EXTRAPOLATED, LOST = HandPose.MEASURED, HandPose.EXTRAPOLATED, HandPose.LOST

MAX_COORDINATE = 1e6  # m; beyond it a number is a fault, not a place
_QUATERNION_TOLERANCE = 1e-2  # of its norm from 1; float32 sources stay far below
_UNKNOWN_COVARIANCE = np.concatenate([[-1.0], np.zeros(35)])


# -------------------------------------------------------------------------------------------------- arrays


@dataclass(frozen=True)
class Hands:
    """Both hands at one time, sides [left, right]; the array form of HandPoseArray. Defaults are made by `hands()`.

    keypoints (2, 21, 3) m, NaN where invalid; valid (2, 21); wrist_rotation (2, 3, 3) R_frame_palm, NaN where unknown;
    wrist_covariance (2, 6, 6), NaN where unknown; confidence (2,) and keypoint_confidence (2, 21), NaN where not given;
    state (2,) MEASURED, EXTRAPOLATED or LOST (also for a hand that is not there); track_id (2,), 0 for none.
    """

    stamp: float
    frame_id: str
    keypoints: np.ndarray
    valid: np.ndarray
    wrist_rotation: np.ndarray
    wrist_covariance: np.ndarray
    confidence: np.ndarray
    keypoint_confidence: np.ndarray
    state: np.ndarray
    track_id: np.ndarray


def hands(stamp: float, frame_id: str, keypoints: np.ndarray, **known: np.ndarray) -> Hands:
    """`Hands` from keypoints (2, 21, 3), NaN where invalid, and whatever else is known; the rest is filled as unknown."""
    keypoints = np.asarray(keypoints, dtype=np.float64)
    valid = np.isfinite(keypoints).all(-1)
    unknown = dict(
        valid=valid,
        wrist_rotation=np.full((2, 3, 3), np.nan),
        wrist_covariance=np.full((2, 6, 6), np.nan),
        confidence=np.full(2, np.nan),
        keypoint_confidence=np.full((2, NUM_KEYPOINTS), np.nan),
        state=np.where(valid[:, WRIST], MEASURED, LOST),
        track_id=np.zeros(2, dtype=np.int64),
    )
    return Hands(stamp, frame_id, keypoints, **{**unknown, **known})


@dataclass(frozen=True)
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
class Futures:
    """One result of the forecaster: the array form of HandForecastArray. step_times (S,) s from `stamp`."""

    stamp: float
    frame_id: str
    step_times: np.ndarray
    hands: tuple[HandFuture, ...]
    stage: str = ""
    model_id: str = ""
    inference_start: float = 0.0
    inference_end: float = 0.0

    def hand(self, side: int) -> HandFuture | None:
        """The futures of the left (0) or right (1) hand, None where it is not forecast."""
        return next((h for h in self.hands if h.side == side), None)


def futures_from_forecast(
    forecast: Forecast,
    frame_id: str,
    track_id: Sequence[int] = (0, 0),
    fresh: Sequence[bool] = (True, True),
    **about: object,
) -> Futures:
    """The first (only) forecast of a batch as numpy arrays. A side [left, right] that is not `fresh` is left out; `about` is
    model_id, inference_start and inference_end."""
    valid = forecast.valid[0].cpu().numpy() & np.asarray(fresh)[:, None]
    as_array = {
        name: getattr(forecast, name)[0].double().cpu().numpy()
        for name in ("keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance", "probability")
    }
    futures = []
    for side in np.flatnonzero(valid[:, WRIST]):
        keypoints = np.where(valid[side, :, None], as_array["keypoints"][:, :, side], np.nan)
        futures.append(
            HandFuture(
                side=int(side),
                track_id=int(track_id[side]),
                probability=as_array["probability"],
                keypoints=keypoints,
                wrist_rotation=as_array["wrist_rotation"][:, :, side],
                keypoint_std=as_array["keypoint_std"][:, :, side],
                wrist_covariance=as_array["wrist_covariance"][:, :, side],
            )
        )
    stage = forecast.stage[0] if forecast.stage is not None else ""
    times = forecast.step_times.double().cpu().numpy()
    return Futures(float(forecast.stamp[0]), frame_id, times, tuple(futures), **{"stage": stage, **about})


# -------------------------------------------------------------------------------------------------- small parts


def time_msg(seconds: float | Time) -> Time:
    """builtin_interfaces/Time of seconds, to the nearest ns. A Time is passed through, so that stamps survive exactly."""
    if isinstance(seconds, Time):
        return seconds
    whole = math.floor(seconds)  # taken off first: the nanoseconds since 1970 do not fit into a float64
    more, nanoseconds = divmod(round((seconds - whole) * 1e9), 1_000_000_000)
    return Time(sec=whole + more, nanosec=nanoseconds)


def duration_msg(seconds: float) -> Duration:
    """builtin_interfaces/Duration of seconds, to the nearest ns."""
    whole, nanoseconds = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(sec=whole, nanosec=nanoseconds)


def seconds(stamp: Time | Duration) -> float:
    """Seconds of a Time or Duration message."""
    return stamp.sec + stamp.nanosec * 1e-9


def header_msg(stamp: float | Time, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=time_msg(stamp), frame_id=frame_id)


def parse_header(header: Header) -> tuple[float, str]:
    """(stamp s, frame_id). Raises `RejectedInput`: empty_frame, bad_stamp. Age and order are judged by `StampGuard`."""
    if not header.frame_id:
        raise RejectedInput("empty_frame", "header.frame_id is empty; set it to the frame of the poses")
    if header.stamp.nanosec >= 1_000_000_000:
        raise RejectedInput("bad_stamp", f"nanosec is {header.stamp.nanosec}, a whole second or more")
    return seconds(header.stamp), header.frame_id


def pose_msg(position: np.ndarray, quaternion: np.ndarray) -> Pose:
    """geometry_msgs/Pose of a position (3,) m and a quaternion (4,) xyzw."""
    x, y, z = position.tolist()
    qx, qy, qz, qw = quaternion.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def parse_position(point: Point) -> np.ndarray:
    """(3,) m. Raises `RejectedInput`: non_finite_pose, huge_value."""
    position = np.array([point.x, point.y, point.z])
    if not np.isfinite(position).all():
        raise RejectedInput("non_finite_pose", "a position is NaN or infinite")
    if np.abs(position).max() > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    return position


def parse_orientation(q: Quaternion) -> np.ndarray | None:
    """Rotation (3, 3), or None for the all-zero quaternion that says "unknown". Raises `RejectedInput`: non_finite_pose,
    non_unit_quaternion."""
    values = np.array([q.x, q.y, q.z, q.w])
    norm = np.linalg.norm(values)
    if not np.isfinite(norm):
        raise RejectedInput("non_finite_pose", "a quaternion is NaN or infinite")
    if norm == 0.0:
        return None
    if abs(norm - 1.0) > _QUATERNION_TOLERANCE:
        raise RejectedInput("non_unit_quaternion", f"norm {norm:.4g}; normalise the orientation")
    return matrix_from_quaternion(values)


def parse_transform(pose: Pose) -> np.ndarray:
    """T_frame_body (4, 4) of a pose. Raises `RejectedInput` as the parts do; an unknown orientation is non_unit_quaternion."""
    rotation = parse_orientation(pose.orientation)
    if rotation is None:
        raise RejectedInput("non_unit_quaternion", "the orientation is all zeros")
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = parse_position(pose.position)
    return transform


def quaternions_or_zero(rotation: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 4) xyzw; zeros where the rotation is NaN, which says "unknown"."""
    known = np.isfinite(rotation).all((-1, -2))
    quaternion = np.zeros((*rotation.shape[:-2], 4))
    if known.any():
        quaternion[known] = quaternion_from_matrix(rotation[known])
    return quaternion


def _parse_covariance(values: np.ndarray) -> np.ndarray:
    covariance = np.asarray(values, dtype=np.float64).reshape(6, 6)
    if covariance[0, 0] == -1.0:
        return np.full((6, 6), np.nan)
    if not np.isfinite(covariance).all() or (np.diagonal(covariance) < 0).any():
        raise RejectedInput("bad_covariance", "NaN, infinite or negative variance; -1 in the first place says unknown")
    return covariance


def _covariance_or_unknown(covariance: np.ndarray) -> np.ndarray:
    return covariance.reshape(36) if np.isfinite(covariance).all() else _UNKNOWN_COVARIANCE


def _points(keypoints: np.ndarray) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in keypoints.tolist()]


def _check_side(side: int, seen: set[int]) -> None:
    if side not in (HandPose.LEFT, HandPose.RIGHT):
        raise RejectedInput("unknown_side", f"side is {side}; 0 is left, 1 is right")
    if side in seen:
        raise RejectedInput("duplicate_side", f"two {SIDES[side]} hands in one message")
    seen.add(side)


# -------------------------------------------------------------------------------------------------- hand poses


def build_hand_pose_array_msg(hands: Hands) -> HandPoseArray:
    """HandPoseArray of the hands that are not LOST."""
    header = header_msg(hands.stamp, hands.frame_id)
    quaternions = quaternions_or_zero(hands.wrist_rotation)
    present = [side for side in range(2) if hands.state[side] != LOST]
    return HandPoseArray(
        header=header, hands=[_build_hand_pose_msg(hands, side, header, quaternions[side]) for side in present]
    )


def _build_hand_pose_msg(hands: Hands, side: int, header: Header, quaternion: np.ndarray) -> HandPose:
    confidence = hands.keypoint_confidence[side]
    wrist = PoseWithCovariance(
        pose=pose_msg(hands.keypoints[side, WRIST], quaternion),
        covariance=_covariance_or_unknown(hands.wrist_covariance[side]),
    )
    return HandPose(
        header=header,
        side=side,
        track_id=int(hands.track_id[side]),
        confidence=-1.0 if np.isnan(hands.confidence[side]) else float(hands.confidence[side]),
        tracking_state=int(hands.state[side]),
        wrist=wrist,
        keypoints=_points(hands.keypoints[side]),
        valid=hands.valid[side].tolist(),
        keypoint_confidence=np.where(np.isnan(confidence), -1.0, confidence).astype(np.float32),
    )


def parse_hand_pose_array_msg(message: HandPoseArray) -> Hands:
    """`Hands` of a HandPoseArray; a hand that is not in it, or is LOST, has state LOST and nothing valid.

    Raises `RejectedInput`: empty_frame, bad_stamp, unknown_side, duplicate_side, frame_mismatch, stamp_mismatch, unknown_state,
    bad_confidence, bad_covariance, non_finite_keypoint, non_finite_pose, non_unit_quaternion, huge_value, wrist_mismatch.
    """
    stamp, frame_id = parse_header(message.header)
    out = hands(stamp, frame_id, np.full((2, NUM_KEYPOINTS, 3), np.nan))
    seen: set[int] = set()
    for hand in message.hands:
        _check_side(hand.side, seen)
        if hand.header.frame_id not in ("", frame_id):
            raise RejectedInput("frame_mismatch", f"a hand is in {hand.header.frame_id!r}, the array in {frame_id!r}")
        if hand.header.stamp != message.header.stamp and seconds(hand.header.stamp) != 0.0:
            raise RejectedInput("stamp_mismatch", "a hand has another stamp than its array")
        if hand.tracking_state not in (MEASURED, EXTRAPOLATED, LOST):
            raise RejectedInput("unknown_state", f"tracking_state is {hand.tracking_state}")
        if hand.tracking_state != LOST:
            _parse_hand(hand, out)
    return out


def _parse_hand(hand: HandPose, out: Hands) -> None:
    side = hand.side
    valid = np.array(hand.valid, dtype=bool)
    keypoints = np.array([(p.x, p.y, p.z) for p in hand.keypoints])
    if not np.isfinite(keypoints[valid]).all():
        raise RejectedInput("non_finite_keypoint", "a keypoint marked valid is NaN or infinite")
    if valid.any() and np.abs(keypoints[valid]).max() > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    rotation = parse_orientation(hand.wrist.pose.orientation)
    out.keypoints[side] = np.where(valid[:, None], keypoints, np.nan)
    out.valid[side] = valid
    if rotation is not None:
        out.wrist_rotation[side] = rotation
    out.wrist_covariance[side] = _parse_covariance(hand.wrist.covariance)
    out.confidence[side] = _parse_confidence(np.float64(hand.confidence))
    out.keypoint_confidence[side] = _parse_confidence(np.asarray(hand.keypoint_confidence, dtype=np.float64))
    out.state[side] = hand.tracking_state
    out.track_id[side] = hand.track_id


def _parse_confidence(values: np.ndarray) -> np.ndarray:
    """NaN for -1 (not given). Float32 sources may pass 1 by rounding."""
    given = values != -1.0
    if not np.all((values[given] >= 0.0) & (values[given] <= 1.0 + 1e-6)):
        raise RejectedInput("bad_confidence", "a confidence is neither in 0 to 1 nor -1")
    return np.where(given, values, np.nan)


# -------------------------------------------------------------------------------------------------- forecasts


def build_hand_forecast_array_msg(futures: Futures, stamp: Time | None = None) -> HandForecastArray:
    """HandForecastArray; `stamp` is the exact stamp of the last observation where it is at hand."""
    header = header_msg(futures.stamp if stamp is None else stamp, futures.frame_id)
    times = [duration_msg(t) for t in futures.step_times.tolist()]
    return HandForecastArray(
        header=header,
        forecasts=[_build_hand_forecast_msg(hand, times, header) for hand in futures.hands],
        stage=futures.stage,
        inference_start=time_msg(futures.inference_start),
        inference_end=time_msg(futures.inference_end),
        model_id=futures.model_id,
    )


def _build_hand_forecast_msg(hand: HandFuture, times: list[Duration], header: Header) -> HandForecast:
    quaternions = quaternions_or_zero(hand.wrist_rotation)
    std = np.where(np.isfinite(hand.keypoint_std), hand.keypoint_std, -1.0).astype(np.float32)
    hypotheses = [
        HandForecastHypothesis(
            probability=float(probability),
            steps=[
                HandForecastStep(
                    time_from_start=times[s],
                    wrist=PoseWithCovariance(
                        pose=pose_msg(hand.keypoints[k, s, WRIST], quaternions[k, s]),
                        covariance=_covariance_or_unknown(hand.wrist_covariance[k, s]),
                    ),
                    keypoints=_points(hand.keypoints[k, s]),
                    standard_deviation=std[k, s],
                )
                for s in range(len(times))
            ],
        )
        for k, probability in enumerate(hand.probability.tolist())
    ]
    return HandForecast(header=header, side=hand.side, track_id=hand.track_id, hypotheses=hypotheses)


def parse_hand_forecast_array_msg(message: HandForecastArray, max_hypotheses: int | None = None) -> Futures:
    """`Futures` of a HandForecastArray, of the first `max_hypotheses` of each hand where given.

    Raises `RejectedInput`: empty_frame, bad_stamp, unknown_side, duplicate_side, frame_mismatch, no_steps, uneven_steps,
    bad_step_times, bad_probability, bad_covariance, non_finite_pose, non_unit_quaternion, huge_value.
    """
    stamp, frame_id = parse_header(message.header)
    seen: set[int] = set()
    times: list[float] | None = None
    futures = []
    for hand in message.forecasts:
        _check_side(hand.side, seen)
        if hand.header.frame_id not in ("", frame_id):
            raise RejectedInput("frame_mismatch", f"a hand is in {hand.header.frame_id!r}, the array in {frame_id!r}")
        hypotheses = hand.hypotheses[:max_hypotheses]
        if not hypotheses or not hypotheses[0].steps:
            raise RejectedInput("no_steps", f"the forecast of the {SIDES[hand.side]} hand is empty")
        for hypothesis in hypotheses:
            given = [seconds(step.time_from_start) for step in hypothesis.steps]
            times = given if times is None else times
            if given != times:
                raise RejectedInput("uneven_steps", "hypotheses or hands differ in the times of their steps")
        futures.append(_parse_hand_forecast(hand, hypotheses))
    step_times = np.array(times or [])
    if len(step_times) and (step_times[0] <= 0 or (np.diff(step_times) <= 0).any() or step_times[-1] > 3600.0):
        raise RejectedInput("bad_step_times", "time_from_start has to be positive and to increase")
    about = dict(stage=message.stage, model_id=message.model_id)
    span = dict(inference_start=seconds(message.inference_start), inference_end=seconds(message.inference_end))
    return Futures(stamp, frame_id, step_times, tuple(futures), **about, **span)


def _parse_hand_forecast(hand: HandForecast, hypotheses: list[HandForecastHypothesis]) -> HandFuture:
    steps = [step for hypothesis in hypotheses for step in hypothesis.steps]
    shape = (len(hypotheses), len(hypotheses[0].steps))
    keypoints = np.array([[(p.x, p.y, p.z) for p in step.keypoints] for step in steps])
    if np.isinf(keypoints).any() or not np.isfinite(keypoints[:, WRIST]).all():
        raise RejectedInput("non_finite_keypoint", "a forecast keypoint is infinite or its wrist is not finite")
    if np.nanmax(np.abs(keypoints)) > MAX_COORDINATE:
        raise RejectedInput("huge_value", f"a coordinate is over {MAX_COORDINATE:g} m")
    q = np.array([(o.x, o.y, o.z, o.w) for o in (step.wrist.pose.orientation for step in steps)])
    norm = np.linalg.norm(q, axis=-1)
    if not (np.abs(norm - 1.0) <= _QUATERNION_TOLERANCE).all():
        raise RejectedInput("non_unit_quaternion", "a forecast orientation is not a unit quaternion")
    probability = np.array([h.probability for h in hypotheses], dtype=np.float64)
    if not ((probability >= 0.0) & (probability <= 1.0 + 1e-6)).all():
        raise RejectedInput("bad_probability", "a hypothesis has a probability outside 0 to 1")
    std = np.array([step.standard_deviation for step in steps], dtype=np.float64)
    return HandFuture(
        side=hand.side,
        track_id=hand.track_id,
        probability=probability,
        keypoints=keypoints.reshape(*shape, NUM_KEYPOINTS, 3),
        wrist_rotation=matrix_from_quaternion(q).reshape(*shape, 3, 3),
        keypoint_std=np.where(std >= 0.0, std, np.nan).reshape(*shape, NUM_KEYPOINTS),
        wrist_covariance=np.stack([_parse_covariance(s.wrist.covariance) for s in steps]).reshape(*shape, 6, 6),
    )


# -------------------------------------------------------------------------------------------------- about


def build_forecaster_info_msg(spec: ForecasterSpec, device: str, stamp: float | Time) -> ForecasterInfo:
    """ForecasterInfo of what runs now and where."""
    return ForecasterInfo(
        header=header_msg(stamp, ""),
        preset=spec.name,
        checkpoint_hash=spec.checkpoint_hash,
        device=device,
        keypoint_names=list(KEYPOINT_NAMES),
        window_length=spec.window_length,
        step=float(spec.step),
        horizon=float(spec.horizon),
        max_hypotheses=spec.max_hypotheses,
        covariance_calibrated=spec.calibrated,
    )


def build_latency_msg(
    stamp: float | Time, stages: dict[str, float], useful_horizon: float = float("nan")
) -> Latency:
    """Latency of one processed message: stages in order, s."""
    return Latency(
        header=header_msg(stamp, ""),
        stages=list(stages),
        durations=list(stages.values()),
        useful_horizon=useful_horizon,
    )
