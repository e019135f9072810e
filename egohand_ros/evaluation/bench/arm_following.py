"""How a robot arm follows a person's wrist through the whole pipeline, in simulated time: lag, error, limits.

The same code as live: windows, forecaster, teleoperation, and the trajectories that go out; the arm is what a
joint_trajectory_controller makes of them (`TrajectoryFollower`), behind an actuation delay. Only time is simulated.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...data.episode import Episode
from ...errors import RejectedInput, UserError
from ...forecast.common.protocol import Forecaster
from ...geometry.rotations import geodesic_angle, slerp
from ...geometry.transforms import make_transform
from ...hand.skeleton import SIDES, WRIST
from ...robot.arm.audit import ArmAudit, audit_arm
from ...robot.arm.model import ArmModel
from ...robot.arm.motion import Outlook
from ...robot.arm.teleoperation import ArmTeleoperation, Following, TeleoperationOptions
from ...robot.arm.trajectory import TrajectoryFollower
from ...robot.arm.wrist_path import WristPath, observed_wrist, wrist_path
from ...robot.follow.delay import GRID, cross_correlation_lag
from ...stream.aligner import WindowBuilder
from .following import Delays

_PERIOD = 0.01  # s of commands
_SETTLED = 1.5  # s after following began, which do not count
_REACH = 0.2  # m: what a person does is scaled so that no point of it is further from where it began
_AHEAD = 2  # periods that a trajectory goes on before it stops
_ORACLE = 0.02, 40  # s, steps
ARM_DELAYS = Delays(actuation=0.05)


@dataclass(frozen=True, eq=False)
class WristMotion:
    """What was seen of one wrist: T_world_palm (T, 4, 4) at `stamp` (T,) s, the hand in a fixed frame whose z is up."""

    name: str
    stamp: np.ndarray
    pose: np.ndarray
    side: str

    def at(self, times: np.ndarray) -> np.ndarray:
        """T_world_palm (M, 4, 4) at times (M,) s inside the recording."""
        after = np.clip(np.searchsorted(self.stamp, times), 1, len(self.stamp) - 1)
        share = np.clip((times - self.stamp[after - 1]) / (self.stamp[after] - self.stamp[after - 1]), 0.0, 1.0)
        poses = np.tile(np.eye(4), (len(times), 1, 1))
        poses[:, :3, :3] = slerp(self.pose[after - 1, :3, :3], self.pose[after, :3, :3], share)
        poses[:, :3, 3] = (1 - share)[:, None] * self.pose[after - 1, :3, 3] + share[:, None] * self.pose[after, :3, 3]
        return poses


@dataclass(frozen=True)
class ArmFollowScore:
    """`lag_ms` of the tool behind the wrist (cross-correlation of positions); `error_mm` RMS and `error_p95_mm` of the
    tool off where the wrist is at the same moment, as they were when following began, after its middle was taken off;
    `turn_deg` RMS of the orientation; commands, and those that broke a limit by `audit_arm`."""

    method: str
    motion: str
    lag_ms: float
    error_mm: float
    error_p95_mm: float
    turn_deg: float
    commands: int
    violations: int


def wrist_motions(episode: Episode, name: str, longest: float = 20.0) -> list[WristMotion]:
    """The longest stretch of an episode, up to `longest` s, in which a wrist was seen without a gap: of the hand that
    moves more. Empty where there is none of 6 s."""
    found = []
    for side, word in enumerate(SIDES):
        seen = np.isfinite(episode.keypoints[:, side, WRIST]).all(-1) & episode.valid[:, side, WRIST]
        seen &= np.isfinite(episode.wrist_rotation[:, side]).all((-1, -2))
        edges = np.flatnonzero(np.diff(np.r_[False, seen, False].astype(int)))
        for begin, end in edges.reshape(-1, 2):
            stamp = episode.stamp[begin:end]
            end = begin + int(np.searchsorted(stamp, stamp[0] + longest, side="right"))
            if episode.stamp[end - 1] - stamp[0] < 6.0 or np.diff(episode.stamp[begin:end]).max() > 0.2:
                continue
            pose = np.stack([
                make_transform(r, p)
                for r, p in zip(episode.wrist_rotation[begin:end, side], episode.keypoints[begin:end, side, WRIST])
            ])  # fmt: skip
            found.append(WristMotion(name, 100.0 + episode.stamp[begin:end] - stamp[0], pose, word))
    return sorted(found, key=lambda m: -float(np.ptp(m.pose[:, :3, 3], axis=0).max()))[:1]


class _Paths:
    """The path that each observation leads to."""

    def __init__(self, motion: WristMotion, forecaster: Forecaster | None, perfect: bool):
        self._motion, self._forecaster, self._perfect = motion, forecaster, perfect
        self._side = SIDES.index(motion.side)
        self._builder = None if forecaster is None else WindowBuilder(forecaster.spec)

    def next(self, index: int) -> WristPath | None:
        """After observation `index`; None where nothing is forecast yet."""
        motion, side = self._motion, self._side
        stamp, pose = float(motion.stamp[index]), motion.pose[index]
        if self._perfect:
            step, count = _ORACLE
            ahead = motion.at(np.minimum(stamp + step * np.arange(count + 1), motion.stamp[-1]))
            times = stamp + step * np.arange(count + 1)
            return WristPath(times, ahead[:, :3, 3], ahead[:, :3, :3], np.full(count + 1, np.nan))
        if self._builder is None:
            return observed_wrist(stamp, pose)
        keypoints, rotation = np.full((2, 21, 3), np.nan), np.full((2, 3, 3), np.nan)
        keypoints[side, WRIST], rotation[side] = pose[:3, 3], pose[:3, :3]
        self._builder.add_hands(stamp, keypoints, np.isfinite(keypoints).all(-1), rotation)
        assert self._forecaster is not None
        forecast = self._forecaster.forecast(self._builder.window(), 1)
        if not bool(forecast.valid[0, side, WRIST]):
            return None
        return wrist_path(
            stamp,
            forecast.step_times.numpy().astype(float),
            forecast.keypoints[0, 0, :, side, WRIST].numpy().astype(float),
            forecast.wrist_rotation[0, 0, :, side].numpy().astype(float),
            forecast.keypoint_std[0, 0, :, side, WRIST].numpy().astype(float),
            pose,
        )


def follow_wrist(
    motion: WristMotion,
    arm: ArmModel,
    method: str,
    forecaster: Forecaster | None = None,
    perfect: bool = False,
    delays: Delays = ARM_DELAYS,
    options: TeleoperationOptions | None = None,
) -> ArmFollowScore:
    """Run one method over a motion. `options.lead` is what the method makes up for."""
    reach = float(np.linalg.norm(motion.pose[:, :3, 3] - motion.pose[0, :3, 3], axis=1).max())
    options = replace(options or TeleoperationOptions(), scale=min(1.0, _REACH / max(reach, 1e-6)))
    teleoperation = ArmTeleoperation(arm, options, _PERIOD)
    paths = _Paths(motion, forecaster, perfect)
    inference = delays.inference if forecaster is not None else 0.0
    ready = motion.stamp + delays.input + inference + delays.transport
    robot = _Arm(arm, delays)
    commands, began, index = [], None, 0
    for now in np.arange(motion.stamp[0], motion.stamp[-1], _PERIOD):
        while index < len(ready) and ready[index] <= now:
            path = paths.next(index)
            if path is not None:
                teleoperation.seen(path, float(motion.stamp[index]), ready[index])
            index += 1
        commands.append(teleoperation.step(now).copy())
        if began is None and teleoperation.state is Following.FOLLOWING:
            began = now
        robot.send(teleoperation.outlook(_AHEAD), now)
    if began is None or motion.stamp[-1] - began < 4.0:
        raise UserError(f"{motion.name}: the wrist was followed for less than 4 s")
    return _score(method, motion, arm, robot, options.scale, began, np.array(commands))


class _Arm:
    """The arm's controller, which gets trajectories late."""

    def __init__(self, arm: ArmModel, delays: Delays):
        self._controller = TrajectoryFollower(arm.teleoperation_q, arm.lower, arm.upper, arm.velocity_limit)
        self._delay = delays.actuation + delays.transport
        self._under_way: deque[tuple[float, Outlook]] = deque()
        self.time: list[float] = []
        self.q: list[np.ndarray] = []
        self.refused = 0

    def send(self, outlook: Outlook, now: float) -> None:
        """A trajectory, as it goes out; where the arm is until the next."""
        self._under_way.append((now + self._delay, outlook))
        for time in now + GRID * np.arange(round(_PERIOD / GRID)):
            while self._under_way and self._under_way[0][0] <= time:
                came, going = self._under_way.popleft()
                times = going.period * np.arange(1, len(going.q))
                if len(times):
                    try:
                        self._controller.follow(times, going.q[1:], going.qd[1:], came)
                    except RejectedInput:
                        self.refused += 1
            self.time.append(float(time))
            self.q.append(self._controller.at(float(time))[0])


