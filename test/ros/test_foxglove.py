"""The `foxglove` node on a real graph, and a client that speaks Foxglove's protocol to it."""

import json

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("foxglove", reason="the extra foxglove is not installed")

from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from robot_graph import forecast_msg, pose_msg
from rosbags.typesys import get_types_from_msg
from sensor_msgs.msg import CompressedImage, Image
from websockets.sync.client import connect

from egohand_ros.images.decoding import decode_image
from egohand_ros.msg import ForecasterInfo, HandForecastArray, HandPoseArray
from egohand_ros.nodes.base import qos
from egohand_ros.nodes.bench.hostile_messages import human_hand
from egohand_ros.nodes.foxglove.node import FoxgloveNode
from egohand_ros.nodes.messages.basic import header_msg
from egohand_ros.nodes.messages.image import build_image_msg

PROTOCOL = "foxglove.sdk.v1"
TIMEOUT = 60.0  # s


class Client:
    """As much of Foxglove's app as looks: channels by topic, subscriptions, messages by topic."""

    def __init__(self, port: int):
        self._socket = connect(f"ws://127.0.0.1:{port}", subprotocols=[PROTOCOL], max_size=None)
        self.info, self.channels, self.messages, self._topics = {}, {}, {}, {}

    def read(self) -> None:
        """Take what has come."""
        while True:
            try:
                data = self._socket.recv(timeout=0.0)
            except TimeoutError:
                return
            if isinstance(data, bytes):
                if data[0] == 1:  # message data: subscription id, time in ns, payload
                    topic = self._topics[int.from_bytes(data[1:5], "little")]
                    self.messages.setdefault(topic, []).append(data[13:])
                continue
            said = json.loads(data)
            if said["op"] == "serverInfo":
                self.info = said
            elif said["op"] == "advertise":
                self.channels |= {channel["topic"]: channel for channel in said["channels"]}

    def subscribe(self, *topics: str) -> None:
        wanted = [{"id": self.channels[topic]["id"], "channelId": self.channels[topic]["id"]} for topic in topics]
        self._topics |= {self.channels[topic]["id"]: topic for topic in topics}
        self._socket.send(json.dumps({"op": "subscribe", "subscriptions": wanted}))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def node(probe):
    node = FoxgloveNode(parameter_overrides=[Parameter("port", value=18765)])
    assert node.autostart(), node.failure
    probe._executor.add_node(node)
    yield node
    node.destroy_node()


def test_a_client_gets_what_it_asks_for_while_it_asks(probe, node):
    poses = probe.publisher(HandPoseArray, "hand_poses")
    forecasts = probe.publisher(HandForecastArray, "hand_forecasts")
    images = probe.publisher(Image, "image")
    info = probe.node.create_publisher(ForecasterInfo, "forecaster_info", qos.profile(qos.LATCHED))
    info.publish(ForecasterInfo(preset="kalman"))
    client = Client(node.port)
    wanted = ("/hand_poses", "/hand_forecasts", "/image/compressed", "/forecaster_info")
    try:
        probe.wait(lambda: client.read() or set(wanted) <= set(client.channels), TIMEOUT, "channels")
        assert client.info["capabilities"] == [], "a client may look, and nothing else"
        assert client.channels["/image/compressed"]["schemaName"] == "sensor_msgs/msg/CompressedImage"
        text = client.channels["/hand_poses"]["schema"]
        assert "egohand_ros/msg/HandPose" in get_types_from_msg(text, "egohand_ros/msg/HandPoseArray")
        assert not poses.get_subscription_count(), "nobody looks yet"
        client.subscribe(*wanted)

        def send():
            now = probe.now()
            poses.publish(pose_msg(now, human_hand(0.4)))
            forecasts.publish(forecast_msg(now, np.stack([human_hand(0.4)] * 2)))
            images.publish(build_image_msg(np.full((48, 64, 3), 200, np.uint8), header_msg(now, "camera")))
            client.read()

        probe.wait(lambda: set(wanted) <= set(client.messages), TIMEOUT, "messages on each", each=send)
        assert deserialize_message(client.messages["/hand_poses"][-1], HandPoseArray).hands[0].side == 1
        assert deserialize_message(client.messages["/hand_forecasts"][-1], HandForecastArray).forecasts
        picture = deserialize_message(client.messages["/image/compressed"][-1], CompressedImage)
        assert decode_image(bytes(picture.data)).shape == (48, 64, 3)
        assert deserialize_message(client.messages["/forecaster_info"][-1], ForecasterInfo).preset == "kalman"
        late = Client(node.port)
        probe.wait(lambda: late.read() or "/forecaster_info" in late.channels, TIMEOUT, "channels of a second client")
        late.subscribe("/forecaster_info")
        probe.wait(lambda: late.read() or late.messages, TIMEOUT, "what was latched before the second client came")
        late.close()
        images.publish(Image(height=9, width=9, encoding="rgb8"))  # nonsense
        probe.wait(lambda: node.health.rejected() == 1, TIMEOUT, "a refusal of nonsense")
    finally:
        client.close()
    probe.wait(lambda: not poses.get_subscription_count(), TIMEOUT, "the end of the subscriptions")
    assert node.health.rejected("internal_error") == 0
