"""A recording with all that Foxglove's 3D panel needs: hands and forecasts as markers and paths, and frames on /tf.

Everything that was recorded stays as it is; what is made goes beside it, at the time of what it is made of.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, Writer
from rosbags.typesys.store import Typestore
from tf2_msgs.msg import TFMessage

from ...data.bags.message_types import MessageTypes, decode_message, types_of_bag
from ...data.bags.reading import readable_bag
from ...data.bags.recording import matches, new_writer
from ...errors import RejectedInput, UserError
from ...geometry.transforms import UPRIGHT_OPTICAL, make_transform
from ...hand.palm import palm_rotations
from ...hand.skeleton import SIDES, WRIST
from ...messages.basic import parse_header
from ...messages.forecast import parse_hand_forecast_array_msg
from ...messages.hands import Hands, parse_hand_pose_array_msg
from ...messages.poses import parse_stamped_pose_msg
from ..messages.standard import build_hand_markers_msg, build_marker_array_msg, build_path_msg, build_pose_array_msg
from ..messages.transforms import build_transform_msg
from ..session.plan import LAYOUT_FRAME
from .topics import OF_FORECASTS, OF_HANDS

_LIFETIME = 0.5  # s, of markers, as the nodes' default
_TF = "/tf"
_SOURCES = {  # relative name: type
    "hand_forecasts": "egohand_ros/msg/HandForecastArray",
    "hand_poses": "egohand_ros/msg/HandPoseArray",
    "camera_pose": "geometry_msgs/msg/PoseStamped",
}
Made = tuple[str, Any]  # topic, message


def add_what_foxglove_shows(bag: Path | str, folder: Path | str, storage: str = "mcap") -> Counter[str]:
    """Write `folder`, a bag with everything in `bag` and what is made of it; how many messages were made, by topic.

    Raises `UserError` for what is no bag, and for one without hands and forecasts.
    """
    with readable_bag(bag) as reader:
        types, made = types_of_bag(reader), Counter[str]()
        first = _first_frames(reader, types)
        there = {c.topic for c in reader.connections if c.msgcount}
        scene = _Scene(there, first.get("hand_poses", ""), first.get("camera_pose", ""))
        with new_writer(folder, storage) as writer:
            topics = _Topics(writer, reader.connections)
            for connection, received, data in reader.messages():
                topics.write(connection.topic, connection.msgtype, received, data)
                for topic, message in _made_of(scene, types, connection, data):
                    topics.write(topic, _type_name(message), received, serialize_message(message))
                    made[topic] += 1
        if not made and not any(matches(topic, name) for topic in scene.there for name in (*OF_HANDS, *OF_FORECASTS)):
            raise UserError(f"bag {bag} has no hands and no forecasts that could be shown")
    return made


def _made_of(scene: "_Scene", types: Typestore, connection: Connection, data: bytes) -> list[Made]:
    if not _is_source(connection):
        return []
    try:
        return list(scene.of(connection.topic, decode_message(types, data, connection.msgtype)))
    except RejectedInput:  # the recording has it, and a node would have refused it
        return []


class _Topics:
    """The topics of the new bag: those of the old one as they are, and others when they are first written to."""

    def __init__(self, writer: Writer, recorded: list[Connection]):
        self._writer, self._types = writer, MessageTypes()
        self._connections: dict[tuple[str, str], Connection] = {}
        for each in recorded:
            if (each.topic, each.msgtype) not in self._connections:  # one for each publisher, in some recordings
                self._connections[each.topic, each.msgtype] = writer.add_connection(
                    each.topic,
                    each.msgtype,
                    msgdef=each.msgdef.data,
                    rihs01=each.digest or "RIHS01_" + 64 * "0",
                    offered_qos_profiles=each.ext.offered_qos_profiles,
                )

    def write(self, topic: str, kind: str, received: int, data: bytes) -> None:
        if (topic, kind) not in self._connections:
            text, type_hash = self._types.definition(kind)
            self._connections[topic, kind] = self._writer.add_connection(topic, kind, msgdef=text, rihs01=type_hash)
        self._writer.write(self._connections[topic, kind], received, data)


class _Scene:
    """What to show for each message, of what the recording does not have already. `there`: its full topics;
    `hand_frame` and `camera_frame`: of the first hands and camera pose, "" where there is none."""

    def __init__(self, there: set[str], hand_frame: str, camera_frame: str):
        self.there = there
        # TF is a tree: where the recording has frames, none are added.
        self._frames = not {_TF, f"{_TF}_static"} & there
        self._moved = bool(camera_frame) and camera_frame != hand_frame
        self._hand_frame = hand_frame

    def of(self, topic: str, message: Any) -> Iterator[Made]:
        """Topics and messages made of one that was recorded. Raises `RejectedInput` for nonsense."""
        namespace, name = _relative(topic)
        make = {"hand_forecasts": self._of_forecasts, "hand_poses": self._of_hands, "camera_pose": self._of_camera}
        for made, built in make[name](message):
            full = made if made == _TF else f"{namespace}/{made}"
            if full not in self.there:
                yield full, built

    def _of_forecasts(self, message: Any) -> Iterator[Made]:
        futures, stamp = parse_hand_forecast_array_msg(message), _stamp(message)
        yield "forecast/markers", build_marker_array_msg(futures, _LIFETIME, stamp)
        for hand in futures.hands:
            yield f"forecast/{SIDES[hand.side]}/path", build_path_msg(futures, hand, stamp)
            yield f"forecast/{SIDES[hand.side]}/poses", build_pose_array_msg(futures, hand, stamp)

    def _of_hands(self, message: Any) -> Iterator[Made]:
        seen, stamp = parse_hand_pose_array_msg(message), _stamp(message)
        yield "hand_poses/markers", build_hand_markers_msg(seen, _LIFETIME)
        edges = _wrists(seen.measured())
        if not self._moved and seen.frame_id != LAYOUT_FRAME:
            edges.append((LAYOUT_FRAME, seen.frame_id, UPRIGHT_OPTICAL))
        yield from self._transforms(edges, stamp)

    def _of_camera(self, message: Any) -> Iterator[Made]:
        pose = parse_stamped_pose_msg(message)
        edges = [(pose.frame_id, self._hand_frame, pose.transform)] if self._moved else []
        if pose.frame_id != LAYOUT_FRAME:
            edges.append((LAYOUT_FRAME, pose.frame_id, np.eye(4)))
        yield from self._transforms(edges, _stamp(message))

    def _transforms(self, edges: list[tuple[str, str, np.ndarray]], stamp: Time) -> Iterator[Made]:
        if edges and self._frames:
            yield _TF, TFMessage(transforms=[build_transform_msg(stamp, *edge) for edge in edges])


def _wrists(seen: Hands) -> list[tuple[str, str, np.ndarray]]:
    """Parent, frame and T (4, 4) of the wrists that were seen; a rotation that no tracker gave is the palm's."""
    rotation = np.where(np.isfinite(seen.wrist_rotation), seen.wrist_rotation, palm_rotations(seen.keypoints))
    known = seen.valid[:, WRIST] & np.isfinite(rotation).all((-1, -2))
    return [
        (seen.frame_id, f"{SIDES[side]}_wrist", make_transform(rotation[side], seen.keypoints[side, WRIST]))
        for side in np.flatnonzero(known)
    ]


def _first_frames(reader: Reader, types: Typestore) -> dict[str, str]:
    """The frame of the first message of each topic that frames are made of, by its relative name."""
    found: dict[str, str] = {}
    for name in ("hand_poses", "camera_pose"):
        named = [c for c in reader.connections if _is_source(c) and _relative(c.topic)[1] == name]
        for connection, _, data in reader.messages(named) if named else ():
            with suppress(RejectedInput):
                found[name] = parse_header(decode_message(types, data, connection.msgtype).header)[1]
                break
    return found


def _is_source(connection: Connection) -> bool:
    return _SOURCES.get(_relative(connection.topic)[1]) == connection.msgtype


def _relative(topic: str) -> tuple[str, str]:
    """Namespace ("" or "/name") and relative name of a full topic."""
    namespace, _, name = topic.rpartition("/")
    return namespace, name


def _stamp(message: Any) -> Time:
    return Time(sec=message.header.stamp.sec, nanosec=message.header.stamp.nanosec)


def _type_name(message: Any) -> str:
    return f"{type(message).__module__.partition('.')[0]}/msg/{type(message).__name__}"
