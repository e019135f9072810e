"""`run_hostile`: all nodes as processes, attacked with malformed and hostile messages while they work, and judged.

    hand_tracker (raw and compressed)   forecaster -> retargeter -> sim_hand
            ^           ^                  ^   ^         ^             ^
            +-----------+------------------+---+---------+-------------+--- attacks, among valid input

Inputs are made reliable and deep by QoS overrides, so that every attack arrives and every one must be counted. The last
part of the attacks runs on a simulated clock that jumps.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from egohand_ros.msg import HandPoseArray

from ..errors import RejectedInput, UserError
from ..robot.audit import LimitAudit, audit_limits
from ..robot.library import load_hand
from .graph import NodePlan, node_command
from .hostile_messages import (
    MESSAGE_TYPES,
    Attack,
    attacks,
    valid_camera_info,
    valid_compressed_picture,
    valid_hand_poses,
    valid_picture,
)
from .messages_basic import time_msg
from .messages_joints import parse_joint_command_msg
from .processes import NodeProcess, ros_environment

HAND, INTERFACE = "allegro_right", "joint_cmd"
# Which node takes which attacked topic.
TARGETS = {
    "hand_poses": "forecaster",
    "tracker_poses": "forecaster",
    "camera_pose": "forecaster",
    "odometry": "forecaster",
    "prompt": "forecaster",
    "hand_forecasts": "retargeter",
    "joint_states": "retargeter",
    "image": "hand_tracker",
    "image/compressed": "hand_tracker_compressed",
    "camera_info": "hand_tracker",
    "joint_commands": "sim_hand",
}
JUMPING_SHARE = 0.1  # of the attacks, on a clock that jumps
JUMPS = 40
_DEPTH = 2000
_RATE = 800.0  # attacks a second, at most
_START_TIMEOUT = 120.0
_SETTLE_TIMEOUT = 60.0
_RECOVERY_TIMEOUT = 60.0
_VALID_PERIOD, _PICTURE_PERIOD, _CLOCK_PERIOD, _GATE_PERIOD = 1 / 30, 0.5, 1 / 200, 7.0
_FIST = 2.0  # rad, by which the robot's fingers are bent at least when the human makes a fist; open they are at 0.3
_STREAMS = ("count/commands", "count/received/joint_")
_GARBAGE = "garbage bytes"  # the middleware may drop what is no message


@dataclass
class HostileReport:
    """What was sent and what became of it. `failures` is empty when the nodes passed."""

    messages: int = 0
    seconds: float = 0.0
    sent: dict[str, dict[str, int]] = field(
        default_factory=lambda: {topic: {} for topic in TARGETS}
    )  # topic: kind: number
    must_be_refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))  # by topic
    received: dict[str, int] = field(default_factory=dict)  # by topic, valid input included
    dropped: dict[str, int] = field(
        default_factory=dict
    )  # by topic: replaced by a newer one before the node looked at it
    refused: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)  # node: topic: reason: number
    commands: LimitAudit | None = None
    peak_robot_speed: float = 0.0
    clock_jumps: int = 0
    exits: dict[str, list[int]] = field(default_factory=dict)
    recovery_seconds: float = float("nan")
    failures: list[str] = field(default_factory=list)

    def refused_on(self, topic: str) -> int:
        """How many messages the topic's node refused on it."""
        return sum(self.refused.get(TARGETS[topic], {}).get(topic, {}).values())


