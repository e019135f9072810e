"""Joint messages from arrays and to arrays: commands in the three types that robot hands take, and joint states.

Pure functions; no node needed. A `parse_` function raises `RejectedInput` for anything odd.
"""

from typing import TypeAlias

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ...errors import RejectedInput
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
    mapping: CommandMapping, stamp: float, q: np.ndarray, qd: np.ndarray, period: float
) -> JointCommand:
    """The command for q (n,) rad and qd (n,) rad/s in the robot's type, order, names and units.

    A JointTrajectory gets one point that is to be reached `period` s after `stamp`. Float64MultiArray has no stamp.
    """
    positions = mapping.to_wire(q)
    if mapping.type == "Float64MultiArray":
        return Float64MultiArray(data=positions.tolist())
    velocities = mapping.velocity_to_wire(qd)
    if mapping.type == "JointState":
        return build_joint_state_msg(stamp, mapping.names, positions, velocities)
    point = JointTrajectoryPoint(
        positions=positions.tolist(), velocities=velocities.tolist(), time_from_start=duration_msg(period)
    )
    return JointTrajectory(header=header_msg(stamp, ""), joint_names=list(mapping.names), points=[point])


def parse_joint_command_msg(message: JointCommand, mapping: CommandMapping) -> np.ndarray:
    """Positions q (n,) rad of a command for the whole hand; of a trajectory, its last point. Not clipped.

    Raises `RejectedInput`: wrong_count, wrong_names, no_points, bad_layout, non_finite, huge_value.
    """
    if isinstance(message, Float64MultiArray):
        if message.layout.data_offset:
            raise RejectedInput("bad_layout", f"layout.data_offset is {message.layout.data_offset}; expected 0")
        wire = _checked(message.data, len(mapping.names))
    elif isinstance(message, JointState):
        wire = _in_order(message.name, message.position, mapping)
    else:
        if not message.points:
            raise RejectedInput("no_points", "a trajectory without points")
        wire = _in_order(message.joint_names, message.points[-1].positions, mapping)
    return mapping.from_wire(wire)


def parse_joint_state_msg(message: JointState, mapping: CommandMapping) -> np.ndarray:
    """Positions q (n,) rad of a joint state, under our names or the robot's; other joints in it are ignored.

    Raises `RejectedInput`: wrong_count, missing_joints, non_finite.
    """
    if len(message.name) != len(message.position):
        raise RejectedInput("wrong_count", f"{len(message.name)} names, {len(message.position)} positions")
    own = dict(zip(message.name, message.position))
    if all(name in own for name in mapping.joint_names):
        q = np.array([own[name] for name in mapping.joint_names], dtype=float)
    else:
        missing = [name for name in mapping.names if name not in own]
        if missing:
            raise RejectedInput("missing_joints", f"{', '.join(missing[:3])} and perhaps more are not in it")
        q = mapping.from_wire(np.array([own[name] for name in mapping.names], dtype=float))
    if not np.isfinite(q).all():
        raise RejectedInput("non_finite", "a joint position is NaN or infinite")
    return q


def _in_order(names, positions, mapping: CommandMapping) -> np.ndarray:
    """Wire values (m,) of positions given under names in any order."""
    if len(names) != len(positions):
        raise RejectedInput("wrong_count", f"{len(names)} names, {len(positions)} positions")
    values = _checked(positions, len(mapping.names))
    if list(names) == list(mapping.names):
        return values
    given = dict(zip(names, values))
    if given.keys() != set(mapping.names):
        unknown = sorted(given.keys() - set(mapping.names))
        hint = f"{unknown[0]!r} is not one of them" if unknown else "some come twice"
        raise RejectedInput("wrong_names", f"expected {', '.join(mapping.names)}; {hint}")
    return np.array([given[name] for name in mapping.names])


def _checked(values, count: int) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.shape != (count,):
        raise RejectedInput("wrong_count", f"{values.size} positions, the hand takes {count}")
    if not np.isfinite(values).all():
        raise RejectedInput("non_finite", "a commanded position is NaN or infinite")
    if np.abs(values).max(initial=0.0) > 1e9:
        raise RejectedInput("huge_value", "a commanded position is over 1e9")
    return values
