"""A recorded session as arrays: what was seen, forecast and commanded, and how long it took. Reads any rosbag2 folder.

Topics are found by the end of their names, so that the namespace of the recording does not matter.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..data.bags.message_types import types_of_bag
from ..data.bags.recording import MADE_IMAGES, is_input_topic, matches, open_bag
from ..errors import UserError
from ..geometry.rotations import matrix_from_quaternion
from ..geometry.transforms import make_transform
from ..hand.skeleton import NUM_KEYPOINTS
from ..stream.stamps import stamp_of

MEASURED, EXTRAPOLATED, LOST = 0, 1, 2  # HandPose.tracking_state
_STATE_OF_MISSING = LOST


@dataclass
class HandPoses:
    """T observations: stamp and received (T,) s, keypoints (T, 2, 21, 3) m, valid (T, 2, 21), state (T, 2), frame of
    each.
    """

    stamp: np.ndarray
    received: np.ndarray
    keypoints: np.ndarray
    valid: np.ndarray
    state: np.ndarray
    frame: list[str]


@dataclass(frozen=True)
class RecordedForecast:
    """One HandForecastArray. keypoints (K, S, 2, 21, 3) m, NaN for a hand that is not in it; std (K, S, 2, 21), NaN
    unknown.
    """

    stamp: float
    received: float
    frame: str
    step_times: np.ndarray
    keypoints: np.ndarray
    std: np.ndarray
    probability: np.ndarray
    inference: float
    model_id: str


@dataclass
class JointTrack:
    """Joint positions over time: stamp (T,) s, names, q (T, n) rad, qd (T, n) rad/s or NaN, received (T,) s."""

    stamp: np.ndarray
    names: tuple[str, ...]
    q: np.ndarray
    qd: np.ndarray
    received: np.ndarray


@dataclass
class WireCommands:
    """Commands as the robot got them: positions (T, m) in its order and unit, received (T,) s; not all have stamps."""

    positions: np.ndarray
    received: np.ndarray


@dataclass
class CameraTrack:
    """Camera poses: stamp (T,) s, T_frame_camera (T, 4, 4) and the frame."""

    stamp: np.ndarray
    pose: np.ndarray
    frame: str


@dataclass
class Recording:
    """Everything of a session that scoring and the report look at. Times in s of the recording's clock."""

    path: Path
    start: float
    end: float
    counts: dict[str, int]
    types: dict[str, str]
    hands: HandPoses | None = None
    camera: CameraTrack | None = None
    forecasts: list[RecordedForecast] = field(default_factory=list)
    targets: JointTrack | None = None
    measured: JointTrack | None = None
    wire_commands: WireCommands | None = None
    latency: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)
    player: dict = field(default_factory=dict)
    session: dict = field(default_factory=dict)
    forecaster: dict = field(default_factory=dict)
    camera_matrix: np.ndarray | None = None
    prompt: str = ""
    image_stamps: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def play_start(self) -> float:
        """Stamp of the first input; nodes may have been up for a while before."""
        firsts = [self.hands.stamp[0]] if self.hands is not None else []
        firsts += [self.image_stamps[0]] if len(self.image_stamps) else []
        return float(min(firsts, default=self.start))

    @property
    def play_end(self) -> float:
        """A second after the last input, in which the last forecasts come true and the hand stops."""
        lasts = [self.hands.stamp[-1]] if self.hands is not None else []
        lasts += [self.image_stamps[-1]] if len(self.image_stamps) else []
        return float(min(max(lasts, default=self.end) + 1.0, self.end))

    def count(self, name: str) -> int:
        """Messages of the topic with that relative name."""
        return sum(number for topic, number in self.counts.items() if matches(topic, name))


def read_recording(path: Path | str) -> Recording:
    """Read a bag. Raises `UserError` for one that is missing, broken or empty."""
    path = Path(path)
    with open_bag(path) as reader:
        if not reader.message_count:
            raise UserError(f"bag {path} is empty")
        store = types_of_bag(reader)
        counts = {c.topic: c.msgcount for c in reader.connections}
        recording = Recording(
            path,
            reader.start_time * 1e-9,
            reader.end_time * 1e-9,
            counts,
            {c.topic: c.msgtype for c in reader.connections},
        )
        collector = _Collector(recording)
        wanted = [c for c in reader.connections if collector.handler(c.topic, c.msgtype)]
        images = {c.topic for c in reader.connections if _is_image_topic(c.topic, "image")}
        wanted += [c for c in reader.connections if c.topic in images]
        taken = []
        for connection, stamp, data in reader.messages(wanted) if wanted else ():
            if connection.topic in images:
                taken.append(stamp_of(data))
                continue
            message = store.deserialize_cdr(data, connection.msgtype)
            collector.handler(connection.topic, connection.msgtype)(connection.topic, stamp * 1e-9, message)
        collector.finish()
        recording.image_stamps = np.unique(taken)
    return recording


