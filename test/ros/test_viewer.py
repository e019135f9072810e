"""The viewer as a process on a real graph: it hears only while somebody looks, says nothing, and holds nobody up."""

import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("viser")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from robot_graph import Process, forecast_msg, pose_msg
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from egohand_ros.geometry.camera import Camera
from egohand_ros.msg import HandForecastArray, HandPoseArray
from egohand_ros.nodes.bench.hostile_messages import human_hand
from egohand_ros.nodes.bench.visitor import Visitor
from egohand_ros.nodes.messages.basic import header_msg
from egohand_ros.nodes.messages.image import build_image_msg
from egohand_ros.nodes.player.items import camera_info_msg
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.viewer.server import answer_to

TOPICS = ("/hand_poses", "/hand_forecasts", "/image", "/camera_info", "/joint_targets", "/joint_states", "/diagnostics")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Graph:
    """What a tracker, a camera, a forecaster and a robot would send."""

    def __init__(self, probe):
        self._probe, self._hand = probe, load_hand("allegro_right")
        self._camera = Camera.from_horizontal_fov(320, 240, 70.0)
        kinds = (HandPoseArray, HandForecastArray, Image, CameraInfo, JointState, JointState)
        self._out = {topic: probe.publisher(kind, topic) for topic, kind in zip(TOPICS, kinds)}
        self.sent = 0

    def send(self) -> None:
        now, keypoints = self._probe.now(), human_hand(0.4)
        self._out["/camera_info"].publish(camera_info_msg(self._camera, now, "camera"))
        self._out["/image"].publish(build_image_msg(np.zeros((240, 320, 3), np.uint8), header_msg(now, "camera")))
        self._out["/hand_poses"].publish(pose_msg(now, keypoints))
        self._out["/hand_forecasts"].publish(forecast_msg(now, np.stack([keypoints] * 3), std=0.01))
        joints = JointState(header=header_msg(now, ""), name=list(self._hand.joint_names))
        joints.position = self._hand.rest_q.tolist()
        self._out["/joint_targets"].publish(joints)
        self._out["/joint_states"].publish(joints)
        self.sent += 1

    def send_nonsense(self) -> None:
        self._out["/hand_poses"].publish(HandPoseArray())
        self._out["/joint_targets"].publish(JointState(name=["a", "b"], position=[float("nan")]))
        self._out["/image"].publish(Image(header=Header(frame_id="camera"), height=9, width=9, encoding="rgb8"))


def listeners(probe, topic):
    return [info for info in probe.node.get_subscriptions_info_by_topic(topic) if info.node_name == "viewer"]


def test_it_hears_while_somebody_looks_says_nothing_and_holds_nobody_up(probe):
    graph, port = Graph(probe), free_port()
    reliable = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
    heard = []
    probe.node.create_subscription(HandPoseArray, "/hand_poses", heard.append, reliable)
    renewals = lambda: int(probe.diagnostics["viewer"].get("count/renewals", 0))  # noqa: E731
    with Process("viewer", port=port, hand="allegro_right") as process:
        probe.wait(lambda: "page" in probe.diagnostics.get("viewer", {}), what="the page")
        assert probe.diagnostics["viewer"]["page"] == f"http://127.0.0.1:{port}/"
        tasks = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
        assert len(tasks) > 3 and {os.sched_getscheduler(task) for task in tasks} == {os.SCHED_IDLE}
        assert answer_to(port, "http://hostile.test") == 403
        assert not any(listeners(probe, topic) for topic in TOPICS), "nobody looks yet"

        with Visitor(port) as page:
            probe.wait(lambda: all(listeners(probe, topic) for topic in TOPICS), what="subscriptions", each=graph.send)
            infos = [info for topic in TOPICS for info in listeners(probe, topic) if topic != "/camera_info"]
            assert {info.qos_profile.reliability for info in infos} == {ReliabilityPolicy.BEST_EFFORT}
            before, received = renewals(), page.received
            probe.wait(lambda: renewals() > before + 3 and page.received > received, what="the page", each=graph.send)
            assert probe.levels["viewer"] == (0, "ok")

            said = {name for name, _ in probe.node.get_publisher_names_and_types_by_node("viewer", "/")}
            assert said <= {"/diagnostics", "/rosout", "/parameter_events", "/viewer/transition_event"}
            assert probe.node.get_client_names_and_types_by_node("viewer", "/") == []

            refused = lambda: any(key.startswith("rejected/hand_poses") for key in probe.diagnostics["viewer"])  # noqa: E731
            probe.wait(refused, what="nonsense is counted", each=graph.send_nonsense)
            assert process.running

            os.kill(process.pid, signal.SIGSTOP)  # frozen: reliable messages to others go on, every one
            for _ in range(300):
                graph.send()
                probe.spin()
            probe.wait(lambda: len([m for m in heard if m.hands]) >= graph.sent - 1, what="all poses arrived")
            os.kill(process.pid, signal.SIGCONT)
            before = renewals()
            probe.wait(lambda: renewals() > before + 3, what="the page goes on", each=graph.send)

        probe.wait(lambda: not any(listeners(probe, topic) for topic in TOPICS), what="nobody looks any more")
        assert process.stop() == 0
    with pytest.raises(OSError):
        answer_to(port, "http://hostile.test")


def test_a_robot_hand_that_there_is_not_is_one_line():
    process = Process("viewer", port=free_port(), hand="no_such_hand")
    assert process.ended() == 2 and "no_such_hand" in process.errors
