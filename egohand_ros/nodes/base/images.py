"""`ImageInput`: a subscription to images that loses as few as their publisher allows, and says when some are lost.

A raw image is cut into many fragments, and one that is lost takes the image with it. Of 103 images 640x480 at 15 Hz,
sent best effort with Fast DDS's default profile to another process, 24 arrived; of 104 sent and subscribed reliably,
104. A reliable subscription however hears nothing of a best-effort publisher. So the subscription follows the
publishers.
"""

import time
from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions, QoSPolicyKind

from . import qos as qos_profiles
from .diagnostics import WARN
from .node import EgoHandNode
from .parameters import parameter

AUTO, BEST_EFFORT, RELIABLE = "auto", "best_effort", "reliable"
_MOST_LOST = 0.05  # part of the images of a second
_RELIABLE_PROFILE = {
    qos_profiles.SENSOR: qos_profiles.RELIABLE_SENSOR,
    qos_profiles.IMAGES: qos_profiles.RELIABLE_IMAGES,
}
# The reliability has a parameter of its own, which can also follow the publisher.
_OVERRIDES = QoSOverridingOptions([QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH])


def image_reliability() -> str:
    """The parameter `image_reliability` of a node that takes images."""
    return parameter(
        AUTO,
        "QoS reliability of the images: auto is reliable where every publisher of them is.",
        choices=(AUTO, BEST_EFFORT, RELIABLE),
        read_only=True,
    )


def min_image_rate() -> float:
    """The parameter `min_image_rate` of a node that takes images."""
    return parameter(
        5.0,
        "Images that come less often are a warning in the diagnostics; 0: any rate will do.",
        unit="Hz",
        range=(0.0, 1000.0),
    )


class ImageInput:
    """Images of type `kind` on `topic` (resolved) for `callback`. `profile` is qos.SENSOR or qos.IMAGES."""

    def __init__(self, node: EgoHandNode, kind: type, topic: str, callback: Callable[[Any], None], profile: str):
        self._node, self._kind, self._topic, self._callback, self._profile = node, kind, topic, callback, profile
        self._name = topic.lstrip("/")
        self._reliable = node.parameters.image_reliability == RELIABLE
        self._received = self._lost = 0  # since the last look
        self._looked = time.monotonic()
        self._subscription: Any = None
        self._subscribe(self._wanted())

    def look(self, since_any: float) -> None:
        """Once a second: follow the publishers, and report what was lost. `since_any` s ago the last image came."""
        if (wanted := self._wanted()) != self._reliable:
            self._node.unsubscribe(self._subscription)
            self._subscribe(wanted)
        now = time.monotonic()
        received, lost, passed = self._received, self._lost, now - self._looked
        self._received, self._lost, self._looked = 0, 0, now
        health = self._node.health
        health.value("image reliability", RELIABLE if self._reliable else BEST_EFFORT)
        said = (
            f"{lost} of {received + lost} images on {self._topic} were lost on the way in the last second; publish "
            "them reliably, compressed, or with the Fast DDS profile of docs/graph.md"
        )
        health.condition("transport", lost > _MOST_LOST * (received + lost), said, WARN)
        least, rate = self._node.parameters.min_image_rate, received / passed if passed > 0.5 else float("inf")
        slow = f"images on {self._topic} come at {rate:.1f} Hz, less than min_image_rate, {least:g} Hz"
        health.condition("image rate", since_any < 1.0 and rate < least, slow)

    def _wanted(self) -> bool:
        """Whether to subscribe reliably."""
        asked = self._node.parameters.image_reliability
        if asked != AUTO:
            return asked == RELIABLE
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        if not publishers:
            return self._reliable
        return all(each.qos_profile.reliability == ReliabilityPolicy.RELIABLE for each in publishers)

    def _subscribe(self, reliable: bool) -> None:
        self._reliable = reliable
        self._subscription = self._node.subscribe(
            self._kind,
            self._topic,
            self._on_image,
            _RELIABLE_PROFILE[self._profile] if reliable else self._profile,
            overrides=_OVERRIDES,
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost),
        )

    def _on_image(self, message: Any) -> None:
        self._received += 1
        self._callback(message)

    def _on_lost(self, status: Any) -> None:
        self._lost += status.total_count_change
        self._node.health.count("images_lost_in_transport", status.total_count_change)
