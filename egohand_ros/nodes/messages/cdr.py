"""HandForecastArray straight to and from its serialized bytes, without a Python object for each of its many points.

A forecast of two hands, ten steps and one hypothesis has 420 keypoints; rclpy takes about 3 ms to make, serialize,
deserialize and read them, and that eight times for eight hypotheses. The steps of a hypothesis are an array of fixed
layout, so numpy writes and reads them at once.

The format is little-endian plain CDR (OMG DDSI-RTPS 2.5, section 10), which is what the middlewares of ROS 2 use;
numbers are aligned to their size, counted from after the four bytes of the encapsulation header. `encode_…` checks once
that the middleware agrees and otherwise gives a message; `decode_…` takes any other encoding through rclpy.
"""

import struct
from functools import lru_cache

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message

from ...errors import RejectedInput
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...msg import HandForecastArray
from .basic import parse_time_parts, quaternions_or_zero, time_msg
from .forecast import (
    Futures,
    HandFuture,
    RawFuture,
    build_hand_forecast_array_msg,
    checked_futures,
    parse_hand_forecast_array_msg,
)

_LITTLE_ENDIAN_CDR = b"\x00\x01\x00\x00"
_NANOSECOND = 1e-9

# A HandForecastStep that begins 4 bytes after a multiple of 8, as every one does but possibly the first: its floats
# begin after a gap of 4. A first step on a multiple of 8 has no gap, which is then cut out or put in.
_STEP = np.dtype(
    [
        ("time_from_start", "<i4", 2),
        ("gap", "V4"),
        ("position", "<f8", 3),
        ("quaternion", "<f8", 4),
        ("covariance", "<f8", 36),
        ("keypoints", "<f8", (NUM_KEYPOINTS, 3)),
        ("std", "<f4", NUM_KEYPOINTS),
    ]
)
_GAP = slice(8, 12)


def encode_hand_forecast_array(futures: Futures, stamp: Time | None = None) -> bytes | HandForecastArray:
    """What to publish for `Futures`: serialized bytes, or a message where the middleware serializes otherwise."""
    return _encode(futures, stamp) if _middleware_agrees() else build_hand_forecast_array_msg(futures, stamp)


def decode_hand_forecast_array(data: bytes, max_hypotheses: int | None = None) -> Futures:
    """`Futures` of a serialized HandForecastArray (a subscription with raw=True), of the first `max_hypotheses` of each
    hand.

    Raises `RejectedInput` as `parse_hand_forecast_array_msg` does, and undecodable_message for bytes that are none.
    """
    try:
        if data[:4] != _LITTLE_ENDIAN_CDR:
            return parse_hand_forecast_array_msg(deserialize_message(data, HandForecastArray), max_hypotheses)
        return _decode(data, max_hypotheses)
    except RejectedInput:
        raise
    except Exception as error:  # struct, numpy, unicode, rclpy: whatever nonsense leads to
        raise RejectedInput("undecodable_message", f"{type(error).__name__}: {error}") from None


@lru_cache(maxsize=1)
def _middleware_agrees() -> bool:
    """Whether rclpy reads what `_encode` writes, and writes as many bytes in the same encoding, whatever the alignment.

    Bytes cannot be compared: the gaps of alignment hold anything.
    """
    for example in map(_example, ("a", "four", "odd frame")):
        message, ours = build_hand_forecast_array_msg(example), _encode(example, None)
        theirs = serialize_message(message)
        if theirs[:4] != _LITTLE_ENDIAN_CDR or len(theirs) != len(ours):
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
    return Futures(1.5, frame_id, np.array([0.1, 0.2, 0.3]), hands, "reach", "model@1234", 1.0, 2.0)


# ---------------------------------------------------------------- writing


class _Writer:
    """Appends primitives with CDR alignment."""

    def __init__(self):
        self.data = bytearray(_LITTLE_ENDIAN_CDR)

    @property
    def offset(self) -> int:
        """From the origin of alignment."""
        return len(self.data) - 4

    def pack(self, kind: str, *values) -> None:
        """Numbers of one 4-byte kind."""
        self.data += bytes(-self.offset % 4)
        self.data += struct.pack(f"<{len(values)}{kind}", *values)

    def time(self, stamp: Time) -> None:
        self.pack("i", stamp.sec)
        self.pack("I", stamp.nanosec)

    def string(self, text: str) -> None:
        raw = text.encode() + b"\0"
        self.pack("I", len(raw))
        self.data += raw

    def header(self, stamp: Time, frame_id: str) -> None:
        self.time(stamp)
        self.string(frame_id)


