"""Judge a recorded command stream against a hand's limits: by the commands' stamps, and by when they arrived.

Stamps alone do not tell what a robot sees. A command that was held up, or stamped by a clock that was set, may ask for
more motion at once than the robot can make, so arrival is judged on its own: what arrives within any 50 ms may move
the hand as far as full speed does in that time, and in one period more, since a robot holds the last command until
the next. Where nothing arrived for long the robot may have moved by itself: commands may begin again where it was
measured.
"""

from dataclasses import dataclass

import numpy as np

from ..hands.model import HandModel

# Stamps are whole nanoseconds, and float64 holds seconds since 1970 to a quarter of a microsecond.
_STAMP_ERROR = 1e-9  # s
_EPS = 2.3e-16
_RELATIVE = 1e-3  # of a limit
_LATE = 1.25  # periods: a step that takes longer came late
_WINDOW = 0.05  # s
_ARRIVAL_TOLERANCE = 1.05
_AT_ONCE = 3.0  # periods of motion that may come at once after a gap: that many are not told from a lost message
_TRANSPORT_JITTER = 0.1  # s, by which a message may be held up on its way more than another
_TOGETHER = 0.02  # s within which messages of two senders come with each other
_STATE_AGE = 1.0  # s; an older joint state does not tell where the robot was when commands began again


@dataclass(frozen=True)
class LimitAudit:
    """Commands that broke a limit, by kind, and the worst use of each limit (1 is exactly at it).

    `arrival`: commands that, with those that arrived shortly before, ask for more than full speed; 0 where it is not
    known when they arrived.
    """

    commands: int
    position: int
    velocity: int
    acceleration: int
    worst_velocity: float
    worst_acceleration: float
    arrival: int = 0
    worst_arrival: float = 0.0

    @property
    def violations(self) -> int:
        return self.position + self.velocity + self.acceleration + self.arrival


def audit_limits(
    hand: HandModel,
    stamp: np.ndarray,
    q: np.ndarray,
    position_error: float = 1e-9,
    received: np.ndarray | None = None,
    lost: np.ndarray | None = None,
    measured: tuple[np.ndarray, np.ndarray] | None = None,
    period: float | None = None,
    late: np.ndarray | None = None,
) -> LimitAudit:
    """Audit commands q (T, n) rad sent at `stamp` (T,) s: position, first and second differences; with `received`
    (T,) s also what arrived within any 50 ms. `lost` (T - 1,) marks steps between which commands are known to have been
    sent that this record misses. `measured`: joint states (M, n) rad of the robot, and when they came (M,) s; after
    three periods without a command the next ones are judged from there or from the last command, whichever is nearer.
    `period` s is that of the commands; without it the usual step is taken for it, which is too short where forecasts
    are sent at once as well. `late` (T,) s: by how much this record is known to have been late itself as each command
    came (`others_late`), which says nothing of when a robot got it.

    `position_error` rad is how exactly q is known (1e-9 for a float64 wire). A stamp that does not increase starts a
    new stretch, over which no differences are taken. NaN counts as a broken position limit. A step that came late, by
    more than a quarter of the usual period, may be as short as it likes: the robot stood still for the rest of it, so
    slowing down over it is no acceleration.
    """
    stamp, q = np.asarray(stamp, dtype=float), np.asarray(q, dtype=float).reshape(len(stamp), hand.n)
    inside = (q >= hand.lower - position_error) & (q <= hand.upper + position_error)
    broken = int((~inside).any(axis=1).sum())
    steps = np.diff(stamp)
    cuts = np.flatnonzero(steps <= 0) + 1
    if period is None:
        period = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    velocity, acceleration = [np.empty((0, hand.n))], [np.empty((0, hand.n))]
    for t, x in zip(np.split(stamp, cuts), np.split(q, cuts)):
        use_v, use_a = _use_of_limits(hand, t, x, position_error, period)
        velocity.append(use_v)
        acceleration.append(use_a)
    use_v, use_a = np.concatenate(velocity), np.concatenate(acceleration)
    use = (
        np.zeros((0, hand.n))
        if received is None
        else _use_on_arrival(hand, stamp, q, np.asarray(received, float), lost, measured, period, late)
    )
    return LimitAudit(
        commands=len(stamp),
        position=broken,
        velocity=int((use_v > 1.0).any(axis=1).sum()),
        acceleration=int((use_a > 1.0).any(axis=1).sum()),
        worst_velocity=float(use_v.max(initial=0.0)),
        worst_acceleration=float(use_a.max(initial=0.0)),
        arrival=int((use > _ARRIVAL_TOLERANCE).any(axis=1).sum()),
        worst_arrival=float(use.max(initial=0.0)),
    )


