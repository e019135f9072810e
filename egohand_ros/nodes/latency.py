"""Where a node says how long its work on a message took: in its diagnostics, and on ~/debug/latency to who listens."""

from builtin_interfaces.msg import Time

from ..msg import Latency
from .base.node import EgoHandNode
from .messages.hands import build_latency_msg


class LatencyOutput:
    """Of one node; stages are by name in their order, s."""

    def __init__(self, node: EgoHandNode):
        self._health = node.health
        self.publisher = node.advertise(Latency, "~/debug/latency")

    def note(self, stamp: float | Time, stages: dict[str, float], useful_horizon: float = float("nan")) -> None:
        """What was done with the message of a stamp."""
        self._health.latency(stages)
        self.say(stamp, stages, useful_horizon)

    def say(self, stamp: float | Time, stages: dict[str, float], useful_horizon: float = float("nan")) -> None:
        """Of a message that came to nothing: on the topic alone."""
        if self.publisher.get_subscription_count():
            self.publisher.publish(build_latency_msg(stamp, stages, useful_horizon))
