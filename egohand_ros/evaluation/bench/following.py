"""How a robot hand follows a human one through the whole pipeline, in simulated time: lag, error, jitter, limits.

The same code as live: windows, forecaster, retargeting, command stream; the robot is MuJoCo's, whose commands take
effect late. Only time is simulated, by the delays of the stages.
"""

from dataclasses import dataclass

import numpy as np

from ...errors import RejectedInput
from ...forecast.common.protocol import Forecaster
from ...forecast.live.aggregate import ForecastAggregator
from ...forecast.options import NEWEST, TEMPORAL
from ...hand.palm import to_palm_frame
from ...hand.skeleton import SIDES
from ...robot.follow.command_stream import FollowerOptions
from ...robot.follow.delay import GRID, cross_correlation_lag
from ...robot.follow.hand_path import HandPath, forecast_path, observed_path
from ...robot.follow.path_follower import PathFollower
from ...robot.hands.model import HandModel
from ...robot.limits.audit import LimitAudit, audit_limits
from ...robot.retarget.retargeter import Retargeter
from ...robot.simulation.simulated_hand import HandSimulation
from ...stream.aligner import WindowBuilder

_WARM_UP = 1.5  # s that do not count: the robot comes from its rest pose
_JERK_GRID = 0.01  # s
_ORACLE_STEP, _ORACLE_STEPS = 0.02, 40


@dataclass(frozen=True)
class Delays:
    """s. `input`: acquisition to the forecaster; `inference`; `transport`: forecast to retargeter, and command to
    robot, each; `solve`; `actuation`: from a command at the robot to its effect. All but the last as measured on 2
    cores.
    """

    input: float = 0.030
    inference: float = 0.0035
    transport: float = 0.0015
    solve: float = 0.001
    actuation: float = 0.150


@dataclass(frozen=True, eq=False)
class HumanMotion:
    """What a tracker saw, and what was there: `observed` and `truth` (T, 2, 21, 3) m at `stamp` (T,) s, in one fixed
    frame, NaN where unknown; `side` drives the robot."""

    name: str
    stamp: np.ndarray
    observed: np.ndarray
    truth: np.ndarray
    side: str

    def true_palm(self, times: np.ndarray) -> np.ndarray:
        """Keypoints (M, 21, 3) m in the palm frame, as they were at `times` (M,) s."""
        palm = to_palm_frame(self.truth[:, SIDES.index(self.side)], self.side).reshape(len(self.stamp), -1)
        known = np.isfinite(palm).all(1)
        columns = [np.interp(times, self.stamp[known], column) for column in palm[known].T]
        return np.stack(columns, axis=1).reshape(len(times), 21, 3)


@dataclass(frozen=True)
class Method:
    """One way to follow. `forecaster` None: the newest pose. `lead` s ahead of the moment of a command; `oracle` takes
    the true future in place of a forecast."""

    name: str
    forecaster: Forecaster | None = None
    lead: float = 0.0
    aggregation: str = NEWEST
    recency: float | None = None
    oracle: bool = False
    adapt: bool = True
    blend_time: float = 0.06


@dataclass(frozen=True, eq=False)
class RobotMotion:
    """What was commanded, `command` (N, n) rad at `sent` (N,) s, and where the robot was, q (T, n) rad at `time`
    (T,).
    """

    sent: np.ndarray
    command: np.ndarray
    time: np.ndarray
    q: np.ndarray


@dataclass(frozen=True)
class FollowScore:
    """`lag_ms` of the robot's fingertips behind the human's (cross-correlation of positions) and `velocity_lag_ms` (of
    velocities); `error_mm` RMS and `error_p95_mm` between the robot's fingertips and those of the retargeted true pose
    of the same moment; `jerk` RMS of the fingertips, m/s^3; commands that broke a limit."""

    method: str
    motion: str
    lag_ms: float
    velocity_lag_ms: float
    error_mm: float
    error_p95_mm: float
    jerk: float
    commands: int
    violations: int


def follow(motion: HumanMotion, hand: HandModel, method: Method, delays: Delays, rate: float = 200.0) -> RobotMotion:
    """Run one method over a motion, commands at `rate` Hz."""
    follower = PathFollower(
        hand, motion.side, options=FollowerOptions(blend_time=method.blend_time, period=1.0 / rate), adapt=method.adapt
    )
    paths = _Paths(motion, method)
    inference = 0.0 if method.forecaster is None else delays.inference
    ready = motion.stamp + delays.input + inference + delays.transport
    start, end = motion.stamp[0], motion.stamp[-1]
    follower.commands.enable(start)
    robot = _Robot(hand, delays, start)
    following = 0
    for now in np.arange(start, end, 1.0 / rate):
        while following < len(ready) and ready[following] + delays.solve <= now:
            made = paths.next(following)
            if made is not None:
                _take(follower, *made, ready[following] + delays.solve, method.lead)
            following += 1
        command = follower.commands.tick(now)
        if command is not None:
            robot.send(now, command.q)
    return robot.result(end)


def replay_commands(hand: HandModel, sent: np.ndarray, command: np.ndarray, delays: Delays, end: float) -> RobotMotion:
    """The robot's motion under commands (N, n) rad that somebody else made, sent at `sent` (N,) s."""
    robot = _Robot(hand, delays, sent[0])
    for now, q in zip(sent, command, strict=True):
        robot.send(now, q)
    return robot.result(end)


