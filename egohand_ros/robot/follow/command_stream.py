"""`Follower`: owns the command stream of a robot hand. Targets come in when they can, commands go out when asked for.

    disabled --enable--> holding <--> tracking          every mode moves within the hand's limits
        ^                   |  ^          |
        |                   v  +----------+             holding: no fresh target for `hold_after`
        +--disable--  relaxing                          relaxing: none for `relax_after`, slowly to the rest pose

Disabling brakes to a stop within the limits and then falls silent, so that another commander can take over. Enabling
starts where the robot was measured. Fresh targets end holding and relaxing by themselves. All times are the caller's
(the node's clock), in s; none is read here.

Commands are bounded by when they arrive as well as by their stamps. Time in which none was sent (a stalled process, a
clock that was set) buys no motion; after 0.2 s of it the stream begins at rest, and gently. Whoever knows
that the robot may have moved meanwhile calls `interrupt`, and `enable` with where it was measured.

A robot goes to each command within one period and waits there for the next. So the way within any window exceeds full
speed by no more than the largest of these, one for each command k: what it asks for beyond one period, or what those
before it were ahead by, plus its own motion, less the time between both. That sum is kept below a few per cent of
50 ms. A command which that would make brake harder than the acceleration limit is not sent: the next one is soon due.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from ...errors import RejectedInput
from ..hands.model import HandModel
from ..limits.limiter import HOLD, RELAX, TRACK, JointLimiter

_Answer = TypeVar("_Answer")

# Two commands closer than this tell the robot nothing that one would not.
_SHORTEST_STEP = 5e-4  # s
_STANDSTILL = 1e-3  # rad/s
# Targets and commands may come from two threads, whose readings of the clock may cross.
_CROSSED_CLOCKS = 0.02  # s
# A command moves at most as far as full speed does in so many periods: some are late, none may make up for it.
_LATEST = 1.2
# Whatever goes out within so long, or five periods, may ask for this much more than full speed makes in that time.
_WINDOW, _AHEAD = 0.05, 0.04  # s, -
# Targets are followed at up to this part of full speed, so that messages which transport brings some ms closer together
# still ask for no more than that.
_TOP = 0.93
# Without commands for so long, or for three periods, robots stand still.
_CUT = 0.2  # s
# A target that comes later than they usually do counts as if it had come then. What is usual follows by so much a
# second where targets come later and later.
_FORGOTTEN = 0.2  # s/s
# So soon after a command the robot is on its way there: where it was measured would be a step back.
_SHORT_CLOSURE = 0.5  # s


class Mode(Enum):
    """What the command stream does now."""

    DISABLED = "disabled"
    TRACKING = "tracking"
    HOLDING = "holding"
    RELAXING = "relaxing"


@dataclass(frozen=True)
class FollowerOptions:
    """Times in s, speeds as fractions of the velocity limits, confidences 0 to 1.

    A target with less than `min_confidence` is refused; from there to `full_confidence` the speed grows from 0 to all.
    After relaxing or enabling, speed grows from `relax_speed` to all within `resume_time`. A new path takes over from
    the one before it within `blend_time`, without a jump of position or velocity; 0 takes it at once. `period` is that
    of commands: no command brings more motion than fits into it.
    """

    hold_after: float = 0.2
    relax_after: float = 1.0
    relax_speed: float = 0.15
    max_age: float = 0.5
    future_tolerance: float = 0.05
    min_confidence: float = 0.2
    full_confidence: float = 0.6
    resume_time: float = 0.5
    blend_time: float = 0.0
    period: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.hold_after < self.relax_after:
            raise ValueError(
                f"hold_after is {self.hold_after} s and relax_after {self.relax_after} s;"
                " expected 0 < hold_after < relax_after"
            )
        if not self.min_confidence < self.full_confidence:
            raise ValueError(
                f"min_confidence is {self.min_confidence}, full_confidence {self.full_confidence};"
                " the first has to be smaller"
            )


@dataclass(frozen=True, eq=False)
class Command:
    """One command, to be sent at `stamp`: positions q (n,) rad, velocities qd (n,) rad/s, in the hand's joint order."""

    stamp: float
    q: np.ndarray
    qd: np.ndarray
    mode: Mode


