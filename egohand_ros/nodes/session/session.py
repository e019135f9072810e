"""`Session`: the nodes of a plan as real processes over DDS, from "all active" to "all stopped", with one player.

    start every process -> wait until each node is active -> wire the player's topics to the recorder -> activate the
    player
    -> restart what dies -> player finished and pipeline quiet -> stop the player first, the robot's nodes next, the
    recorder last

The process that runs a session is itself a ROS node of that graph: it counts messages and drives the player's
lifecycle.
"""

import json
import os
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

import numpy as np
import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.task import Future
from std_msgs.msg import String

from ...errors import UserError
from ...msg import Latency
from ..base.polling import subscribe_polled, take_waiting
from .plan import RECORDED_TOPICS, NodePlan, node_command
from .processes import (
    MAX_RESPAWNS,
    NodeProcess,
    large_message_environment,
    ros_environment,
)

IMAGE_PUBLISHERS = ("player",)
# Later ones need what earlier ones send last: the hand its safe command, the recorder all of it.
STOP_ORDER = (
    ("player", "hand_tracker", "forecaster"),
    ("retargeter", "arm_follower"),
    ("sim_hand",),
    ("recorder", "viewer"),
)
# A session neither waits for these nor ends because of them.
WATCHERS = ("viewer",)

# Who only watches or plays the robot gives way to the nodes that a robot waits for.
_NICENESS = {"recorder": 5, "sim_hand": 5, "viewer": 19}

_OF_ROS = re.compile(r"^\[[A-Z]+\] \[[\d.]+\] \[[^\]]*\]: (configure failed: )?")  # before the words of a log's line
_START_TIMEOUT = 90.0  # s; a cold disk and a model to load, on a machine with nothing else to do
_ASK_AGAIN = 2.0  # s without an answer; they get lost, see `_Asked`
_REACHED = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
}
_WIRE_TIMEOUT = 5.0
_QUIET = 0.5  # s without a new observation or forecast after which the pipeline has drained
_DRAIN_TIMEOUT = 5.0
_STOP_TIMEOUT = 10.0
_PATIENCE = 2.0  # s with one of WATCHERS, which has nothing to put in order and gets what time others leave
_RESPAWN_DELAY = 0.5
_LAST_WORDS = 0.3  # s for the robot's safe command to reach the recorder, which would not wait for it
_COUNTED = ("hand_poses", "hand_forecasts", "joint_commands")
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_BEST_EFFORT = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)


@dataclass
class SessionState:
    """What a session looks like from outside, at any moment and at its end."""

    phase: str = "starting"
    player: dict = field(default_factory=dict)
    received: Counter = field(default_factory=Counter)
    latency_p95_ms: float = float("nan")
    respawns: dict[str, int] = field(default_factory=dict)
    exits: dict[str, list[int]] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    wall_seconds: float = 0.0
    killed: list[str] = field(default_factory=list)
    interrupted: bool = False


