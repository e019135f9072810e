"""HandForecastArray straight to and from its serialized bytes, without a Python object for each of its many points.

A forecast of two hands, ten steps and one hypothesis has 420 keypoints; rclpy takes about 3 ms to make, serialize,
deserialize and read them, and that eight times for eight hypotheses. The steps of a hypothesis are an array of fixed
layout, so numpy writes and reads them at once.

The format is little-endian plain CDR (OMG DDSI-RTPS 2.5, section 10), which is what the middlewares of ROS 2 use;
numbers are aligned to their size, counted from after the four bytes of the encapsulation header. Any other encoding is
for the middleware to read: see `nodes/messages/forecast.py`.
"""

import struct
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..errors import RejectedInput
from ..hand.skeleton import NUM_KEYPOINTS
from .basic import COVARIANCE_SIZE, check_hand_frame, checked_header, time_parts
from .forecast import (
    Futures,
    HandFuture,
    RawFuture,
    RawWaypoint,
    WireFuture,
    checked_futures,
    checked_waypoints,
    raw_waypoint,
)

LITTLE_ENDIAN_CDR = b"\x00\x01\x00\x00"
_NANOSECOND = 1e-9

# A HandForecastStep that begins 4 bytes after a multiple of 8, as every one does but possibly the first: its floats
# begin after a gap of 4. A first step on a multiple of 8 has no gap, which is then cut out or put in.
_STEP = np.dtype(
    [
        ("time_from_start", "<i4", 2),
        ("gap", "V4"),
        ("quaternion", "<f8", 4),
        ("covariance", "<f4", COVARIANCE_SIZE),
        ("keypoints", "<f4", (NUM_KEYPOINTS, 3)),
        ("std", "<f4", NUM_KEYPOINTS),
    ]
)
_GAP = slice(8, 12)


def encode_hand_forecast_array(futures: Futures, stamp: tuple[int, int] | None = None) -> bytes:
    """`Futures` serialized; `stamp` is the exact (sec, nanosec) of the last observation where it is at hand."""
    return _encode(futures, time_parts(futures.stamp) if stamp is None else stamp)


def decode_hand_forecast_array(data: bytes, max_hypotheses: int | None = None) -> Futures:
    """`Futures` of a serialized HandForecastArray in little-endian CDR, of the first `max_hypotheses` of each hand.

    Raises `RejectedInput` as `parse_hand_forecast_array_msg` does, and undecodable_message for bytes that are none.
    """
    try:
        if data[:4] != LITTLE_ENDIAN_CDR:
            raise ValueError(f"encapsulation {data[:4].hex()}, expected {LITTLE_ENDIAN_CDR.hex()}")
        return _decode(data, max_hypotheses)
    except RejectedInput:
        raise
    except Exception as error:  # struct, numpy, unicode: whatever nonsense leads to
        raise RejectedInput("undecodable_message", f"{type(error).__name__}: {error}") from None


# ---------------------------------------------------------------- writing


class _Writer:
    """Appends primitives with CDR alignment."""

    def __init__(self) -> None:
        self.data = bytearray(LITTLE_ENDIAN_CDR)

    @property
    def offset(self) -> int:
        """From the origin of alignment."""
        return len(self.data) - 4

    def pack(self, kind: str, *values: float) -> None:
        """Numbers of one 4-byte kind."""
        self.data += bytes(-self.offset % 4)
        self.data += struct.pack(f"<{len(values)}{kind}", *values)

    def doubles(self, *values: float) -> None:
        self.data += bytes(-self.offset % 8)
        self.data += struct.pack(f"<{len(values)}d", *values)

    def time(self, stamp: tuple[int, int]) -> None:
        self.pack("i", stamp[0])
        self.pack("I", stamp[1])

    def string(self, text: str) -> None:
        raw = text.encode() + b"\0"
        self.pack("I", len(raw))
        self.data += raw

    def header(self, stamp: tuple[int, int], frame_id: str) -> None:
        self.time(stamp)
        self.string(frame_id)


