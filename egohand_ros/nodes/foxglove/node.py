"""`foxglove`: a running graph for the Foxglove app, of this machine, without a ROS distribution's own bridge.

    subscribes  what a Foxglove client asks for of the topics of `topics`, while it asks
    publishes   nothing but its own /diagnostics

Needs the extra `foxglove`. Open a connection to ws://127.0.0.1:<port> in Foxglove and import config/foxglove's layout;
from another machine: `ssh -L 8765:127.0.0.1:8765 robot`. Messages go as they come, with their definitions; raw images
as JPEG on <topic>/compressed, as in recordings, so that one layout serves both. Clients can look and nothing else: they
may publish nothing, call no service and set no parameter. Newest wins, best effort, at the lowest priority.

Foxglove's app is a page of another origin, so any page that a browser of this machine has open can look too, as with
every bridge for Foxglove; the page of the node `viewer` refuses such pages.
"""

import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from ...data.bags.message_types import MessageTypes
from ...errors import RejectedInput, UserError
from ...viewer.server import HOST, free_port
from ..base.node import EgoHandNode, run_node
from ..base.parameters import BaseParameters, parameter
from ..base.polling import subscribe_polled, take_waiting
from ..base.realtime import give_way
from ..recorder import to_jpeg
from ..session.names import check_foxglove
from ..session.plan import FOXGLOVE_PORT, RECORDED_TOPICS
from .topics import MADE_TOPICS

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_LOOK_PERIOD = 0.25  # s between looks for topics and for who wants them
_DEPTH = 50  # messages that may wait between two renewals
_IMAGE_PERIOD = 0.1  # s between JPEGs of one topic
_REPEAT = 1.0  # s after which what is latched is said again, as Foxglove's protocol latches nothing


@dataclass(frozen=True)
class FoxgloveParameters(BaseParameters):
    port: int = parameter(
        FOXGLOVE_PORT, "Port of the WebSocket on 127.0.0.1, or the next free one.", range=(1, 65535), read_only=True
    )
    topics: tuple[str, ...] = parameter(
        (*RECORDED_TOPICS, *MADE_TOPICS, "robot_description"),
        "Topics to offer; relative to the node's namespace, with * as a wild card.",
        read_only=True,
    )
    rate: float = parameter(30.0, "How often messages are passed on, at most.", unit="Hz", range=(1.0, 200.0))
    jpeg_quality: int = parameter(80, "Quality of images that come raw.", range=(10, 100))


@dataclass
class _Offered:
    """A topic as Foxglove sees it, and what is done for it while somebody looks."""

    topic: str
    kind: type
    channel: Any
    image: bool
    subscription: Subscription | None = None
    latched: bytes | None = None
    said: float = field(default=0.0)  # time.monotonic


