"""A recorded session as arrays: what was seen, forecast and commanded, and how long it took. Reads any rosbag2 folder.

Topics are found by the end of their names, so that the namespace of the recording does not matter.
"""

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..data.bags.message_types import decode_message, is_current, types_of_bag
from ..data.bags.recording import MADE_IMAGES, is_input_topic, matches, open_bag
from ..errors import RejectedInput, UserError
from ..hand.skeleton import NUM_KEYPOINTS
from ..images.decoding import decode_image
from ..images.raw_images import raw_image
from ..messages.cdr import LITTLE_ENDIAN_CDR, decode_hand_forecast_array, stamp_of
from ..messages.forecast import Futures, parse_hand_forecast_array_msg
from ..messages.hands import Hands, parse_hand_pose_array_msg
from ..messages.joints import JointSample, parse_joint_sample_msg, parse_wire_positions_msg
from ..messages.poses import StampedPose, parse_stamped_pose_msg
from ..messages.status import parse_diagnostics_msg, parse_forecaster_info_msg, parse_latency_msg

_JOINT_TOPICS = ("joint_targets", "arm_targets", "joint_states")
_FORECASTS = "egohand_ros/msg/HandForecastArray"
_log = logging.getLogger(__name__)


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

    @classmethod
    def of(cls, futures: Futures, received: float) -> "RecordedForecast":
        """The same as one array for both hands."""
        count = max((len(hand.probability) for hand in futures.hands), default=0)
        shape = (count, len(futures.step_times), 2, NUM_KEYPOINTS)
        keypoints, std, probability = np.full((*shape, 3), np.nan), np.full(shape, np.nan), np.full((count, 2), np.nan)
        for hand in futures.hands:
            given = slice(len(hand.probability))
            keypoints[given, :, hand.side], std[given, :, hand.side] = hand.keypoints, hand.keypoint_std
            probability[given, hand.side] = hand.probability
        inference = futures.inference_end - futures.inference_start
        return cls(
            futures.stamp, received, futures.frame_id, futures.step_times, keypoints, std, probability, inference,
            futures.model_id,
        )  # fmt: skip


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
    arm_targets: JointTrack | None = None
    wire_commands: WireCommands | None = None
    latency: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)
    player: dict = field(default_factory=dict)
    session: dict = field(default_factory=dict)
    forecaster: dict = field(default_factory=dict)
    camera_matrix: np.ndarray | None = None
    prompt: str = ""
    image_stamps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    refused: Counter[str] = field(default_factory=Counter)  # messages that are not used, by "topic/reason"

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
        collector = _Collector(recording, store)
        wanted = [c for c in reader.connections if collector.handler(c.topic, c.msgtype)]
        images = {c.topic for c in reader.connections if _is_image_topic(c.topic, "image")}
        wanted += [c for c in reader.connections if c.topic in images]
        taken = []
        for connection, stamp, data in reader.messages(wanted) if wanted else ():
            if connection.topic in images:
                taken.append(stamp_of(data))
                continue
            collector.add(connection.topic, connection.msgtype, stamp * 1e-9, data)
        collector.finish()
        recording.image_stamps = np.unique(taken)
    return recording


