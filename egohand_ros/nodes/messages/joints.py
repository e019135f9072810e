"""Joint messages from arrays: commands in the three types that robot hands take, and joint states."""

from typing import TypeAlias

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ...robot.follow.braking import Stop
from ...robot.hands.command import CommandMapping
from .basic import duration_msg, header_msg

JointCommand: TypeAlias = JointState | JointTrajectory | Float64MultiArray

COMMAND_TYPES = {"JointState": JointState, "JointTrajectory": JointTrajectory, "Float64MultiArray": Float64MultiArray}


def build_joint_state_msg(stamp: float, names: tuple[str, ...], q, qd=None, effort=None) -> JointState:
    """sensor_msgs/JointState of positions, velocities and efforts (n,) in SI units."""
    return JointState(
        header=header_msg(stamp, ""),
        name=list(names),
        position=q.tolist(),
        velocity=[] if qd is None else qd.tolist(),
        effort=[] if effort is None else effort.tolist(),
    )


def build_joint_command_msg(
    mapping: CommandMapping, stamp: float, q: np.ndarray, qd: np.ndarray, period: float, stop: Stop
) -> JointCommand:
    """The command for q (n,) rad and qd (n,) rad/s in the robot's type, order, names and units.

    A JointTrajectory passes q with qd `period` s from when it is taken up, and then comes to the stop: what the robot
    does if nothing follows. It is made for joint_trajectory_controller, which by default refuses a trajectory that ends
    in motion, or ended before it arrived; so its stamp is zero, "from now on". Float64MultiArray has no stamp.
    """
    positions = mapping.to_wire(q)
    if mapping.type == "Float64MultiArray":
        return Float64MultiArray(data=positions.tolist())
    velocities = mapping.velocity_to_wire(qd)
    if mapping.type == "JointState":
        return build_joint_state_msg(stamp, mapping.names, positions, velocities)
    passing = _point(positions, velocities, period)
    still = _point(mapping.to_wire(stop.q), np.zeros(len(positions)), period + stop.duration)
    return JointTrajectory(header=header_msg(0.0, ""), joint_names=list(mapping.names), points=[passing, still])


def _point(positions: np.ndarray, velocities: np.ndarray, time_from_start: float) -> JointTrajectoryPoint:
    return JointTrajectoryPoint(
        positions=positions.tolist(), velocities=velocities.tolist(), time_from_start=duration_msg(time_from_start)
    )
