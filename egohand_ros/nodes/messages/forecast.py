"""HandForecastArray from arrays (`Futures`), and to and from its serialized bytes."""

from functools import lru_cache

import numpy as np
from builtin_interfaces.msg import Duration, Time
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from ...errors import RejectedInput
from ...hand.skeleton import NUM_KEYPOINTS
from ...messages.cdr import LITTLE_ENDIAN_CDR, decode_hand_forecast_array, encode_hand_forecast_array
from ...messages.forecast import (
    Futures,
    HandFuture,
    RawWaypoint,
    Waypoint,
    WireFuture,
    parse_hand_forecast_array_msg,
    raw_waypoint,
)
from ...msg import HandForecast, HandForecastArray, HandForecastHypothesis, HandForecastStep, HandWaypoint
from .basic import duration_msg, header_msg, points32_msg, quaternion_msg, time_msg


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
        gives=list(futures.gives),
        waypoints=[_build_waypoint_msg(waypoint) for waypoint in map(raw_waypoint, futures.waypoints)],
    )


def _build_waypoint_msg(waypoint: RawWaypoint) -> HandWaypoint:
    return HandWaypoint(
        time_from_start=duration_msg(waypoint.time),
        side=waypoint.side,
        label=waypoint.label,
        wrist_position=points32_msg(waypoint.position[None])[0],
        wrist_orientation=quaternion_msg(waypoint.quaternion),
        contact_probability=waypoint.contact,
    )


def _build_hand_forecast_msg(hand: HandFuture, times: list[Duration], header: Header) -> HandForecast:
    wire = WireFuture.of(hand)
    hypotheses = [
        HandForecastHypothesis(
            probability=float(probability),
            steps=[
                HandForecastStep(
                    time_from_start=times[s],
                    wrist_orientation=quaternion_msg(wire.quaternion[k, s]),
                    wrist_covariance=wire.covariance[k, s],
                    keypoints=points32_msg(wire.keypoints[k, s]),
                    standard_deviation=wire.std[k, s],
                )
                for s in range(len(times))
            ],
        )
        for k, probability in enumerate(hand.probability.tolist())
    ]
    return HandForecast(header=header, side=hand.side, track_id=hand.track_id, hypotheses=hypotheses)


def serialize_futures(futures: Futures, stamp: Time | None = None) -> bytes | HandForecastArray:
    """What to publish for `Futures`: serialized bytes, or a message where the middleware serializes otherwise."""
    if not _middleware_agrees():
        return build_hand_forecast_array_msg(futures, stamp)
    return encode_hand_forecast_array(futures, None if stamp is None else (stamp.sec, stamp.nanosec))


def deserialize_futures(data: bytes, max_hypotheses: int | None = None) -> Futures:
    """`Futures` of a serialized HandForecastArray (a subscription with raw=True), of the first `max_hypotheses` of each
    hand.

    Raises `RejectedInput` as `parse_hand_forecast_array_msg` does, and undecodable_message for bytes that are none.
    """
    if data[:4] == LITTLE_ENDIAN_CDR:
        return decode_hand_forecast_array(data, max_hypotheses)
    try:
        message = deserialize_message(data, HandForecastArray)
    except Exception as error:  # whatever nonsense leads to in the middleware
        raise RejectedInput("undecodable_message", f"{type(error).__name__}: {error}") from None
    return parse_hand_forecast_array_msg(message, max_hypotheses)


@lru_cache(maxsize=1)
def _middleware_agrees() -> bool:
    """Whether rclpy reads what our encoder writes, and writes as many bytes in the same encoding, whatever the
    alignment.

    Bytes cannot be compared: the gaps of alignment hold anything.
    """
    for example in map(_example, ("a", "four", "odd frame")):
        message, ours = build_hand_forecast_array_msg(example), encode_hand_forecast_array(example)
        theirs = serialize_message(message)
        if theirs[:4] != LITTLE_ENDIAN_CDR or len(theirs) != len(ours):
            return False
        if deserialize_message(ours, HandForecastArray) != message:
            return False
    return True


def _example(frame_id: str) -> Futures:
    numbers = np.random.default_rng(0)
    hands = tuple(
        HandFuture(
            side,
            7,
            np.array([0.75, 0.25]),
            numbers.normal(size=(2, 3, NUM_KEYPOINTS, 3)),
            np.broadcast_to(np.eye(3), (2, 3, 3, 3)),
            np.full((2, 3, NUM_KEYPOINTS), np.nan),
            np.broadcast_to(np.eye(6), (2, 3, 6, 6)),
        )
        for side in range(2)
    )
    labels = ("start", "contact")
    waypoints = tuple(Waypoint(0.5, 1, label, np.ones(3), np.eye(3), 0.25) for label in labels)
    times, gives = np.array([0.1, 0.2, 0.3]), ("wrist_position", "fingers")
    return Futures(1.5, frame_id, times, hands, "reach", "model@1234", 1.0, 2.0, None, gives, waypoints)
