"""Nodes as real processes on a real DDS graph, and a probe that talks to them."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from egohand_ros.hand.skeleton import NUM_KEYPOINTS, SIDES
from egohand_ros.messages.forecast import Futures, HandFuture
from egohand_ros.messages.hands import hands
from egohand_ros.nodes.messages.forecast import build_hand_forecast_array_msg
from egohand_ros.nodes.messages.hands import build_hand_pose_array_msg

ASK_AGAIN = 10.0  # s
_SHOWN = 4000  # characters of a log
START_TIMEOUT = 240.0  # s; two cores may have much else to do


def pose_msg(stamp: float, keypoints: np.ndarray, side: str = "right", **known):
    """HandPoseArray of one hand."""
    both = np.full((2, NUM_KEYPOINTS, 3), np.nan)
    both[SIDES.index(side)] = keypoints
    return build_hand_pose_array_msg(hands(stamp, "camera", both, **known))


def forecast_msg(stamp: float, keypoints: np.ndarray, side: str = "right", std: float = np.nan):
    """HandForecastArray of one hand with one hypothesis, steps of 0.1 s; keypoints (S, 21, 3)."""
    steps = len(keypoints)
    future = HandFuture(
        side=SIDES.index(side),
        track_id=1,
        probability=np.ones(1),
        keypoints=keypoints[None],
        wrist_rotation=np.broadcast_to(np.eye(3), (1, steps, 3, 3)),
        keypoint_std=np.full((1, steps, NUM_KEYPOINTS), std),
        wrist_covariance=np.full((1, steps, 6, 6), np.nan),
    )
    return build_hand_forecast_array_msg(Futures(stamp, "map", 0.1 * np.arange(1, steps + 1), (future,)))


class Process:
    """One of our nodes as an operating-system process; `with` ends it in order.

    It logs to a file: a pipe that nobody reads would be full at some time, and hold up the node. pytest shows the end
    of it beside a test that fails.
    """

    def __init__(self, name: str, **parameters):
        arguments = [item for key, value in parameters.items() for item in ("-p", f"{key}:={_text(value)}")]
        self.name, self._command = name, [sys.executable, "-m", f"egohand_ros.nodes.{name}", "--ros-args", *arguments]
        self.start()

    def start(self) -> None:
        environment = os.environ | {"AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix)}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed when it is read
        self._process = subprocess.Popen(self._command, env=environment, stderr=self._log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)
        self.ended()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; the exit code."""
        self.send_signal(number)
        return self.ended(120.0)

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self, timeout: float = START_TIMEOUT) -> int:
        """The exit code, once it has ended by itself; `errors` is then what it logged."""
        self._process.wait(timeout)
        self._read_log()
        return self._process.returncode

    def _read_log(self) -> None:
        self._log.seek(0)
        self.errors = self._log.read()
        self._log.close()
        print(f"--- {self.name}:", self.errors[-_SHOWN:], sep="\n", file=sys.stderr)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        if self.running:
            self.send_signal(signal.SIGCONT)  # a test that failed may have left it frozen
            self.stop()


def _text(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Probe:
    """A node of the test: publishes, collects, and waits for conditions while it spins."""

    def __init__(self, name: str = "probe"):
        self.node = Node(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.levels: dict[str, tuple[int, str]] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.rpartition("/")[2]
            self.diagnostics[name] = {pair.key: pair.value for pair in status.values}
            self.levels[name] = (status.level[0], status.message)

    def now(self) -> float:
        return self.node.get_clock().now().nanoseconds * 1e-9

    def collect(self, kind: type, topic: str, depth: int = 1000) -> list:
        """Every message of a topic from now on."""
        messages: list = []
        self.node.create_subscription(kind, topic, messages.append, depth)
        return messages

    def publisher(self, kind: type, topic: str, depth: int = 10):
        return self.node.create_publisher(kind, topic, depth)

    def spin(self, seconds: float = 0.0) -> None:
        """Handle what comes within this time."""
        end = time.monotonic() + seconds
        while True:
            self._executor.spin_once(timeout_sec=max(0.0, min(0.01, end - time.monotonic())))
            if time.monotonic() >= end:
                return

    def wait(self, condition, timeout: float = START_TIMEOUT, what: str = "condition", each=None) -> None:
        """Spin until the condition holds, calling `each` before every look; fail after `timeout` s."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"{what} did not come true within {timeout} s"
            if each is not None:
                each()
            self.spin(0.01)

    def call(self, kind: type, service: str, request, timeout: float = START_TIMEOUT):
        """The first response of a service. A killed node looks alive to the graph for a while, and what it is asked is
        lost, so the question is repeated."""
        client = self.node.create_client(kind, service)
        self.wait(client.service_is_ready, timeout, f"service {service}")
        asked: list = []
        due = [0.0]

        def ask():
            if time.monotonic() >= due[0]:
                due[0] = time.monotonic() + ASK_AGAIN
                asked.append(client.call_async(request))

        self.wait(lambda: any(future.done() for future in asked), timeout, f"answer of {service}", each=ask)
        self.node.destroy_client(client)
        return next(future.result() for future in asked if future.done())

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
