"""`viewer`: a web page of what goes on in the graph, for a browser on this machine.

    subscribes  image or image/compressed, camera_info, camera_pose, odometry, hand_poses, hand_forecasts,
                joint_targets, arm_targets, joint_states, /tf, /tf_static, /diagnostics; only while a page is open
    publishes   nothing but its own /diagnostics

Needs the extra `viewer`. The page is at http://127.0.0.1:<port>/ and for browsers of this machine alone; from another
one: `ssh -L 8080:127.0.0.1:8080 robot`. It shows and takes nothing: nothing on it can move a robot. Everything is
newest wins, at most ten times a second, at the lowest priority that the system has, so that a page that is open, slow
or frozen blocks nobody. A viewer that is frozen itself can hold up who publishes through shared memory
(docs/graph.md).
"""

import os
from dataclasses import dataclass
from importlib import import_module

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from ..errors import RejectedInput
from ..robot.arm.model import ArmModel
from ..robot.hands.library import load_hand
from ..viewer.feed import Feed
from ..viewer.inputs import INPUTS
from ..viewer.page import RATE, Page
from ..viewer.server import DEFAULT_PORT, check_installed
from ..viewer.shapes import SHOWN_HYPOTHESES
from .base.node import BaseParameters, EgoHandNode, parameter, run_node
from .base.polling import subscribe_polled, take_waiting
from .base.realtime import give_way
from .messages.forecast import deserialize_futures

_OLDEST = ("/diagnostics", "/tf", "/tf_static", "camera_pose", "odometry", "hand_poses")  # of these, every one counts
_PICTURES = ("image", "image/compressed")
_DEPTH = {"/diagnostics": 20, "/tf": 50, "/tf_static": 50, "camera_pose": 20, "odometry": 20, "hand_poses": 20}
_LATCHED = ("/tf_static", "camera_info")
_LOOK_PERIOD = 0.25  # s between looks whether a page was opened or closed


@dataclass(frozen=True)
class ViewerParameters(BaseParameters):
    port: int = parameter(
        DEFAULT_PORT, "Port of the page on 127.0.0.1, or the next free one.", range=(1, 65535), read_only=True
    )
    hand: str = parameter(
        "", "Robot hand to show: a name (`egohand hands`) or a config file; empty: none.", read_only=True
    )
    arm: str = parameter("", "Robot arm that carries it, a name or a config file; empty: none.", read_only=True)
    rate: float = parameter(RATE, "How often the page is renewed, at most.", unit="Hz", range=(0.5, RATE))


class ViewerNode(EgoHandNode):
    Parameters = ViewerParameters

    def __init__(self, **kwargs):
        super().__init__("viewer", **kwargs)
        self.page: Page | None = None

    def setup(self) -> None:
        check_installed()
        hand = load_hand(self.parameters.hand) if self.parameters.hand else None
        arm = ArmModel.load(self.parameters.arm, hand) if self.parameters.arm and hand is not None else None
        self._hand, self.feed = hand, Feed(hand)
        self._watched: dict[str, list[Subscription]] = {}
        self._types = {name: kind for name, (text, _) in INPUTS.items() if (kind := _message_class(text)) is not None}
        title = self.get_namespace().strip("/")
        self.page = Page(f"egohand {title}".strip(), self.parameters.port, hand, arm)
        self.health.value("page", self.page.url)
        self.make_timer(_LOOK_PERIOD, self._look, steady=True)
        self._renewal = self.make_timer(1.0 / self.parameters.rate, self._renew, steady=True)

    def start(self) -> None:
        give_way()
        self.get_logger().info(f"page: {self.page.url}")

    def stop(self) -> None:
        self._unwatch()

    def release(self) -> None:
        self._unwatch()
        page, self.page = self.page, None
        if page is not None:
            page.close()

    def reset(self) -> None:
        self.feed = Feed(self._hand)

    def parameters_changed(self, old: ViewerParameters, new: ViewerParameters) -> None:
        if self.page is not None:
            self._renewal.timer_period_ns = round(1e9 / new.rate)

    def update_health(self) -> None:
        if self.page is not None:
            self.health.value("pages open", self.page.open)
            self.health.value("topics watched", len(self._watched))

    # ---------------------------------------------------------------- only while somebody looks

    def _look(self) -> None:
        if not self.page.open and self._watched:
            self._unwatch()
            self.feed = Feed(self._hand)
        if self.page.open:
            wanted = self._wanted()
            self._unwatch([name for name in self._watched if name not in wanted])
            for name in wanted:
                if name not in self._watched:
                    profiles = [p for p in (_newest(name), _latched(name)) if p is not None]
                    self._watched[name] = [subscribe_polled(self, self._types[name], name, p) for p in profiles]

    def _wanted(self) -> list[str]:
        """All that there are types for; images raw or compressed, whichever costs less of what is published."""
        raw, compressed = _PICTURES
        unused = raw if self.count_publishers(self.resolve_topic_name(compressed)) else compressed
        return [name for name in self._types if name != unused]

    def _unwatch(self, names: list[str] | None = None) -> None:
        watched = getattr(self, "_watched", {})
        for name in list(watched) if names is None else names:
            for subscription in watched.pop(name):
                self.destroy_subscription(subscription)

    def _renew(self) -> None:
        if not self._watched:
            return
        for name, subscriptions in self._watched.items():
            waiting = [taken.message for s in subscriptions for taken in take_waiting(s)]
            for data in waiting if name in _OLDEST or name in _PICTURES else waiting[-1:]:
                self.guard(name.lstrip("/"), self._give, name, data)
        self.page.show(self.feed, self.now())
        self.health.count("renewals")

    def _give(self, name: str, data: bytes) -> None:
        if name == "hand_forecasts":
            INPUTS[name][1](self.feed, deserialize_futures(data, SHOWN_HYPOTHESES))
            return
        try:
            message = deserialize_message(data, self._types[name])
        except Exception as error:  # whatever nonsense leads to in the middleware
            raise RejectedInput("undecodable_message", f"{type(error).__name__}: {error}") from None
        INPUTS[name][1](self.feed, message)


def _message_class(kind: str) -> type | None:
    """None where the package is not installed: tf2_msgs is not among ROS 2's wheels."""
    package, _, name = kind.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except ImportError:
        return None


def _newest(name: str) -> QoSProfile:
    """Best effort, so that no publisher ever waits for the page."""
    return _profile(_DEPTH.get(name, 2), ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)


def _latched(name: str) -> QoSProfile | None:
    """Also what was said once, before the page was opened; such a subscription hears no volatile publisher."""
    if name not in _LATCHED:
        return None
    return _profile(_DEPTH.get(name, 1), ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def _profile(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    os.nice(19)  # until it has started, which takes forever with what nobody else wants of a busy machine
    return run_node(ViewerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
