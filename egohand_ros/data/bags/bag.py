"""rosbag2 (MCAP, sqlite3) <-> `Episode`, through `rosbags`: no ROS needed. For recording live messages see
`recording.py`.
"""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Reader, Writer

from ...errors import RejectedInput, UserError
from ...geometry.camera import Camera, camera_of_info
from ...geometry.rotations import quaternion_from_matrix
from ...geometry.transforms import invert_transform, transform_points
from ...hand.plausibility import check_pose, plausible_hands
from ...hand.skeleton import NUM_KEYPOINTS, SIDES, WRIST
from ...messages.basic import COVARIANCE_SIZE, quaternions_or_zero, time_parts
from ...messages.cdr import stamp_ns_of
from ...messages.hands import MEASURED, Hands, hands_of_sides, parse_hand_pose_array_msg
from ...messages.poses import parse_pose_array_msg, parse_stamped_pose_msg
from ...outputs import new_folder
from ...stream.aligner import AlignmentLimits, PoseTrack
from ...stream.pairing import SidePairer
from ...stream.stamps import StampLimits
from ..episode import Episode
from ..episode_images import EpisodeImages
from ..image_sources import BagImages
from .message_types import MessageTypes, decode_message, types_of_bag
from .reading import BagMessage, messages_of, readable_bag
from .recording import (
    STORAGES,
    is_input_topic,
    matches,
    new_writer,
)

HAND_POSES, CAMERA_POSE, ODOMETRY, PROMPT = "hand_poses", "camera_pose", "odometry", "prompt"
TRACKER_POSES = ("tracker_poses", "tracker_poses/left", "tracker_poses/right")
WORLD_FRAME, CAMERA_FRAME = "world", "camera_optical_frame"

_log = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------- bag -> episode


def episodes_from_bag(path: Path | str) -> list[Episode]:
    """The hands that a bag observed, as one episode, or several where its clock was reset.

    Topics are those of the forecaster node: hand_poses, or else tracker_poses, tracker_poses/left and /right. Hands
    whose frame is not that of the camera poses are in the camera's frame: they are moved to the fixed frame by the pose
    at their stamp, as the node does, and are left out where it is not known. Only measured hands count: what a tracker
    extrapolated is no observation. Pictures are those of the topic image, raw or compressed. What is refused is counted
    in a warning. Raises `UserError` where there are no
    hands.
    """
    collector = _Collector()
    topics = (HAND_POSES, *TRACKER_POSES, CAMERA_POSE, ODOMETRY, PROMPT)
    with readable_bag(path) as reader:  # once: what was cut off is mended anew each time
        for message in messages_of(reader, topics, lambda topic, error: collector.reject(error)):
            collector.add(message)
        images = _images(path, reader)
    observed = collector.hands[HAND_POSES] or collector.hands[TRACKER_POSES[0]]
    if not observed:
        raise UserError(f"bag {path} has no hands on a topic {HAND_POSES} or {TRACKER_POSES[0]}")
    refused = collector.refused
    episodes = [_episode(part, collector, refused, images) for part in _split_at_resets(observed, refused)]
    if refused:
        _log.warning("bag %s: not used: %s", path, ", ".join(f"{n} {reason}" for reason, n in refused.most_common()))
    return episodes


class _Collector:
    """Sorts a bag's messages into hands, camera poses and tasks; `refused` counts what is wrong, by reason."""

    def __init__(self):
        self.hands: dict[str, list[Hands]] = {HAND_POSES: [], TRACKER_POSES[0]: []}
        self.camera, self.camera_frame = PoseTrack(np.inf, AlignmentLimits().camera_max_gap), ""
        self.tasks: list[str] = []
        self.refused: Counter[str] = Counter()
        self._source: dict[str, str] = {}
        self._pairer = SidePairer()

    def add(self, message: BagMessage) -> None:
        """One message of a wanted topic. Of hands on equal topics of several namespaces, the first one counts."""
        kind, name = message.msgtype.rpartition("/")[2], message.topic.rpartition("/")[2]
        if kind in ("HandPoseArray", "PoseArray") and self._source.setdefault(name, message.topic) != message.topic:
            return
        try:
            self._add(kind, name, message.data)
        except RejectedInput as error:
            self.reject(error)

    def reject(self, error: RejectedInput) -> None:
        """Count what is not used."""
        self.refused[error.reason] += 1

    def _add(self, kind: str, name: str, message) -> None:
        if kind == "HandPoseArray":
            self.hands[HAND_POSES].append(self._plausible(parse_hand_pose_array_msg(message).measured()))
        elif kind == "PoseArray":
            self._add_joints(name, *parse_pose_array_msg(message))
        elif kind in ("PoseStamped", "Odometry"):
            pose = parse_stamped_pose_msg(message)
            check_pose(pose.transform)
            self.camera.add(pose.stamp, pose.transform)
            self.camera_frame = pose.frame_id
        elif kind == "String" and message.data:
            self.tasks.append(message.data)

    def _add_joints(self, name: str, stamp: float, frame: str, joints: np.ndarray) -> None:
        """Keypoints (H, 21, 3) m of a tracker's hands: of the side that the topic names, otherwise the left first."""
        first = SIDES.index(name) if name in SIDES else 0
        if name in SIDES and len(joints) > 1:
            raise RejectedInput("wrong_count", f"two hands on a topic {name!r}; expected one")
        both = self._plausible(hands_of_sides(stamp, frame, {first + i: hand for i, hand in enumerate(joints)}))
        self.hands[TRACKER_POSES[0]] += self._pairer.add(first, both) if name in SIDES else [both]

    def _plausible(self, both: Hands) -> Hands:
        """The same with nothing valid of a hand that cannot be one."""
        keep = plausible_hands(both.keypoints, both.valid, self.reject)
        return replace(both, valid=both.valid & keep[:, None])


