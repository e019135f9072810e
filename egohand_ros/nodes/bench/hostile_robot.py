"""`run_trials`: forecaster, retargeter and simulated hand as processes, and what goes wrong around a robot.

Every node is stopped and continued, clocks jump, the robot dies and comes back elsewhere, the hand is lost in every
form, sides are swapped, hands grow threefold, all while a hand opens and closes as fast as it can. The commands are
judged by when they arrived, and by nothing else (`hostile_monitor.py`): when the middleware's receiving threads took
them, which run at real-time priority here, so that a busy computer does not hold up what is measured. So does the
thread that empties their queues: they would wait for a lock that it holds while the computer runs somebody else.
"""

import os
import signal
import struct
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from ...errors import UserError
from ...hand.skeleton import LEFT, RIGHT, WRIST
from ...messages.hands import EXTRAPOLATED, LOST, MEASURED, hands
from ...messages.joints import parse_joint_command_msg
from ...msg import HandForecastArray, HandPoseArray
from ...robot.hands.library import load_hand
from ..base.realtime import raise_priority, realtime_threads
from ..messages.basic import time_msg
from ..messages.hands import build_hand_pose_array_msg
from ..messages.joints import COMMAND_TYPES, JointCommand, build_joint_state_msg
from ..session.plan import NodePlan, node_command
from ..session.processes import NodeProcess, ros_environment
from .held_up import HeldUp
from .hostile_messages import FRAME, human_hand
from .hostile_monitor import TOLERANCE, WINDOW, motion_of, time_to_stand_still, worst_use

RATE = 100.0  # Hz of commands
NODES = ("retargeter", "sim_hand", "forecaster")
STALLS = (1.0, 2.0, 5.0)  # s
LOSSES = ("lost", "absent", "silent", "nothing valid", "extrapolated")
_PRIORITY = 20  # of the monitor's receiving threads (SCHED_FIFO): what it sees late is not the robot's fault
_POSE_PERIOD, _CLOCK_PERIOD, _SWING = 1 / 60, 1 / 200, 0.45  # s
_TIMEOUT = 180.0  # s; starting on a busy machine is slow
_DEPTH = 5000
_LOSS_LASTS = 1.8  # s
_STILL_WITHIN, _RELAX_AFTER, _RELAX_WITHIN = 0.6, 0.8, 1.6  # s; 0.2 and 1.0, with braking and a machine that is busy
_REPORTED_DELAY = 0.01  # s a command is longer on its way than most, from which on transport counts as bundling
_REPAIRED, _ATTEMPTS = 0.1, 6  # s that a message takes longer than most, when the middleware sent it once more
_LATELY = 5.0  # s that are told of where something never came
_LAST_WORDS = 0.3  # s in which what was said in its place may still be on its way; no process starts so soon
_NEW_CLIENT = 10.0  # s
_FAR = 0.3  # rad
_USUAL, _LATE_WAY = 2000, 0.003  # messages that say what is usual, s more than that which count as held up
_AROUND = 0.06  # s before and after the worst 50 ms in which the computer may have held messages up


@dataclass(frozen=True)
class Trial:
    """One thing that went wrong: `worst` use of full speed over any 50 ms by arrival, `worst_sent` by the time at which
    the middleware sent; `slowest` [s]: how much longer than most the longest of the commands was on its way. `still`,
    `relaxed`: s from the hand's loss to the last motion, and to relaxing; `starved`: s for which no forecast had
    come by then. `held_up` [s]: how late the computer woke a process that only waits, or how much later than most a
    message of another process came, at the worst moment (0: in time).
    """

    name: str
    commands: int
    worst: float
    worst_sent: float
    slowest: float = 0.0
    still: float = float("nan")
    relaxed: float = float("nan")
    starved: float = 0.0
    held_up: float = 0.0
    simulated: bool = False

    @property
    def excused(self) -> bool:
        """Whether arrival says nothing of who sent: the middleware lost messages and repaired that late, or commands
        were sent well and the computer let even a process that only waits wait, or others' messages too. In
        simulated time commands go by a clock that a held-up process tells in leaps, so there both count."""
        return self.slowest > _REPAIRED or (
            self.held_up > 0.0 and self.worst > TOLERANCE and (self.simulated or self.worst_sent <= TOLERANCE)
        )