class FoxgloveNode(EgoHandNode):
    Parameters = FoxgloveParameters

    def __init__(self, **kwargs):
        super().__init__("foxglove", **kwargs)
        self._server: Any = None

    def setup(self) -> None:
        check_foxglove()
        import foxglove

        self._types, self._offered, self._unknown = MessageTypes(), {}, set()
        namespace = self.get_namespace().rstrip("/")
        self._patterns = [name if name.startswith("/") else f"{namespace}/{name}" for name in self.parameters.topics]
        self._channels = foxglove.Context()
        self.port = free_port(self.parameters.port)
        title = f"egohand {namespace.strip('/')}".strip()
        self._server = foxglove.start_server(
            name=title, host=HOST, port=self.port, capabilities=[], context=self._channels, message_backlog_size=256
        )
        self.health.value("address", f"ws://{HOST}:{self.port}")
        self.make_timer(_LOOK_PERIOD, self._look, steady=True)
        self._renewal = self.make_timer(1.0 / self.parameters.rate, self._renew, steady=True)

    def start(self) -> None:
        give_way()
        self.get_logger().info(f"Foxglove: open the connection ws://{HOST}:{self.port}")

    def stop(self) -> None:
        for offered in self._offered.values():
            self._ignore(offered)

    def release(self) -> None:
        for offered in getattr(self, "_offered", {}).values():
            self._ignore(offered)
            offered.channel.close()
        self._offered = {}
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def parameters_changed(self, old: FoxgloveParameters, new: FoxgloveParameters) -> None:
        if self._server is not None:
            self._renewal.timer_period_ns = round(1e9 / new.rate)

    def update_health(self) -> None:
        offered = getattr(self, "_offered", {})
        self.health.value("topics offered", len(offered))
        self.health.value("topics watched", sum(each.subscription is not None for each in offered.values()))

    # ---------------------------------------------------------------- topics come, and who looks at them

    def _look(self) -> None:
        names = dict(self.get_topic_names_and_types())
        for name, types in names.items():
            if name not in self._offered and name not in self._unknown and self._wanted(name, types[0], names):
                self._offer(name, types[0])
        for offered in self._offered.values():
            if offered.channel.has_sinks() and offered.subscription is None:
                self._watch(offered)
            elif not offered.channel.has_sinks():
                self._ignore(offered)

    def _wanted(self, name: str, msgtype: str, names: dict[str, list[str]]) -> bool:
        """Of images, those that are compressed where somebody compresses them."""
        if msgtype == IMAGE and f"{name}/compressed" in names and self.count_publishers(f"{name}/compressed"):
            return False
        matched = name.removesuffix("/compressed") if msgtype == COMPRESSED_IMAGE else name
        shown = any(fnmatchcase(each, pattern) for pattern in self._patterns for each in {name, matched})
        return shown and self.count_publishers(name) > 0

    def _offer(self, name: str, msgtype: str) -> None:
        import foxglove

        shown = COMPRESSED_IMAGE if msgtype == IMAGE else msgtype
        package, _, kind = msgtype.split("/")
        try:
            definition, _ = self._types.definition(shown)
            message_class = getattr(import_module(f"{package}.msg"), kind)
        except (UserError, ImportError, AttributeError) as error:
            self._unknown.add(name)
            self.get_logger().warning(f"{name} is not shown: {error}")
            return
        schema = foxglove.Schema(name=shown, encoding="ros2msg", data=definition.encode())
        topic = f"{name}/compressed" if msgtype == IMAGE else name
        channel = foxglove.Channel(topic, schema=schema, message_encoding="cdr", context=self._channels)
        self._offered[name] = _Offered(name, message_class, channel, msgtype == IMAGE)

    def _watch(self, offered: _Offered) -> None:
        publishers = self.get_publishers_info_by_topic(offered.topic)
        latched = bool(publishers) and all(
            each.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for each in publishers
        )
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1 if offered.image else _DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if latched else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        offered.subscription = subscribe_polled(self, offered.kind, offered.topic, profile)

    def _ignore(self, offered: _Offered) -> None:
        if offered.subscription is not None:
            self.destroy_subscription(offered.subscription)
        offered.subscription = offered.latched = None

    # ---------------------------------------------------------------- messages

    def _renew(self) -> None:
        for offered in self._offered.values():
            if offered.subscription is not None:
                self.guard(offered.topic.lstrip("/"), self._pass_on, offered)

    def _pass_on(self, offered: _Offered) -> None:
        now = time.monotonic()
        if offered.image and now - offered.said < _IMAGE_PERIOD:
            return
        for taken in take_waiting(offered.subscription):
            data = self._jpeg(taken.message) if offered.image else bytes(taken.message)
            offered.channel.log(data, log_time=taken.came or self.get_clock().now().nanoseconds)
            self.health.count("messages")
            offered.said = now
            if offered.subscription.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL:
                offered.latched = data
        if offered.latched is not None and now - offered.said > _REPEAT:
            offered.channel.log(offered.latched, log_time=self.get_clock().now().nanoseconds)
            offered.said = now

    def _jpeg(self, data: bytes) -> bytes:
        try:
            message = deserialize_message(data, Image)
        except Exception as error:  # whatever nonsense leads to in the middleware
            raise RejectedInput("undecodable_message", f"{type(error).__name__}: {error}") from None
        return serialize_message(to_jpeg(message, self.parameters.jpeg_quality))


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(FoxgloveNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
