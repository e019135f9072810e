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
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from ...errors import UserError
from ...msg import HandPoseArray
from ...robot.hands.library import load_hand
from ..messages.basic import time_msg
from ..session.plan import NodePlan, node_command
from ..session.processes import NodeProcess, ros_environment
from .hostile_messages import (
    GARBAGE,
    MESSAGE_TYPES,
    Attack,
    attacks,
    valid_camera_info,
    valid_compressed_picture,
    valid_hand_poses,
    valid_picture,
)
from .hostile_verdict import (
    TARGETS,
    HostileReport,
    judge_commands,
    judge_counts,
    judge_robot,
)

HAND, INTERFACE = "allegro_right", "joint_cmd"
GARBAGE_SHARE = 0.05  # of the attacks
JUMPING_SHARE = 0.1  # of the others, on a clock that jumps
JUMPS = 40
_DEPTH = 2000
_RATE = 800.0  # attacks a second, at most
_START_TIMEOUT = 300.0
_SETTLE_TIMEOUT = 180.0
_MOST_RESENT = 5  # rounds of sending again what the middleware lost
_RECOVERY_TIMEOUT = 60.0
_VALID_PERIOD, _PICTURE_PERIOD, _CLOCK_PERIOD, _GATE_PERIOD = 1 / 30, 0.5, 1 / 200, 7.0
_FIST = 2.0  # rad, by which the robot's fingers are bent at least when the human makes a fist; open they are at 0.3
_STREAMS = ("count/commands", "count/received/joint_")


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
        garbage = round(GARBAGE_SHARE * messages)
        run.attack(messages - garbage, on_progress)
        run.settle()
        run.make_up()
        run.judge_counts()
        run.throw_garbage(garbage)
        run.recover()
        run.judge_robot()
    finally:
        run.stop()
    return run.report


def _plans() -> dict[str, NodePlan]:
    """The nodes under attack by name; every input reliable, and deep enough for what comes while a node is busy."""
    hand = dict(hand=HAND, command_interface=INTERFACE, hold_after=0.2, relax_after=1.0)
    nodes = {
        "hand_tracker": ("hand_tracker", dict(image_transport="raw", image_reliability="reliable")),
        "hand_tracker_compressed": ("hand_tracker", dict(image_transport="compressed", image_reliability="reliable")),
        "forecaster": ("forecaster", dict(forecaster="kalman")),
        "retargeter": ("retargeter", dict(start_enabled=True, joint_states_timeout=1.0, **hand)),
        "sim_hand": ("sim_hand", dict(image_rate=0.0, **hand)),
    }
    overrides = {f"/{topic}": {"subscription": {"reliability": "reliable", "depth": _DEPTH}} for topic in MESSAGE_TYPES}
    overrides["/joint_commands"]["publisher"] = {"depth": _DEPTH}  # each one is looked for among the attacks
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
        self._published: Counter[str] = Counter()  # by topic, valid input included
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
            if attack.kind != GARBAGE:
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
        self.report.seconds = time.monotonic() - began

    def settle(self) -> None:
        """Until everything has been delivered, and the nodes have worked it off and said so: three reports of each with
        the same counts.
        """
        for publisher in self._publishers.values():
            # On a machine under load the middleware is seconds late; what it sends again has not arrived before.
            publisher.wait_for_all_acked(Duration(seconds=_SETTLE_TIMEOUT))
        seen, reports = {}, Counter()

        def quiet() -> bool:
            for name in self._processes:
                # Commands and joint states go on.
                inputs = {k: v for k, v in self._numbers(name).items() if not k.startswith(_STREAMS)}
                if inputs != seen.get(name):
                    seen[name], reports[name] = inputs, self._reports[name]
            return all(self._reports[name] - reports[name] >= 3 for name in self._processes)

        self._wait(quiet, _SETTLE_TIMEOUT, "the counts at rest", valid=False)

    def make_up(self) -> None:
        """Send again, and count, as many attacks as the middleware has lost, so that each input gets its full number.

        Under load it now and then takes a message from its publisher and gives it to nobody. Which one is not known:
        whether all of one kind are lost is for the verdict.
        """
        refused = defaultdict(list)
        for attack in self._attacks:
            if attack.refused and attack.kind != GARBAGE:
                refused[attack.topic].append(attack)
        for _ in range(_MOST_RESENT):
            missing = {topic: number for topic in refused if (number := self._missing(topic))}
            if not missing:
                return
            for topic, number in missing.items():
                self.report.lost[topic] = self.report.lost.get(topic, 0) + number
                for attack in self._rng.choice(refused[topic], number):
                    self._publish(topic, attack.make(self._rng, self._now()))
                    self.report.must_be_refused[topic] += 1
            self.settle()

    def _missing(self, topic: str) -> int:
        """How many messages of a topic have not reached its node, of those not known to be lost."""
        node, key = TARGETS[topic], f"count/received/{topic}"
        received = self._numbers(node).get(key, 0) - self._baseline[node].get(key, 0)
        return max(0, self._published[topic] - self.report.lost.get(topic, 0) - received)

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

    def throw_garbage(self, messages: int) -> None:
        """Bytes that are no message at all. The middleware drops them, and now and then a good one with them, so they
        come when everything else has been counted."""
        garbage = [attack for attack in self._attacks if attack.kind == GARBAGE]
        began = time.monotonic()
        for i in range(messages):
            self._send(garbage[i % len(garbage)])
            self._pass_time(began + i / _RATE)
        self._check_alive()

    def judge_counts(self) -> None:
        """What the nodes counted, as of now."""
        self._check_alive()
        counts = {}
        for name in self._processes:
            before = self._baseline[name]
            counts[name] = {key: number - before.get(key, 0) for key, number in self._numbers(name).items()}
        kinds = Counter(attack.topic for attack in self._attacks if attack.kind != GARBAGE)
        judge_counts(self.report, counts, self._published, kinds)

    def judge_robot(self) -> None:
        """Everything that was sent to the robot, and what it did."""
        self._check_alive()
        judge_commands(self.report, self._hand, self._mapping, self._targets, self._commands)
        judge_robot(self.report, self._hand, self._states)

    def stop(self) -> None:
        for process in self._processes.values():
            process.ask_to_stop()
        for name, process in self._processes.items():
            if not process.stop(15.0):
                self.report.failures.append(f"{name} did not end in order")
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    # ---------------------------------------------------------------- parts

    def _send(self, attack: Attack) -> None:
        self._publish(attack.topic, attack.make(self._rng, self._now()))
        self.report.messages += 1
        sent = self.report.sent[attack.topic]
        sent[attack.kind] = sent.get(attack.kind, 0) + 1
        self.report.must_be_refused[attack.topic] += attack.refused

    def _publish(self, topic: str, message) -> None:
        self._publishers[topic].publish(message)
        self._published[topic] += 1

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
        """A node's counts, by key without the prefix."""
        return {k.removeprefix(prefix): n for k, n in self._numbers(name).items() if k.startswith(prefix)}

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
