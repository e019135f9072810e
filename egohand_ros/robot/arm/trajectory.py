"""What an arm's controller does with trajectories, as ros2_controllers' joint_trajectory_controller does: each new one
replaces the one before, from where the arm is commanded to be at that moment, and at its end the arm stands.
"""

import numpy as np

from ...errors import RejectedInput

_FASTEST = 3.0  # times a joint's speed limit; a trajectory that asks for more is refused


class TrajectoryFollower:
    """Position set-points (n,) rad along cubic splines through the points of the newest trajectory.

    `lower`, `upper` (n,) rad and `velocity` (n,) rad/s are the joints' limits.
    """

    def __init__(self, q: np.ndarray, lower: np.ndarray, upper: np.ndarray, velocity: np.ndarray):
        self._lower, self._upper, self._velocity = lower, upper, velocity
        still = np.zeros(len(q))
        self._time = np.zeros(1)
        self._q, self._qd = q[None].copy(), still[None]
        self._began = 0.0

    def follow(self, times: np.ndarray, q: np.ndarray, qd: np.ndarray, now: float) -> None:
        """Take up points at `times` (T,) s from now: q, qd (T, n). Raises `RejectedInput`: bad_times, ends_in_motion,
        out_of_range, too_fast."""
        if len(times) < 1 or times[0] <= 0.0 or (np.diff(times) <= 0.0).any():
            raise RejectedInput("bad_times", "time_from_start has to be positive and to increase")
        if np.abs(qd[-1]).max() > 1e-6:
            raise RejectedInput("ends_in_motion", "the last point of a trajectory has to be at rest")
        if ((q < self._lower - 1e-6) | (q > self._upper + 1e-6)).any():
            raise RejectedInput("out_of_range", "a point lies beyond the range of a joint")
        here, speed = self.at(now)
        path = np.concatenate([here[None], q])
        pace = np.abs(np.diff(path, axis=0)) / np.diff(times, prepend=0.0)[:, None]
        if (pace > _FASTEST * self._velocity).any():
            raise RejectedInput("too_fast", "a joint would have to be faster than it can")
        self._time = np.concatenate([[0.0], times])
        self._q, self._qd = path, np.concatenate([speed[None], qd])
        self._began = now

    def at(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Set-points (n,) rad and their speeds (n,) rad/s; after the end of the trajectory, at rest there."""
        t = now - self._began
        i = int(np.searchsorted(self._time, t, side="right")) - 1
        if i < 0:
            return self._q[0].copy(), np.zeros(self._q.shape[1])
        if i >= len(self._time) - 1:
            return self._q[-1].copy(), np.zeros(self._q.shape[1])
        span = float(self._time[i + 1] - self._time[i])
        s = (t - float(self._time[i])) / span
        a, b, va, vb = self._q[i], self._q[i + 1], span * self._qd[i], span * self._qd[i + 1]
        c2, c3 = 3.0 * (b - a) - 2.0 * va - vb, 2.0 * (a - b) + va + vb
        q = a + s * (va + s * (c2 + s * c3))
        return q, (va + s * (2.0 * c2 + 3.0 * s * c3)) / span