class Session:
    """Runs the nodes of `plans`, of which one is the player.

    `information` is published on `session` for the recording; the bytes of messages on `collect` are kept in
    `collected`.
    """

    def __init__(
        self,
        plans: list[NodePlan],
        domain: int,
        logs: Path,
        namespace: str = "",
        information: dict | None = None,
        on_progress: Callable[[SessionState], None] = lambda state: None,
        collect: tuple[str, ...] = (),
    ):
        self.state = SessionState()
        self._interrupts = 0
        self._node: Node | None = None
        self._executor: SingleThreadedExecutor | None = None
        self.collected: dict[str, list[bytes]] = {topic: [] for topic in collect}
        self._namespace = "/" + namespace.strip("/")
        self._on_progress = on_progress
        self._information = information or {}
        self._domain = domain
        logs.mkdir(parents=True, exist_ok=True)
        recorder = next((plan.parameters for plan in plans if plan.name == "recorder"), {})
        self._wanted: tuple[str, ...] = tuple(recorder.get("topics", RECORDED_TOPICS))
        self._without_images = recorder.get("images") == "none"
        others = ",".join(plan.name for plan in plans if plan.name not in ("player", *WATCHERS))
        environment = ros_environment(domain) | {"ROS_LOG_DIR": str(logs / "ros")}
        self._processes = {
            plan.name: NodeProcess(
                plan.name,
                node_command(_awaiting(plan, others) if plan.name == "player" else plan, logs),
                environment | (large_message_environment() if plan.name in IMAGE_PUBLISHERS else {}),
                logs / f"{plan.name}.log",
                _NICENESS.get(plan.name, 0),
            )
            for plan in plans
        }
        for process in self._processes.values():
            process.log.write_bytes(b"")
        self._due: dict[str, float] = {}  # dead nodes and when they are started again
        self._latencies: deque[float] = deque(maxlen=600)

    def run(self) -> SessionState:
        """From start to end; Ctrl-C ends it early and in order. Raises `UserError` when a node does not start."""
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        context = Context()
        restore = self._note_interrupts()
        try:
            for process in self._processes.values():
                process.start()
            rclpy.init(args=[], context=context, domain_id=self._domain, signal_handler_options=SignalHandlerOptions.NO)
            self._node = Node("session", context=context, namespace=self._namespace, start_parameter_services=False)
            self._executor = SingleThreadedExecutor(context=context)
            self._executor.add_node(self._node)
            self._observe()
            self._bring_up()
            self._play()
        except KeyboardInterrupt:
            self.state.interrupted = True
        finally:
            self._stop()
            self._leave_graph()
            rclpy.try_shutdown(context=context)
            restore()
        return self.state

    def _note_interrupts(self) -> Callable[[], None]:
        """Ctrl-C is noted, and raised when the session looks: Python swallows one that comes inside a destructor.

        Returns what takes this back. Signals belong to the main thread; elsewhere nothing is done.
        """
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def note(number: int, frame) -> None:
            self._interrupts += 1

        before = signal.signal(signal.SIGINT, note)
        return lambda: signal.signal(signal.SIGINT, before)

    def _leave_graph(self) -> None:
        """Before the context ends: what is collected after that complains on stderr, below the reason of a failed
        start.
        """
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
        if self._node is not None:
            self._node.destroy_node()
            self._node = None

    def pid(self, name: str) -> int | None:
        """The process id of a node while it runs."""
        process = self._processes.get(name)
        return process.pid if process else None

    # ---------------------------------------------------------------- starting

    def _observe(self) -> None:
        self._output = self._node.create_publisher(String, "session", _LATCHED)
        self._say()
        self._node.create_subscription(String, "player/state", self._on_player_state, _LATCHED)
        self._watched: dict[str, tuple[Subscription, Callable[[bytes], None]]] = {}
        self._watch("latency", "retargeter/debug/latency", Latency, self._on_latency)

    def _count_known_topics(self) -> None:
        """Count topics as soon as their type is known: the command's type depends on the hand."""
        names = dict(self._node.get_topic_names_and_types())
        for topic in {*_COUNTED, *self.collected}:
            name = self._node.resolve_topic_name(topic)
            if topic in self._watched or name not in names:
                continue
            package, _, kind = names[name][0].split("/")
            message_class = getattr(import_module(f"{package}.msg"), kind)

            def count(data: bytes, topic: str = topic) -> None:
                self.state.received[topic] += 1
                self._last_message = time.monotonic()
                if topic in self.collected:
                    self.collected[topic].append(data)

            self._watch(topic, name, message_class, count)

    def _watch(self, key: str, name: str, kind: type, seen: Callable[[bytes], None]) -> None:
        """Have `seen` called with each message of a topic, some time after it came."""
        self._watched[key] = subscribe_polled(self._node, kind, name, _BEST_EFFORT), seen

    def _bring_up(self) -> None:
        self.state.phase = "starting"
        awaited = [name for name in self._processes if name not in WATCHERS]
        waiting = {name: _Asked(self._lifecycle_client(name, GetState, "get_state")) for name in awaited}
        begin = time.monotonic()
        configured: tuple[int, Future] | None = None
        while waiting:
            self._spin()
            self._refuse_failed_start(waiting, begin)
            if configured is not None:
                self._refuse_failed_player(configured[1])
            for name, asked in list(waiting.items()):
                reached = State.PRIMARY_STATE_UNCONFIGURED if name == "player" else State.PRIMARY_STATE_ACTIVE
                if asked.state() == reached:
                    del waiting[name]
                    if name == "player":  # it draws its pictures while others load their models
                        configured = self._ask_player(Transition.TRANSITION_CONFIGURE)
        self._await_player(*configured)
        self._wire()

    def _refuse_failed_start(self, waiting, begin: float) -> None:
        for name, process in self._processes.items():
            if process.died():
                raise UserError(f"{name} did not start: {_reason(process)} (whole log: {process.log})")
        waited = time.monotonic() - begin  # a busy machine gives each of its processes less of the time
        if waited > _START_TIMEOUT * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)):
            raise UserError(f"{', '.join(waiting)} not active after {waited:.0f} s; logs: {process.log.parent}")

    def _wire(self) -> None:
        """Until the recorder has subscribed to what the nodes will send, so that the bag has it from the first
        message.
        """
        self.state.phase = "connecting"
        if "recorder" not in self._processes:
            return
        deadline, missing = time.monotonic() + _WIRE_TIMEOUT, ["its topics"]
        while missing and time.monotonic() < deadline:
            self._spin()
            if self._published("player"):
                published = {node: self._published(node) for node in self._processes if node not in WATCHERS}
                unseen = [f"topics of {node}" for node, names in published.items() if names is None]
                names = sorted({name for names in published.values() for name in names or ()})
                missing = [*unseen, *(name for name in names if not self._recorded(name))]
        if missing:
            self._node.get_logger().warning(
                f"the recorder does not yet listen to what the nodes will send ({', '.join(missing)}) after "
                f"{_WIRE_TIMEOUT:.0f} s: the beginning may be missing in the recording"
            )

    def _published(self, node: str) -> list[str] | None:
        """Topics that a node publishes and that the recorder wants, without a latched `~/state` and what every node
        publishes. None while the node is not to be seen in the graph.
        """
        try:
            published = self._node.get_publisher_names_and_types_by_node(node, self._namespace)
        except NodeNameNonExistentError:
            return None
        inside = self._namespace.rstrip("/")
        patterns = [topic if topic.startswith("/") else f"{inside}/{topic}" for topic in self._wanted]
        elsewhere = (f"{inside}/{node}/state", "/diagnostics")
        return [
            name
            for name, types in published
            if any(fnmatchcase(name, pattern) for pattern in patterns)
            and not name.startswith(elsewhere)
            and not (self._without_images and types[0] == "sensor_msgs/msg/Image")
        ]

    def _recorded(self, name: str) -> bool:
        return any(s.node_name == "recorder" for s in self._node.get_subscriptions_info_by_topic(name))

    def _lifecycle_client(self, name: str, kind: type, service: str):
        return self._node.create_client(kind, f"{name}/{service}")

    def _ask_player(self, transition: int) -> tuple[int, Future]:
        client = self._lifecycle_client("player", ChangeState, "change_state")
        return transition, client.call_async(ChangeState.Request(transition=Transition(id=transition)))

    def _await_player(self, transition: int, future: Future) -> None:
        asked = _Asked(self._lifecycle_client("player", GetState, "get_state"))
        begin = time.monotonic()
        while not future.done():
            self._spin()
            if asked.state() == _REACHED[transition]:
                return  # the answer got lost, or is still on its way
            self._refuse_failed_start(["player"], begin)
        self._refuse_failed_player(future)

    def _refuse_failed_player(self, future: Future) -> None:
        if future.done() and not future.result().success:
            process = self._processes["player"]
            raise UserError(f"player did not start: {_reason(process)} (whole log: {process.log})")

    # ---------------------------------------------------------------- running

    def _play(self) -> None:
        self._last_message = time.monotonic()
        begin, cpu = time.monotonic(), {name: p.cpu_seconds() for name, p in self._processes.items()}
        self._await_player(*self._ask_player(Transition.TRANSITION_ACTIVATE))
        self.state.phase = "running"
        finished_at = None
        while True:
            self._spin()
            self._respawn()
            now = time.monotonic()
            if self.state.player.get("word") == "finished" or "player" not in self._processes:
                finished_at = finished_at or now
                if now - max(self._last_observation(), finished_at) > _QUIET or now - finished_at > _DRAIN_TIMEOUT:
                    break
        self.state.wall_seconds = time.monotonic() - begin
        self.state.cpu_seconds = {n: p.cpu_seconds() - cpu.get(n, 0.0) for n, p in self._processes.items()}

    def _last_observation(self) -> float:
        return self._last_message if self.state.received.get("hand_forecasts") else 0.0

    def _respawn(self) -> None:
        now = time.monotonic()
        for name, process in list(self._processes.items()):
            if process.died():
                self.state.respawns[name] = process.respawns
                self.state.exits[name] = list(process.exits)
                if name == "player":  # it has no place to go on from: what was played so far is the session
                    del self._processes[name]
                    continue
                if process.respawns > MAX_RESPAWNS and name in WATCHERS:
                    del self._processes[name]
                    continue
                if process.respawns > MAX_RESPAWNS:
                    raise UserError(
                        f"{name} died {process.respawns} times: {_reason(process)} (whole log: {process.log})"
                    )
                self._due[name] = now + _RESPAWN_DELAY
                self._say()
        for name, due in list(self._due.items()):
            if now >= due:
                del self._due[name]
                self._processes[name].start()

    def _spin(self) -> None:
        self._executor.spin_once(timeout_sec=0.05)
        if self._interrupts:
            raise KeyboardInterrupt
        for subscription, seen in list(self._watched.values()):
            for taken in take_waiting(subscription):
                seen(taken.message)
        now = time.monotonic()
        if now - getattr(self, "_looked", 0.0) > 0.2:
            self._looked = now
            self._count_known_topics()
            if self._latencies:
                self.state.latency_p95_ms = 1e3 * float(np.percentile(self._latencies, 95))
            self._on_progress(self.state)

    def _on_player_state(self, message: String) -> None:
        self.state.player = json.loads(message.data)

    def _on_latency(self, data: bytes) -> None:
        message = deserialize_message(data, Latency)
        total = dict(zip(message.stages, message.durations)).get("total")
        if total is not None:
            self._latencies.append(total)

    def _say(self) -> None:
        """What runs, for the recording; again after each restart."""
        self._output.publish(String(data=json.dumps(self._information | {"respawns": self.state.respawns})))

    # ---------------------------------------------------------------- stopping

    def _stop(self) -> None:
        self.state.phase = "stopping"
        for group in STOP_ORDER:
            processes = [self._processes[name] for name in group if name in self._processes]
            if "recorder" in group and processes:
                time.sleep(_LAST_WORDS)
            for process in processes:
                process.died()  # an end just now is an end by itself
                process.ask_to_stop()
            for process in processes:
                watches = process.name in WATCHERS
                in_order = process.stop(_PATIENCE if watches else _STOP_TIMEOUT)
                self.state.killed += [] if in_order or watches else [process.name]
        self.state.phase = "done"


class _Asked:
    """The state of a lifecycle node, asked for again and again: a service's answer is lost where the one who answers
    has not yet discovered who asked (rmw_fastrtps: "failed to send response")."""

    def __init__(self, client):
        self._client, self._future, self._since = client, None, 0.0

    def state(self) -> int | None:
        """An answer to the newest question, once; None while there is none."""
        now = time.monotonic()
        if self._future is not None and self._future.done():
            answer, self._future = self._future.result(), None
            return answer.current_state.id
        if self._future is not None and now - self._since > _ASK_AGAIN:
            self._client.remove_pending_request(self._future)
            self._future = None
        if self._future is None and self._client.service_is_ready():
            self._future, self._since = self._client.call_async(GetState.Request()), now
        return None


def _awaiting(player: NodePlan, others: str) -> NodePlan:
    return replace(player, parameters={"wait_for": others, **player.parameters})


def _reason(process: NodeProcess) -> str:
    """The line of a log that says why: the last error, otherwise the last line."""
    lines = [line for line in process.last_lines(60).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return _OF_ROS.sub("", (errors or lines or ["no output"])[-1].strip())