def read_images(path: Path | str, name: str, stamps: list[float]) -> list[tuple[float, np.ndarray] | None]:
    """For each time the image (stamp, BGR uint8) of `name` (or `name`/compressed) that is next to it; None without any,
    or where it is broken.
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
        return [_picture(store, topics[0].msgtype, *found) for found in best]


def _is_image_topic(topic: str, name: str) -> bool:
    """Whether a topic carries the images `name`, raw or compressed."""
    topic = topic.removesuffix("/compressed")
    return matches(topic, name) if name in MADE_IMAGES else is_input_topic(topic, name)


def _picture(store, msgtype: str, stamp: float, data: bytes) -> tuple[float, np.ndarray] | None:
    try:
        message = decode_message(store, data, msgtype)
        rgb = decode_image(bytes(message.data)) if hasattr(message, "format") else raw_image(message)
    except RejectedInput as error:
        _log.warning("the image at %.3f s cannot be shown: %s", stamp, error)
        return None
    return stamp, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


class _Collector:
    """Fills a `Recording`, one message after the other."""

    def __init__(self, recording: Recording, store):
        self.recording, self._store = recording, store
        self._fast = is_current(store, _FORECASTS) if _FORECASTS in store.fielddefs else False
        self._hands: list[tuple[float, Hands]] = []
        self._camera: list[StampedPose] = []
        self._joints: dict[str, list[tuple[float, JointSample]]] = {name: [] for name in _JOINT_TOPICS}
        self._wire: list[tuple[float, np.ndarray]] = []

    def add(self, topic: str, msgtype: str, received: float, data: bytes) -> None:
        """One message of a topic that has a handler; one that is refused is counted."""
        try:
            if self._fast and msgtype == _FORECASTS and data[:4] == LITTLE_ENDIAN_CDR:
                message = decode_hand_forecast_array(bytes(data))
            else:
                message = decode_message(self._store, data, msgtype)
            self.handler(topic, msgtype)(topic, received, message)
        except RejectedInput as error:
            self.recording.refused[f"{topic.rpartition('/')[2]}/{error.reason}"] += 1

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
            "odometry": ("Odometry", self._on_camera_pose),
            "camera_info": ("CameraInfo", self._on_camera_info),
            **dict.fromkeys(_JOINT_TOPICS, ("JointState", self._on_joints)),
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
            received, hands = zip(*self._hands)
            stacked = (np.stack([getattr(each, name) for each in hands]) for name in ("keypoints", "valid", "state"))
            stamp = np.array([each.stamp for each in hands])
            recording.hands = HandPoses(stamp, np.array(received), *stacked, [each.frame_id for each in hands])
        if self._camera:
            stamp, pose = np.array([p.stamp for p in self._camera]), np.stack([p.transform for p in self._camera])
            recording.camera = CameraTrack(stamp, pose, self._camera[0].frame_id)
        recording.targets = _joint_track(self._joints["joint_targets"])
        recording.arm_targets = _joint_track(self._joints["arm_targets"])
        commanded = () if recording.targets is None else recording.targets.names
        recording.measured = _joint_track(self._joints["joint_states"], commanded)
        if self._wire and len({len(row) for _, row in self._wire}) == 1:
            received, positions = zip(*self._wire)
            recording.wire_commands = WireCommands(np.stack(positions), np.array(received))
        if recording.refused:
            said = ", ".join(f"{n} {reason}" for reason, n in recording.refused.most_common())
            _log.warning("bag %s: not used: %s", recording.path, said)

    def _on_hands(self, topic: str, received: float, message) -> None:
        self._hands.append((received, parse_hand_pose_array_msg(message)))

    def _on_forecast(self, topic: str, received: float, message) -> None:
        futures = message if isinstance(message, Futures) else parse_hand_forecast_array_msg(message)
        self.recording.forecasts.append(RecordedForecast.of(futures, received))

    def _on_camera_pose(self, topic: str, received: float, message) -> None:
        self._camera.append(parse_stamped_pose_msg(message))

    def _on_camera_info(self, topic: str, received: float, message) -> None:
        self.recording.camera_matrix = np.array(message.k).reshape(3, 3)

    def _on_joints(self, topic: str, received: float, message) -> None:
        self._joints[topic.rpartition("/")[2]].append((received, parse_joint_sample_msg(message)))

    def _on_command(self, topic: str, received: float, message) -> None:
        self._wire.append((received, parse_wire_positions_msg(message)[1]))

    def _on_latency(self, topic: str, received: float, message) -> None:
        node, sample = topic.removesuffix("/debug/latency").rpartition("/")[2], parse_latency_msg(message)
        row = sample.stages | {"stamp": sample.stamp, "useful_horizon": sample.useful_horizon}
        self.recording.latency.setdefault(node, []).append(row)

    def _on_diagnostics(self, topic: str, received: float, message) -> None:
        self.recording.diagnostics |= parse_diagnostics_msg(message)

    def _on_player(self, topic: str, received: float, message) -> None:
        self.recording.player = json.loads(message.data)

    def _on_session(self, topic: str, received: float, message) -> None:
        self.recording.session = json.loads(message.data)

    def _on_prompt(self, topic: str, received: float, message) -> None:
        self.recording.prompt = message.data

    def _on_forecaster(self, topic: str, received: float, message) -> None:
        self.recording.forecaster = parse_forecaster_info_msg(message)


def _joint_track(rows: list[tuple[float, JointSample]], wanted: tuple[str, ...] = ()) -> JointTrack | None:
    """Rows with the names of the first; others (a second publisher, an arm) are left out. Where rows have all the
    `wanted` joints, those rows and joints alone: a hand's beside those of its arm."""
    mine = [(received, sample) for received, sample in rows if wanted and set(wanted) <= set(sample.names)]
    if not rows:
        return None
    names = (mine or rows)[0][1].names
    rows = [(received, sample) for received, sample in mine or rows if sample.names == names]
    stamp, q, qd = (np.stack([getattr(sample, name) for _, sample in rows]) for name in ("stamp", "q", "qd"))
    received = np.array([received for received, _ in rows])
    if not mine:
        return JointTrack(stamp, names, q, qd, received)
    columns = [names.index(name) for name in wanted]
    return JointTrack(stamp, wanted, q[:, columns], qd[:, columns], received)
