"""`retargeter`: forecasts of a hand (or live poses) -> commands of a robot hand.

    subscribes  hand_forecasts   HandForecastArray   with source forecast
                hand_poses       HandPoseArray       with source pose; else where forecasts begin, and their confidence
                joint_states     sensor_msgs/JointState, where motion begins when it is enabled
                robot_description  std_msgs/String, with use_robot_description
    publishes   joint_commands   JointState, JointTrajectory or Float64MultiArray, by the hand's config
                joint_targets    sensor_msgs/JointState: the same in rad, under the URDF's names, always stamped
                ~/debug/latency  Latency from the observation to the command
    serves      ~/enable         std_srvs/SetBool

Commands show the pose that the hand is forecast to have when they take effect: `command_lead`, and what was found by
`egohand calibrate latency`, after they are sent. They go out at `command_rate` from a thread of their own, along the
newest forecast; below 150 Hz each forecast is sent at once, and the next command a period later. What is sent, and
when the hand holds or relaxes, is `robot/follow/command_stream.py`'s. Where the robot may be elsewhere than commands
left it (this process was held up, joint_states stopped or jump), nothing is sent until joint_states tell where it is;
commands begin there, gently (`robot/follow/robot_watch.py`), once the first of them has come to those who listen
(`nodes/first_command.py`). The gate starts closed (`start_enabled`), because a robot must not move just because a
process was started. `joint_commands` is to be remapped to the robot's topic, or `use_robot_topics` takes the topics of
the hand's config.
"""

import threading
import time
from collections import OrderedDict

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from ...errors import RejectedInput, UserError
from ...hand.plausibility import check_hand
from ...hand.skeleton import SIDES
from ...messages.basic import parse_header, seconds
from ...messages.cdr import stamp_of
from ...messages.hands import Hands, parse_hand_pose_array_msg
from ...messages.joints import parse_joint_state_msg
from ...msg import HandForecastArray, HandPoseArray
from ...robot.follow.braking import stop_from
from ...robot.follow.command_stream import Command, Mode
from ...robot.follow.hand_path import HandPath, forecast_path, observed_path
from ...robot.follow.latency_calibration import load_latency
from ...robot.follow.path_follower import Aim, PathFollower
from ...robot.follow.robot_watch import RobotWatch
from ...robot.hands.library import load_hand
from ...robot.hands.model import HandModel
from ...stream.sight import HandSight
from ..base import qos
from ..base.diagnostics import WARN
from ..base.node import EgoHandNode, run_node
from ..base.steady_thread import Beat
from ..base.transports import use_sockets_alone
from ..first_command import FirstCommand
from ..latency import LatencyOutput
from ..messages.forecast import deserialize_futures
from ..messages.joints import COMMAND_TYPES, build_joint_command_msg, build_joint_state_msg
from .parameters import RetargeterParameters

_STEADY_RATE = 150.0  # Hz of commands, from which on waiting for the next one costs little
_POLLING_RATE = 20.0  # Hz of commands, from which on looking at joint_states before each is often enough
_POSES_KEPT = 64  # observations among which the one that a forecast begins with is found
_LONGEST_BRAKING = 0.5  # s


class RetargeterNode(EgoHandNode):
    Parameters = RetargeterParameters

    def __init__(self, **kwargs):
        super().__init__("retargeter", **kwargs)
        self._follower: PathFollower | None = None

    # ---------------------------------------------------------------- wiring

    def setup(self) -> None:
        parameters = self.parameters
        self._use_hand(load_hand(parameters.hand, parameters.urdf or None))
        self._awaits_description = parameters.use_robot_description
        mapping = self._mapping
        if mapping.rate > parameters.command_rate:
            raise UserError(
                f"command_rate is {parameters.command_rate:g} Hz; hand {self._hand.name!r} needs {mapping.rate:g} Hz"
            )
        robot = parameters.use_robot_topics
        topic = mapping.topic if robot else "joint_commands"
        self._commands = self.advertise(COMMAND_TYPES[mapping.type], topic, qos.COMMANDS)
        self._targets = self.advertise(JointState, "joint_targets")
        self._first = FirstCommand(self._commands, self._targets)
        self._latency = LatencyOutput(self)
        states = JointState, mapping.state_topic if robot else "joint_states", self._on_joint_states, qos.SENSOR
        self._poll_states = self._poll_poses = _nothing
        if parameters.command_rate < _POLLING_RATE:
            self.subscribe(*states)
        else:
            self._poll_states = self.subscribe_polled(*states)
        if parameters.source == "forecast":
            taken = self._on_forecasts_in_simulated_time if self._simulated_time() else self._on_forecasts
            self.subscribe(HandForecastArray, "hand_forecasts", taken, qos.SENSOR, raw=True)
            self._poll_poses = self.subscribe_polled(HandPoseArray, "hand_poses", self._remember_poses)
        else:
            self.subscribe(HandPoseArray, "hand_poses", self._on_poses, qos.SENSOR)
        if parameters.use_robot_description:
            self.subscribe(String, "robot_description", self._on_robot_description, qos.LATCHED)
        service = self.create_service(SetBool, "~/enable", self._on_enable)
        self._owned.append((self.destroy_service, service))
        period = 1.0 / parameters.command_rate
        self._sending = threading.RLock()
        on_error, priority = lambda e: self._report("beat", e), parameters.realtime_priority
        self._beat = None if self._simulated_time() else Beat(period, self._on_beat, on_error, priority)
        if self._beat is None:
            self.make_timer(period, self._send)

    def start(self) -> None:
        self._use_hand(self._hand)
        self._poses: OrderedDict[float, HandPoseArray] = OrderedDict()
        self._sight = HandSight(SIDES.index(self._side))
        self._poll_states()  # what came before is of no use
        self._poll_poses()
        self._enable_since = self.now() if self.parameters.start_enabled else None
        self.health.value("hand", f"{self._hand.name}, {self._mapping.type}, driven by the {self._side} hand")
        self.health.value(
            "command interface", self.parameters.command_interface or next(iter(self._hand.config.commands))
        )
        self.health.value("command rate [Hz]", f"{self.parameters.command_rate:g}")
        if self._beat is not None:
            self._beat.start()

    def stop(self) -> None:
        """Brake within the limits; the last command stands still. The clock may stand as well, so it is not asked."""
        self._stop_beat()
        period, now = 1.0 / self.parameters.command_rate, self.now()
        commands = self._follower.commands
        commands.disable()
        for _ in range(round(_LONGEST_BRAKING / period)):
            command = commands.tick(now)
            if command is not None:
                self._publish(command)
            if commands.stopped:
                break
            time.sleep(period)
            now += period

    def release(self) -> None:
        self._stop_beat()

    def reset(self) -> None:
        self._poses.clear()
        self._sight.forget()
        self._robot.forget()
        self._follower.reset()

    def parameters_changed(self, old: RetargeterParameters, new: RetargeterParameters) -> None:
        if self._follower is not None:
            self._follower.commands.configure(new.follower_options())
            self._follower.gate = new.gate()
            self._robot.silence = new.joint_states_silence

    def _use_hand(self, hand: HandModel) -> None:
        parameters = self.parameters
        self._hand, self._side = hand, parameters.side or hand.side
        calibration = parameters.latency_calibration
        self._actuation_delay = load_latency(calibration, hand.name).delay if calibration else 0.0
        self._aim: Aim | None = None
        self._robot = RobotWatch(hand.velocity_limit, parameters.joint_states_silence)
        self._ticked = np.nan
        self._mapping = hand.command_mapping(parameters.command_interface or None)
        self._follower = PathFollower(
            hand, self._side, parameters.objective, parameters.follower_options(), parameters.gate()
        )

    # ---------------------------------------------------------------- gate

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._sending:
            return self._set_gate(request, response)

    def _set_gate(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if not self.is_active:
            response.success, response.message = False, "the node is not active"
        elif request.data:
            self._enable_since = self.now()
            self._open_gate()
            response.success = True
            response.message = (
                "enabled" if self._follower.commands.enabled else "enabled as soon as it is known where the robot is"
            )
        else:
            self._enable_since = None
            self._follower.commands.disable()
            response.success, response.message = True, "disabled: brakes to a stop, then sends nothing"
        return response

    def _open_gate(self) -> None:
        """Enable once it is known where the robot is, or once there was time enough to tell."""
        now = self.now()
        if self._awaits_description:
            self._enable_since = now
            return
        measured = self._robot.pose(time.monotonic())
        if measured is not None:
            self._follower.commands.enable(now, measured)
        elif now < self._enable_since:  # the clock was set back
            self._enable_since = now
            return
        elif self._robot.speaks or now - self._enable_since < self.parameters.joint_states_timeout:
            return  # a robot that spoke once is waited for: it may have been moved
        else:
            self.get_logger().warning(
                "no joint_states: it is not known where the robot is; beginning from the last command or the rest pose"
            )
            self._follower.commands.enable(now)
        # In simulated time nothing starts before everybody listens.
        self._follower.commands.standing = not self._simulated_time()
        self._first.begin(time.monotonic())
        self._enable_since = None
        self.get_logger().info(f"commanding {self._hand.name}")

    def _on_joint_states(self, message: JointState) -> None:
        q = parse_joint_state_msg(message, self._mapping)
        with self._sending:
            self._robot.hear(q, time.monotonic())

    def _on_robot_description(self, message: String) -> None:
        if not self._awaits_description:
            raise RejectedInput("second_robot_description", "the robot cannot change while it is commanded")
        try:
            self._use_hand(load_hand(self.parameters.hand, message.data))
        except UserError as error:
            raise RejectedInput("bad_robot_description", str(error)) from None
        self._awaits_description = False

    # ---------------------------------------------------------------- inputs

    def _remember_poses(self, message: HandPoseArray) -> None:
        self._poses[seconds(message.header.stamp)] = message
        while len(self._poses) > _POSES_KEPT:
            self._poses.popitem(last=False)

    def _on_forecasts(self, serialized: bytes) -> None:
        received, begin = self.now(), time.perf_counter()
        self._poll_poses()
        futures = deserialize_futures(serialized, max_hypotheses=1)
        self._follower.commands.check_stamp(futures.stamp, received)
        future = futures.hand(SIDES.index(self._side))
        if future is None:
            self.health.count("hand_not_forecast")
            return
        hands = self._observation(futures.stamp)
        seen = hands is None or self._sight.sees(hands, self.parameters.hold_after)
        begins = seen and hands is not None and hands.stamp == futures.stamp
        path = forecast_path(
            futures.stamp,
            futures.step_times,
            future.keypoints[0],
            future.keypoint_std[0],
            self._side,
            hands.keypoints[future.side] if begins else None,
            future.wrist_rotation[0],
            hands.wrist_rotation[future.side] if begins else None,
        )
        if not seen:  # a forecast of a hand that nobody sees runs out; what is wrong with it is told all the same
            check_hand(path.keypoints[-1], np.isfinite(path.keypoints[-1]).all(axis=-1))
            self.health.count("hand_not_tracked")
            return
        confidence = 1.0 if hands is None else self._sight.confidence(hands)
        self._follow(path, futures.stamp, confidence, received, begin)

    def _on_forecasts_in_simulated_time(self, serialized: bytes) -> None:
        """As `_on_forecasts`, with a word on ~/debug/latency on those too that are not followed: a clock may wait for
        it.
        """
        solved = self.health.counted("targets")
        try:
            self._on_forecasts(serialized)
        finally:
            if self.health.counted("targets") == solved:
                stamp = stamp_of(serialized)
                self._latency.say(stamp, {"input_age": self.now() - stamp})

    def _on_poses(self, message: HandPoseArray) -> None:
        received, begin = self.now(), time.perf_counter()
        self._follower.commands.check_stamp(parse_header(message.header)[0], received)
        hands = parse_hand_pose_array_msg(message)
        side = SIDES.index(self._side)
        if not self._sight.sees(hands, self.parameters.hold_after):
            self.health.count("hand_not_tracked")
            return
        path = observed_path(hands.stamp, hands.keypoints[side], self._side, hands.wrist_rotation[side])
        self._follow(path, hands.stamp, self._sight.confidence(hands), received, begin)

    def _observation(self, stamp: float) -> Hands | None:
        """The newest observation that a forecast of this stamp can have used; None where there is none, as with
        forecasts that come without poses."""
        pose = self._poses.get(stamp)
        if pose is None:
            earlier = [known for known in self._poses if known < stamp]
            recent = bool(earlier) and stamp - max(earlier) < self.parameters.hold_after
            pose = self._poses[max(earlier)] if recent else None
        return None if pose is None else self.guard("hand_poses", parse_hand_pose_array_msg, pose)

    # ---------------------------------------------------------------- commands

    def _follow(self, path: HandPath, stamp: float, confidence: float, received: float, begin: float) -> None:
        """Solve the pose that is due when a command of now takes effect, and send it; then solve what comes after
        it.
        """
        parsed, now = time.perf_counter(), self.now()
        aim = self._follower.follow(path, stamp, now, self._lead(), confidence)
        solved = time.perf_counter()
        waits = 0.0
        if self._beat is None:
            self._send()
        elif self._beat.period > 1.0 / _STEADY_RATE and self._send():
            self._beat.postpone()
        else:
            waits = self._beat.remaining  # the command goes out then
        sent = time.perf_counter() + waits
        self._follower.look_ahead(aim, stamp, now)
        stages = {
            "input_age": received - stamp,
            "parse": parsed - begin,
            "solve": solved - parsed,
            "publish": sent - solved,
        }
        stages["total"] = stages["input_age"] + sent - begin
        self.health.count("targets")
        self._aim = aim
        self._latency.note(stamp, stages, path.end - stamp - stages["total"])

    def _lead(self) -> float:
        """From a command to its effect, s."""
        return self.parameters.command_lead + self._actuation_delay

    def _on_beat(self) -> None:
        if self.is_active:
            self._send()

    def _send(self) -> bool:
        """Whether a command went out. From the executor's thread and from the beat's: one at a time, so that commands
        go out in order."""
        with self._sending:
            self._poll_states()
            now, steady = self.now(), time.monotonic()
            self._first.look(steady)
            self._look_after_robot(now, steady)
            if self._enable_since is not None:
                self._open_gate()
            commands = self._follower.commands
            if commands.standing and self._first.reached(steady):
                commands.standing = False
            elif commands.standing and not self._first.due(steady):
                return False
            # In simulated time the robot lives in it too: how fast it passes is no matter of ours.
            bounded = not self._simulated_time()
            command = commands.tick(now, steady if bounded else np.nan)
            if command is None:
                return False
            self._publish(command)
            if bounded:
                commands.sent(time.monotonic())
                self._first.sent(steady)
            return True

    def _look_after_robot(self, now: float, steady: float) -> None:
        """Close the gate where the robot may not be where commands left it; it opens again where it is measured."""
        passed, self._ticked = abs(now - self._ticked), now
        reason = self._robot.look(steady, passed if self._simulated_time() else np.inf)
        if reason is None or not self._follower.commands.enabled:
            return
        self._follower.commands.interrupt()
        self._enable_since = now
        self.health.count("interruptions")
        self.get_logger().warning(f"{reason}: commands begin again where the robot is, once that is known")

    def _stop_beat(self) -> None:
        beat = getattr(self, "_beat", None)
        if beat is not None:
            beat.stop()

    def _simulated_time(self) -> bool:
        return bool(self.get_parameter("use_sim_time").value)

    def _publish(self, command: Command) -> None:
        period = 1.0 / self.parameters.command_rate
        stop = stop_from(self._hand, command.q, command.qd)
        self._commands.publish(
            build_joint_command_msg(self._mapping, command.stamp, command.q, command.qd, period, stop)
        )
        if self._targets.get_subscription_count():
            self._targets.publish(build_joint_state_msg(command.stamp, self._hand.joint_names, command.q, command.qd))
        self.health.count("commands")

    def update_health(self) -> None:
        if not self.is_active:
            return
        mode, source = self._follower.commands.mode, f"hand_{self.parameters.source}s"
        waiting, missing = (
            self._enable_since is not None,
            "robot_description" if self._awaits_description else "joint_states",
        )
        self.health.value("mode", f"waiting for {missing}" if waiting else mode.value)
        self.health.value("target age [s]", f"{self._follower.commands.target_age(self.now()):.3f}")
        if self._beat is not None:
            self.health.value("real-time priority", self._beat.allowed)
            self.health.value("missed periods", self._beat.missed)
        if self._aim is not None:
            self.health.value("pose commanded ahead of its observation [s]", f"{self._aim.lead:.3f}")
        self.health.condition("gate", waiting, f"enabled, but nothing comes on {missing}", WARN)
        late = mode in (Mode.HOLDING, Mode.RELAXING) and self._follower.commands.enabled
        self.health.condition("watchdog", late, f"{mode.value}: no usable {source} of the {self._side} hand", WARN)


def _nothing() -> None:
    """There is nothing to look at."""


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(RetargeterNode, args, use_sockets_alone)


if __name__ == "__main__":
    raise SystemExit(main())
