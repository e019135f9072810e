"""`ArmStream`: the commands of one arm, from where it is measured on, in whichever form its controller takes.

Every trajectory goes on for two periods as is wanted now, and then comes to a stop within the limits: an arm whose
commander dies, or is stopped, stands at its end. An arm that is silent, or not where commands left it, gets none until
it is known again where it is, and then one that stands until it has come to those who listen.
"""

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from ...robot.arm.model import ArmModel
from ...robot.arm.motion import ArmMotion, Outlook
from ..base import qos
from ..base.node import EgoHandNode
from ..first_command import FirstCommand
from ..messages.basic import header_msg
from ..messages.handover import build_arm_trajectory_msg, build_tool_pose_msg, build_twist_msg
from ..messages.joints import build_joint_state_msg
from .parameters import POSE, TRAJECTORY, TWIST
from .robot_input import RobotInput

_AHEAD = 2  # periods that a trajectory goes on before it stops
_SPACING = 0.02  # s between the points of a trajectory


class ArmStream:
    """Of a node whose parameters are `ArmParameters`. `beside`: what else it commands, which has to be heard as well
    before anything moves. `fresh` before it is used."""

    def __init__(self, node: EgoHandNode, arm: ArmModel, *beside: Publisher):
        p = node.parameters
        self._node, self._arm, self._output, self._period = node, arm, p.arm_output, 1.0 / p.rate
        kind, topic = {POSE: (PoseStamped, "arm_pose"), TWIST: (TwistStamped, "arm_twist")}.get(
            p.arm_output, (JointTrajectory, arm.config.command_topic if p.use_robot_topics else "arm_commands")
        )
        self._commands = node.advertise(kind, topic, qos.COMMANDS)
        self._targets = node.advertise(JointState, "arm_targets")
        self._first = FirstCommand(self._commands, *beside)
        self.following = False  # commands go on from the ones before

    def fresh(self, motion: ArmMotion, joints: RobotInput) -> None:
        """Nothing is known of the arm; its commands are to be those of `motion`."""
        self._motion, self._joints = motion, joints
        self._outlook: Outlook | None = None
        self._stepped_at = np.nan
        self.following = False

    def begins(self, now: float, steady: float, enabled: bool, start: Callable[[np.ndarray], None]) -> bool:
        """Whether it is known where the arm is, so that a step may be made. Where commands begin anew, `start` is told
        where the arm is, (n,) rad. `now` by the node's clock, `steady` by one that nobody sets, s."""
        self._first.look(steady)
        reason = self._joints.fault(steady, self._motion.q if self.following else None)
        if reason is not None and self.following:
            self.following = False
            self._node.health.count("interruptions")
            self._node.get_logger().warning(f"{reason}: commands begin again where the arm is, once that is known")
        if self.following:
            return True
        pose = self._joints.pose(steady)
        if pose is None:
            return False
        start(pose)
        if enabled:
            self.following, self._stepped_at = True, now
            self._first.begin(steady)
            self._node.get_logger().info(f"commanding {self._arm.config.name}")
        return True

    def catch_up(self, now: float) -> None:
        """Steps that were left out, the arm has gone on by the last outlook."""
        missed = round((now - self._stepped_at) / self._period) - 1 if np.isfinite(self._stepped_at) else 0
        if self.following and self._outlook is not None and missed >= 1:
            self._motion.resume(*self._outlook.at(missed * self._period))
            self._node.health.count("steps left out", missed)
        self._stepped_at = now

    def stands(self, steady: float, simulated_time: bool) -> bool:
        """Whether the next step has to stand: nothing is commanded, or not all who listen have the first command."""
        return not self.following or not (simulated_time or self._first.reached(steady))

    def stepped(self, now: float, steady: float, stands: bool) -> bool:
        """A step of the motion was made: it goes out where it is due. Whether it did."""
        self._outlook = self._motion.outlook(_AHEAD)
        if not self.following or (stands and not self._first.due(steady)):
            return False
        self._publish(self._outlook)
        if self._targets.get_subscription_count():
            names, motion = self._arm.config.joints, self._motion
            self._targets.publish(build_joint_state_msg(now, names, motion.q, motion.qd))
        self._first.sent(steady)
        return True

    def brake(self) -> None:
        """A trajectory that stops at once, where anything is commanded; then no more until it begins anew."""
        if self.following:
            self._publish(self._motion.outlook(), stops=True)
        self.following = False

    def interrupt(self) -> None:
        """It is not known any more where the arm is; nothing goes out."""
        self.following, self._stepped_at = False, np.nan

    def _publish(self, outlook: Outlook, stops: bool = False) -> None:
        motion = self._motion
        if self._output == TRAJECTORY:
            self._commands.publish(build_arm_trajectory_msg(self._arm.config.joints, outlook, _SPACING))
            return
        header = header_msg(self._node.now(), self._node.parameters.base_frame)
        if self._output == POSE:
            self._commands.publish(build_tool_pose_msg(motion.arm.tool(), header))
        else:
            twist = (np.zeros(3), np.zeros(3)) if stops else motion.tool_twist()
            self._commands.publish(build_twist_msg(*twist, header))
