"""Joint messages to arrays: commands in the three types that robot hands take, and joint states.

A `parse_` function raises `RejectedInput` for anything odd.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import RejectedInput
from .basic import Message, seconds

_LARGEST = 1e9  # of a command, in the robot's unit


class JointOrder(Protocol):
    """Our joints and the robot's; `robot/hands/command.py` has it."""

    names: tuple[str, ...]
    joint_names: tuple[str, ...]

    def from_wire(self, values: np.ndarray) -> np.ndarray:
        """Joint positions (..., n) rad of wire values (..., m)."""
        ...


@dataclass(frozen=True)
class JointSample:
    """Named joints at `stamp` s: positions q (n,) rad and velocities qd (n,) rad/s, NaN where not given; the array form
    of JointState."""

    stamp: float
    names: tuple[str, ...]
    q: np.ndarray
    qd: np.ndarray


def parse_joint_sample_msg(message: Message) -> JointSample:
    """`JointSample` of a JointState. Raises `RejectedInput`: wrong_count, non_finite."""
    q, qd = np.array(message.position, dtype=float), np.array(message.velocity, dtype=float)
    if len(message.name) != len(q) or len(qd) not in (0, len(q)):
        raise RejectedInput("wrong_count", f"{len(message.name)} names, {len(q)} positions, {len(qd)} velocities")
    if not np.isfinite(q).all():
        raise RejectedInput("non_finite", "a joint position is NaN or infinite")
    return JointSample(
        seconds(message.header.stamp), tuple(message.name), q, qd if len(qd) else np.full(len(q), np.nan)
    )


def parse_joint_trajectory_msg(message: Message, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (T,) s from its start, positions (T, n) rad and velocities (T, n) rad/s, 0 where not given, of a
    JointTrajectory of the joints `names` in any order.

    Raises `RejectedInput`: no_points, wrong_names, wrong_count, non_finite.
    """
    if not message.points:
        raise RejectedInput("no_points", "a trajectory without points")
    if sorted(message.joint_names) != sorted(names):
        raise RejectedInput("wrong_names", f"expected {', '.join(names)}")
    order = [list(message.joint_names).index(name) for name in names]
    n = len(order)
    if any(len(p.positions) != n or len(p.velocities) not in (0, n) for p in message.points):
        raise RejectedInput("wrong_count", f"a point has not {n} positions and as many velocities, or none")
    times = np.array([seconds(p.time_from_start) for p in message.points])
    q = np.array([p.positions for p in message.points], dtype=float)[:, order]
    qd = np.array([p.velocities if len(p.velocities) else np.zeros(n) for p in message.points], dtype=float)[:, order]
    if not (np.isfinite(q).all() and np.isfinite(qd).all()):
        raise RejectedInput("non_finite", "a position or velocity is NaN or infinite")
    return times, q, qd


def parse_wire_positions_msg(message: Message) -> tuple[tuple[str, ...], np.ndarray]:
    """Names (none for Float64MultiArray) and positions (m,) of a command as it is, in the robot's unit; of a
    trajectory, its first point: those after it say how it would go on if nothing else were commanded.

    Raises `RejectedInput`: no_points, bad_layout.
    """
    if hasattr(message, "layout"):
        if message.layout.data_offset:
            raise RejectedInput("bad_layout", f"layout.data_offset is {message.layout.data_offset}; expected 0")
        return (), np.array(message.data, dtype=float)
    if hasattr(message, "position"):
        return tuple(message.name), np.array(message.position, dtype=float)
    if not message.points:
        raise RejectedInput("no_points", "a trajectory without points")
    return tuple(message.joint_names), np.array(message.points[0].positions, dtype=float)


def parse_joint_command_msg(message: Message, mapping: JointOrder) -> np.ndarray:
    """Positions q (n,) rad of a command for the whole hand: JointState, JointTrajectory or Float64MultiArray. Not
    clipped.

    Raises `RejectedInput`: wrong_count, wrong_names, no_points, bad_layout, non_finite, huge_value.
    """
    names, positions = parse_wire_positions_msg(message)
    ordered = hasattr(message, "layout")
    wire = _checked(positions, len(mapping.names)) if ordered else _in_order(names, positions, mapping)
    return mapping.from_wire(wire)


def parse_joint_state_msg(message: Message, mapping: JointOrder) -> np.ndarray:
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


def _in_order(names: Sequence[str], positions: np.ndarray, mapping: JointOrder) -> np.ndarray:
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


def _checked(values: np.ndarray, count: int) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.shape != (count,):
        raise RejectedInput("wrong_count", f"{values.size} positions, the hand takes {count}")
    if not np.isfinite(values).all():
        raise RejectedInput("non_finite", "a commanded position is NaN or infinite")
    if np.abs(values).max(initial=0.0) > _LARGEST:
        raise RejectedInput("huge_value", f"a commanded position is over {_LARGEST:g}")
    return values
