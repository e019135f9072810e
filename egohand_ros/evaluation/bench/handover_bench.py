"""`egohand bench handover`: the same handovers in simulation with every way to forecast, and what each is worth."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...forecast.common.protocol import Forecaster
from ...forecast.registry import make_forecaster
from ...handover.intent import GIVE, NONE, TAKE
from ...handover.machine import Outcome, Phase
from ...handover.options import HandoverOptions
from ...handover.simulation.episode import PERIOD, HandoverStage, Record, run_episode
from ...handover.simulation.forecasting import METHODS, PERFECT, Method, Watcher
from ...handover.simulation.person import Manner, Person, draw_person
from ...parallel import HERE, Workers, run_all
from ...robot.arm.audit import audit_arm
from .handover_audit import audit_separation

FIRST_TEST_SEED = 100_000  # seeds below were looked at while this was made
_OTHER_SHARE = 0.4  # of the scenes are no handover
_OTHER_LENGTH, _LONGEST = 7.0, 16.0  # s
_DART_EVERY = 8  # scenes
_PHASES = {"robot starts": "noticed", "hand rests": "rested", "transfer": "transferring", "fingers close": "closing"}


@dataclass(frozen=True)
class Scene:
    """A person to be drawn: `seed`, `direction`, and whether it is a handover or has a dart in it."""

    seed: int
    direction: int
    handover: bool
    dart: bool = False

    def person(self) -> Person:
        """The person, anew."""
        manners = (Manner.DART,) if self.dart else None
        return draw_person(self.seed, self.direction, self.handover, manners)


@dataclass(frozen=True)
class Score:
    """One episode. Times in s, nan where it did not come to that. to_secured from the person's begin until the object
    is with its new owner; robot_time from the robot's start; touched from the hand's rest until the robot touches the
    object (or, in a take, the person does); waited until the grip. From the person's begin: noticed, the robot starts;
    rested, the hand rests; transferring, the last stretch begins; closing, the robot's fingers close. point_error m of
    the transfer at half of the reach; time_error s of the time to contact half a second before it, time_inside, whether
    it lay between its 10 and 90 %; brake, from a dart's begin until the tool stands; smallest m to what was not
    exempt; strayed, m that the tool went from where it began at most, in what is no handover."""

    method: str
    seed: int
    direction: int
    manner: str
    handover: bool
    started: bool
    success: bool
    outcome: str
    to_secured: float
    robot_time: float
    waited: float
    point_error: float
    time_error: float
    time_inside: float
    brake: float
    unmeant_contact: bool
    smallest: float
    separation_violations: int
    transfer_speed_violations: int
    joint_violations: int
    duration: float
    touched: float = np.nan
    noticed: float = np.nan
    rested: float = np.nan
    transferring: float = np.nan
    closing: float = np.nan
    strayed: float = np.nan


@dataclass(frozen=True)
class Task:
    """One scene with one method, by an arm with a hand; its score is added to the file `kept`."""

    method: Method
    scene: Scene
    options: HandoverOptions
    arm: str
    hand: str
    kept: Path | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Which episode it is."""
        return self.method.name, self.scene.seed


def draw_scenes(count: int, first_seed: int = FIRST_TEST_SEED) -> list[Scene]:
    """`count` scenes in each direction, of which 40 % are no handovers and every eighth has a dart."""
    scenes = []
    for direction in (GIVE, TAKE):
        for i in range(count):
            handover = (i * _OTHER_SHARE) % 1.0 < 1.0 - _OTHER_SHARE - 1e-9
            dart = handover and i % _DART_EVERY == _DART_EVERY - 2
            scenes.append(Scene(first_seed + 1000 * direction + i, direction, handover, dart))
    return scenes


def find_methods(names: Sequence[str] | None) -> list[Method]:
    """The methods of these names, all by default. Raises `UserError` that lists them."""
    known = {method.name: method for method in METHODS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(f"method {unknown[0]!r} is unknown; known methods: {', '.join(known)}")
    return [known[name] for name in names] if names else list(METHODS)


def bench_handover(
    scenes: Sequence[Scene],
    methods: Sequence[Method],
    options: HandoverOptions | None = None,
    arm: str = "ur5e",
    hand: str = "allegro_right",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    workers: Workers = HERE,
    kept: Path | None = None,
) -> list[Score]:
    """Every scene with every method, scene by scene. Episodes are kept in the file `kept` as they end, a line each, and
    those that are in it are not played again."""
    options = options or HandoverOptions()
    known = {} if kept is None else read_kept(kept)
    tasks = [
        Task(method, scene, replace(options, use_covariance=method.covariance), arm, hand, kept)
        for scene in scenes
        for method in methods
    ]
    left = [task for task in tasks if task.key not in known]
    before, total = len(tasks) - len(left), len(tasks)
    done = run_all(play, left, workers, lambda so_far, _: on_progress(before + so_far, total))
    known |= {(s.method, s.seed): s for s in done}
    return [known[task.key] for task in tasks]


def read_kept(path: Path) -> dict[tuple[str, int], Score]:
    """Episodes that were kept, by method and seed; a last line that was cut off is left out. Raises `UserError`."""
    found, names = {}, {field.name for field in fields(Score)}
    lines = path.read_text().splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if set(row) != names:
                raise ValueError("other fields")
        except ValueError:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number}: no episode of this version; keep them in another file") from None
        score = Score(**{name: np.nan if value is None else value for name, value in row.items()})
        found[score.method, score.seed] = score
    return found


