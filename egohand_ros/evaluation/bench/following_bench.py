"""Who follows a hand best: every way to follow on every motion, in one run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...data.episode import Episode
from ...data.synthetic import generate_scene, observe
from ...errors import UserError
from ...forecast.options import TEMPORAL
from ...forecast.registry import make_forecaster
from ...hand.palm import to_palm_frame
from ...hand.poses import demonstration
from ...hand.skeleton import SIDES
from ...robot.follow.latency_calibration import calibrate_latency
from ...robot.hands.model import HandModel
from ...robot.retarget.compiled_objective import build_problem
from .dex_comparison import run_dex
from .following import (
    Delays,
    FollowScore,
    HumanMotion,
    Judge,
    Method,
    RobotMotion,
    follow,
    replay_commands,
)

_START = 100.0  # s; stamps of zero are refused
_DEX_ALPHA = 0.2  # dex-retargeting's default low-pass filter
_DEX_SOLVE = 0.002  # s, its median time
_FIRST_SEED = 100
_EXCERPT = 5.0  # s of the picture


@dataclass
class FollowingResult:
    """All scores, in the order in which they were made, and the motions that the picture needs."""

    WITHOUT = "no prediction"
    DEX = "dex-retargeting"
    ORACLE = "perfect forecast"

    lead: float
    lead_source: str
    scores: list[FollowScore] = field(default_factory=list)
    tracks: dict[str, dict[str, tuple[Judge, RobotMotion]]] = field(default_factory=dict)

    def score(self, motion: str, method: str) -> FollowScore | None:
        """The score of a method on a motion."""
        return next((s for s in self.scores if (s.motion, s.method) == (motion, method)), None)

    def change(self, score: FollowScore, method: str) -> str:
        """RMS error relative to another method's, as in "-41 %"; "" where that was not run or is this one."""
        other = self.score(score.motion, method)
        return f"{100 * (score.error_mm / other.error_mm - 1):+.0f} %" if other not in (None, score) else ""

    def excerpt(self, motion: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Times (T,) s, the human's fingertip coordinate (T,) mm that moves most, and the robot's by method."""
        tracks = self.tracks[motion]
        judge = next(iter(tracks.values()))[0]
        window = round(_EXCERPT / (judge.times[1] - judge.times[0]))
        flat = judge.tips.reshape(len(judge.times), -1)
        coordinate = int(np.argmax(flat.std(0)))
        spread = [flat[i : i + window, coordinate].std() for i in range(0, max(len(flat) - window, 1), window // 4)]
        begin = int(np.argmax(spread)) * (window // 4)
        part = slice(begin, begin + window)
        shown = {
            method: 1e3 * judge.fingertips(robot).reshape(len(flat), -1)[part, coordinate]
            for method, (_, robot) in tracks.items()
        }
        return judge.times[part] - judge.motion.stamp[0], 1e3 * flat[part, coordinate], shown


def recorded_motion(name: str, episode: Episode, side: str, tempo: float = 1.0) -> HumanMotion:
    """A recording, taken for what was there; played `tempo` times as fast."""
    index = SIDES.index(side)
    if not np.isfinite(episode.keypoints[:, index]).all((1, 2)).any():
        raise UserError(f"{name} never shows the whole {side} hand, which the robot hand needs")
    stamp = _START + (episode.stamp - episode.stamp[0]) / tempo
    label = Path(name).stem + (f" x{tempo:g}" if tempo != 1.0 else "")
    return HumanMotion(label, stamp, episode.keypoints, episode.keypoints, side)


def synthetic_motions(seed: int, duration: float, side: str) -> list[HumanMotion]:
    """One synthetic episode, seen without errors, and seen by a tracker."""
    scene = generate_scene(_FIRST_SEED + seed, duration)
    seen = observe(scene).episode.keypoints
    stamp = _START + scene.stamp
    return [
        HumanMotion(f"synthetic {seed}, exact", stamp, scene.keypoints, scene.keypoints, side),
        HumanMotion(f"synthetic {seed}, tracker", stamp, seen, scene.keypoints, side),
    ]


def identified_lead(hand: HandModel, delays: Delays, rate: float) -> float:
    """The hand's delay, s, as `egohand calibrate latency` finds it while somebody opens and closes the hand."""
    keypoints = demonstration(hand.side, 30.0)
    both = np.full((len(keypoints), 2, *keypoints.shape[1:]), np.nan)
    both[:, SIDES.index(hand.side)] = keypoints
    motion = HumanMotion("calibration", _START + np.arange(len(keypoints)) / 30.0, both, both, hand.side)
    robot = follow(motion, hand, Method(FollowingResult.WITHOUT), delays, rate)
    return calibrate_latency(hand.joint_names, robot.sent, robot.command, robot.time, robot.q, hand=hand.name).delay


def bench_following(
    hand: HandModel,
    motions: list[HumanMotion],
    forecasters: list[str],
    delays: Delays,
    lead: float | None,
    rate: float,
    compare: bool = False,
    python: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    recency: float | None = None,
) -> FollowingResult:
    """Run and score every method on every motion; with `compare` dex-retargeting, too. `recency` s as of
    `ForecastAggregator`."""
    source = "given" if lead is not None else "identified by cross-correlation of commands and joints"
    lead = identified_lead(hand, delays, rate) if lead is None else lead
    result = FollowingResult(lead, source)
    methods = [Method(result.WITHOUT)]
    for name in forecasters:
        methods += [
            Method(name, make_forecaster(name), lead),
            Method(f"{name}, temporal", make_forecaster(name), lead, aggregation=TEMPORAL, recency=recency),
        ]
    methods.append(Method(result.ORACLE, lead=lead, oracle=True, adapt=False))
    total = len(motions) * (len(methods) + compare)
    for motion in motions:
        judge, kept = Judge(motion, hand), result.tracks.setdefault(motion.name, {})
        for method in methods:
            robot = follow(motion, hand, method, delays, rate)
            result.scores.append(judge.score(method.name, robot))
            if method.name in (result.WITHOUT, forecasters[0]):
                kept[method.name] = judge, robot
            on_progress(len(result.scores), total)
        if compare:
            robot = follow_dex(motion, hand, delays, python)
            result.scores.append(judge.score(result.DEX, robot))
            kept[result.DEX] = judge, robot
            on_progress(len(result.scores), total)
        result.tracks[motion.name] = {n: kept[n] for n in (result.WITHOUT, result.DEX, forecasters[0]) if n in kept}
    return result


def follow_dex(motion: HumanMotion, hand: HandModel, delays: Delays, python: str | None) -> RobotMotion:
    """dex-retargeting with its default low-pass filter: one command a frame, at once, as its users run it."""
    palm = to_palm_frame(motion.observed[:, SIDES.index(motion.side)], motion.side)
    seen = np.isfinite(palm).all((1, 2))
    q = run_dex(hand, "vector", palm[seen] @ build_problem(hand, "vector").rotation.T, python)["q"]
    for t in range(1, len(q)):
        q[t] = q[t - 1] + _DEX_ALPHA * (q[t] - q[t - 1])
    sent = motion.stamp[seen] + delays.input + _DEX_SOLVE
    return replay_commands(hand, sent, q, delays, motion.stamp[-1])
