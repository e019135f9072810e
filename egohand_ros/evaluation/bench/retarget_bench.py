"""Speed, accuracy, safety and lag of retargeting, of ours and of dex-retargeting, in one run on one thread."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.optimize import minimize

from ...errors import UserError
from ...hand.palm import to_palm_frame
from ...hand.poses import demonstration, mirrored
from ...robot.hands.live_pose import LivePose
from ...robot.hands.model import HandModel
from ...robot.limits.limiter import JointLimiter
from ...robot.retarget.compiled_objective import Problem, build_problem
from ...robot.retarget.objective import LiveObjective
from ...robot.retarget.retargeter import Retargeter
from ...robot.simulation.mujoco_distance import MujocoDistance
from .dex_comparison import run_dex

RATE = 30.0  # Hz, of the sequences
COMMAND_RATE = 200.0  # Hz, at which commands go to the robot between frames
_TOUCHING, _DEEP = 5e-5, 1e-3  # m: deeper than this is a collision, by our own shapes and by the makers'
_DEX_ALPHA = 0.2  # dex-retargeting's default low-pass filter
# As shipped, its search for a `position` optimum ends far from it; so it is also timed with an end as near as ours.
_STOPS_EARLY, _CONVERGED = ("position",), 1e-8
_OPTIMUM_EVERY = 7  # frames between those whose optimum is searched for
_LONGEST_LAG = 12  # frames


@dataclass(frozen=True)
class Measurement:
    """One method on one hand, objective and sequence. Processor times in ms, gaps relative to the optimum, violations
    in counts.

    Times, violations and losses are those of the same run, ours with every limit on; with several rounds the times are
    those of all, ours and theirs in turns. Gaps are NaN where no optimum was searched for. `loss` is the mean of the
    objective as dex-retargeting defines it, without the pull to the last pose, at the commands; `loss_unfiltered` that
    of its poses before its low-pass filter (ours has none). `command_*` are the times of a command between frames, at
    `COMMAND_RATE`.

    `velocity` and `acceleration` count joint-frames over the limit, `position` those outside it by more than 1e-9 rad,
    `collisions` the frames whose bodies intersect by MuJoCo's judgement, or by more than 1 mm by that of the makers'
    own shapes where these are given, `lag` frames behind the unlimited solution.
    """

    method: str
    hand: str
    objective: str
    sequence: str
    frames: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    gap_median: float
    gap_p95: float
    constrained: float
    position: int
    velocity: int
    acceleration: int
    collisions: int
    least_distance_mm: float
    lag: int
    loss: float
    loss_unfiltered: float
    command_median_ms: float
    command_p99_ms: float


@dataclass(frozen=True)
class Benchmark:
    """All measurements, and what could not be compared."""

    measurements: list[Measurement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        """Plain data for JSON."""
        return {"rate_hz": RATE, "measurements": [asdict(m) for m in self.measurements], "notes": self.notes}


def sequences(recorded: np.ndarray | None, side: str) -> dict[str, np.ndarray]:
    """Keypoints (T, 21, 3) m in the palm frame, by name: the recording (of a right hand, mirrored where needed) and a
    synthetic demonstration with half a millimetre of noise."""
    out = {"synthetic": to_palm_frame(demonstration(side, RATE, noise=5e-4), side)}
    if recorded is not None:
        out["recorded"] = to_palm_frame(mirrored(recorded, side), side)
    return out


def measure(
    hand: HandModel,
    objective: str,
    name: str,
    keypoints: np.ndarray,
    python: str | None = None,
    compare: bool = False,
    judge: tuple[object, float] | None = None,
    rounds: int = 1,
    optimum: bool = True,
) -> tuple[list[Measurement], list[str]]:
    """Ours, and dex-retargeting where asked for, on keypoints (T, 21, 3) m in the palm frame; with notes.

    `rounds` of both in turns; without `optimum` none is searched for, which is what takes most of the time.
    """
    problem = build_problem(hand, objective)
    human = keypoints @ problem.rotation.T
    judge = judge or (MujocoDistance(hand), _TOUCHING)
    reachable = lambda x: hand.capsules.distances(hand.kinematics, x[: hand.n]).min() >= hand.capsules.margin  # noqa: E731
    pose, free = _poses(hand, objective, human)
    methods = {"dex-retargeting": None} | ({"dex, converged": _CONVERGED} if objective in _STOPS_EARLY else {})
    ours, theirs, notes = [], {method: [] for method in methods}, []
    for _ in range(rounds):
        ours.append(timed_stream(hand, objective, human))
        if not compare or notes:
            continue
        try:
            for method, tolerance in methods.items():
                theirs[method].append(run_dex(hand, objective, human, python, tolerance))
        except UserError as error:
            notes = [f"{hand.name} {objective}: {error}"]
    results, times = ours[0][0], np.concatenate([times for _, times in ours])
    path = np.array([r.q for r in results])
    based = path if results[0].base is None else np.c_[path, [r.base for r in results]]
    loss, commands = _loss(problem, human, based), _command_times(hand, path)
    gaps = _gaps(problem, human, pose, np.flatnonzero(free), reachable) if optimum else np.array([])
    common = (hand, objective, name, judge)
    constrained = 1.0 - free.mean()
    results = [
        _measurement("egohand", *common, times, gaps, constrained, path, pose[:, : hand.n], (loss, loss), commands)
    ]
    for method, runs in theirs.items():
        if not runs:
            continue
        dex = runs[0] | {"ms": np.concatenate([run["ms"] for run in runs])}
        raw = np.concatenate([dex["q"], dex["base"]], axis=1)
        clipped = np.clip(raw, problem.lower, problem.upper)
        gaps = _gaps(problem, human, clipped, np.arange(len(raw))) if optimum else np.array([])
        smooth = dex["q"] if objective == "position" else low_pass(dex["q"])  # its offline configs have no filter
        losses = [_loss(problem, human, np.c_[q, dex["base"]]) for q in (smooth, dex["q"])]
        results.append(_measurement(method, *common, dex["ms"], gaps, 0.0, smooth, dex["q"], losses, (np.nan, np.nan)))
    return results, notes


def _poses(hand, objective, human):
    """Unlimited poses (T, n + base), and frames (T,) in which no contact shaped the pose."""
    retargeter = Retargeter(hand, objective=objective)
    poses, free = [], []
    for frame in human:
        result = retargeter.solve_in_base(frame)
        poses.append(result.q if result.base is None else np.concatenate([result.q, result.base]))
        free.append(not result.in_contact)
    return np.array(poses), np.array(free)


def stream(hand, objective, human):
    """The same within velocity and acceleration limits, as commands at `RATE`."""
    return timed_stream(hand, objective, human)[0]


def timed_stream(hand, objective, human):
    """That, and the processor time [ms] of each frame (T,): the clock on the wall would count other processes too."""
    retargeter = Retargeter(hand, objective=objective)
    for _ in range(25):  # warm the caches of NumPy and the processor
        start = retargeter.solve_in_base(human[0])
    retargeter.reset(start.q)
    results, times = [], []
    for frame in human:
        begin = time.process_time()
        results.append(retargeter.solve_in_base(frame, dt=1.0 / RATE))
        times.append(1e3 * (time.process_time() - begin))
    return results, np.array(times)


def _loss(problem: Problem, human: np.ndarray, path: np.ndarray) -> float:
    """Mean of the objective at poses (T, n), without its pull to the last pose."""
    objective, total = LiveObjective(problem, LivePose(problem.kinematics)), 0.0
    for frame, x in zip(human, path):
        objective.aim(frame, x)
        total += objective.value(x)
    return total / len(path)


def _command_times(hand: HandModel, path: np.ndarray) -> tuple[float, float]:
    """Median and p99 [ms] of the commands at `COMMAND_RATE` that follow the poses (T, n) of frames."""
    limiter, times = JointLimiter(hand, path[0]), []
    for target in path[:200]:
        for _ in range(round(COMMAND_RATE / RATE)):
            start = time.process_time()
            limiter.step(target, 1.0 / COMMAND_RATE)
            times.append(1e3 * (time.process_time() - start))
    return float(np.median(times)), float(np.percentile(times, 99))


def _gaps(
    problem: Problem,
    human: np.ndarray,
    poses: np.ndarray,
    frames: np.ndarray,
    reachable: Callable[[np.ndarray], bool] = lambda x: True,
) -> np.ndarray:
    """(value - optimum) / optimum of the objective, each frame with its own last pose, for some of the frames.

    Where the optimum is not `reachable`, because the hand would collide with itself there, there is nothing to compare.
    """
    objective, gaps = LiveObjective(problem, LivePose(problem.kinematics)), []
    for t in range(1, len(human)):
        last = np.clip(poses[t - 1], problem.lower, problem.upper)
        objective.aim(human[t], last)  # every frame, for the hysteresis of pinches
        if t % _OPTIMUM_EVERY or t not in frames:
            continue
        value = objective.value(poses[t])
        best, where = min(
            (_optimum(objective, start, problem) for start in (last, poses[t])), key=lambda found: found[0]
        )
        if value <= best:
            gaps.append(0.0)
        elif reachable(where):
            gaps.append((value - best) / best)
    return np.array(gaps)


def _optimum(objective: LiveObjective, start: np.ndarray, problem: Problem) -> tuple[float, np.ndarray]:
    """The minimum, and where it is, that SciPy's L-BFGS-B finds from a start: nothing of our own solver is used."""

    def value_and_gradient(x):
        value = objective.value(x)
        return value, objective.derivatives(exact=False)[0]

    bounds = np.stack([problem.lower, problem.upper], axis=1)
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-9, "maxcor": 30}
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.fun), found.x