def run_hostile(
    messages: int,
    seed: int,
    domain: int,
    logs: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> HostileReport:
    """Send so many attacks and judge what the nodes did. Raises `UserError` when a node does not start."""
    run = _Run(seed, domain, logs)
    try:
        run.start()
        run.attack(messages, on_progress)
        run.settle()
        run.recover()
        run.settle()
        run.judge()
    finally:
        run.stop()
    return run.report


def _plans() -> dict[str, NodePlan]:
    """The nodes under attack by name; every input reliable, and deep enough for what comes while a node is busy."""
    hand = dict(hand=HAND, command_interface=INTERFACE, hold_after=0.2, relax_after=1.0)
    nodes = {
        "hand_tracker": ("hand_tracker", dict(image_transport="raw")),
        "hand_tracker_compressed": ("hand_tracker", dict(image_transport="compressed")),
        "forecaster": ("forecaster", dict(forecaster="kalman")),
        "retargeter": ("retargeter", dict(start_enabled=True, joint_states_timeout=1.0, **hand)),
        "sim_hand": ("sim_hand", dict(image_rate=0.0, **hand)),
    }
    overrides = {f"/{topic}": {"subscription": {"reliability": "reliable", "depth": _DEPTH}} for topic in MESSAGE_TYPES}
    plans = {}
    for name, (module, parameters) in nodes.items():
        # The trackers' own poses must not compete with the valid ones.
        remappings = (("hand_poses", f"{name}/hand_poses"),) if module == "hand_tracker" else ()
        plans[name] = NodePlan(module, parameters | {"qos_overrides": overrides}, remappings=remappings)
    return plans


class _Run:
    """One run; the methods are called in the order of `run_hostile`."""

    def __init__(self, seed: int, domain: int, logs: Path):
        self.report = HostileReport()
        self._rng = np.random.default_rng(seed)
        self._hand = load_hand(HAND)
        self._mapping = self._hand.command_mapping(INTERFACE)
        self._attacks = attacks(self._mapping)
        logs.mkdir(parents=True, exist_ok=True)
        environment = ros_environment(domain) | {"ROS_LOG_DIR": str(logs / "ros")}
        self._processes = {}
        for name, plan in _plans().items():
            folder = logs / name
            folder.mkdir(exist_ok=True)
            command = [*node_command(plan, folder), "-r", f"__node:={name}"]
            self._processes[name] = NodeProcess(name, command, environment, folder / "log.txt")
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("hostile", context=self._context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._reports: Counter[str] = Counter()  # diagnostics by node
        self._baseline: dict[str, dict[str, int]] = {}  # each node's counts before the attacks
        self._targets: list[JointState] = []
        self._commands: list[JointState] = []
        self._states: list[JointState] = []
        self._due: dict[str, float] = defaultdict(float)
        self._clock: float | None = None  # the simulated time, once there is one
        self._steady = 0.0
        self._closed = 0.0
        self._published: Counter[str] = Counter()  # by topic, valid input included, garbage left out
        self._connect()

    def _connect(self) -> None:
        reliable = QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        make, quiet = self._node.create_publisher, PublisherEventCallbacks(use_default_callbacks=False)
        self._publishers = {
            topic: make(kind, topic, reliable, event_callbacks=quiet) for topic, kind in MESSAGE_TYPES.items()
        }
        self._clock_publisher = make(Clock, "/clock", 10)
        self._gate = self._node.create_client(SetBool, "retargeter/enable")
        listen = self._node.create_subscription
        listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        listen(JointState, "joint_targets", self._targets.append, reliable)
        listen(JointState, "joint_commands", self._commands.append, reliable)
        listen(JointState, "joint_states", self._states.append, reliable)
        for name in ("hand_tracker", "hand_tracker_compressed"):  # trackers work only for subscribers
            listen(HandPoseArray, f"{name}/hand_poses", lambda message: None, 1)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.strip("/")
            self._diagnostics[name] = {pair.key: pair.value for pair in status.values}
            self._reports[name] += 1

    # ---------------------------------------------------------------- the run

    def start(self) -> None:
        """Until every node is active and connected."""
        for process in self._processes.values():
            process.log.write_bytes(b"")
            process.start()
        self._wait(self._all_active, _START_TIMEOUT, "all nodes active", valid=False)
        self._wait(self._all_connected, _START_TIMEOUT, "all inputs connected", valid=False)
        # Both ends of each connection have to be ready before anything is counted.
        warm_up = [
            next(a for a in self._attacks if a.topic == topic and a.refused) for topic in TARGETS if topic != "prompt"
        ]

        def arrived() -> bool:
            if self._is_due("warm up", 0.2):
                for attack in warm_up:
                    self._publish(attack.topic, attack.make(self._rng, self._now()))
            return all(self._counts(TARGETS[a.topic], "count/").get(f"received/{a.topic}", 0) for a in warm_up)

        self._wait(arrived, _START_TIMEOUT, "the first messages on all inputs", valid=False)
        self.settle()
        self._baseline = {name: self._numbers(name) for name in self._processes}
        self._published.clear()

    def attack(self, messages: int, on_progress: Callable[[int, int], None]) -> None:
        """Send the attacks, at a rate that leaves the nodes time to refuse them, among valid input."""
        by_topic = defaultdict(list)
        for attack in self._attacks:
            by_topic[attack.topic].append(attack)
        topics, began = list(by_topic), time.monotonic()
        jumps_at = set(np.linspace(messages * (1 - JUMPING_SHARE), messages, JUMPS + 1, dtype=int)[:-1])
        for i in range(messages):
            if i in jumps_at:
                self._jump()
            options = by_topic[topics[i % len(topics)]]
            self._send(options[self._rng.integers(len(options))])
            self._pass_time(began + i / _RATE)
            if i % 100 == 0:
                on_progress(i, messages)
                self._check_alive()
        self.report.messages, self.report.seconds = messages, time.monotonic() - began

    def settle(self) -> None:
        """Until the nodes have worked off everything and said so: three reports of each with the same counts."""
        seen, reports = {}, Counter()

        def quiet() -> bool:
            for name in self._processes:
                # Commands and joint states go on.
                inputs = {k: v for k, v in self._numbers(name).items() if not k.startswith(_STREAMS)}
                if inputs != seen.get(name):
                    seen[name], reports[name] = inputs, self._reports[name]
            return all(self._reports[name] - reports[name] >= 3 for name in self._processes)

        self._wait(quiet, _SETTLE_TIMEOUT, "the counts at rest", valid=False)

    def recover(self) -> None:
        """Valid input must reach the robot again: the person makes a fist, and so does it."""
        began, images = time.monotonic(), self._pictures()
        self._closed = 1.0
        self._gate.call_async(SetBool.Request(data=True))
        try:
            self._wait(lambda: self._robot_flexion() > _FIST, _RECOVERY_TIMEOUT, "the robot's fist after the attacks")
            more = lambda: all(now > before for now, before in zip(self._pictures(), images))  # noqa: E731
            self._wait(more, _RECOVERY_TIMEOUT, "pictures tracked after the attacks")
            self.report.recovery_seconds = time.monotonic() - began
        except UserError as error:
            self.report.failures.append(str(error))

    def judge(self) -> None:
        """Fill the report's verdict."""
        self._check_alive()
        for name in self._processes:
            counts = self._counts(name, "rejected/")
            by_topic: dict[str, dict[str, int]] = defaultdict(dict)
            for key, number in counts.items():
                topic, _, reason = key.rpartition("/")
                if number:
                    by_topic[topic][reason] = number
            self.report.refused[name] = dict(by_topic)
        self._judge_counts()
        self._judge_commands()
        self._judge_robot()

    def stop(self) -> None:
        for process in self._processes.values():
            process.ask_to_stop()
        for name, process in self._processes.items():
            if not process.stop(15.0):
                self.report.failures.append(f"{name} did not end in order")
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    # ---------------------------------------------------------------- verdicts

    def _judge_counts(self) -> None:
        report = self.report
        for topic, number in report.must_be_refused.items():
            node, refused = TARGETS[topic], report.refused_on(topic)
            report.received[topic] = self._counts(node, "count/").get(f"received/{topic}", 0)
            report.dropped[topic] = self._counts(node, "dropped").get("", 0) if topic.startswith("image") else 0
            if report.received[topic] < self._published[topic]:
                report.failures.append(
                    f"{topic}: of {self._published[topic]} messages {report.received[topic]} arrived"
                )
            if refused + report.dropped[topic] < number:
                dropped = f" and {report.dropped[topic]} dropped" if report.dropped[topic] else ""
                report.failures.append(f"{topic}: {number} had to be refused, {refused} were counted{dropped}")
        for name in self._processes:
            bugs = sum(
                n for reasons in report.refused[name].values() for r, n in reasons.items() if r == "internal_error"
            )
            if bugs:
                report.failures.append(f"{name}: {bugs} internal errors, see its log {self._processes[name].log}")
        used = {
            "retargeter": ("hand_forecasts", "targets", "hand_not_forecast"),
            "sim_hand": ("joint_commands", "commands"),
        }
        for name, (topic, *uses) in used.items():
            counts = self._counts(name, "count/")
            received, accepted = counts.get(f"received/{topic}", 0), sum(counts.get(use, 0) for use in uses)
            if received != accepted + report.refused_on(topic):
                report.failures.append(
                    f"{topic}: {received} received, but {accepted} used and {report.refused_on(topic)} refused"
                )

    def _judge_commands(self) -> None:
        """Limits on everything that the retargeter sent; the wire must carry just that."""
        report, base = self.report, self._targets[0].header.stamp.sec if self._targets else 0
        stamps = [t.header.stamp.sec - base + 1e-9 * t.header.stamp.nanosec for t in self._targets]
        report.commands = audit_limits(self._hand, np.array(stamps), np.array([t.position for t in self._targets]))
        if report.commands.commands < 100:
            report.failures.append(f"only {report.commands.commands} commands were sent")
        if report.commands.violations:
            report.failures.append(f"{report.commands.violations} commands broke a limit")
        targets = {_key(t): t for t in self._targets}
        matched = 0
        for message in self._commands:
            target = targets.get(_key(message))
            if target is None:  # one of the attacks
                continue
            try:
                q = parse_joint_command_msg(message, self._mapping)
            except RejectedInput:
                continue
            matched += bool(np.abs(q - target.position).max() < 1e-9)
        if matched < 0.99 * len(self._targets):
            report.failures.append(
                f"of {len(self._targets)} commands {matched} were found on the wire as they were meant"
            )

    def _judge_robot(self) -> None:
        own = [s for s in self._states if list(s.name) == list(self._hand.joint_names) and len(s.effort)]
        q, qd = np.array([s.position for s in own]), np.array([s.velocity for s in own])
        slack = 0.05  # rad that a servo may overshoot
        if not ((q > self._hand.lower - slack) & (q < self._hand.upper + slack)).all():
            self.report.failures.append("the simulated robot left its joint limits")
        self.report.peak_robot_speed = float(np.abs(qd / self._hand.velocity_limit).max())

    # ---------------------------------------------------------------- parts

    def _send(self, attack: Attack) -> None:
        self._publish(attack.topic, attack.make(self._rng, self._now()), attack.kind != _GARBAGE)
        sent = self.report.sent[attack.topic]
        sent[attack.kind] = sent.get(attack.kind, 0) + 1
        self.report.must_be_refused[attack.topic] += attack.refused

    def _publish(self, topic: str, message, counted: bool = True) -> None:
        self._publishers[topic].publish(message)
        self._published[topic] += counted

    def _pass_time(self, until: float) -> None:
        """Let callbacks run and send valid input, until it is time for the next attack."""
        while True:
            self._send_valid()
            self._executor.spin_once(timeout_sec=max(0.0, min(0.002, until - time.monotonic())))
            if time.monotonic() >= until:
                return

    def _send_valid(self, gate: bool = True) -> None:
        steady = time.monotonic()
        if self._clock is not None:
            self._clock += steady - self._steady
            self._steady = steady
            if self._is_due("clock", _CLOCK_PERIOD):
                self._clock_publisher.publish(Clock(clock=time_msg(self._clock)))
        now = self._now()
        if self._is_due("hand", _VALID_PERIOD):
            closed = self._closed or 0.5 - 0.5 * np.cos(steady)
            self._publish("hand_poses", valid_hand_poses(now, closed))
        if self._is_due("picture", _PICTURE_PERIOD):
            self._publish("camera_info", valid_camera_info(now))
            self._publish("image", valid_picture(self._rng, now))
            self._publish("image/compressed", valid_compressed_picture(self._rng, now))
        if gate and not self._closed and self._is_due("gate", _GATE_PERIOD):
            self._gate.call_async(SetBool.Request(data=bool(self._rng.random() < 0.8)))

    def _is_due(self, what: str, period: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + period
        return True

    def _now(self) -> float:
        """What the nodes take for now."""
        return self._clock if self._clock is not None else self._node.get_clock().now().nanoseconds * 1e-9

    def _jump(self) -> None:
        """Move all nodes to a simulated clock, or move that clock."""
        if self._clock is None:
            self._clock, self._steady = self._now(), time.monotonic()
            request = SetParameters.Request(parameters=[Parameter("use_sim_time", value=True).to_parameter_msg()])
            pending = []
            for name in self._processes:
                client = self._node.create_client(SetParameters, f"{name}/set_parameters")
                self._wait(client.service_is_ready, _SETTLE_TIMEOUT, f"{name}'s parameters")
                pending.append(client.call_async(request))
            self._wait(lambda: all(f.done() for f in pending), _SETTLE_TIMEOUT, "the simulated clock")
            return
        distance = float(self._rng.choice([0.01, 0.3, 5.0, 1000.0]) * self._rng.choice([-1.0, -1.0, 1.0]))
        self._clock = max(10.0, self._clock + distance)
        self.report.clock_jumps += 1

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.died():
                self.report.exits[name] = list(process.exits)
                self.report.failures.append(f"{name} died with {process.exits[-1]}: {process.last_lines(1)}")
                process.start()

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str, valid: bool = True) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise UserError(
                    f"{what}: not within {timeout:g} s; logs: {next(iter(self._processes.values())).log.parents[1]}"
                )
            if valid:
                self._send_valid(gate=False)
            self._executor.spin_once(timeout_sec=0.005)

    def _all_active(self) -> bool:
        for name, process in self._processes.items():
            if process.died():
                raise UserError(f"{name} did not start: {process.last_lines(1)}")
        return all(self._diagnostics.get(name, {}).get("state") == "active" for name in self._processes)

    def _all_connected(self) -> bool:
        listeners = Counter(TARGETS.keys()) + Counter(
            ("joint_commands", "joint_states", "camera_info")
        )  # this node; 2nd tracker
        return all(self._publishers[topic].get_subscription_count() >= number for topic, number in listeners.items())

    def _counts(self, name: str, prefix: str) -> dict[str, int]:
        """A node's counts since the attacks began, by key without the prefix."""
        before = self._baseline.get(name, {})
        numbers = self._numbers(name).items()
        return {key.removeprefix(prefix): n - before.get(key, 0) for key, n in numbers if key.startswith(prefix)}

    def _numbers(self, name: str) -> dict[str, int]:
        """Everything that a node has counted of its inputs."""
        values = self._diagnostics.get(name, {})
        wanted = ("rejected/", "count/received/", "count/targets", "count/commands", "count/hand_", "dropped")
        return {key: int(value) for key, value in values.items() if key.startswith(wanted)}

    def _pictures(self) -> list[int]:
        return [
            self._counts(name, "count/").get("hand_images", 0) for name in ("hand_tracker", "hand_tracker_compressed")
        ]

    def _robot_flexion(self) -> float:
        own = [s for s in self._states[-50:] if len(s.effort)]
        return float(np.array(own[-1].position[:12]).reshape(3, 4)[:, 1:].sum(axis=1).mean()) if own else 0.0


def _key(message: JointState) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec
