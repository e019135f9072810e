"""`handover`: hands and their forecasts -> an arm and a dexterous hand that give to a person, or take from one.

    subscribes  hand_poses         HandPoseArray
                hand_forecasts     HandForecastArray, every hypothesis with its covariance
                camera_pose        geometry_msgs/PoseStamped in fixed_frame: the head
                joint_states       sensor_msgs/JointState of arm and hand, in one message or in two
                wrench             geometry_msgs/WrenchStamped, force at the wrist, in base_frame or the flange's frame
                prompt             std_msgs/String, what the person is about to do
    publishes   handover_state     HandoverState
                arm_commands       trajectory_msgs/JointTrajectory, for a joint_trajectory_controller
                arm_pose           geometry_msgs/PoseStamped, instead, with arm_output pose: the tool's, in base_frame
                arm_twist          geometry_msgs/TwistStamped, instead, with arm_output twist
                arm_targets        sensor_msgs/JointState, the first point of it, always stamped
                joint_commands     JointState, JointTrajectory or Float64MultiArray, by the hand's config
                joint_targets      sensor_msgs/JointState: the same in rad, under the URDF's names
                ~/debug/latency    Latency from a forecast to the first command that it is in
    serves      ~/enable           std_srvs/SetBool
                ~/handover         Handover, an action: one goal at a time

Every trajectory goes on for two periods as is wanted now, and then comes to a stop within the limits: an arm whose
commander dies, or is stopped, stands at its end. What is known of the person slows the arm from `slow_after` on and
stops it at `stop_after`, whoever went silent. An arm or hand that is silent, or an arm that is not where commands left
it, gets none until it is known again where it is, and then one that stands until it has come to those who listen. The
gate starts closed (`start_enabled`). This is no safety device: docs/handover.md says what it does not protect from.
"""

from dataclasses import replace

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from ...action import Handover
from ...errors import RejectedInput
from ...handover.controller import EITHER
from ...handover.driver import Command, HandoverDriver, HandoverRobot
from ...handover.intent import GIVE, TAKE
from ...handover.machine import Outcome, Phase
from ...handover.touch import TouchSense
from ...messages.basic import seconds
from ...messages.forecast import Futures
from ...messages.hands import Hands
from ...msg import HandoverState
from ...robot.arm.motion import ArmMotion
from ...robot.follow.braking import stop_from
from ..arm.commander import ArmCommander, Arrival
from ..base import qos
from ..base.diagnostics import WARN
from ..base.node import run_node
from ..base.transports import use_sockets_alone
from ..messages.basic import header_msg
from ..messages.handover import build_handover_state_msg
from ..messages.joints import COMMAND_TYPES, build_joint_command_msg, build_joint_state_msg
from .parameters import HandoverParameters

_ASKED = {"give": GIVE, "take": TAKE, "either": EITHER}
_LET_GO = 1.0  # s after a transfer in which a force is still the object's
_PAUSE = 1.0  # s between handovers that begin by themselves


class HandoverNode(ArmCommander):
    Parameters = HandoverParameters
    ARRIVAL_TO_COMMAND = "forecast_to_command"

    def __init__(self, **kwargs):
        super().__init__("handover", **kwargs)
        self._goal = None

    # ---------------------------------------------------------------- wiring

    def setup(self) -> None:
        p = self.parameters
        self._options = p.options()
        self._robot = HandoverRobot(p.arm, p.hand, self._options)
        self._mapping = self._robot.hand.command_mapping(p.command_interface or None)
        hand_topic = self._mapping.topic if p.use_robot_topics else "joint_commands"
        self._hand_commands = self.advertise(COMMAND_TYPES[self._mapping.type], hand_topic, qos.COMMANDS)
        self._hand_targets = self.advertise(JointState, "joint_targets")
        self._states = self.advertise(HandoverState, "handover_state")
        self.wire(self._robot.arm, self._robot.hand, self._hand_commands)
        self._polls.append(self.subscribe_polled(WrenchStamped, "wrench", self._on_wrench))
        self.subscribe_also_latched(String, "prompt", self._on_prompt, qos.OBSERVATIONS)
        server = ActionServer(
            self,
            Handover,
            "~/handover",
            execute_callback=self._finish_goal,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )
        self._owned.append((lambda owned: owned.destroy(), server))
        self.make_timer(1.0 / p.state_rate, self._tell)

    def fresh(self) -> ArmMotion:
        p, robot = self.parameters, self._robot
        self._driver = HandoverDriver(robot, self._options, p.holds_object, 1.0 / p.rate)
        self._sense = TouchSense(robot.hand, p.sense_options())
        self._command: Command | None = None
        self._idle_since, self._known_at = -np.inf, self.now()
        self._prompt = ""
        self._touched_at = -np.inf  # when an object was last between two hands
        return self._driver.motion

    def stop(self) -> None:
        super().stop()
        self._settle_goal()

    def forget(self) -> None:
        self._driver.controller.forget()

    def use_parameters(self) -> None:
        self._options = self.parameters.options()
        self._driver.use(self._options)

    # ---------------------------------------------------------------- inputs

    def see(self, hands: Hands, arrival: Arrival) -> None:
        camera = self._frames.camera(hands.stamp)
        head = None if camera is None else camera[:3, 3]
        self._driver.controller.observe(self.now(), hands, None, head, prompt=self._prompt)

    def foresee(self, futures: Futures, arrival: Arrival) -> None:
        self._driver.controller.foresee(futures)
        self._newest = arrival

    def _on_wrench(self, message: WrenchStamped) -> None:
        f = message.wrench.force
        force = np.array([f.x, f.y, f.z])
        if not np.isfinite(force).all():
            raise RejectedInput("non_finite", "a force is NaN or infinite")
        if message.header.frame_id != self.parameters.base_frame:
            force = self._robot.measured_arm.flange()[:3, :3] @ force
        in_transfer = self._driver.controller.machine.phase in (Phase.TRANSFER, Phase.RETREAT)
        self._sense.force(force, seconds(message.header.stamp), in_transfer)

    def _on_prompt(self, message: String) -> None:
        self._prompt = message.data

    # ---------------------------------------------------------------- control

    def begin(self, pose: np.ndarray) -> None:
        """Stand there, with the fingers where they are meant to be, or are."""
        going_on = self._enabled and self._command is not None
        self._driver.start(pose, self._driver.fingers if going_on else self._joints.q["hand"])

    def step(self, now: float, stands: bool) -> None:
        self._known_at = now
        self._begin_by_itself(now)
        joints = self._joints
        self._sense.fingers(self._driver.fingers, joints.q["hand"], joints.qd["hand"])
        if self._driver.controller.machine.phase in (Phase.TRANSFER, Phase.RETREAT):
            self._touched_at = now
        palm = self._robot.measured_arm.tool()[:3, 0]
        touch = self._sense.touch(palm, 0.0 <= now - self._touched_at < _LET_GO)
        self._command = self._driver.step(now, joints.q["arm"], joints.q["hand"], touch, stand=stands)

    def sent(self, now: float) -> None:
        """The hand's command goes out beside the arm's."""
        command, period = self._command, 1.0 / self.parameters.rate
        hand, q, qd = self._robot.hand, command.fingers, command.fingers_qd
        self._hand_commands.publish(build_joint_command_msg(self._mapping, now, q, qd, period, stop_from(hand, q, qd)))
        if self._hand_targets.get_subscription_count():
            self._hand_targets.publish(build_joint_state_msg(now, hand.joint_names, q, qd))
        super().sent(now)

    def in_doubt(self, now: float) -> None:
        """A robot that stays silent ends what was begun."""
        if now - self._known_at > self._options.machine.lost_after or now < self._known_at:
            self._driver.controller.machine.stop(now, "it is not known where the robot is")

    def _begin_by_itself(self, now: float) -> None:
        machine, wanted = self._driver.controller.machine, self.parameters.without_goal
        if machine.phase != Phase.IDLE or not self._enabled or self._goal is not None or wanted not in _ASKED:
            self._idle_since = now if machine.phase != Phase.IDLE else self._idle_since
            return
        if now - self._idle_since > _PAUSE and self._can(_ASKED[wanted]):
            self._driver.controller.begin(now, _ASKED[wanted], self.parameters.timeout)

    def _can(self, direction: int) -> bool:
        """A full hand takes nothing, an empty one gives nothing."""
        holds = self._driver.controller.machine.robot_holds
        return direction == EITHER or holds == (direction == TAKE)

    # ---------------------------------------------------------------- gate and goals

    def close_gate(self, reason: str) -> None:
        super().close_gate(reason)
        self._driver.controller.machine.stop(self.now(), reason)

    def _on_goal(self, request: Handover.Goal) -> GoalResponse:
        reason = self._refusal(request)
        if reason:
            self.get_logger().warning(f"goal refused: {reason}")
            self.health.count("goals refused")
        return GoalResponse.REJECT if reason else GoalResponse.ACCEPT

    def _refusal(self, request: Handover.Goal) -> str:
        if not self.is_active or not self._enabled:
            return "the node is not active" if not self.is_active else "not enabled: call ~/enable"
        if self._goal is not None:
            return "there is a goal already"
        if request.direction not in (EITHER, GIVE, TAKE):
            return f"direction is {request.direction}; expected 0 (either), 1 (give) or 2 (take)"
        if not self._can(request.direction):
            return "the robot holds an object" if request.direction == GIVE else "the robot holds no object"
        return ""

    def _on_accepted(self, goal) -> None:
        with self._lock:
            self._goal = goal
            asked = goal.request
            timeout = seconds(asked.timeout) or self.parameters.timeout
            self._known_at = self.now()
            self._driver.controller.begin(self.now(), asked.direction, timeout)

    def _tell(self) -> None:
        """The state, also as feedback; and the end of a goal."""
        self._settle_goal()
        with self._lock:
            if self._command is None:
                return
            message = self._state_message()
            goal = self._goal
            if goal is not None and goal.is_cancel_requested:
                self._driver.controller.cancelled = True
        self._states.publish(message)
        if goal is not None:
            goal.publish_feedback(Handover.Feedback(state=message))

    def _state_message(self) -> HandoverState:
        plan = self._command.plan
        known = max(self._driver.controller.stamp, 0.0)
        header = header_msg(known, self.parameters.base_frame)
        machine = self._driver.controller.machine
        plan = replace(plan, phase=machine.phase, reason=machine.reason)
        return build_handover_state_msg(plan, header, known, self._options, self._driver.motion.tool_speed())

    def _settle_goal(self) -> None:
        """Give a goal its result once the handover is over."""
        with self._lock:
            machine, goal = self._driver.controller.machine, self._goal
            if goal is None or machine.phase != Phase.IDLE:
                return
            self._goal = None
            self._result = machine.outcome, machine.direction, machine.reason
        goal.execute()

    def _finish_goal(self, goal) -> Handover.Result:
        outcome, direction, reason = self._result
        outcome = Outcome.ABORTED if outcome is None else outcome
        if goal.is_cancel_requested:
            goal.canceled()
        elif outcome == Outcome.SUCCESS:
            goal.succeed()
        else:
            goal.abort()
        self.health.count(f"handovers/{outcome.name.lower()}")
        return Handover.Result(outcome=int(outcome), direction=int(direction), message=reason)

    # ---------------------------------------------------------------- diagnostics

    def update_health(self) -> None:
        if not self.is_active:
            return
        machine = self._driver.controller.machine
        self.health.value("phase", f"{machine.phase.name}: {machine.reason}")
        age = self._driver.controller.age(self.now())
        self.health.value("age of what is known [s]", f"{age:.3f}" if np.isfinite(age) else "never")
        self.tell_arm()
        held = machine.phase == Phase.HOLD
        self.health.condition("person", held, f"the arm holds: {machine.reason}", WARN)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(HandoverNode, args, use_sockets_alone)


if __name__ == "__main__":
    raise SystemExit(main())