def _measurement(
    method, hand, objective, name, judge, times, gaps, constrained, path, unlimited, losses, commands
) -> Measurement:
    velocity = np.diff(path, axis=0) * RATE
    acceleration = np.diff(velocity, axis=0) * RATE
    judge, deep = judge
    distances = np.array([judge.least(q) for q in path])
    gaps = gaps if len(gaps) else np.array([np.nan])
    return Measurement(
        method=method,
        hand=hand.name,
        objective=objective,
        sequence=name,
        frames=len(path),
        **{f"{key}_ms": float(np.percentile(times, p)) for key, p in (("median", 50), ("p95", 95), ("p99", 99))},
        gap_median=float(np.median(gaps)),
        gap_p95=float(np.percentile(gaps, 95)),
        constrained=float(constrained),
        position=int(((path < hand.lower - 1e-9) | (path > hand.upper + 1e-9)).sum()),
        velocity=int((np.abs(velocity) > hand.velocity_limit * (1 + 1e-9)).sum()),
        acceleration=int((np.abs(acceleration) > hand.acceleration_limit * (1 + 1e-6)).sum()),
        collisions=int((distances < -deep).sum()),
        least_distance_mm=float(1e3 * distances.min()),
        lag=_lag(path, unlimited),
        loss=losses[0],
        loss_unfiltered=losses[1],
        command_median_ms=commands[0],
        command_p99_ms=commands[1],
    )