def _score(
    method: str, motion: WristMotion, arm: ArmModel, robot: _Arm, scale: float, began: float, commands: np.ndarray
) -> ArmFollowScore:
    time = np.array(robot.time)
    counts = time >= began + _SETTLED
    truth = motion.at(time[counts])
    tools = []
    for q in np.array(robot.q)[counts]:
        arm.move(q)
        tools.append(arm.tool())
    tool = np.array(tools)
    way, wanted = tool[:, :3, 3], scale * truth[:, :3, 3]
    off = (way - way.mean(0)) - (wanted - wanted.mean(0))
    apart = np.linalg.norm(off, axis=1)
    # Turned by the same from one moment to the next: the constant turn between palm and tool is that of the middle.
    first = len(tool) // 2
    turned = [x[:, :3, :3] @ x[first, :3, :3].T for x in (truth, tool)]
    lag = cross_correlation_lag(wanted, way, GRID)
    limits = arm.velocity_limit, arm.acceleration_limit, arm.jerk_limit
    audit: ArmAudit = audit_arm(commands, _PERIOD, arm.lower, arm.upper, *limits)
    return ArmFollowScore(
        method,
        motion.name,
        lag_ms=1e3 * lag.seconds,
        error_mm=1e3 * float(np.sqrt(np.mean(apart**2))),
        error_p95_mm=1e3 * float(np.percentile(apart, 95)),
        turn_deg=float(np.degrees(np.sqrt(np.mean(geodesic_angle(*turned) ** 2)))),
        commands=len(commands),
        violations=audit.violations + robot.refused,
    )


def bench_arm_following(
    arm: ArmModel,
    motions: list[WristMotion],
    forecasters: dict[str, Forecaster],
    lead: float,
    delays: Delays = ARM_DELAYS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ArmFollowScore]:
    """Every method on every motion: without prediction, with each forecaster, with the true future."""
    without, with_lead = TeleoperationOptions(), TeleoperationOptions(lead=lead)
    ways = [("no prediction", None, False, without)]
    ways += [(name, forecaster, False, with_lead) for name, forecaster in forecasters.items()]
    ways.append(("perfect forecast", None, True, with_lead))
    scores: list[ArmFollowScore] = []
    for motion in motions:
        for name, forecaster, perfect, options in ways:
            scores.append(follow_wrist(motion, arm, name, forecaster, perfect, delays, options))
            on_progress(len(scores), len(motions) * len(ways))
    return scores