def _take(follower: PathFollower, path: HandPath, stamp: float, now: float, lead: float) -> None:
    try:
        aim = follower.follow(path, stamp, now, lead)
    except RejectedInput:
        return
    follower.look_ahead(aim, stamp, now)


class _Paths:
    """The path that each observation leads to."""

    def __init__(self, motion: HumanMotion, method: Method):
        self._motion, self._method = motion, method
        self._side = SIDES.index(motion.side)
        forecaster = method.forecaster
        self._builder = WindowBuilder(forecaster.spec) if forecaster is not None else None
        self._aggregate = None
        if method.aggregation == TEMPORAL:
            self._aggregate = ForecastAggregator(forecaster.spec.horizon, method.recency)

    def next(self, index: int) -> tuple[HandPath, float] | None:
        """The path after observation `index`, and its stamp; None where the hand was not seen."""
        motion, side = self._motion, self._side
        stamp, seen = float(motion.stamp[index]), motion.observed[index]
        valid = np.isfinite(seen).all(-1)
        if self._builder is not None:
            self._builder.add_hands(stamp, seen, valid)
        if not valid[side].all():
            return None
        if self._method.oracle:
            times = stamp + _ORACLE_STEP * np.arange(_ORACLE_STEPS + 1)
            return HandPath(times, motion.true_palm(times), np.full((len(times), 21), np.nan)), stamp
        if self._builder is None:
            return observed_path(stamp, seen[side], motion.side), stamp
        forecast = self._method.forecaster.forecast(self._builder.window(), 1)
        if not bool(forecast.valid[0, side].all()):
            return None
        if self._aggregate is not None:
            forecast = self._aggregate(forecast)
        times = forecast.step_times.numpy()
        keypoints, std = forecast.keypoints[0, 0, :, side].numpy(), forecast.keypoint_std[0, 0, :, side].numpy()
        return forecast_path(stamp, times, keypoints, std, motion.side, seen[side]), stamp


class _Robot:
    """The simulated hand, its commands and its motion."""

    def __init__(self, hand: HandModel, delays: Delays, start: float):
        self._simulation = HandSimulation(hand, actuation_delay=delays.actuation + delays.transport)
        self._simulation.advance(start)
        self._sent: list[tuple[float, np.ndarray]] = []
        self._seen: list[tuple[float, np.ndarray]] = []

    def send(self, now: float, q: np.ndarray) -> None:
        self._run_to(now)
        self._simulation.command(q, now)
        self._sent.append((now, q))

    def result(self, end: float) -> RobotMotion:
        self._run_to(end)
        sent, command = zip(*self._sent, strict=True)
        time, q = zip(*self._seen, strict=True)
        return RobotMotion(np.array(sent), np.array(command), np.array(time), np.array(q))

    def _run_to(self, end: float) -> None:
        """In short steps, so that the motion is known in between."""
        now = self._simulation.time
        while now < end:
            now = min(now + GRID, end)
            self._simulation.advance(now)
            self._seen.append((self._simulation.time, self._simulation.q.copy()))


class Judge:
    """Scores robot motions against one human motion."""

    def __init__(self, motion: HumanMotion, hand: HandModel):
        self.motion, self.hand = motion, hand
        self.times = np.arange(motion.stamp[0] + _WARM_UP, motion.stamp[-1] - GRID, GRID)
        retargeter = Retargeter(hand, motion.side)
        everything = np.arange(motion.stamp[0], motion.stamp[-1] - GRID, GRID)
        q = np.array([retargeter.solve(keypoints).q for keypoints in motion.true_palm(everything)])
        self.q = q[-len(self.times) :]
        self.tips = self._tips(self.q)

    def score(self, method: str, robot: RobotMotion) -> FollowScore:
        """Lag, error, jerk and broken limits of one motion."""
        tips = self.fingertips(robot)
        apart = np.linalg.norm(tips - self.tips, axis=-1)
        shape = (len(self.times), -1)
        lag = cross_correlation_lag(self.tips.reshape(shape), tips.reshape(shape), GRID)
        fast = [np.gradient(x.reshape(shape), GRID, axis=0) for x in (self.tips, tips)]
        every = round(_JERK_GRID / GRID)
        jerk = np.diff(tips[::every], 3, axis=0) / _JERK_GRID**3
        audit: LimitAudit = audit_limits(self.hand, robot.sent, robot.command)
        return FollowScore(
            method,
            self.motion.name,
            lag_ms=1e3 * lag.seconds,
            velocity_lag_ms=1e3 * cross_correlation_lag(*fast, GRID).seconds,
            error_mm=1e3 * float(np.sqrt(np.mean(apart**2))),
            error_p95_mm=1e3 * float(np.percentile(apart, 95)),
            jerk=float(np.sqrt(np.mean(np.sum(jerk**2, axis=-1)))),
            commands=audit.commands,
            violations=audit.violations,
        )

    def fingertips(self, robot: RobotMotion) -> np.ndarray:
        """The robot's fingertips (T, F, 3) m at the judge's times."""
        return self._tips(np.stack([np.interp(self.times, robot.time, column) for column in robot.q.T], axis=1))

    def _tips(self, q: np.ndarray) -> np.ndarray:
        return self.hand.kinematics.link_positions(q, list(self.hand.tips.values()))