@lru_cache(maxsize=1)
def _stage(arm: str, hand: str) -> HandoverStage:
    return HandoverStage(arm, hand)


@lru_cache(maxsize=len(METHODS))
def _forecaster(preset: str) -> Forecaster | None:
    return None if preset == PERFECT else make_forecaster(preset)


def play(task: Task) -> Score:
    """Play one episode and judge it."""
    stage, scene, method = _stage(task.arm, task.hand), task.scene, task.method
    person = scene.person()
    watcher = Watcher(method, _forecaster(method.forecaster), person, scene.seed)
    limit = _LONGEST if person.intends != NONE else _OTHER_LENGTH
    told = score(method.name, scene, run_episode(stage, person, watcher, task.options, limit), stage)
    if task.kept is not None:
        with task.kept.open("a") as file:  # one short write, which processes that share the file do not tear
            file.write(json.dumps(as_rows([told])[0]) + "\n")
    return told


def score(method: str, scene: Scene, record: Record, stage: HandoverStage) -> Score:
    """What one record is worth."""
    person, arm = record.person, stage.arm
    intended = person.intends != NONE
    started_at = _first(record.time, record.phase == Phase.REACH)
    secured = person.done_at if intended and record.outcome == Outcome.SUCCESS else np.nan
    limits = arm.velocity_limit, arm.acceleration_limit, arm.jerk_limit
    joints = audit_arm(record.command, PERIOD, arm.lower, arm.upper, *limits)
    apart = audit_separation(record.time, record.points, record.thickness, record.keypoints, person.head, record.exempt)
    exempt = np.stack([record.exempt == 0, record.exempt == 1, np.zeros(len(record.time), dtype=bool)], axis=1)
    gives = scene.direction == GIVE
    contact = _first(record.time, record.gripped) if gives else person.done_at
    touched = _first(record.time, record.touched_object) if gives else person.holds_at
    point, time_error, inside = _forecast_errors(record) if intended else (np.nan, np.nan, np.nan)
    return Score(
        method,
        scene.seed,
        scene.direction,
        person.manner.value,
        intended,
        bool(np.isfinite(started_at)),
        bool(intended and record.outcome == Outcome.SUCCESS and _kept(record, scene.direction)),
        "none" if record.outcome is None else record.outcome.name.lower(),
        secured - person.begins,
        secured - started_at,
        contact - person.rests_from if intended else np.nan,
        point,
        time_error,
        inside,
        _brake(record),
        bool((record.touched & ~exempt).any()),
        apart.smallest,
        apart.too_near,
        apart.too_fast_in_transfer,
        joints.violations,
        float(record.time[-1]),
        touched - person.rests_from if intended else np.nan,
        started_at - person.begins,
        person.rests_from - person.begins,
        _first(record.time, record.phase == Phase.TRANSFER) - person.begins,
        _first(record.time, record.closing) - person.begins if scene.direction == GIVE else np.nan,
        np.nan if intended else float(np.linalg.norm(record.tool - record.tool[0], axis=1).max()),
    )


def summarise(scores: Sequence[Score], base: str = "persistence") -> dict[str, dict]:
    """Per method: shares, medians, and the paired difference of the time to secure the object to `base`, each with a
    95 % interval (bootstrap over scenes)."""
    result = {}
    names = list(dict.fromkeys(s.method for s in scores))
    by_scene = {(s.method, s.seed): s for s in scores}
    for name in names:
        mine = [s for s in scores if s.method == name]
        meant = [s for s in mine if s.handover]
        others = [s for s in mine if not s.handover]
        pairs = [(s, by_scene[(base, s.seed)]) for s in meant if (base, s.seed) in by_scene]
        gain = np.array([s.to_secured - b.to_secured for s, b in pairs if s.success and b.success])
        brake = np.array([s.brake - b.brake for s, b in pairs if np.isfinite(s.brake) and np.isfinite(b.brake)])
        started = [s for s in mine if s.started]
        result[name] = {
            "episodes": len(mine),
            "handovers": len(meant),
            "success": _share([s.success for s in meant]),
            "success, person waits": _share([s.success for s in meant if s.manner != Manner.MOVES_ON.value]),
            "success, person moves on": _share([s.success for s in meant if s.manner == Manner.MOVES_ON.value]),
            "drop": _share([s.outcome == "drop" for s in meant]),
            "time-out": _share([s.outcome in ("timeout", "none") for s in meant]),
            "unmeant contact": sum(s.unmeant_contact for s in mine),
            "to secured [s]": _median([s.to_secured for s in meant if s.success]),
            "robot start to secured [s]": _median([s.robot_time for s in meant if s.success]),
            "settled to first touch [s]": _median([s.touched for s in meant if s.success]),
            "settled to grip [s]": _median([s.waited for s in meant if s.success]),
            **{
                f"begin to {what} [s]": _median([getattr(s, name) for s in meant if s.success])
                for what, name in _PHASES.items()
            },
            "transfer point error at half [m]": _median([s.point_error for s in meant]),
            "time to contact error at 0.5 s [s]": _mean([abs(s.time_error) for s in meant]),
            "time inside 80 %": _mean([s.time_inside for s in meant]),
            "intent precision": _mean([float(s.handover) for s in started]),
            "intent recall": _mean([float(s.started) for s in meant]),
            "false starts in 10 min": _rate(others),
            "tool off its place in others [m]": _median([s.strayed for s in others]),
            "separation violations": sum(s.separation_violations for s in mine),
            "transfer speed violations": sum(s.transfer_speed_violations for s in mine),
            "joint violations": sum(s.joint_violations for s in mine),
            "smallest distance [m]": min((s.smallest for s in mine), default=np.nan),
            f"seconds against {base}": _paired(gain),
            f"braking against {base} [s]": _paired(brake),
        }
    return result


def as_rows(scores: Sequence[Score]) -> list[dict]:
    """The scores as plain values, nan as None."""
    return [
        {k: (None if isinstance(v, float) and not np.isfinite(v) else v) for k, v in asdict(s).items()} for s in scores
    ]


# ---------------------------------------------------------------- one record


def _first(time: np.ndarray, where: np.ndarray) -> float:
    return float(time[where.argmax()]) if where.any() else np.nan


def _kept(record: Record, direction: int) -> bool:
    """Whether the object is with its new owner at the end: in the robot's grip, or in the person's hand."""
    if direction == GIVE:
        return bool(np.linalg.norm(record.baton[-1] - record.tool[-1]) < 0.15 and record.gripped[-1])
    wrist = record.keypoints[-1, record.person.side, 0]
    return bool(np.linalg.norm(record.baton[-1] - wrist) < 0.2 and not record.gripped[-1])


def _forecast_errors(record: Record) -> tuple[float, float, float]:
    """m at half of the last reach; s half a second before the hand rests, and whether that lay within 10 to 90 %."""
    person = record.person
    speed = np.linalg.norm(np.gradient(record.keypoints[:, person.side, 0].astype(float), PERIOD, axis=0), axis=1)
    before = record.time < (person.rests_from if np.isfinite(person.rests_from) else np.inf)
    moving = np.flatnonzero(before & (speed > 0.1))
    if not len(moving) or not np.isfinite(person.rests_from):
        return np.nan, np.nan, np.nan
    rest = float(record.time[moving[-1]])
    half, early = rest - 0.5 * person.lasts, rest - 0.5
    point = time_error = inside = np.nan
    index = int(np.searchsorted(record.time, half))
    if (expected := record.expected[index]) is not None:
        point = float(np.linalg.norm(expected.position - person.meeting))
    index = int(np.searchsorted(record.time, early))
    if (expected := record.expected[index]) is not None:
        at = expected.stamp + expected.time
        time_error = float(at[1] - rest) if np.isfinite(at[1]) else np.nan
        inside = float(at[0] <= rest <= at[2])
    return point, time_error, inside


def _brake(record: Record) -> float:
    """s from the begin of a dart until the tool stands; nan where it stood already."""
    if not np.isfinite(record.person.darts_at):
        return np.nan
    speed = np.linalg.norm(np.gradient(record.tool, PERIOD, axis=0), axis=1)
    since = record.time >= record.person.darts_at
    if not since.any() or speed[since.argmax()] < 0.1:
        return np.nan
    return _first(record.time[since], speed[since] < 0.05) - record.person.darts_at


# ---------------------------------------------------------------- many


def _bootstrap(values: np.ndarray, statistic: Callable[..., np.ndarray]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    draws = statistic(values[rng.integers(len(values), size=(2000, len(values)))], axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def _share(values: Sequence[bool]) -> dict:
    """A share with Wilson's 95 % interval."""
    n, z = len(values), 1.96
    if not n:
        return {"value": None, "n": 0}
    p = sum(values) / n
    middle, spread = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return {"value": p, "low": float((middle - spread) / scale), "high": float((middle + spread) / scale), "n": n}


def _median(values: Sequence[float]) -> dict:
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return {"value": None, "n": 0}
    low, high = _bootstrap(known, np.median)
    p95 = float(np.quantile(known, 0.95))
    return {"value": float(np.median(known)), "low": low, "high": high, "p95": p95, "n": len(known)}


def _mean(values: Sequence[float]) -> dict:
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return {"value": None, "n": 0}
    low, high = _bootstrap(known, np.mean)
    return {"value": float(known.mean()), "low": low, "high": high, "n": len(known)}


def _paired(differences: np.ndarray) -> dict:
    return _mean(differences.tolist())


def _rate(others: Sequence[Score]) -> float | None:
    time = sum(s.duration for s in others)
    return 600.0 * sum(s.started for s in others) / time if time else None