def _encode(futures: Futures, stamp: tuple[int, int]) -> bytes:
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
    writer.time(time_parts(futures.inference_start))
    writer.time(time_parts(futures.inference_end))
    writer.string(futures.model_id)
    writer.pack("I", len(futures.gives))
    for name in futures.gives:
        writer.string(name)
    writer.pack("I", len(futures.waypoints))
    for waypoint in map(raw_waypoint, futures.waypoints):
        nanoseconds = round(waypoint.time / _NANOSECOND)
        writer.pack("i", nanoseconds // 1_000_000_000)
        writer.pack("I", nanoseconds % 1_000_000_000)
        writer.data.append(waypoint.side)
        writer.string(waypoint.label)
        writer.pack("f", *waypoint.position)
        writer.doubles(*waypoint.quaternion)
        writer.pack("f", waypoint.contact)
    return bytes(writer.data)


def _steps(hand: HandFuture, durations: np.ndarray) -> np.ndarray:
    """The steps (K, S) of one hand."""
    wire = WireFuture.of(hand)
    steps = np.zeros((len(hand.probability), len(durations)), dtype=_STEP)
    steps["time_from_start"] = durations
    for name in ("quaternion", "covariance", "keypoints", "std"):
        steps[name] = getattr(wire, name)
    return steps


# ---------------------------------------------------------------- reading


class _Reader:
    """Takes primitives with CDR alignment; running off the end is a struct.error or ValueError."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 4

    @property
    def offset(self) -> int:
        return self.position - 4

    def unpack(self, kind: str) -> Any:
        self.position += -self.offset % 4
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.position)
        self.position += 4
        return value

    def time(self) -> tuple[int, int]:
        return self.unpack("i"), self.unpack("I")

    def doubles(self, count: int) -> np.ndarray:
        self.position += -self.offset % 8
        return np.frombuffer(self.take(8 * count), dtype="<f8")

    def floats(self, count: int) -> np.ndarray:
        self.position += -self.offset % 4
        return np.frombuffer(self.take(4 * count), dtype="<f4").astype(np.float64)

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
    """Everything is read before anything is judged, as a middleware does: bytes that end too early are no message."""
    reader = _Reader(data)
    time, frame = reader.time(), reader.string()
    hands = [_read_hand(reader) for _ in range(reader.unpack("I"))]
    stage = reader.string()
    start, end = _seconds(reader.time()), _seconds(reader.time())
    model_id = reader.string()
    gives = tuple(reader.string() for _ in range(reader.unpack("I")))
    raw = [_read_waypoint(reader) for _ in range(reader.unpack("I"))]
    stamp, frame_id = checked_header(*time, frame)
    times, futures = [], []
    for hand_frame, side, track_id, hypotheses in hands:
        check_hand_frame(hand_frame, frame_id)
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
                steps["keypoints"].astype(np.float64),
                steps["quaternion"],
                steps["std"].astype(np.float64),
                steps["covariance"],
            )
        )
    parts = checked_futures(stamp, frame_id, times, futures, stage, model_id, start, end)
    return replace(parts, gives=gives, waypoints=checked_waypoints(raw))


def _read_waypoint(reader: _Reader) -> RawWaypoint:
    time = _seconds((reader.unpack("i"), reader.unpack("I")))
    side, label, position = reader.take(1)[0], reader.string(), reader.floats(3)
    return RawWaypoint(time, side, label, position, reader.doubles(4), float(reader.floats(1)[0]))


def _read_hand(reader: _Reader) -> tuple[str, int, int, list[tuple[float, np.ndarray]]]:
    """Frame, side, track_id, and of each hypothesis its probability and steps."""
    reader.time()
    frame, side, track_id = reader.string(), reader.take(1)[0], reader.unpack("I")
    hypotheses = [(reader.unpack("f"), reader.steps(reader.unpack("I"))) for _ in range(reader.unpack("I"))]
    return frame, side, track_id, hypotheses


def _seconds(parts: tuple[int, int]) -> float:
    return parts[0] + parts[1] * _NANOSECOND


def stamp_of(data: bytes) -> float:
    """The stamp of a message that begins with a std_msgs/Header, without decoding the rest."""
    return stamp_ns_of(data) * 1e-9


def stamp_ns_of(data: bytes) -> int:
    """The same in whole ns."""
    order: Literal["little", "big"] = "little" if data[1] & 1 else "big"
    seconds, nanoseconds = bytes(data[4:8]), bytes(data[8:12])
    return int.from_bytes(seconds, order, signed=True) * 1_000_000_000 + int.from_bytes(nanoseconds, order)