def _alone(method: Callable[..., _Answer]) -> Callable[..., _Answer]:
    """One thread at a time."""

    @wraps(method)
    def locked(self: "Follower", *args: Any, **kwargs: Any) -> _Answer:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Follower:
    """The state machine between targets and commands of one hand. Targets may come from another thread than
    commands.
    """

    def __init__(self, hand: HandModel, options: FollowerOptions = FollowerOptions()):
        self.hand, self.options = hand, options
        self._lock = threading.RLock()
        self._limiter = JointLimiter(hand, relax_speed=options.relax_speed, longest_step=_LATEST * options.period)
        self.mode = Mode.DISABLED
        self.enabled = False
        self.standing = False  # hold where it is whatever the targets are, and follow them gently afterwards
        self._times, self._path = np.zeros(1), hand.rest_q[None]
        self._blend: tuple[float, np.ndarray, np.ndarray] | None = None  # since when, from what position and velocity
        self._speed = 1.0
        self._target_at = -np.inf  # when the newest target came, or would have, had it not been held up
        self._usual_age = np.inf  # of observations, as their targets come
        self._newest = -np.inf  # stamp of the newest target
        self._last: float | None = (
            None  # where time goes on from: the last command, a jump of the clock; None before the first
        )
        self._sent = -np.inf  # stamp of the last command
        self._sent_steady = np.nan  # when that was, by the clock that nobody sets
        # How long full speed takes (n,) [s]: for the last command's motion, and for what those before it are ahead by.
        self._used, self._ahead = np.zeros(hand.n), np.zeros(hand.n)
        self._before = self._ahead, self._sent_steady  # the same before the last command
        self._tracking_since = 0.0
        self._resuming = False

    @property
    def q(self) -> np.ndarray:
        """The last command (n,) rad."""
        return self._limiter.q

    @property
    def stopped(self) -> bool:
        """Whether the last command stands still."""
        return bool(np.abs(self._limiter.qd).max(initial=0.0) < _STANDSTILL)

    def target_age(self, now: float) -> float:
        """Seconds since the newest target came; infinite when there was none."""
        return now - self._target_at if np.isfinite(self._newest) else np.inf

    @_alone
    def enable(self, now: float, measured: np.ndarray | None = None) -> None:
        """Open the gate. `measured` (n,) rad is where the robot is; else the last command or the rest pose is taken.

        Does nothing when enabled already. After a short closure it goes on from the last command.
        """
        if self.enabled:
            return
        if self.mode is Mode.DISABLED and not 0.0 <= now - self._sent < _SHORT_CLOSURE:
            if measured is not None:
                self._limiter.reset(measured)
            self._last = None
        self.enabled, self.mode = True, Mode.HOLDING
        self._hold_from(now)

    @_alone
    def disable(self) -> None:
        """Close the gate: brake within the limits, then no more commands."""
        self.enabled = False

    @_alone
    def interrupt(self) -> None:
        """Send nothing until enabled again, and begin then where the robot is measured: it may be anywhere by now."""
        self.enabled, self.mode = False, Mode.DISABLED
        self._limiter.reset(self._limiter.q)
        self._sent, self._last, self._blend = -np.inf, None, None

    def set_target(self, q: np.ndarray, stamp: float, now: float, confidence: float = 1.0) -> None:
        """Follow q (n,) rad: `set_path` with one point."""
        q = np.asarray(q, dtype=float)
        self.set_path(np.array([now]), q[None], stamp, now, confidence)

    @_alone
    def set_path(self, times: np.ndarray, q: np.ndarray, stamp: float, now: float, confidence: float = 1.0) -> None:
        """Follow positions q (P, n) rad that are due at increasing `times` (P,) s, made from an observation at `stamp`.

        Before the first and after the last time the path stands still. Joints out of range are taken at their limit.
        Raises `RejectedInput`: joint_count, non_finite_target, bad_confidence, low_confidence, zero_stamp,
        future_stamp, stale_stamp, old_stamp.
        """
        times, q = np.asarray(times, dtype=float), np.asarray(q, dtype=float)
        if q.shape != (len(times), self.hand.n) or not len(times):
            raise RejectedInput("joint_count", f"target has shape {q.shape}, the hand has {self.hand.n} joints")
        if not np.isfinite(q).all() or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise RejectedInput("non_finite_target", "a joint target is NaN or infinite")
        if not 0.0 <= confidence <= 1.0:
            raise RejectedInput("bad_confidence", f"confidence is {confidence}; expected 0 to 1")
        self.check_stamp(stamp, now)
        options = self.options
        if self._last is not None and self._was_cut(self._step_to(now, self._last), np.nan):
            self._cut(now)
        if confidence < options.min_confidence:
            raise RejectedInput("low_confidence", f"{confidence:.2f}, below {options.min_confidence:.2f}")
        going_on = self.mode is Mode.TRACKING and now - self._target_at < options.hold_after
        self._blend = (now, *self._target_of(now)) if options.blend_time > 0.0 and going_on else None
        self._newest = stamp
        self._speed = min(
            1.0, (confidence - options.min_confidence) / (options.full_confidence - options.min_confidence)
        )
        self._times, self._path = times, np.clip(q, self.hand.lower, self.hand.upper)
        later = max(now - self._target_at, 0.0) if np.isfinite(self._usual_age) else 0.0
        self._usual_age = min(now - stamp, self._usual_age + _FORGOTTEN * later)
        self._target_at = stamp + self._usual_age

    @_alone
    def extend_path(self, times: np.ndarray, q: np.ndarray) -> None:
        """Append points (as in `set_path`) to the newest path: what could not be waited for when it was set."""
        times, q = np.asarray(times, dtype=float), np.asarray(q, dtype=float)
        times, path = (
            np.concatenate([self._times, times]),
            np.concatenate([self._path, np.clip(q, self.hand.lower, self.hand.upper)]),
        )
        if not (np.isfinite(path).all() and (np.diff(times) > 0).all()):
            raise RejectedInput("non_finite_target", "a path point is NaN or infinite, or its times do not increase")
        self._times, self._path = times, path

    @_alone
    def configure(self, options: FollowerOptions) -> None:
        """Take new options at once, without losing the motion."""
        self.options = options
        self._limiter.relax_speed, self._limiter.longest_step = options.relax_speed, _LATEST * options.period

    @_alone
    def tick(self, now: float, steady: float = np.nan) -> Command | None:
        """The command to send now; None when there is none to send (disabled, or no time has passed).

        `steady`: now by a clock that nobody sets [s], where there is one; then it bounds the motion as well.
        """
        if not np.isfinite(now):
            return None
        since = steady - self._sent_steady
        if self._last is not None and now < self._last:
            self._rebase(now)
        if self._last is not None and self._step_to(now, self._last) < _SHORTEST_STEP:
            return None
        if self._last is not None and self._was_cut(self._step_to(now, self._last), since):
            self._cut(now)
        self._update_mode(now)
        if self.mode is Mode.DISABLED:
            return None
        used = np.zeros(self.hand.n)
        if self._last is not None:
            step, room, before = self._step_to(now, self._last), self._room(since), self._limiter.q
            if not self._limiter.can_slow_to(step, room):
                return None
            self._move(now, step, room)
            used = np.abs(self._limiter.q - before) / self.hand.velocity_limit
        self._last = self._sent = now
        self._used, self._before = used, (self._ahead, self._sent_steady)
        self._went_out(steady)  # until `sent` says better
        return Command(now, self._limiter.q, self._limiter.qd, self.mode)

    @_alone
    def sent(self, steady: float) -> None:
        """The last command went out at this time of the clock that nobody sets: the next is bounded by it.

        One that was held up after it was made goes out closer to the next than their stamps say.
        """
        self._went_out(steady)

    def _room(self, since: float) -> float | np.ndarray:
        """Seconds of full speed (n,) that the next command may ask for, `since` seconds after the last one went out."""
        if not np.isfinite(since):
            return np.inf
        period = self.options.period
        most = _AHEAD * max(_WINDOW, 5.0 * period)
        return most + np.minimum(since - self._ahead, period)

    def _went_out(self, steady: float) -> None:
        ahead, before = self._before
        passed = steady - before if np.isfinite(steady - before) else np.inf
        self._ahead = np.maximum(np.maximum(ahead + self._used - passed, self._used - self.options.period), 0.0)
        self._sent_steady = steady

    def _cut(self, now: float) -> None:
        """No command was sent for long: the robot has stopped, so begin at rest, and gently."""
        self._limiter.reset(self._limiter.q)
        self._last = now
        self._hold_from(now)

    def _was_cut(self, step: float, arrival: float) -> bool:
        """Whether no command was sent for so long that the robot stands still, by either clock."""
        longest = max(_CUT, 3.0 * self.options.period)
        return step > longest or arrival > longest

    def _step_to(self, now: float, last: float) -> float:
        """Time for the next step. After the clock went back and came on again, no more than has passed since the stamp
        of the last command, by which a robot may judge the speed."""
        return now - last if now <= self._sent else now - max(last, self._sent)

    @_alone
    def check_stamp(self, stamp: float, now: float) -> None:
        """Refuse the stamp of an observation that a target could not use; the same reasons as `set_path`."""
        if not np.isfinite(stamp) or stamp <= 0.0:
            raise RejectedInput(
                "zero_stamp", "a stamp of zero has no age; stamp data with the time of their acquisition"
            )
        if self._last is not None and now < self._last - _CROSSED_CLOCKS:
            self._rebase(now)
        if stamp > now + self.options.future_tolerance:
            raise RejectedInput("future_stamp", f"{stamp - now:.3f} s ahead of the clock; are the clocks synchronised?")
        if now - stamp > self.options.max_age:
            raise RejectedInput("stale_stamp", f"{now - stamp:.3f} s old, more than {self.options.max_age} s")
        if stamp <= self._newest:
            raise RejectedInput("old_stamp", "not newer than the target before it")

    def _rebase(self, now: float) -> None:
        """The clock jumped back: what was known of time is void, so stop, and count from here."""
        self._last = now
        self._hold_from(now)

    def _hold_from(self, now: float) -> None:
        """Forget the targets, as if the last one had just become too old; follow new ones gently."""
        self._target_at = now - self.options.hold_after
        self._usual_age = np.inf
        self._newest = -np.inf
        self._resuming = True
        if self.mode is Mode.TRACKING:  # a target may come before the next command: tracking begins anew even so
            self.mode = Mode.HOLDING

    def _update_mode(self, now: float) -> None:
        if not self.enabled:
            if self.mode is not Mode.DISABLED:
                self.mode = Mode.DISABLED if self.stopped else Mode.HOLDING
            return
        age = now - self._target_at
        if self.standing:
            self._resuming, mode = True, Mode.HOLDING
        elif age < self.options.hold_after:
            mode = Mode.TRACKING
        else:
            mode = Mode.HOLDING if age < self.options.relax_after else Mode.RELAXING
        if mode is Mode.TRACKING and self.mode is not Mode.TRACKING:
            self._tracking_since = now
        self._resuming |= mode is Mode.RELAXING
        self.mode = mode

    def _move(self, now: float, dt: float, arrival: float | np.ndarray) -> None:
        if self.mode is Mode.TRACKING:
            target, velocity = self._target_of(now)
            speed = min(self._speed, self._resumed(now), _TOP)
            self._limiter.step(target, dt, TRACK, speed, velocity, arrival)
        else:
            self._limiter.step(None, dt, RELAX if self.mode is Mode.RELAXING else HOLD, arrival=arrival)

    def _target_of(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity (n,) to be met now: the path's, or on the way from the old path to it."""
        target, velocity = self._path_at(now)
        if self._blend is None:
            return target, velocity
        since, position, speed = self._blend
        share = (now - since) / self.options.blend_time
        if not 0.0 <= share < 1.0:
            self._blend = None
            return target, velocity
        apart = position + speed * (now - since) - target
        old = 1.0 - share * share * (3.0 - 2.0 * share)
        change = -6.0 * share * (1.0 - share) / self.options.blend_time
        return target + old * apart, velocity + old * (speed - velocity) + change * apart

    def _path_at(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Position (n,) rad and velocity (n,) rad/s of the path."""
        after = int(np.searchsorted(self._times, now, side="right"))
        if after in (0, len(self._times)):
            return self._path[max(after - 1, 0)], np.zeros(self.hand.n)
        span = self._times[after] - self._times[after - 1]
        slope = (self._path[after] - self._path[after - 1]) / span
        return self._path[after - 1] + slope * (now - self._times[after - 1]), slope

    def _resumed(self, now: float) -> float:
        """Speed while following begins again after relaxing or enabling."""
        if not self._resuming:
            return 1.0
        done = (now - self._tracking_since) / self.options.resume_time
        self._resuming = done < 1.0
        return min(1.0, self.options.relax_speed + (1.0 - self.options.relax_speed) * max(done, 0.0))