def read_images(path: Path | str, name: str, stamps: list[float]) -> list[tuple[float, np.ndarray] | None]:
    """For each time the image (stamp, BGR uint8) of `name` (or `name`/compressed) that is next to it; None without
    any.
    """
    with open_bag(path) as reader:
        store = types_of_bag(reader)
        topics = [c for c in reader.connections if c.msgcount and _is_image_topic(c.topic, name)]
        if not topics or not stamps:
            return [None] * len(stamps)
        best: list[tuple[float, object] | None] = [None] * len(stamps)
        for _, _, data in reader.messages(topics[:1]):
            stamp = stamp_of(data)
            for i, wanted in enumerate(stamps):
                if best[i] is None or abs(stamp - wanted) < abs(best[i][0] - wanted):
                    best[i] = (stamp, data)
        messages = [store.deserialize_cdr(found[1], topics[0].msgtype) for found in best]
        return [(found[0], _pixels(message)) for found, message in zip(best, messages)]


def _is_image_topic(topic: str, name: str) -> bool:
    """Whether a topic carries the images `name`, raw or compressed."""
    topic = topic.removesuffix("/compressed")
    return matches(topic, name) if name in MADE_IMAGES else is_input_topic(topic, name)


def _pixels(message) -> np.ndarray:
    if hasattr(message, "format"):
        return cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}.get(message.encoding, 3)
    rows = np.frombuffer(message.data, np.uint8)[: message.step * message.height].reshape(message.height, message.step)
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    conversion = {
        "rgb8": cv2.COLOR_RGB2BGR,
        "rgba8": cv2.COLOR_RGBA2BGR,
        "bgra8": cv2.COLOR_BGRA2BGR,
        "mono8": cv2.COLOR_GRAY2BGR,
    }
    return cv2.cvtColor(pixels, conversion[message.encoding]) if message.encoding in conversion else pixels.copy()


