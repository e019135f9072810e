"""`RobotWatch`: whether the robot may be where commands left it, and where it is when that has to be asked.

Three things part a command stream from its robot: the stream itself was held up (a stopped process, a suspended
computer), the robot fell silent, or it is suddenly elsewhere (it was restarted). After each of them commands have to
begin again where the robot is. Times are of a clock that nobody sets, in s.
"""

from collections import deque

import numpy as np

_STALL = 0.2  # s; the watchdogs of robots hold after about so long
# For so long nothing is sent: what had piled up during a stall is read away, and the robot comes to rest.
_SETTLING = 0.15  # s
_FRESH = 0.5  # s; an older joint state does not tell where the robot is now
_READINGS = 3  # their median is believed: one that is wrong, or somebody else's, moves nothing
_FASTEST, _LEAST = 3.0, 0.2  # times full speed, and rad: further from one reading to the next a hand does not move


class RobotWatch:
    """Listens to a robot with velocity limits (n,) rad/s. `silence` s without joint states count as its end."""

    def __init__(self, velocity_limit: np.ndarray, silence: float = 0.5):
        self._velocity, self.silence = velocity_limit, silence
        self.speaks = False  # whether it was ever heard
        self._readings: deque[tuple[float, np.ndarray]] = deque(maxlen=_READINGS)
        self._believed: tuple[float, np.ndarray] | None = None
        self._elsewhere = False
        self._heard = self._settled = self._looked = -np.inf

    def hear(self, q: np.ndarray, now: float) -> None:
        """A joint state q (n,) rad came."""
        self.speaks, self._heard = True, now
        self._readings.append((now, q))
        if len(self._readings) < _READINGS or self._readings[0][0] < self._settled:
            return
        place = np.median([reading for _, reading in self._readings], axis=0)
        if self._believed is not None:
            passed = now - self._believed[0]
            far = np.abs(place - self._believed[1]) > _FASTEST * self._velocity * passed + _LEAST
            self._elsewhere |= bool(far.any())
        self._believed = (now, place)

    def forget(self) -> None:
        """What was heard is void, for instance because the clock was set: nothing is known until the robot speaks."""
        self._readings.clear()
        self._believed = None

    def look(self, now: float, passed: float = np.inf) -> str | None:
        """Why commands may not go on, or None. To be called before every command.

        `passed`: seconds since the last look by the clock that commands go by, where it is a simulated one: while that
        stands still, nothing moves.
        """
        stall, self._looked = min(now - self._looked, passed), now
        if np.isfinite(stall) and stall > _STALL:
            self._settled = now + _SETTLING
            self._heard = now  # it may have spoken all the time
            reason = f"no command was sent for {stall:.1f} s"
        elif self.speaks and now - self._heard > self.silence:
            reason = f"nothing has come on joint_states for {self.silence:g} s"
        elif self._elsewhere:
            self._settled = now + _SETTLING
            reason = "the robot is suddenly elsewhere"
        else:
            return None
        self._elsewhere = False
        self.forget()
        return reason

    def pose(self, now: float) -> np.ndarray | None:
        """Where the robot is (n,) rad, as three recent joint states agree; None where that is not known."""
        if now < self._settled or len(self._readings) < _READINGS:
            return None
        oldest, newest = self._readings[0][0], self._readings[-1][0]
        if oldest < self._settled or now - newest > _FRESH:
            return None
        return np.median([reading for _, reading in self._readings], axis=0)