def _images(path: Path | str, reader: Reader) -> EpisodeImages | None:
    """The camera's pictures, which are read when they are wanted, in order of their stamps; None without any."""
    found = [c.topic for c in reader.connections if c.msgcount]
    topics = {topic for topic in found if is_input_topic(topic.removesuffix("/compressed"), "image")}
    if not topics:
        return None
    topic = min(topics, key=lambda name: (not name.endswith("/compressed"), name))  # less to read
    infos = [c for c in reader.connections if matches(c.topic, "camera_info")][:1]
    types, camera, stamps = types_of_bag(reader), None, []
    for connection, _, data in reader.messages([c for c in reader.connections if c.topic == topic] + infos):
        if connection in infos:
            camera = camera or _camera(types, data, connection.msgtype)
            continue
        stamp = stamp_ns_of(data)
        if not stamps or stamp > stamps[-1]:
            stamps.append(stamp)
    source = BagImages(str(Path(path).resolve()), topic, tuple(stamps))
    return EpisodeImages(np.array(stamps) * 1e-9, source, camera)


def _camera(types, data: bytes, msgtype: str) -> Camera | None:
    try:
        return camera_of_info(decode_message(types, data, msgtype))
    except RejectedInput as error:
        _log.warning("camera_info is not used: %s", error)
        return None


def _split_at_resets(observed: list[Hands], refused: Counter) -> list[list[Hands]]:
    """Observations in rising order of stamps, cut where time jumped back."""
    parts: list[list[Hands]] = [[]]
    for hands in observed:
        last = parts[-1][-1].stamp if parts[-1] else -np.inf
        if hands.stamp <= 0.0:
            refused["zero_stamp"] += 1
        elif hands.stamp > last:
            parts[-1].append(hands)
        elif hands.stamp < last - StampLimits().jump:
            parts.append([hands])
        else:
            refused["out_of_order"] += 1
    parts = [part for part in parts if part]
    if not parts:
        raise UserError("no message of the bag has a usable stamp; set header.stamp to the acquisition time")
    return parts


def _episode(
    part: list[Hands], collector: _Collector, refused: Counter, images: EpisodeImages | None = None
) -> Episode:
    stamp, task = np.array([hands.stamp for hands in part]), "; ".join(dict.fromkeys(collector.tasks))
    keypoints, valid, rotation = (
        np.stack([getattr(hands, name) for hands in part]) for name in ("keypoints", "valid", "wrist_rotation")
    )
    poses = None
    if len(collector.camera):
        poses, known = collector.camera.at(stamp)
        moving = np.array([hands.frame_id != collector.camera_frame for hands in part])
        T = np.where(moving[:, None, None], poses, np.eye(4))
        keypoints, rotation = transform_points(T[:, None], keypoints), T[:, None, :3, :3] @ rotation
        lost = moving & ~known
        valid &= ~lost[:, None, None]
        if lost.any():
            refused["camera_pose_unknown"] += int(lost.sum())
    return Episode(stamp, keypoints, valid, _fill_from_palm(keypoints, valid, rotation), poses, task, images)