def _lag(path: np.ndarray, unlimited: np.ndarray) -> int:
    """Frames by which a path follows the unlimited solution: the shift at which both agree best."""
    errors = [np.abs(path[shift:] - unlimited[: len(unlimited) - shift]).mean() for shift in range(_LONGEST_LAG)]
    return int(np.argmin(errors))


def low_pass(q: np.ndarray) -> np.ndarray:
    """dex-retargeting's filter as shipped: y += alpha (x - y)."""
    out = q.copy()
    for t in range(1, len(q)):
        out[t] = out[t - 1] + _DEX_ALPHA * (q[t] - out[t - 1])
    return out


def horizon_times(
    hands: list[HandModel], recorded: dict[str, np.ndarray], device: str = "cpu", repeats: int = 8
) -> dict:
    """Times [ms] of horizons of 16 hypotheses x 30 steps for `hands`, on windows of their sequences (T, 21, 3).

    `first`: the first forecast, from nothing; `next`: those that follow it frame by frame.
    """
    from ...robot.retarget.horizon import HorizonRetargeter

    hypotheses, steps = 16, 30
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.normal(0, 1e-3, (hypotheses, steps, len(hands), 21, 3)), axis=1)
    last = min(len(x) for x in recorded.values()) - steps - repeats
    retargeter, times = HorizonRetargeter(hands, device=device), {"first": [], "next": []}
    for first in rng.integers(0, last, 6):
        q = [hand.rest_q for hand in hands]
        retargeter.reset()
        for i in range(repeats):  # forecasts that follow one another, as live
            window = np.stack([recorded[hand.side][first + i : first + i + steps] for hand in hands], axis=1)
            result = retargeter.solve(window + drift, q, 1.0 / RATE)
            times["next" if i else "first"].append(result.solve_ms)
            q = [path[0, 0] for path in result.q]
    out = {"hands": [h.name for h in hands], "device": device}
    for kind, values in times.items():
        values = values[1:] if kind == "first" else values
        out |= {f"{kind}_median_ms": float(np.median(values)), f"{kind}_p95_ms": float(np.percentile(values, 95))}
    return out


def run_benchmark(
    hands: list[HandModel],
    objectives: list[str],
    recorded: np.ndarray | None,
    compare: bool = False,
    python: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    judges: dict[str, object] | None = None,
    rounds: int = 1,
    optimum: bool = True,
) -> Benchmark:
    """Measure every hand, objective and sequence; one thread (set OMP_NUM_THREADS=1 before Python starts)."""
    out, jobs = Benchmark(), []
    for hand in hands:
        for name, keypoints in sequences(recorded, hand.side).items():
            jobs += [(hand, objective, name, keypoints) for objective in objectives]
    for done, (hand, objective, name, keypoints) in enumerate(jobs):
        on_progress(done, len(jobs))
        judge = (judges[hand.name], _DEEP) if judges else None
        results, notes = measure(hand, objective, name, keypoints, python, compare, judge, rounds, optimum)
        out.measurements.extend(results)
        out.notes.extend(notes)
    on_progress(len(jobs), len(jobs))
    return out
