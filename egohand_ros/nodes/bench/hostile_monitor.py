"""What a robot would make of the commands that reached it, judged by when they arrived and by nothing else.

Written apart from what it judges: it knows commands, arrival times, joint states and the hand's velocity limits, and
shares no code with limiter, command stream or audit.

A robot is taken to go to each command within one period of the stream, as its driver does by interpolation, and to stay
there until the next. Over no 50 ms may it have to go further than full speed does in that time.
"""

from dataclasses import dataclass

import numpy as np

WINDOW = 0.05  # s
TOLERANCE = 1.05
_SILENCE = 3.0  # periods after which a robot may be elsewhere than its last command
_STATE_AGE = 1.0  # s
# A robot that was started again may be heard by whoever commands it first: what is heard so soon after tells as well,
# since no robot gets far in that time.
_STATE_AFTER = 0.1  # s


@dataclass(frozen=True)
class Motion:
    """The robot's path in stretches: times (B,) s and positions (B, n) rad at which it turns. Between two stretches it
    was not commanded, and the second one begins where the robot was measured."""

    stretches: tuple[tuple[np.ndarray, np.ndarray], ...]


def motion_of(
    arrived: np.ndarray, q: np.ndarray, period: float, measured_at: np.ndarray, measured: np.ndarray
) -> Motion:
    """The path under commands q (T, n) rad that arrived at (T,) s, with joint states (M, n) that came at (M,) s.

    Commands that begin anew after a silence are judged from the last command or from where the robot was measured,
    whichever is nearer to them.
    """
    stretches, times, places, last = [], [], [], -np.inf
    for t, goal in zip(arrived, q):
        if not times:
            here = goal  # the first one: where it came from is not known
        else:
            here = _at(t, times, places)
            if t - last > _SILENCE * period:
                seen = _measured(t, measured_at, measured, here)
                if np.abs(goal - seen).max() < np.abs(goal - here).max():
                    stretches.append((np.array(times), np.array(places)))
                    times, places, here = [], [], seen
        while times and times[-1] >= t:  # the way to the command before ends here
            times.pop(), places.pop()
        times += [t, t + period]
        places += [here, goal]
        last = t
    if times:
        stretches.append((np.array(times), np.array(places)))
    return Motion(tuple(stretches))


def worst_use(motion: Motion, velocity: np.ndarray) -> tuple[float, float]:
    """The largest way within any 50 ms as a fraction of what full speed, (n,) rad/s, makes in it, and when that was."""
    worst, when = 0.0, float("nan")
    for times, places in motion.stretches:
        # The way within a window is greatest where one of its ends is at a turn of the path.
        begin = np.unique(np.concatenate([times, times - WINDOW]))
        ways = np.stack(
            [np.interp(begin + WINDOW, times, place) - np.interp(begin, times, place) for place in places.T],
            axis=1,
        )
        use = (np.abs(ways) / (velocity * WINDOW)).max(axis=1)
        if use.max() > worst:
            worst, when = float(use.max()), float(begin[use.argmax()])
    return worst, when


def time_to_stand_still(
    arrived: np.ndarray, q: np.ndarray, velocity: np.ndarray, lost: float, until: float
) -> tuple[float, float]:
    """Seconds from `lost` to the last command that still moved (over 2 % of full speed), and to the first one that
    moves again after it, before `until`; NaN where there is none."""
    inside = (arrived > lost) & (arrived < until)
    t, x = arrived[inside], q[inside]
    if len(t) < 2:
        return 0.0, float("nan")
    speed = np.abs(np.diff(x, axis=0) / velocity / np.maximum(np.diff(t), 1e-3)[:, None]).max(axis=1)
    moving = np.flatnonzero(speed > 0.02)
    still = np.diff(np.r_[lost, t[1:][moving], until])
    pause = int(still.argmax())  # the longest time without motion
    stops = lost if pause == 0 else t[1:][moving][pause - 1]
    again = t[1:][moving][pause] if pause < len(moving) else float("nan")
    return float(stops - lost), float(again - lost)


def _measured(t: float, measured_at: np.ndarray, measured: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    after = int(np.searchsorted(measured_at, t))
    if after and t - measured_at[after - 1] <= _STATE_AGE:
        return measured[after - 1]
    if after < len(measured_at) and measured_at[after] - t <= _STATE_AFTER:
        return measured[after]
    return otherwise


def _at(t: float, times: list, places: list) -> np.ndarray:
    """Where the robot is at t, on the way to the last command or there."""
    if t >= times[-1]:
        return places[-1]
    share = (t - times[-2]) / (times[-1] - times[-2])
    return places[-2] + max(share, 0.0) * (places[-1] - places[-2])