def _fill_from_palm(keypoints: np.ndarray, valid: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotations (T, 2, 3, 3), those that a tracker did not give taken from the palm's keypoints."""
    palm = Episode(np.arange(len(keypoints), dtype=float), keypoints, valid).wrist_rotation
    return np.where(np.isfinite(rotation) & valid[..., WRIST, None, None], rotation, palm)


# ---------------------------------------------------------------------------------------------- episode -> bag


def episode_to_bag(episode: Episode, folder: Path | str, storage: str = "mcap", namespace: str = "") -> None:
    """Write an episode as what a tracker would publish: hand_poses, and camera_pose and prompt where it has them.

    With camera poses the hands are written in the camera's frame. Stamps below one second are moved to begin at 1 s,
    since zero means "unknown" in ROS. The folder is there when all of it is written; `UserError` where it was before.
    """
    folder = Path(folder)
    if storage not in STORAGES:
        raise UserError(f"bag storage {storage!r} is unknown; known: {', '.join(STORAGES)}")
    if folder.exists():
        raise UserError(f"{folder} exists already; give another folder, or remove it")
    types = MessageTypes()
    stamps = episode.stamp + max(0.0, 1.0 - episode.stamp[0])
    with new_folder(folder) as part, new_writer(part, storage) as writer:
        topics = _BagTopics(writer, types, namespace)
        if episode.task:
            topics.write(
                PROMPT, "std_msgs/msg/String", stamps[0], types.store.types["std_msgs/msg/String"](episode.task)
            )
        build = _Builder(types)
        for i, stamp in enumerate(stamps):
            if episode.camera_pose is not None:
                topics.write(
                    CAMERA_POSE,
                    "geometry_msgs/msg/PoseStamped",
                    stamp,
                    build.pose_stamped(stamp, episode.camera_pose[i]),
                )
            topics.write(HAND_POSES, "egohand_ros/msg/HandPoseArray", stamp, build.hand_pose_array(stamp, episode, i))


class _BagTopics:
    """Connections of a bag, made when first written to."""

    def __init__(self, writer: Writer, types: MessageTypes, namespace: str):
        self._writer, self._types, self._namespace, self._connections = writer, types, namespace.strip("/"), {}

    def write(self, name: str, msgtype: str, stamp: float, message: object) -> None:
        if name not in self._connections:
            text, type_hash = self._types.definition(msgtype)
            topic = f"/{self._namespace}/{name}" if self._namespace else f"/{name}"
            self._connections[name] = self._writer.add_connection(topic, msgtype, msgdef=text, rihs01=type_hash)
        data = self._types.store.serialize_cdr(message, msgtype)
        self._writer.write(self._connections[name], round(stamp * 1e9), data)


class _Builder:
    """Messages from arrays, in the types of a store."""

    def __init__(self, types: MessageTypes):
        types.learn("egohand_ros/msg/HandPoseArray")
        self._types = types.store.types

    def _make(self, name: str, **fields):
        return self._types[name](**fields)

    def _header(self, stamp: float, frame: str):
        sec, nanosec = time_parts(stamp)
        time = self._make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self._make("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def _point(self, xyz, kind: str = "Point"):
        return self._make(f"geometry_msgs/msg/{kind}", x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))

    def _quaternion(self, xyzw: np.ndarray):
        return self._make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, xyzw))))

    def pose_stamped(self, stamp: float, pose: np.ndarray):
        """A PoseStamped of the camera in the world."""
        position, orientation = self._point(pose[:3, 3]), self._quaternion(quaternion_from_matrix(pose[:3, :3]))
        made = self._make("geometry_msgs/msg/Pose", position=position, orientation=orientation)
        return self._make("geometry_msgs/msg/PoseStamped", header=self._header(stamp, WORLD_FRAME), pose=made)

    def hand_pose_array(self, stamp: float, episode: Episode, i: int):
        """The HandPoseArray of frame `i`; hands without a valid wrist are not in it."""
        keypoints, rotation, frame = episode.keypoints[i], episode.wrist_rotation[i], WORLD_FRAME
        if episode.camera_pose is not None:
            T_camera_world, frame = invert_transform(episode.camera_pose[i]), CAMERA_FRAME
            keypoints = transform_points(T_camera_world, keypoints)
            rotation = T_camera_world[:3, :3] @ rotation
        header = self._header(stamp, frame)
        hands = [
            self._hand(header, side, keypoints[side], episode.valid[i, side], rotation[side])
            for side in range(2)
            if episode.valid[i, side, WRIST]
        ]
        return self._make("egohand_ros/msg/HandPoseArray", header=header, hands=hands)

    def _hand(self, header, side: int, keypoints: np.ndarray, valid: np.ndarray, rotation: np.ndarray):
        unknown = np.zeros(COVARIANCE_SIZE, dtype=np.float32)
        unknown[0] = -1.0
        return self._make(
            "egohand_ros/msg/HandPose",
            header=header,
            side=side,
            track_id=side + 1,
            confidence=-1.0,
            tracking_state=MEASURED,
            wrist_orientation=self._quaternion(quaternions_or_zero(rotation)),
            wrist_covariance=unknown,
            keypoints=[self._point(point, "Point32") for point in keypoints],
            valid=np.asarray(valid, dtype=bool),
            keypoint_confidence=np.full(NUM_KEYPOINTS, -1.0, dtype=np.float32),
        )
