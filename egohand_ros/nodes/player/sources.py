"""What the player plays: each source gives its topics and, in order, messages with the time at which each is due."""

import logging
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol

from builtin_interfaces.msg import Time

from ...data.bags.message_types import decode_message, is_current, types_of_bag
from ...data.bags.recording import is_input_topic, open_bag
from ...data.video import Video, shrunk_size
from ...errors import RejectedInput, UserError
from ...geometry.camera import Camera
from ...messages.forecast import parse_hand_forecast_array_msg
from ...messages.hands import parse_hand_pose_array_msg
from ..messages.forecast import build_hand_forecast_array_msg
from ..messages.hands import build_hand_pose_array_msg
from .items import Item, camera_info_msg, image_item, image_topics

_log = logging.getLogger(__name__)


class Source(Protocol):
    """`topics` maps topic names to message classes; `start` and `has_clock` are for sources that bring their own
    time.
    """

    topics: dict[str, type]
    duration: float
    has_clock: bool
    start: float

    def items(self, start: float) -> Iterator[Item]:
        """Everything once, in order of time, beginning at `start` s."""
        ...


class VideoSource:
    """Images and `camera_info` of a video file, one stamp a frame."""

    has_clock = False
    start = 0.0

    def __init__(self, parameters):
        if not parameters.path:
            raise UserError("source video needs the parameter path: a video file")
        self._parameters, self._video = parameters, Video.open(parameters.path)
        self.topics = image_topics(parameters)
        self.duration = self._video.duration
        size = shrunk_size(self._video.width, self._video.height, parameters.image_width)
        self._camera = Camera.from_horizontal_fov(*size, parameters.camera_fov)

    def items(self, start: float) -> Iterator[Item]:
        """One image and one camera_info a frame."""
        for number, frame in enumerate(self._video.read(self._parameters.image_width)):
            due = start + number / self._video.fps
            yield Item(due, "camera_info", camera_info_msg(self._camera, due, self._parameters.frame_id))
            yield image_item(frame, due, self._parameters)


class BagSource:
    """The input topics of a recording, as they were recorded, from the first of their messages on.

    A recording begins before: its recorder was up while other nodes still started, half a minute on a busy machine.
    """

    has_clock = True

    def __init__(self, parameters):
        if not parameters.path:
            raise UserError("source bag needs the parameter path: a rosbag2 folder")
        self._path = Path(parameters.path)
        self._wanted = dict(_split(entry) for entry in parameters.topics)
        with open_bag(self._path) as reader:
            self._played = {
                c.topic: self._target(c.topic) for c in reader.connections if c.msgcount and self._target(c.topic)
            }
            types = {self._played[c.topic]: c.msgtype for c in reader.connections if c.topic in self._played}
            if not types:
                raise UserError(
                    f"{self._path} has none of the topics {', '.join(self._wanted)}; it has "
                    f"{', '.join(sorted(c.topic for c in reader.connections)) or 'no topic'}; map names with "
                    "recorded:=played"
                )
            played = [c for c in reader.connections if c.topic in self._played]
            first = next((stamp for _, stamp, _ in reader.messages(played)), reader.start_time)
            self.start, self.duration = first * 1e-9, (reader.end_time - first) * 1e-9
        self.topics = {name: message_class(msgtype) for name, msgtype in types.items()}

    def items(self, start: float) -> Iterator[Item]:
        """Every message of the played topics at its time in the bag; those of an older definition in today's."""
        with open_bag(self._path) as reader:
            connections = [c for c in reader.connections if c.topic in self._played]
            store = types_of_bag(reader)
            old = {t for t in {c.msgtype for c in connections} if t in _REBUILD and not is_current(store, t)}
            refused: Counter[str] = Counter()
            for connection, stamp, data in reader.messages(connections):
                message = bytes(data)
                if connection.msgtype in old:
                    try:
                        message = _REBUILD[connection.msgtype](decode_message(store, message, connection.msgtype))
                    except RejectedInput as error:
                        refused[error.reason] += 1
                        continue
                yield Item(stamp * 1e-9, self._played[connection.topic], message)
            if refused:
                said = ", ".join(f"{n} {reason}" for reason, n in refused.most_common())
                _log.warning("bag %s: not played, of an older definition and odd: %s", self._path, said)

    def _target(self, recorded: str) -> str | None:
        """The topic that a recorded one is played on: by its whole name, otherwise by its end (namespaces differ)."""
        if recorded in self._wanted:
            return self._wanted[recorded]
        ends = [name for name in self._wanted if is_input_topic(recorded, name)]
        return self._wanted[max(ends, key=len)] if ends else None


def _stamp(message) -> Time:
    return Time(sec=message.header.stamp.sec, nanosec=message.header.stamp.nanosec)


# Messages whose definition has changed: as a bag has them -> as they are now.
_REBUILD = {
    "egohand_ros/msg/HandPoseArray": lambda m: build_hand_pose_array_msg(parse_hand_pose_array_msg(m), _stamp(m)),
    "egohand_ros/msg/HandForecastArray": lambda m: build_hand_forecast_array_msg(
        parse_hand_forecast_array_msg(m), _stamp(m)
    ),
}

SOURCES = {"synthetic": None, "video": VideoSource, "bag": BagSource}


def make_source(parameters) -> Source:
    """The source that the player's parameters ask for; `UserError` says what is missing."""
    if parameters.source == "synthetic":
        from .synthetic import SyntheticSource

        return SyntheticSource(parameters)
    return SOURCES[parameters.source](parameters)


def message_class(msgtype: str) -> type:
    """The generated class of a type name; `UserError` where its package is not installed."""
    package, _, name = msgtype.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        raise UserError(f"message type {msgtype} is not installed; source the workspace that has it") from None


def _split(entry: str) -> tuple[str, str]:
    recorded, _, played = entry.partition(":=")
    return recorded, played or recorded
