"""`run_handovers`: simulated handovers on a live graph of processes, watched until so many objects have changed hands,
and what came of them as figures and pictures.
"""

import json
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from ...errors import UserError
from ...handover.machine import Phase
from ...messages.basic import seconds
from ...msg import HandoverState
from ..base import qos
from .handover_plan import plan_handover
from .names import check_names
from .plan import node_command
from .processes import NodeProcess, private_domain, ros_environment

_STOP_ORDER = ("forecaster", "handover", "sim_handover", "recorder")
_STOP_TIMEOUT = 10.0  # s
_START_TIMEOUT = 120.0  # s
_LONGEST_SCENE = 30.0  # s that a scene is waited for, on average


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture (H, W, 3) RGB, and the phase, reason and time to contact (s, -1: unknown) at that time; `time` s from
    the first."""

    time: float
    picture: np.ndarray
    phase: str
    reason: str
    time_to_contact: float


@dataclass
class HandoverReport:
    """What was seen: `story`, each change of the simulated scene as it told it; phases with the time s at which each
    began; the objects that changed hands; figures of the node's diagnostics; pictures."""

    story: list[dict] = field(default_factory=list)
    phases: list[tuple[float, str, str]] = field(default_factory=list)
    handed_over: int = 0
    scenes: int = 0
    diagnostics: dict[str, str] = field(default_factory=dict)
    frames: deque[Frame] = field(default_factory=deque)
    seconds: float = 0.0
    deaths: Counter = field(default_factory=Counter)

    def figures(self) -> dict:
        """As JSON has it."""
        told = {k: v for k, v in self.diagnostics.items() if "forecast_to_command" in k or k.startswith("handovers/")}
        return {
            "handed_over": self.handed_over,
            "scenes": self.scenes,
            "seconds": round(self.seconds, 1),
            "phases": [{"time": round(t, 2), "phase": phase, "reason": reason} for t, phase, reason in self.phases],
            "diagnostics": told,
            "deaths": dict(self.deaths),
        }


def run_handovers(
    wanted: int,
    arguments: dict[str, str],
    pictures: bool = True,
    on_progress: Callable[[HandoverReport], None] = lambda report: None,
) -> HandoverReport:
    """Run until `wanted` objects have changed hands. Raises `UserError` when a node does not start or nothing comes of
    it in time."""
    plans = plan_handover(arguments | {"sim": "true"})
    check_names(plans)
    report = HandoverReport()
    with private_domain() as domain, tempfile.TemporaryDirectory(prefix="egohand_") as folder:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        logs = Path(folder)
        environment = ros_environment(domain) | {"ROS_LOG_DIR": str(logs / "ros")}
        processes = {p.name: NodeProcess(p.name, node_command(p, logs), environment, logs / f"{p.name}.log")
                     for p in plans}  # fmt: skip
        context = Context()
        try:
            for process in processes.values():
                process.log.write_bytes(b"")
                process.start()
            rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
            _watch(context, processes, report, wanted, pictures, on_progress)
        finally:
            for name in _STOP_ORDER:
                if name in processes:
                    processes[name].stop(_STOP_TIMEOUT)
            rclpy.try_shutdown(context=context)
    return report


def _watch(
    context: Context,
    processes: dict[str, NodeProcess],
    report: HandoverReport,
    wanted: int,
    pictures: bool,
    on_progress: Callable[[HandoverReport], None],
) -> None:
    node = Node("handover_watcher", context=context, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    listener = _Listener(node, report, pictures)
    try:
        ended: float | None = None
        while ended is None or time.monotonic() - ended < 4.0:  # the robot puts away what it has
            executor.spin_once(timeout_sec=0.05)
            report.seconds = time.monotonic() - listener.begin
            on_progress(report)
            _refuse(processes, report, wanted)
            if report.handed_over >= wanted and ended is None:
                ended = time.monotonic()
    finally:
        executor.shutdown()
        node.destroy_node()


class _Listener:
    """Writes into a report what the graph tells."""

    def __init__(self, node: Node, report: HandoverReport, pictures: bool):
        self.begin = time.monotonic()
        self._report, self._clock = report, node.get_clock()
        self._first = self._now()
        self._states: deque[tuple[float, HandoverState]] = deque([(0.0, HandoverState())], maxlen=2000)
        node.create_subscription(HandoverState, "handover_state", self._on_state, qos.profile(qos.RELIABLE))
        node.create_subscription(String, "sim_handover/scene", self._on_story, qos.profile(qos.LATCHED))
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=10))
        if pictures:
            node.create_subscription(Image, "sim_handover/image", self._on_image, qos.profile(qos.RELIABLE))

    def _now(self) -> float:
        return self._clock.now().nanoseconds * 1e-9

    def _on_state(self, message: HandoverState) -> None:
        phases = self._report.phases
        self._states.append((self._now(), message))
        phase = Phase(message.phase).name
        if not phases or phases[-1][1:] != (phase, message.reason):
            phases.append((time.monotonic() - self.begin, phase, message.reason))

    def _on_story(self, message: String) -> None:
        story = json.loads(message.data)
        self._report.story.append(story)
        self._report.handed_over, self._report.scenes = story["handed_over"], story["scene"]

    def _on_image(self, message: Image) -> None:
        picture = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        drawn = seconds(message.header.stamp)  # pictures come late: they are drawn with what time others leave
        state = next((s for at, s in reversed(self._states) if at <= drawn), self._states[0][1])
        phase, until = Phase(state.phase).name, float(state.time_to_contact_p50)
        self._report.frames.append(Frame(drawn - self._first, picture, phase, state.reason, until))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("handover") and not status.name.endswith("sim_handover"):
                self._report.diagnostics = {pair.key: pair.value for pair in status.values}


def _refuse(processes: dict[str, NodeProcess], report: HandoverReport, wanted: int) -> None:
    for name, process in processes.items():
        if process.died():
            lines = [line for line in process.last_lines(30).splitlines() if line.strip()]
            raise UserError(f"{name} ended: {(lines or ['no output'])[-1]}")
    if not report.phases and report.seconds > _START_TIMEOUT:
        raise UserError(f"no handover_state within {_START_TIMEOUT:.0f} s")
    if report.seconds > _START_TIMEOUT + wanted * _LONGEST_SCENE:
        raise UserError(f"{report.handed_over} of {wanted} objects changed hands in {report.seconds:.0f} s")