@dataclass
class TrialReport:
    """All trials of one hand; `failures` is empty when it passed. `repeated`: what was tried again, because messages
    were held up on their way by more than a commander can be blamed for. `realtime`: whether the monitor's receiving
    threads had real-time priority; without it a busy computer bundles what it receives, and a verdict by arrival is
    hard on the robot's side."""

    hand: str
    realtime: bool = False
    trials: list[Trial] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    @property
    def worst(self) -> float:
        """Of full speed over any 50 ms by arrival, in the worst trial."""
        return max((trial.worst for trial in self.trials), default=float("nan"))


def run_trials(
    hand: str,
    domain: int,
    logs: Path,
    short: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrialReport:
    """Try everything on one robot hand. `short`: one stall, one loss, one clock step, one restart. Raises `UserError`
    when a node does not start."""
    trials = _Trials(hand, domain, logs)
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    raise_priority(_PRIORITY)
    try:
        trials.start()
        plan = trials.plan(short)
        for done, (name, trial) in enumerate(plan):
            on_progress(done, len(plan))
            try:
                trials.run(name, trial)
            except UserError as error:
                trials.report.failures.append(f"{name}: {error}")
                break
        on_progress(len(plan), len(plan))
    finally:
        trials.stop()
        os.sched_setscheduler(0, *before)
    return trials.report


class _Trials:
    def __init__(self, hand: str, domain: int, logs: Path):
        self.report = TrialReport(hand)
        self._hand = load_hand(hand)
        parameters = dict(hand=hand)
        plans = {
            "forecaster": dict(forecaster="kalman"),
            "retargeter": dict(start_enabled=True, joint_states_timeout=60.0, command_rate=RATE, **parameters),
            "sim_hand": dict(image_rate=0.0, **parameters),
        }
        logs.mkdir(parents=True, exist_ok=True)
        environment = ros_environment(domain) | {"ROS_LOG_DIR": str(logs / "ros")}
        self._processes = {}
        for name, options in plans.items():
            folder = logs / name
            folder.mkdir(exist_ok=True)
            command = node_command(NodePlan(name, options), folder)
            self._processes[name] = NodeProcess(name, command, environment, folder / "log.txt")
        self._held_up = HeldUp(logs / "held_up", _PRIORITY)
        self._context = Context()
        with realtime_threads(_PRIORITY) as self.report.realtime:
            rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
            self._node = Node("trials", context=self._context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        reliable = QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self._poses = self._node.create_publisher(HandPoseArray, "hand_poses", 10)
        self._states = self._node.create_publisher(JointState, "joint_states", 10)
        self._clocks = self._node.create_publisher(Clock, "/clock", 10)
        self._commands: list[tuple[float, float, np.ndarray]] = []  # arrived, sent, q
        self._measured: list[tuple[float, np.ndarray]] = []
        self._at_rest: list[tuple[float, np.ndarray]] = []  # the same by what is known of the robot
        self._mapping = self._hand.command_mapping()
        kind = COMMAND_TYPES[self._mapping.type]
        self._node.create_subscription(kind, "joint_commands", self._on_command, reliable)
        self._node.create_subscription(JointState, "joint_states", self._on_state, reliable)
        self._forecasts: list[tuple[float, float]] = []  # arrived, stamp
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._node.create_subscription(HandForecastArray, "hand_forecasts", self._on_forecasts, best_effort, raw=True)
        self._ways: list[tuple[float, float]] = []  # arrived, s on the way: of other processes' messages
        self._base = time.time()
        self._clock: float | None = None
        self._steady = time.monotonic()
        self._due: defaultdict[str, float] = defaultdict(float)
        self._frame = 0
        self._side = self._hand.side

    # ---------------------------------------------------------------- what arrives

    def _on_command(self, message: JointCommand, info) -> None:
        arrived, sent = (1e-9 * info[f"{kind}_timestamp"] - self._base for kind in ("received", "source"))
        self._commands.append((arrived, sent, parse_joint_command_msg(message, self._mapping)))

    def _on_state(self, message: JointState, info) -> None:
        self._note_way(info)
        if list(message.name) == list(self._hand.joint_names):
            self._measured.append((1e-9 * info["received_timestamp"] - self._base, np.array(message.position)))

    def _on_forecasts(self, serialized: bytes, info) -> None:
        self._note_way(info)
        sec, nanosec = struct.unpack_from("<iI", serialized, 4)  # the header's stamp comes first, after CDR's own four
        self._forecasts.append((1e-9 * info["received_timestamp"] - self._base, sec + 1e-9 * nanosec - self._base))

    def _note_way(self, info) -> None:
        """How long a message of another process was on its way, with which the commander has nothing to do."""
        arrived, sent = (1e-9 * info[f"{kind}_timestamp"] - self._base for kind in ("received", "source"))
        self._ways.append((arrived, arrived - sent))

    def _held_up_at(self, when: float) -> float:
        """By how much [s] the computer or the transport let others wait around the 50 ms that begin at `when`."""
        begin, end = when - _AROUND, when + WINDOW + _AROUND
        usual = float(np.median([way for _, way in self._ways[-_USUAL:]])) if self._ways else 0.0
        late = [way - usual for arrived, way in self._ways if begin < arrived < end]
        on_the_way = max(late, default=0.0)
        return max(
            self._held_up.worst(self._base + begin, self._base + end), on_the_way if on_the_way > _LATE_WAY else 0.0
        )

    # ---------------------------------------------------------------- what is sent

    def _pose(self, form: str) -> HandPoseArray | None:
        """An observation of a hand that opens and closes; `form` says what is wrong with it."""
        steady = time.monotonic()
        closed = 1.0 if (steady % (2 * _SWING)) < _SWING else 0.0
        stamp, points = self._now(), human_hand(closed)
        if self._side == "left":
            points = points * np.array([-1.0, 1.0, 1.0])
        side = LEFT if self._side == "left" else RIGHT
        if form == "three times too large":
            points = points[WRIST] + 3.0 * (points - points[WRIST])
        self._frame += 1
        if form == "swapped sides" and self._frame % 2:
            side = 1 - side
        both = np.full((2, 21, 3), np.nan)
        both[side] = points
        state = np.full(2, LOST)
        state[side] = EXTRAPOLATED if form == "extrapolated" else MEASURED
        message = build_hand_pose_array_msg(hands(stamp, FRAME, both, state=state))
        if form == "silent":
            return None
        if form == "absent":
            message.hands = []
        elif form == "lost":
            message.hands[0].tracking_state = LOST
        elif form == "nothing valid":
            message.hands[0].valid = [False] * 21
        return message

    def _spend(self, seconds: float, form: str = "", state: np.ndarray | None = None) -> None:
        """Let time pass while the hand moves; with `state` somebody publishes it as the robot's."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._step(form, state)

    def _step(self, form: str = "", state: np.ndarray | None = None) -> None:
        steady = time.monotonic()
        if self._clock is not None:
            self._clock += steady - self._steady
            if self._is_due("clock", _CLOCK_PERIOD):
                self._clocks.publish(Clock(clock=time_msg(self._clock)))
        self._steady = steady
        if self._is_due("pose", _POSE_PERIOD):
            message = self._pose(form)
            if message is not None:
                self._poses.publish(message)
        if state is not None and self._is_due("state", 0.01):
            self._states.publish(build_joint_state_msg(self._now(), self._hand.joint_names, state))
        self._executor.spin_once(timeout_sec=0.002)

    def _is_due(self, what: str, period: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = max(self._due[what] + period, now - period)
        return True

    def _now(self) -> float:
        return self._clock if self._clock is not None else time.time()

    # ---------------------------------------------------------------- the trials

    def plan(self, short: bool) -> list[tuple[str, Callable[[], tuple[float, float]]]]:
        """Name and action of each trial; an action returns when the hand was lost and until when, or NaN."""
        stalls = [(node, seconds) for node in NODES for seconds in STALLS]
        losses: tuple[str, ...] = LOSSES
        if short:
            stalls, losses = [("retargeter", 1.0)], ("lost",)
        plan = [("nothing wrong", self._nothing)]
        plan += [(f"{node} stopped for {s:g} s", lambda node=node, s=s: self._stall(node, s)) for node, s in stalls]
        plan += [(f"hand: {form}", lambda form=form: self._lose(form)) for form in losses]
        if not short:
            forms = ("swapped sides", "three times too large")
            plan += [(form, lambda form=form: self._odd(form)) for form in forms]
            plan += [("retargeter killed and started again", lambda: self._restart("retargeter", None))]
        elsewhere = 0.5 * (self._hand.lower + self._hand.upper)
        plan += [("robot lost, back elsewhere", lambda: self._restart("sim_hand", elsewhere))]
        steps = (100.0,) if short else (100.0, -100.0)
        return plan + [(f"clock {step:+g} s", lambda step=step: self._set_clock(step)) for step in steps]

    def run(self, name: str, trial: Callable[[], tuple[float, float]]) -> None:
        """Run one and judge what arrived meanwhile. What fails where arrival says nothing of who sent is tried
        again."""
        for attempts_left in reversed(range(_ATTEMPTS)):
            first, failures = len(self._commands), len(self.report.failures)
            lost, until = trial()
            self._follow_again()
            self._judge(name, first, lost, until)
            if len(self.report.failures) == failures or not self.report.trials[-1].excused or not attempts_left:
                break
            self.report.repeated += self.report.failures[failures:]
            del self.report.failures[failures:], self.report.trials[-1]

    def _nothing(self) -> tuple[float, float]:
        self._spend(2.0)
        return np.nan, np.nan

    def _stall(self, node: str, seconds: float) -> tuple[float, float]:
        pid = self._processes[node].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            self._spend(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        self._spend(1.0)
        return np.nan, np.nan

    def _lose(self, form: str) -> tuple[float, float]:
        lost = time.time() - self._base
        self._spend(_LOSS_LASTS, form)
        return lost, time.time() - self._base

    def _odd(self, form: str) -> tuple[float, float]:
        self._spend(2.0, form)
        return np.nan, np.nan

    def _restart(self, node: str, elsewhere: np.ndarray | None) -> tuple[float, float]:
        process = self._processes[node]
        os.kill(process.pid, signal.SIGKILL)
        self._spend(1.0)
        process.died()
        if elsewhere is not None:
            self._spend(1.5, state=elsewhere)
        process.start()
        if self._clock is not None:
            self._simulate_time((node,))
        if node == "sim_hand":
            self._stand_at_rest()
        return np.nan, np.nan

    def _stand_at_rest(self) -> None:
        """A simulated hand that was started again stands at its rest pose until it is commanded. Whoever commands it
        may have heard it first."""
        begun = time.time() - self._base

        def heard() -> bool:
            if self._is_due("stands", 0.2):
                self._at_rest.append((time.time() - self._base, self._hand.rest_q))
            return self._measured[-1][0] > begun + _LAST_WORDS

        self._wait(heard, "joint_states")

    def _set_clock(self, step: float) -> tuple[float, float]:
        if self._clock is None:
            self._clock = time.time()
            self._simulate_time(NODES)
            self._follow_again()
        self._clock += step
        self._spend(2.0)
        return np.nan, np.nan

    def _simulate_time(self, nodes: tuple[str, ...]) -> None:
        request = SetParameters.Request(parameters=[Parameter("use_sim_time", value=True).to_parameter_msg()])
        for name in nodes:
            clients, asked = [], []

            def answered(name=name, clients=clients, asked=asked) -> bool:
                # A killed node looks alive to the graph for a while, so a question may be lost; and a client that met
                # only half of it stays without answers, so a new one asks.
                if self._is_due(f"client {name}", _NEW_CLIENT):
                    clients.append(self._node.create_client(SetParameters, f"{name}/set_parameters"))
                if clients[-1].service_is_ready() and self._is_due(f"ask {name}", 1.0):
                    asked.append(clients[-1].call_async(request))
                return any(future.done() for future in asked)

            self._due[f"client {name}"] = 0.0
            self._wait(answered, f"the simulated clock of {name}")
            for client in clients:
                self._node.destroy_client(client)

    def _follow_again(self) -> None:
        """Until the robot has been commanded as far as it can go while the hand opens or closes, or nearly so."""
        far = min(_FAR, 0.5 * _SWING * float(self._hand.velocity_limit.max()))
        since = time.time() - self._base

        def moves() -> bool:
            now = time.time() - self._base
            recent = [q for arrived, _, q in self._commands[-120:] if arrived > max(now - 1.5, since)]
            return len(recent) > 60 and float(np.ptp(recent, axis=0).max()) > far

        begin = time.monotonic()
        self._wait(lambda: time.monotonic() - begin > 1.0 and moves(), "commands that follow the hand again")

    def _judge(self, name: str, first: int, lost: float, until: float) -> None:
        rows = self._commands[max(first - 20, 0) :]
        arrived, sent, q = (np.array(column) for column in zip(*rows))
        places = sorted(self._measured + self._at_rest, key=lambda place: place[0])
        at, measured = (np.array(column) for column in zip(*places))
        velocity = self._hand.velocity_limit
        (worst, when), (worst_sent, _) = (
            worst_use(motion_of(times, q, 1.0 / RATE, at, measured), velocity) for times in (arrived, sent)
        )
        delay = arrived - sent
        slowest = float(delay.max() - np.median(delay))
        held_up = self._held_up_at(when)
        still = relaxed = float("nan")
        starved = 0.0
        if np.isfinite(lost):
            still, relaxed = time_to_stand_still(arrived, q, velocity, lost, until)
            # Without forecasts the hand's time began before it was lost: on a busy machine they fail to come.
            starved = lost - max((came for came, stamp in self._forecasts if stamp <= lost), default=lost)
            starved = max(starved, 0.0)
            if still > _STILL_WITHIN:
                self.report.failures.append(f"{name}: it moved on for {still:.2f} s")
            if not _RELAX_AFTER < relaxed + starved or relaxed > _RELAX_WITHIN:
                self.report.failures.append(
                    f"{name}: it relaxed after {relaxed:.2f} s, forecasts failed to come {starved:.2f} s before"
                )
        if worst > TOLERANCE:
            bundled = f"; bundled in transport by up to {1e3 * slowest:.0f} ms" if slowest > _REPORTED_DELAY else ""
            held = f"; the computer held others up by {1e3 * held_up:.0f} ms" if held_up else ""
            self.report.failures.append(
                f"{name}: {worst:.2f} of full speed over 50 ms (as sent: {worst_sent:.2f}{bundled}{held})"
            )
        for process in self._processes.values():
            if process.died():
                self.report.failures.append(f"{name}: {process.name} died: {process.last_lines(1)}")
                process.start()
        number = len(self._commands) - first
        self.report.trials.append(
            Trial(name, number, worst, worst_sent, slowest, still, relaxed, starved, held_up, self._clock is not None)
        )

    # ---------------------------------------------------------------- the nodes

    def start(self) -> None:
        """Until the robot follows."""
        for process in self._processes.values():
            process.log.write_bytes(b"")
            process.start()
        self._follow_again()

    def stop(self) -> None:
        for process in self._processes.values():
            process.ask_to_stop()
        for process in self._processes.values():
            process.stop(15.0)
        self._held_up.stop()
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _TIMEOUT
        while not condition():
            if time.monotonic() > end:
                folder = self._processes["retargeter"].log.parents[1]
                came = self._came_lately()
                raise UserError(f"{self.report.hand}: {what}: not within {_TIMEOUT:g} s; {came}; logs: {folder}")
            self._step()

    def _came_lately(self) -> str:
        """What arrived at last, and how far commands moved in it: which node it is that says nothing."""
        since = time.time() - self._base - _LATELY
        q = [q for arrived, _, q in self._commands if arrived > since]
        moved = float(np.ptp(q, axis=0).max()) if q else 0.0
        forecasts, states = (sum(row[0] > since for row in rows) for rows in (self._forecasts, self._measured))
        return (
            f"in the last {_LATELY:g} s {len(q)} commands came, over {moved:.2f} rad, {forecasts} forecasts and "
            f"{states} joint states"
        )