def others_late(received: np.ndarray, stamp: np.ndarray, arrived: np.ndarray) -> np.ndarray:
    """By how much later than usual another sender's messages, of `stamp` (M,) s and `arrived` (M,) s, came with those
    that were `received` (T,) s, (T,) s: who records, or the transport of all, was held up by so much, and not the one
    who sent."""
    late = arrived - stamp
    late = late - np.median(late) if len(late) else late
    first = np.searchsorted(arrived, received - _TOGETHER)
    last = np.searchsorted(arrived, received + _TOGETHER, side="right")
    return np.array([late[a:b].max(initial=0.0) for a, b in zip(first, last)])


def _use_of_limits(
    hand: HandModel, t: np.ndarray, x: np.ndarray, position_error: float, period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the velocity (T-1, n) and acceleration (T-2, n) limits, what may be measurement error taken off."""
    if len(t) < 2:
        return np.empty((0, hand.n)), np.empty((0, hand.n))
    dt = np.diff(t)[:, None]
    v = np.diff(x, axis=0) / dt
    stamp_error = _STAMP_ERROR + 2 * _EPS * float(np.abs(t).max())
    v_error = 2 * position_error / dt + np.abs(v) * (2 * stamp_error / dt) + _RELATIVE * hand.velocity_limit
    use_v = np.maximum(np.abs(v) - v_error, 0.0) / hand.velocity_limit
    span = (dt[1:] + dt[:-1]) / 2
    a_error = (
        v_error[1:] + v_error[:-1] - 2 * _RELATIVE * hand.velocity_limit
    ) / span + _RELATIVE * hand.acceleration_limit
    use_a = np.maximum(np.abs(np.diff(v, axis=0)) / span - a_error, 0.0) / hand.acceleration_limit
    late = dt[1:] > _LATE * period
    slower = (np.abs(v[1:]) <= np.abs(v[:-1])) & (v[1:] * v[:-1] >= 0.0)
    return use_v, np.where(late & slower, 0.0, use_a)


def _use_on_arrival(
    hand: HandModel,
    stamp: np.ndarray,
    q: np.ndarray,
    received: np.ndarray,
    lost: np.ndarray | None,
    measured: tuple[np.ndarray, np.ndarray] | None,
    usual: float,
    late: np.ndarray | None,
) -> np.ndarray:
    """Fraction (T - 1, n) of full speed that commands, with those of the 50 ms before, ask for as they arrive.

    A message that was held up arrives with the next ones. Stamps tell that from a burst of the sender, as far as
    transport may hold a message up, or is known to have. A gap before the first of them may hold as many periods'
    motion as commands may bring at once after one (`_AT_ONCE`), or as its stamps say where commands are known to be
    missing in it.
    """
    if len(q) < 2:
        return np.zeros((0, hand.n))
    steps = np.diff(stamp)
    period = _LATE * usual
    gap = np.maximum(steps, period)
    lost = np.zeros(len(steps), dtype=bool) if lost is None else lost
    gap = np.maximum(np.where(lost, gap, np.minimum(gap, _AT_ONCE * usual)), period)
    silent = ~lost & (np.diff(received) > _AT_ONCE * usual)
    origin = q[:-1] if measured is None else _origins(q, received, silent, *measured)
    worst = np.zeros((len(q) - 1, hand.n))
    jitter = np.full(len(q), _TRANSPORT_JITTER) if late is None else np.maximum(late, _TRANSPORT_JITTER)
    first = np.searchsorted(received, received - _WINDOW, side="right")
    for back in range(int((np.arange(len(q)) - first).max()) + 1):
        end = np.arange(max(back, 0) + 1, len(q))
        begin = end - back
        end, begin = end[begin >= np.maximum(first[end], 1)], begin[begin >= np.maximum(first[end], 1)]
        passed = received[end] - received[begin]
        passed = passed + np.clip(stamp[end] - stamp[begin] - passed, 0.0, jitter[begin])
        moved = np.abs(q[end] - origin[begin - 1])
        worst[end - 1] = np.maximum(worst[end - 1], moved / (hand.velocity_limit * (passed + gap[begin - 1])[:, None]))
    return worst


def _origins(
    q: np.ndarray, received: np.ndarray, silent: np.ndarray, measured_at: np.ndarray, measured: np.ndarray
) -> np.ndarray:
    """Where the robot was (T - 1, n) before each command but the first: at the one before it, or, after a silence,
    where it was measured if that is nearer."""
    origin = q[:-1].copy()
    for k in np.flatnonzero(silent):
        last = int(np.searchsorted(measured_at, received[k + 1])) - 1
        if last < 0 or received[k + 1] - measured_at[last] > _STATE_AGE:
            continue
        if np.abs(q[k + 1] - measured[last]).max() < np.abs(q[k + 1] - q[k]).max():
            origin[k] = measured[last]
    return origin
