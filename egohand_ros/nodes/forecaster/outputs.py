"""`ForecasterOutputs`: what the `forecaster` node publishes. Runs in the worker's thread, but for the node's start."""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray
from nav_msgs.msg import Path
from rclpy.publisher import Publisher
from trajectory_msgs.msg import MultiDOFJointTrajectory
from visualization_msgs.msg import MarkerArray

from ...forecast.common.protocol import ForecasterSpec
from ...hand.skeleton import SIDES
from ...messages.forecast import Futures
from ...msg import ForecasterInfo, HandForecastArray
from ..base import qos
from ..base.node import EgoHandNode
from ..latency import LatencyOutput
from ..messages.forecast import serialize_futures
from ..messages.hands import build_forecaster_info_msg
from ..messages.standard import build_marker_array_msg, build_path_msg, build_pose_array_msg, build_trajectory_msg

_STANDARD = {
    "path": (Path, build_path_msg),
    "poses": (PoseArray, build_pose_array_msg),
    "trajectory": (MultiDOFJointTrajectory, build_trajectory_msg),
}


class ForecasterOutputs:
    """The publishers, advertised on `node`."""

    def __init__(self, node: EgoHandNode):
        self._node = node
        self.forecasts = node.advertise(HandForecastArray, "hand_forecasts")
        self.info = node.advertise(ForecasterInfo, "forecaster_info", qos.LATCHED)
        self.markers = node.advertise(MarkerArray, "forecast/markers")
        self.latency = LatencyOutput(node)
        self._standard: list[tuple[int, Publisher, object]] = [
            (i, node.advertise(kind, f"forecast/{side}/{name}"), build)
            for i, side in enumerate(SIDES)
            for name, (kind, build) in _STANDARD.items()
        ]

    def publish_info(self, spec: ForecasterSpec, device: str) -> None:
        """What the forecaster is, and where it runs now."""
        self.info.publish(build_forecaster_info_msg(spec, device, self._node.get_clock().now().to_msg()))

    def publish_forecast(self, futures: Futures, stamp: Time) -> None:
        """The forecast itself; nothing else goes before it."""
        self.forecasts.publish(serialize_futures(futures, stamp))

    def publish_standard(self, futures: Futures, stamp: Time, marker_lifetime: float) -> None:
        """The same forecast for stock tools, for those that listen. marker_lifetime s."""
        for side, publisher, build in self._standard:
            hand = futures.hand(side)
            if hand is not None and publisher.get_subscription_count():
                publisher.publish(build(futures, hand, stamp))
        if self.markers.get_subscription_count():
            self.markers.publish(build_marker_array_msg(futures, marker_lifetime, stamp))
