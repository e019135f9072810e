"""HandForecastArray to and from arrays (`Futures`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseWithCovariance
from std_msgs.msg import Header

from ...errors import RejectedInput
from ...geometry.rotations import matrix_from_quaternion
from ...hand.skeleton import NUM_KEYPOINTS, SIDES, WRIST
from ...msg import (
    HandForecast,
    HandForecastArray,
    HandForecastHypothesis,
    HandForecastStep,
)
from .basic import (
    MAX_COORDINATE,
    QUATERNION_TOLERANCE,
    check_side,
    covariance_or_unknown,
    duration_msg,
    header_msg,
    parse_header,
    points_msg,
    pose_msg,
    quaternions_or_zero,
    seconds,
    time_msg,
)

if TYPE_CHECKING:  # nodes that run no model start without torch
    from ...forecast.common.protocol import Forecast

MAX_HORIZON = 3600.0  # s


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
    """One result of the forecaster: the array form of HandForecastArray. step_times (S,) s from `stamp`; goals (G, 4),
    of what the hands go for the place, m, and its probability, is for markers alone."""

    stamp: float
    frame_id: str
    step_times: np.ndarray
    hands: tuple[HandFuture, ...]
    stage: str = ""
    model_id: str = ""
    inference_start: float = 0.0
    inference_end: float = 0.0
    goals: np.ndarray | None = None

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
    """The first (only) forecast of a batch as numpy arrays. A side [left, right] that is not `fresh` is left out;
    `about` is model_id, inference_start and inference_end."""
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
    goals = None
    if forecast.goal_points is not None:
        goals = np.column_stack([forecast.goal_points[0].numpy(), forecast.goal_probability[0].numpy()])
    said = {"stage": stage, "goals": goals, **about}
    return Futures(float(forecast.stamp[0]), frame_id, times, tuple(futures), **said)


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
                        covariance=covariance_or_unknown(hand.wrist_covariance[k, s]),
                    ),
                    keypoints=points_msg(hand.keypoints[k, s]),
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

    Raises `RejectedInput`: empty_frame, bad_stamp, unknown_side, duplicate_side, frame_mismatch, no_steps,
    uneven_steps, bad_step_times, bad_probability, bad_covariance, non_finite_keypoint, non_unit_quaternion, huge_value.
    """
    stamp, frame_id = parse_header(message.header)
    times: list[np.ndarray] = []
    futures = []
    for hand in message.forecasts:
        if hand.header.frame_id not in ("", frame_id):
            raise RejectedInput(
                "frame_mismatch", f"a hand is in {hand.header.frame_id[:40]!r}, the array in {frame_id[:40]!r}"
            )
        hypotheses = hand.hypotheses[:max_hypotheses]
        steps = [step for hypothesis in hypotheses for step in hypothesis.steps]
        if len({len(hypothesis.steps) for hypothesis in hypotheses}) > 1:
            raise RejectedInput("uneven_steps", "hypotheses differ in their number of steps")
        given = [[seconds(step.time_from_start) for step in hypothesis.steps] for hypothesis in hypotheses]
        times.append(np.array(given).reshape(len(hypotheses), -1) if steps else np.zeros((0, 0)))
        orientations = [step.wrist.pose.orientation for step in steps]
        future = RawFuture(
            hand.side,
            hand.track_id,
            np.array([h.probability for h in hypotheses], dtype=np.float64),
            np.array([[(p.x, p.y, p.z) for p in step.keypoints] for step in steps]),
            np.array([(q.x, q.y, q.z, q.w) for q in orientations]),
            np.array([step.standard_deviation for step in steps], dtype=np.float64),
            np.array([step.wrist.covariance for step in steps], dtype=np.float64),
        )
        futures.append(future)
    about = dict(stage=message.stage, model_id=message.model_id)
    span = dict(inference_start=seconds(message.inference_start), inference_end=seconds(message.inference_end))
    return checked_futures(stamp, frame_id, times, futures, **about, **span)


class RawFuture(NamedTuple):
    """One hand's forecast as it came, unchecked; N = K hypotheses x S steps."""

    side: int
    track_id: int
    probability: np.ndarray  # (K,)
    keypoints: np.ndarray  # (N, 21, 3)
    quaternion: np.ndarray  # (N, 4)
    std: np.ndarray  # (N, 21), -1 where unknown
    covariance: np.ndarray  # (N, 36), first -1 where unknown


def checked_futures(
    stamp: float, frame_id: str, times: list[np.ndarray], raw: list[RawFuture], **about: object
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
    return Futures(stamp, frame_id, step_times, tuple(map(_checked_future, raw)), **about)


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
    unknown = hand.covariance[:, 0] == -1.0
    covariance = np.where(unknown[:, None], np.nan, hand.covariance).reshape(-1, 6, 6)
    given = covariance[~unknown]
    if not np.isfinite(given).all() or (np.diagonal(given, axis1=1, axis2=2) < 0).any():
        raise RejectedInput("bad_covariance", "NaN, infinite or negative variance; -1 in the first place says unknown")
    shape = (len(hand.probability), -1)
    return HandFuture(
        side=hand.side,
        track_id=hand.track_id,
        probability=hand.probability,
        keypoints=hand.keypoints.reshape(*shape, NUM_KEYPOINTS, 3),
        wrist_rotation=matrix_from_quaternion(hand.quaternion).reshape(*shape, 3, 3),
        keypoint_std=np.where(hand.std >= 0.0, hand.std, np.nan).reshape(*shape, NUM_KEYPOINTS),
        wrist_covariance=covariance.reshape(*shape, 6, 6),
    )