def _encode(futures: Futures, stamp: Time | None) -> bytes:
    stamp = time_msg(futures.stamp) if stamp is None else stamp
    nanoseconds = np.rint(futures.step_times / _NANOSECOND).astype(np.int64)
    durations = np.stack(np.divmod(nanoseconds, 1_000_000_000), axis=-1).astype(np.int32)
    writer = _Writer()
    writer.header(stamp, futures.frame_id)
    writer.pack("I", len(futures.hands))
    for hand in futures.hands:
        writer.header(stamp, futures.frame_id)
        writer.data.append(hand.side)
        writer.pack("I", hand.track_id)
        writer.pack("I", len(hand.probability))
        steps = _steps(hand, durations)
        for k, probability in enumerate(hand.probability.tolist()):
            writer.pack("f", probability)
            writer.pack("I", len(durations))
            raw = steps[k].tobytes()
            if writer.offset % 8 == 0:
                raw = raw[: _GAP.start] + raw[_GAP.stop :]
            writer.data += raw
    writer.string(futures.stage)
    writer.time(time_msg(futures.inference_start))
    writer.time(time_msg(futures.inference_end))
    writer.string(futures.model_id)
    return bytes(writer.data)


def _steps(hand: HandFuture, durations: np.ndarray) -> np.ndarray:
    """The steps (K, S) of one hand."""
    steps = np.zeros((len(hand.probability), len(durations)), dtype=_STEP)
    steps["time_from_start"] = durations
    steps["position"] = hand.keypoints[:, :, WRIST]
    steps["quaternion"] = quaternions_or_zero(hand.wrist_rotation)
    covariance = hand.wrist_covariance.reshape(*steps.shape, 36)
    known = np.isfinite(covariance).all(-1, keepdims=True)
    steps["covariance"] = np.where(known, covariance, 0.0)
    steps["covariance"][~known[..., 0], 0] = -1.0
    steps["keypoints"] = hand.keypoints
    steps["std"] = np.where(np.isfinite(hand.keypoint_std), hand.keypoint_std, -1.0)
    return steps


# ---------------------------------------------------------------- reading


class _Reader:
    """Takes primitives with CDR alignment; running off the end is a struct.error or ValueError."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 4

    @property
    def offset(self) -> int:
        return self.position - 4

    def unpack(self, kind: str):
        self.position += -self.offset % 4
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.position)
        self.position += 4
        return value

    def time(self) -> tuple[int, int]:
        return self.unpack("i"), self.unpack("I")

    def string(self) -> str:
        length = self.unpack("I")
        raw = self.take(length)
        return raw[:-1].decode()

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise ValueError("the message ends too early")
        raw, self.position = self.data[self.position : end], end
        return raw

    def steps(self, count: int) -> np.ndarray:
        """(S,) of `_STEP`."""
        if count == 0:
            return np.zeros(0, dtype=_STEP)
        aligned = self.offset % 8 == 0
        raw = self.take(count * _STEP.itemsize - (4 if aligned else 0))
        if aligned:
            raw = raw[: _GAP.start] + bytes(4) + raw[_GAP.start :]
        return np.frombuffer(raw, dtype=_STEP)


def _decode(data: bytes, max_hypotheses: int | None) -> Futures:
    reader = _Reader(data)
    stamp, frame_id = parse_time_parts(*reader.time()), reader.string()
    if not frame_id:
        raise RejectedInput("empty_frame", "header.frame_id is empty; set it to the frame of the poses")
    times, futures = [], []
    for _ in range(reader.unpack("I")):
        reader.time()
        hand_frame = reader.string()
        if hand_frame not in ("", frame_id):
            raise RejectedInput("frame_mismatch", f"a hand is in {hand_frame[:40]!r}, the array in {frame_id[:40]!r}")
        side = reader.take(1)[0]
        track_id = reader.unpack("I")
        hypotheses = [(reader.unpack("f"), reader.steps(reader.unpack("I"))) for _ in range(reader.unpack("I"))]
        hypotheses = hypotheses[:max_hypotheses]
        if len({len(steps) for _, steps in hypotheses}) > 1:
            raise RejectedInput("uneven_steps", "hypotheses differ in their number of steps")
        steps = np.concatenate([steps for _, steps in hypotheses] or [np.zeros(0, dtype=_STEP)])
        after = steps["time_from_start"][:, 0] + steps["time_from_start"][:, 1].view("<u4") * _NANOSECOND
        times.append(after.reshape(len(hypotheses), -1) if len(steps) else np.zeros((0, 0)))
        futures.append(
            RawFuture(
                side,
                track_id,
                np.array([probability for probability, _ in hypotheses]),
                steps["keypoints"],
                steps["quaternion"],
                steps["std"].astype(np.float64),
                steps["covariance"],
            )
        )
    about = dict(stage=reader.string())
    about |= dict(inference_start=_seconds(reader.time()), inference_end=_seconds(reader.time()))
    return checked_futures(stamp, frame_id, times, futures, model_id=reader.string(), **about)


def _seconds(parts: tuple[int, int]) -> float:
    return parts[0] + parts[1] * _NANOSECOND
