"""Listens to commanded and measured joints on a running graph, for calibration. Commands nothing."""

import time
from collections.abc import Callable

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from ..errors import RejectedInput, UserError
from ..messages.basic import seconds
from ..messages.joints import parse_joint_state_msg
from ..robot.hands.command import CommandMapping
from .base import qos

Track = tuple[np.ndarray, np.ndarray]
_TOPICS = ("joint_targets", "joint_states")


def listen_to_joints(
    mapping: CommandMapping,
    duration: float,
    namespace: str = "",
    state_topic: str = "joint_states",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Track, Track]:
    """Commanded and measured joints: stamps (N,) s and q (N, n) rad of each. Raises `UserError` when either is
    silent.
    """
    rows: dict[str, list[tuple[float, np.ndarray]]] = {name: [] for name in _TOPICS}
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Node("joint_listener", context=context, namespace=namespace, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def keep(name: str, message: JointState) -> None:
        try:
            rows[name].append((seconds(message.header.stamp), parse_joint_state_msg(message, mapping)))
        except RejectedInput:
            return

    for name, topic in zip(_TOPICS, ("joint_targets", state_topic)):
        node.create_subscription(JointState, topic, lambda m, n=name: keep(n, m), qos.profile(qos.OBSERVATIONS))
    try:
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < duration:
            executor.spin_once(timeout_sec=0.1)
            on_progress(int(10 * passed), int(10 * duration))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return _track(rows, "joint_targets", "is the retargeter running and enabled?"), _track(
        rows, "joint_states", "does the robot publish its joints? (--state-topic)"
    )


def _track(rows: dict, name: str, hint: str) -> Track:
    """In order of stamps, each once."""
    kept = dict(sorted(rows[name], key=lambda row: row[0]))
    if len(kept) < 2:
        raise UserError(f"nothing came on {name}; {hint}")
    return np.array(list(kept)), np.array(list(kept.values()))
