"""`recorder`: a curated list of topics into a rosbag2 folder, without a ROS distribution's own recorder.

Subscribes, with the quality of service that the publishers offer, to every topic that matches the `topics` parameter,
also those that appear later. Messages are kept as the bytes that came; images become JPEG unless `images` says
otherwise. Times in the bag are the node clock's at reception, which is the middleware's word and not the time at which
this process looked. In simulated time what comes before the clock waits for it.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from threading import BoundedSemaphore

import cv2
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.subscription import Subscription
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from sensor_msgs.msg import CompressedImage, Image

from ..data.bags.message_types import MessageTypes
from ..data.bags.recording import STORAGES, BagWriter, Topic, next_part, repair_bag
from ..errors import RejectedInput, UserError
from .base.diagnostics import ERROR, WARN
from .base.node import EgoHandNode, run_node
from .base.parameters import BaseParameters, parameter
from .base.polling import LossCounter, Taken, subscribe_polled, take_waiting
from .base.transports import use_large_buffers
from .messages.image import parse_image_msg
from .player.items import build_compressed_image_msg
from .session.malloc import give_back_large_blocks
from .session.plan import RECORDED_TOPICS

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_DEPTH = 200  # messages that may wait in the middleware while this process is not scheduled
_LOOK_PERIOD = 0.02  # s
_PENDING_IMAGES = 60
_CLOCK_WAIT = 10.0  # s, for which messages wait for the first word of a simulated clock


@dataclass(frozen=True)
class RecorderParameters(BaseParameters):
    folder: str = parameter("bag", "Folder to record into; when it exists, <folder>_part2 and so on.", read_only=True)
    storage: str = parameter("mcap", "File format.", choices=tuple(STORAGES), read_only=True)
    topics: tuple[str, ...] = parameter(
        RECORDED_TOPICS, "Topics to record; relative to the node's namespace, with * as a wild card.", read_only=True
    )
    images: str = parameter("compressed", "How images are kept.", choices=("compressed", "raw", "none"), read_only=True)
    jpeg_quality: int = parameter(85, "Quality of compressed images.", range=(10, 100))
    queue_size: int = parameter(
        256, "Memory for messages that wait for the disk.", unit="MiB", range=(1, 8192), read_only=True
    )
    discovery_period: float = parameter(
        0.2, "Time between looks for new topics.", unit="s", range=(0.05, 10.0), read_only=True
    )


@dataclass(frozen=True)
class _Recorded:
    """A subscription; its topic, and the one that its images become; what counts losses, where any count."""

    subscription: Subscription
    topic: Topic
    jpeg: Topic | None
    losses: LossCounter | None


class RecorderNode(EgoHandNode):
    Parameters = RecorderParameters

    def __init__(self, **kwargs):
        super().__init__("recorder", **kwargs)

    def setup(self) -> None:
        give_back_large_blocks()
        self._recorded: dict[str, _Recorded] = {}
        self._types = MessageTypes()
        self._unknown: set[str] = set()
        self._patterns = [
            self.resolve_topic_name(t) if "*" not in t else self._resolve(t) for t in self.parameters.topics
        ]
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="jpeg")
        self._encoder_room = BoundedSemaphore(_PENDING_IMAGES)
        self._last_stamp = 0
        self._timeless: list[tuple[Taken, _Recorded]] = []  # came before the simulated clock
        self._timeless_until = time.monotonic() + _CLOCK_WAIT
        self._dropped_before = 0
        self._writer = BagWriter(
            next_part(self.parameters.folder), self.parameters.storage, self.parameters.queue_size * 2**20
        )
        self.health.value("folder", self._writer.folder)
        self.make_timer(self.parameters.discovery_period, self.discover, steady=True)
        self.make_timer(_LOOK_PERIOD, self.look, steady=True)

    def start(self) -> None:
        self.discover()

    def stop(self) -> None:
        """What has come is written and the bag is closed."""
        self._timeless_until = 0.0
        self.look()
        self._unsubscribe()
        self._encoder.shutdown(wait=True)
        self._writer.close()
        written, dropped = sum(self._writer.written.values()), sum(self._writer.dropped.values())
        if self._writer.failure is None:
            self.get_logger().info(f"recorded {written} messages into {self._writer.folder}, dropped {dropped}")
        else:
            kept = self._close_what_there_is(written + dropped)
            self.get_logger().error(f"recording failed: {self._writer.failure}; {kept}")

    def _close_what_there_is(self, taken: int) -> str:
        """After a failure: what had reached the disk becomes a bag that is closed, where there is room for that."""
        folder = self._writer.folder
        try:
            return f"{repair_bag(folder)} of {taken} messages are in {folder}"
        except UserError as error:
            return f"{error}; once there is room: egohand bag repair {folder}"

    def release(self) -> None:
        self._unsubscribe()
        if hasattr(self, "_writer"):
            self._writer.close()

    def _unsubscribe(self) -> None:
        for recorded in getattr(self, "_recorded", {}).values():
            self.destroy_subscription(recorded.subscription)
        self._recorded = {}

    def update_health(self) -> None:
        writer = getattr(self, "_writer", None)
        if writer is None:
            return
        for key, counts in (("written", writer.written.copy()), ("dropped", writer.dropped.copy())):
            self.health.value(f"count/{key}", sum(counts.values()))
            for topic, number in counts.items():
                self.health.value(f"count/{key}{topic}", number)
        dropped = sum(writer.dropped.values())
        too_slow = "messages are lost: this machine or its disk is too slow"
        self.health.condition("dropping", dropped > self._dropped_before, too_slow, WARN)
        self.health.condition("writing", writer.failure is not None, writer.failure or "", ERROR)
        self._dropped_before = dropped

    def discover(self) -> None:
        """Subscribe to every matching topic that has appeared."""
        names = dict(self.get_topic_names_and_types())
        for name, types in names.items():
            if name in self._recorded or name in self._unknown or not self._wanted(name, types, names):
                continue
            publishers = self.get_publishers_info_by_topic(name)
            if publishers:
                self._record(name, types[0], publishers)

    def look(self) -> None:
        """Take what has come on all topics since the last time, in the order in which it came."""
        waiting = [(taken, r) for r in self._recorded.values() for taken in take_waiting(r.subscription)]
        now, offset = self._now()
        if not now and time.monotonic() < self._timeless_until:
            self._timeless += waiting
            return
        waiting, self._timeless = self._timeless + waiting, []
        for taken, recorded in sorted(waiting, key=lambda pair: pair[0].came):
            stamp = max(min(taken.came + offset, now), 0) if taken.came else now
            # Never before the last one, which readers of an interrupted bag rely on.
            self._last_stamp = max(stamp, self._last_stamp)
            if recorded.losses is not None and (lost := recorded.losses.lost(taken.number)):
                self._writer.dropped[recorded.topic.name] += lost
            if recorded.jpeg is not None:
                self._compress(recorded.topic, recorded.jpeg, self._last_stamp, taken.message)
            else:
                self._writer.write(recorded.topic, self._last_stamp, taken.message)

    def _now(self) -> tuple[int, int]:
        """The node's clock in ns, and how far the system's clock is behind it: not at all where it is the same one,
        however long this thread was held up between reading the two."""
        before, now, after = time.time_ns(), self.get_clock().now().nanoseconds, time.time_ns()
        if now < self._last_stamp - 10**9:
            self._last_stamp = now  # the clock was set back: a bag loop, not jitter
        return now, 0 if before <= now <= after else now - after

    def _resolve(self, pattern: str) -> str:
        namespace = self.get_namespace().rstrip("/")
        return pattern if pattern.startswith("/") else f"{namespace}/{pattern}"

    def _wanted(self, name: str, types: list[str], names: dict[str, list[str]]) -> bool:
        if types[0] == IMAGE:
            compressed = f"{name}/compressed"
            offered = compressed in names and self.count_publishers(compressed)
            if self.parameters.images == "none" or (self.parameters.images == "compressed" and offered):
                return False
        elif types[0] == COMPRESSED_IMAGE:
            raw = name.removesuffix("/compressed")
            if self.parameters.images == "none":
                return False
            return self._matches(name) or self._matches(raw)
        return self._matches(name)

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def _record(self, name: str, msgtype: str, publishers: list) -> None:
        try:
            topic = Topic(
                name,
                msgtype,
                *self._types.definition(msgtype),
                qos=tuple(_bag_qos(p.qos_profile) for p in publishers[:1]),
            )
            package, _, kind = msgtype.split("/")
            message_class = getattr(import_module(f"{package}.msg"), kind)
        except (UserError, ImportError, AttributeError) as error:
            self._unknown.add(name)
            self.get_logger().warning(f"{name} is not recorded: {error}")
            return
        profile = _matching_qos(publishers)
        subscription = subscribe_polled(self, message_class, name, profile)
        # A latched topic keeps its last words only; those before them were replaced, not lost.
        latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        losses = None if latched else LossCounter(subscription)
        jpeg = None
        if msgtype == IMAGE and self.parameters.images == "compressed":
            jpeg = Topic(
                f"{name}/compressed", COMPRESSED_IMAGE, *self._types.definition(COMPRESSED_IMAGE), qos=topic.qos
            )
        self._recorded[name] = _Recorded(subscription, topic, jpeg, losses)

    def _compress(self, raw: Topic, jpeg: Topic, stamp: int, data: bytes) -> None:
        if not self._encoder_room.acquire(blocking=False):
            self._writer.dropped[jpeg.name] += 1
            return

        def encode() -> None:
            try:
                image = to_jpeg(deserialize_message(data, Image), self.parameters.jpeg_quality)
                self._writer.write(jpeg, stamp, serialize_message(image))
            except RejectedInput:  # depth, or broken: kept as it came, for whoever wants to know
                self._writer.write(raw, stamp, data)
            finally:
                self._encoder_room.release()

        self._encoder.submit(encode)


def to_jpeg(image: Image, quality: int) -> CompressedImage:
    """A CompressedImage of a colour image. Raises `RejectedInput` for what is none (depth, truncated, ...)."""
    pixels = cv2.cvtColor(parse_image_msg(image), cv2.COLOR_RGB2BGR)
    return build_compressed_image_msg(pixels, image.header, quality)


def _matching_qos(publishers: list) -> QoSProfile:
    """As strict as every publisher allows, so that nothing is lost and all connect."""
    profiles = [publisher.qos_profile for publisher in publishers]
    reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles)
    latched = all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _bag_qos(profile: QoSProfile) -> Qos:
    """What the bag says of a topic, so that players offer the same."""
    forever = QosTime(sec=9223372036, nsec=854775807)
    latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=max(profile.depth, 10),
        reliability=QosReliability.RELIABLE
        if profile.reliability == ReliabilityPolicy.RELIABLE
        else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RecorderNode, args, use_large_buffers)


if __name__ == "__main__":
    sys.exit(main())
