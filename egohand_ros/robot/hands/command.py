"""Joint positions in our order and unit <-> the numbers that a robot's command topic wants."""

from collections.abc import Iterable

import numpy as np

from .config import CommandInterface


class CommandMapping:
    """Wire value = clip(scale * unit(sign * q + offset)), in the robot's order and under its names.

    `topic`, `type` (JointState, JointTrajectory or Float64MultiArray), `names` (wire order) and `rate` (least
    publishing rate, Hz; 0 when the robot needs none) come from the hand's config.
    """

    def __init__(self, interface: CommandInterface, joint_names: tuple[str, ...]):
        self.interface = interface
        self.joint_names = tuple(joint_names)
        self.topic, self.type, self.rate = interface.topic, interface.type, interface.rate
        self.state_topic = interface.state_topic
        self.names = tuple(channel.name for channel in interface.channels)
        self.index = np.array([self.joint_names.index(c.joint) for c in interface.channels])
        self._sign = np.array([c.sign for c in interface.channels])
        self._offset = np.array([c.offset for c in interface.channels])
        unit = 180.0 / np.pi if interface.unit == "deg" else 1.0
        self._factor = unit * np.array([c.scale for c in interface.channels])
        self._low = np.array([c.lower for c in interface.channels])
        self._high = np.array([c.upper for c in interface.channels])

    def to_wire(self, q: np.ndarray) -> np.ndarray:
        """Wire values (..., m) of joint positions q (..., n) rad."""
        q = np.asarray(q, dtype=float)[..., self.index]
        return np.clip(self._factor * (self._sign * q + self._offset), self._low, self._high)

    def velocity_to_wire(self, qd: np.ndarray) -> np.ndarray:
        """Wire velocities (..., m) of joint velocities (..., n) rad/s (no offset, no clipping)."""
        return self._factor * self._sign * np.asarray(qd, dtype=float)[..., self.index]

    def from_wire(self, values: np.ndarray) -> np.ndarray:
        """Joint positions (..., n) rad of wire values (..., m), as in `to_wire` without clipping."""
        values = np.asarray(values, dtype=float)
        q = np.full((*values.shape[:-1], len(self.joint_names)), np.nan)
        q[..., self.index] = self._sign * (values / self._factor - self._offset)
        return q

    def from_joint_state(self, names: Iterable[str], positions: Iterable[float]) -> np.ndarray:
        """Joint positions (n,) rad from a JointState's names and positions; NaN for joints that it lacks.

        Wire names are looked for first, and then our own joint names, which carry plain radians.
        """
        given = dict(zip(names, positions))
        wire = np.array([given.get(name, np.nan) for name in self.names], dtype=float)
        q = self.from_wire(wire)
        for i, name in enumerate(self.joint_names):
            if np.isnan(q[i]) and name in given:
                q[i] = float(given[name])
        return q