class _Collector:
    """Fills a `Recording`, one message after the other."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self._hands: list[tuple] = []
        self._camera: list[tuple] = []
        self._joints: dict[str, list[tuple]] = {"joint_targets": [], "joint_states": []}
        self._wire: list[tuple[float, np.ndarray]] = []

    def handler(self, topic: str, msgtype: str):
        """What takes the messages of a topic; None where nothing does."""
        if matches(topic, "joint_commands"):
            return self._on_command
        for name, (kind, function) in self._handlers().items():
            if matches(topic, name) and msgtype.endswith(f"/{kind}"):
                return function
        return None

    def _handlers(self):
        return {
            "hand_poses": ("HandPoseArray", self._on_hands),
            "hand_forecasts": ("HandForecastArray", self._on_forecast),
            "camera_pose": ("PoseStamped", self._on_camera_pose),
            "odometry": ("Odometry", self._on_odometry),
            "camera_info": ("CameraInfo", self._on_camera_info),
            "joint_targets": ("JointState", self._on_joints),
            "joint_states": ("JointState", self._on_joints),
            "debug/latency": ("Latency", self._on_latency),
            "diagnostics": ("DiagnosticArray", self._on_diagnostics),
            "player/state": ("String", self._on_player),
            "session": ("String", self._on_session),
            "prompt": ("String", self._on_prompt),
            "forecaster_info": ("ForecasterInfo", self._on_forecaster),
        }

    def finish(self) -> None:
        recording = self.recording
        if self._hands:
            stamp, received, frame, keypoints, valid, state = zip(*self._hands)
            recording.hands = HandPoses(
                np.array(stamp), np.array(received), np.stack(keypoints), np.stack(valid), np.stack(state), list(frame)
            )
        if self._camera:
            stamp, pose, frame = zip(*self._camera)
            recording.camera = CameraTrack(np.array(stamp), np.stack(pose), frame[0])
        recording.targets = _joint_track(self._joints["joint_targets"])
        recording.measured = _joint_track(self._joints["joint_states"])
        if self._wire and len({len(row) for _, row in self._wire}) == 1:
            received, positions = zip(*self._wire)
            recording.wire_commands = WireCommands(np.stack(positions), np.array(received))

    def _on_hands(self, topic: str, received: float, message) -> None:
        keypoints = np.full((2, NUM_KEYPOINTS, 3), np.nan)
        valid = np.zeros((2, NUM_KEYPOINTS), dtype=bool)
        state = np.full(2, _STATE_OF_MISSING)
        for hand in message.hands:
            if hand.side not in (0, 1):
                continue
            state[hand.side] = hand.tracking_state
            if hand.tracking_state != LOST:
                valid[hand.side] = np.asarray(hand.valid, dtype=bool)
                keypoints[hand.side] = _points(hand.keypoints)
        keypoints[~valid] = np.nan
        self._hands.append((_seconds(message.header.stamp), received, message.header.frame_id, keypoints, valid, state))

    def _on_forecast(self, topic: str, received: float, message) -> None:
        times = max((_times(f) for f in message.forecasts), key=len, default=np.zeros(0))
        count = max((len(f.hypotheses) for f in message.forecasts), default=0)
        keypoints = np.full((count, len(times), 2, NUM_KEYPOINTS, 3), np.nan)
        std = np.full((count, len(times), 2, NUM_KEYPOINTS), np.nan)
        probability = np.full((count, 2), np.nan)
        for forecast in message.forecasts:
            for k, hypothesis in enumerate(forecast.hypotheses):
                probability[k, forecast.side] = hypothesis.probability
                for s, step in enumerate(hypothesis.steps):
                    keypoints[k, s, forecast.side] = _points(step.keypoints)
                    std[k, s, forecast.side] = step.standard_deviation
        std[std < 0] = np.nan
        inference = _seconds(message.inference_end) - _seconds(message.inference_start)
        self.recording.forecasts.append(
            RecordedForecast(
                _seconds(message.header.stamp),
                received,
                message.header.frame_id,
                times,
                keypoints,
                std,
                probability,
                inference,
                message.model_id,
            )
        )

    def _on_camera_pose(self, topic: str, received: float, message) -> None:
        self._camera.append((_seconds(message.header.stamp), _transform(message.pose), message.header.frame_id))

    def _on_odometry(self, topic: str, received: float, message) -> None:
        self._camera.append((_seconds(message.header.stamp), _transform(message.pose.pose), message.header.frame_id))

    def _on_camera_info(self, topic: str, received: float, message) -> None:
        self.recording.camera_matrix = np.array(message.k).reshape(3, 3)

    def _on_joints(self, topic: str, received: float, message) -> None:
        name = topic.rpartition("/")[2]
        velocity = np.array(message.velocity) if len(message.velocity) else np.full(len(message.position), np.nan)
        self._joints[name].append(
            (_seconds(message.header.stamp), tuple(message.name), np.array(message.position), velocity, received)
        )

    def _on_command(self, topic: str, received: float, message) -> None:
        if hasattr(message, "points"):
            positions = message.points[-1].positions if message.points else ()
        else:
            positions = message.position if hasattr(message, "position") else getattr(message, "data", ())
        self._wire.append((received, np.array(positions, dtype=float)))

    def _on_latency(self, topic: str, received: float, message) -> None:
        node = topic.removesuffix("/debug/latency").rpartition("/")[2]
        sample = dict(zip(message.stages, message.durations.tolist()))
        sample |= {"stamp": _seconds(message.header.stamp), "useful_horizon": float(message.useful_horizon)}
        self.recording.latency.setdefault(node, []).append(sample)

    def _on_diagnostics(self, topic: str, received: float, message) -> None:
        for status in message.status:
            name = status.name.rpartition("/")[2]
            self.recording.diagnostics[name] = {value.key: value.value for value in status.values} | {
                "message": status.message
            }

    def _on_player(self, topic: str, received: float, message) -> None:
        self.recording.player = json.loads(message.data)

    def _on_session(self, topic: str, received: float, message) -> None:
        self.recording.session = json.loads(message.data)

    def _on_prompt(self, topic: str, received: float, message) -> None:
        self.recording.prompt = message.data

    def _on_forecaster(self, topic: str, received: float, message) -> None:
        self.recording.forecaster = {
            "preset": message.preset,
            "device": message.device,
            "step": round(float(message.step), 6),
            "horizon": round(float(message.horizon), 6),
            "window_length": int(message.window_length),
            "covariance_calibrated": bool(message.covariance_calibrated),
        }


def _seconds(time) -> float:
    return time.sec + 1e-9 * time.nanosec


def _times(forecast) -> np.ndarray:
    steps = forecast.hypotheses[0].steps if forecast.hypotheses else ()
    return np.array([_seconds(step.time_from_start) for step in steps])


def _points(points) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in points])


def _transform(pose) -> np.ndarray:
    q, p = pose.orientation, pose.position
    quaternion = np.array([q.x, q.y, q.z, q.w])
    rotation = matrix_from_quaternion(quaternion) if np.linalg.norm(quaternion) > 0.5 else np.eye(3)
    return make_transform(rotation, np.array([p.x, p.y, p.z]))


def _joint_track(rows: list[tuple]) -> JointTrack | None:
    """Rows with the first row's names; others (a second publisher) are left out."""
    if not rows:
        return None
    names = rows[0][1]
    rows = [row for row in rows if row[1] == names and len(row[2]) == len(names)]
    stamp, _, q, qd, received = zip(*rows)
    return JointTrack(np.array(stamp), names, np.stack(q), np.stack(qd), np.array(received))
