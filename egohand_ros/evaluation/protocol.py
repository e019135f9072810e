"""Evaluation protocols, and the evaluation of any forecasters by one of them.

A protocol is data: to add one, add an entry to `PROTOCOLS`, and its metrics to `metric_sets.py` where they are new.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ..data.episode import Episode
from ..data.windows import MAX_GAP_STEPS, Cut, cut_windows, longest_unbroken, window_ends, with_images
from ..errors import UserError
from ..forecast.common.protocol import Forecast, Forecaster
from ..forecast.registry import make_forecaster
from ..forecast.resampling import at_times
from ..hand.skeleton import WRIST
from ..json_text import without_nan
from ..parallel import HERE, Workers, run_all
from ..stream.window import Window, last_observations
from .ego_motion import EgoMotion, camera_motion, motion_threshold
from .metric_sets import METRIC_SETS, Compared
from .metrics import METRICS, Mean, wrist_coverage

# The forecasters without learned weights: what every other one is compared with.
NAIVE = ("persistence", "static", "cvm", "damped", "kalman")

# Windows are forecast this many at a time; the result does not depend on it.
BATCH = 256


@dataclass(frozen=True)
class Protocol:
    """`observed` frames at `rate` Hz in, `predicted` frames out, a window every `stride` frames; metrics by name.

    `hypotheses` is the K of best-of-K, and `best_of` are further ones; the metrics themselves are those of the first
    hypothesis. `metric_set` names how they are worked out. `horizons` (s) are the times whose errors are shown; the
    details have those of every step. `note` is shown with the result.
    """

    name: str
    summary: str
    rate: float
    observed: int
    predicted: int
    stride: int = 1
    metrics: tuple[str, ...] = ("ADE", "FDE", "MPJPE", "MPJPE-F")
    hypotheses: int = 5
    horizons: tuple[float, ...] = (0.1, 0.3, 0.5, 1.0)
    metric_set: str = "egoexo4d"
    best_of: tuple[int, ...] = ()
    note: str = ""

    @property
    def step(self) -> float:
        return 1.0 / self.rate

    def step_times(self) -> list[float]:
        """Times of the predicted frames, s from the last observed one."""
        return [round((i + 1) * self.step, 9) for i in range(self.predicted)]

    @property
    def seconds(self) -> float:
        """From the first observed frame to the last predicted one."""
        return (self.observed + self.predicted - 1) * self.step


_EGOMAN = ("ADE", "FDE", "DTW", "ROT")
_OWN_WINDOWS = (
    "The published task shows one image and no past; here forecasters see, and forecast, what they do under "
    "egoexo4d, so that "
    "figures compare with each other but not with the paper's."
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("egoexo4d", "EgoH4 and EggHand on Ego-Exo4D hands: 2 s in, 1 s out at 10 Hz", 10.0, 20, 10),
        Protocol(
            "usst",
            "USST's split: 60 % of 40 frames at 30 Hz in, the rest out (0.8 s in, 0.53 s out); wrists",
            30.0,
            24,
            16,
            metrics=("ADE", "FDE"),
            horizons=(0.1, 0.3, 0.5),
        ),
        Protocol(
            "egoman",
            "EgoMAN: 0.5 s of both wrists in, 5 s out at 10 Hz, best of 1, 5 and 10",
            10.0,
            5,
            50,
            metrics=(*_EGOMAN, *(f"{key} best of {count}" for count in (5, 10) for key in _EGOMAN)),
            hypotheses=10,
            horizons=(0.5, 1.0, 2.0, 5.0),
            metric_set="egoman",
            best_of=(5,),
            note="Best of K is the hypothesis of K with the least ADE + 1 mm a degree of ROT, of those it has.",
        ),
        Protocol(
            "forehand4d",
            "ForeHand4D's metrics of both hands' keypoints: 2 s in, 1 s out at 10 Hz",
            10.0,
            20,
            10,
            metrics=("mpjpe/f", "mpjpe/f/ra", "mpjpe/f/pa", "mpjpe/f/pag", "mpjpe/f/paf", "MRRPE"),
            metric_set="forehand4d",
            note=_OWN_WINDOWS,
        ),
        Protocol(
            "megohand",
            "MEgoHand's metrics of keypoints, wrist place and rotation: 2 s in, 1 s out at 10 Hz",
            10.0,
            20,
            10,
            metrics=("MPJPE", "MPJPE-PA", "MPVE", "MPVE-PA", "MWTE", "MRE"),
            metric_set="megohand",
            note=f"MPVE is of mesh vertices, which no recording here has. MRE is of the wrist. {_OWN_WINDOWS}",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of a name. Raises `UserError` that lists the known names."""
    if name not in PROTOCOLS:
        raise UserError(f"protocol {name!r} is unknown; known protocols: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass
class Score:
    """One forecaster's sums over some windows, by metric."""

    metrics: dict[str, Mean] = field(default_factory=dict)
    windows: int = 0
    not_forecast: int = 0

    def add(self, key: str, mean: Mean) -> None:
        self.metrics[key] = self.metrics.get(key, Mean()) + mean

    def merge(self, other: "Score") -> None:
        for key, mean in other.metrics.items():
            self.add(key, mean)
        self.windows += other.windows
        self.not_forecast += other.not_forecast

    def values(self, keys: Iterable[str]) -> dict[str, float]:
        return {key: self.metrics.get(key, Mean()).value for key in keys}


@dataclass(frozen=True)
class Result:
    """What an evaluation found: scores by forecaster, of all windows and by episode, and where it was asked for of the
    windows with the most camera motion."""

    protocol: Protocol
    windows: int
    scores: dict[str, Score]
    by_episode: dict[str, dict[str, Score]]
    ego_motion: EgoMotion | None = None
    models: dict[str, str] = field(default_factory=dict)  # by forecaster: its name and the hash of its weights

    def metrics(self, name: str) -> dict[str, float]:
        """The protocol's metrics of one forecaster, m."""
        return self.scores[name].values(self.protocol.metrics)

    def to_json(self) -> dict:
        """{"protocol", "windows", "models", "forecasters": {name: metrics}, "details"}; m, rad, null: unknown."""
        moved = {} if self.ego_motion is None else {"ego_motion": self.ego_motion.to_json(self.protocol.metrics)}
        return without_nan(
            {
                "protocol": self.protocol.name,
                "windows": self.windows,
                "models": self.models,
                "forecasters": {name: self.metrics(name) for name in self.scores},
                **moved,
                "details": {
                    "forecasters": {name: self._details(score) for name, score in self.scores.items()},
                    "episodes": {
                        label: {
                            name: {"windows": score.windows, **score.values(self.protocol.metrics)}
                            for name, score in scores.items()
                        }
                        for label, scores in self.by_episode.items()
                    },
                },
            }
        )

    def _details(self, score: Score) -> dict:
        shown = {key: mean.value for key, mean in score.metrics.items() if key not in self.protocol.metrics}
        return {"keypoints_not_forecast": score.not_forecast, **shown}


def evaluate(
    episodes: Sequence[Episode] | dict[str, Episode],
    forecasters: Sequence[str] | dict[str, Forecaster],
    protocol: Protocol | str = "egoexo4d",
    progress: Callable[[int, int], None] | None = None,
    ego_motion: float | None = None,
    workers: Workers = HERE,
) -> Result:
    """Score forecasters on every window of every episode.

    A keypoint takes part in a window if it is valid in all of its frames, a hand if its wrist does, and a window counts
    if a hand does. A keypoint that a forecaster leaves out is scored as held at its last observation, and counted.
    `forecasters` are preset names, or objects by name; `episodes` may have labels. `progress(done, total)` counts
    forecast windows. Where a forecaster needs images, windows count at whose end there is a picture. `ego_motion` is
    the share of windows with the most camera motion that are also scored on their own. Raises `UserError` where no
    window counts or a forecaster does not fit the protocol. With `workers` of more than one process each works on
    whole episodes, with forecasters of its own by their names, and progress counts episodes.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    names = None if isinstance(forecasters, dict) else tuple(forecasters)
    if not isinstance(forecasters, dict):
        forecasters = {name: forecaster_for(name, protocol) for name in forecasters}
    if not isinstance(episodes, dict):
        episodes = {f"episode {i}": episode for i, episode in enumerate(episodes)}
    for name, forecaster in forecasters.items():
        check_fit(name, forecaster, protocol)
        _check_needs(name, forecaster, episodes)
    pictured = any(need.modality == "images" for f in forecasters.values() for need in f.spec.needs)
    ends = {label: _counted_ends(episode, protocol, pictured) for label, episode in episodes.items()}
    windows = sum(map(len, ends.values()))
    if not windows:
        raise UserError(_nothing_counts(episodes, protocol))
    moving, threshold = _most_moving(episodes, ends, protocol, ego_motion)
    total, done = windows * len(forecasters), dict.fromkeys(episodes, 0)

    def report(label: str, count: int) -> None:
        done[label] = count
        if progress is not None:
            progress(sum(done.values()), total)

    parts = [_Part(label, e, ends[label], moving.get(label), protocol, names) for label, e in episodes.items()]
    if workers.cluster or workers.count > 1:
        if names is None:
            raise UserError("forecasters are made anew in each process; give them by name")
        by_part = run_all(
            _score_part_by_names, parts, workers, lambda ready, _: progress and progress(ready, len(parts))
        )
    else:
        by_part = [_score_part(part, forecasters, partial(report, part.label)) for part in parts]
    by_episode = {part.label: scored for part, (scored, _) in zip(parts, by_part, strict=True)}
    scores, moved = (_merged(part[i] for part in by_part) for i in range(2))
    split = None if ego_motion is None else EgoMotion(ego_motion, threshold, next(iter(moved.values())).windows, moved)
    models = {name: forecaster.spec.model_id for name, forecaster in forecasters.items()}
    return Result(protocol, windows, scores, by_episode, split, models)


@dataclass(frozen=True)
class _Part:
    """One episode to be scored: frames at which windows end that count, and which of those move most."""

    label: str
    episode: Episode
    ends: np.ndarray
    moving: np.ndarray | None
    protocol: Protocol
    names: tuple[str, ...] | None

    def __repr__(self) -> str:
        return self.label


Scores = dict[str, Score]


def _merged(parts: Iterable[Scores]) -> Scores:
    """By forecaster, of all parts together."""
    total: Scores = {}
    for part in parts:
        for name, score in part.items():
            total.setdefault(name, Score()).merge(score)
    return total


def _score_part(
    part: _Part, forecasters: dict[str, Forecaster], report: Callable[[int], None] = lambda windows: None
) -> tuple[Scores, Scores]:
    """By forecaster, of all windows and of those with the most camera motion."""
    scored, moved = ({name: Score() for name in forecasters} for _ in range(2))
    protocol, done = part.protocol, 0
    for group in _groups(len(part.ends), part.moving):
        ends = part.ends[group]
        cut = cut_windows(part.episode, ends, protocol.step, protocol.observed, protocol.predicted)
        takes_part, of_moving = cut.takes_part(), part.moving is not None and bool(part.moving[group[0]])
        for name, forecaster in forecasters.items():
            window = window_for(forecaster, part.episode, ends, cut, protocol)
            score = score_batch(forecaster, cut, takes_part, protocol, window)
            scored[name].merge(score)
            if of_moving:
                moved[name].merge(score)
            done += len(group)
            report(done)
    return scored, moved


def _score_part_by_names(part: _Part) -> tuple[Scores, Scores]:
    """In a process of its own."""
    return _score_part(part, {name: forecaster_for(name, part.protocol) for name in part.names or ()})


def _counted_ends(episode: Episode, protocol: Protocol, pictured: bool) -> np.ndarray:
    """Frames at which windows end that count, all of them with a picture where `pictured`."""
    ends = window_ends(episode.stamp, protocol.step, protocol.observed, protocol.predicted, protocol.stride)
    if pictured and episode.images is not None:
        ends = ends[episode.images.covers(episode.stamp[ends])]
    kept = [ends[:0]]
    for start in range(0, len(ends), BATCH):
        batch = ends[start : start + BATCH]
        cut = cut_windows(episode, batch, protocol.step, protocol.observed, protocol.predicted)
        kept.append(batch[cut.takes_part()[..., WRIST].any(axis=1)])
    return np.concatenate(kept)


def _most_moving(
    episodes: dict[str, Episode], ends: dict[str, np.ndarray], protocol: Protocol, share: float | None
) -> tuple[dict[str, np.ndarray], float]:
    """By episode, which windows are among the `share` with the most camera motion, and the least motion of those."""
    if share is None:
        return {}, math.nan
    motion = {label: camera_motion(episode, ends[label], protocol) for label, episode in episodes.items()}
    threshold = motion_threshold(np.concatenate(list(motion.values())), share)
    return {label: values >= threshold for label, values in motion.items()}, threshold


def _groups(count: int, moving: np.ndarray | None) -> list[np.ndarray]:
    """Windows in batches, those with much camera motion apart from the others."""
    kinds = [np.arange(count)] if moving is None else [np.flatnonzero(moving), np.flatnonzero(~moving)]
    return [kind[start : start + BATCH] for kind in kinds for start in range(0, len(kind), BATCH)]


def forecaster_for(name: str, protocol: Protocol) -> Forecaster:
    """The forecaster of a preset name at the protocol's rate and horizon."""
    forecaster = make_forecaster(name)
    if _same_rate(forecaster, protocol) and _misfit(forecaster, protocol) is None:
        return forecaster
    try:
        return make_forecaster(
            name, step=protocol.step, window_length=protocol.observed, horizon_steps=protocol.predicted
        )
    except TypeError:
        return forecaster


def check_fit(name: str, forecaster: Forecaster, protocol: Protocol) -> None:
    """Raise `UserError` where a forecaster's rate, window or horizon cannot serve the protocol."""
    misfit = _misfit(forecaster, protocol)
    if misfit:
        raise UserError(f"forecaster {name!r} does not fit protocol {protocol.name!r}: {misfit}")


def _misfit(forecaster: Forecaster, protocol: Protocol) -> str | None:
    spec = forecaster.spec
    if not _same_rate(forecaster, protocol):
        past, future = (protocol.observed - 1) * protocol.step, protocol.predicted * protocol.step
        if spec.observed > past + 1e-6:
            return f"it looks at {spec.observed:.3g} s, only {past:.3g} s are observed"
        if spec.horizon < future - 1e-6:
            return f"it forecasts {spec.horizon:.3g} s, {future:.3g} s are needed"
        return None
    if spec.window_length > protocol.observed:
        return f"it looks at {spec.window_length} frames, only {protocol.observed} are observed"
    if spec.horizon_steps < protocol.predicted:
        return f"it forecasts {spec.horizon_steps} steps, {protocol.predicted} are needed"
    return None


def _same_rate(forecaster: Forecaster, protocol: Protocol) -> bool:
    spec = forecaster.spec
    own_steps = len(spec.times) and not np.allclose(spec.times, spec.step * np.arange(1, spec.horizon_steps + 1))
    return math.isclose(spec.step, protocol.step, rel_tol=1e-6) and not own_steps


def _check_needs(name: str, forecaster: Forecaster, episodes: dict[str, Episode]) -> None:
    """Refuse recordings without what a forecaster needs."""
    for label, episode in episodes.items():
        reason = forecaster.spec.lacks(episode)
        if reason:
            raise UserError(f"{reason}, and {label!r} has none; leave {name} or that recording out")


def window_for(forecaster: Forecaster, episode: Episode, ends: np.ndarray, cut: Cut, protocol: Protocol) -> Window:
    """What a forecaster sees of the windows `cut` at frames `ends`: the same past at its own rate."""
    spec = forecaster.spec
    if _same_rate(forecaster, protocol):
        window = last_observations(cut.window, spec.window_length)
    else:
        window = cut_windows(episode, ends, spec.step, spec.window_length, 0).window
    return with_images(window, episode, spec)


def score_batch(
    forecaster: Forecaster, cut: Cut, part: np.ndarray, protocol: Protocol, window: Window | None = None
) -> Score:
    """One forecaster's score on some windows, of which the keypoints `part` (B, 2, 21) take part; `window` is what it
    sees, by default the last observations of the cut."""
    metric_set = METRIC_SETS[protocol.metric_set]
    window = last_observations(cut.window, forecaster.spec.window_length) if window is None else window
    compared, forecast = _compare(forecaster, cut, part, protocol, protocol.hypotheses, window)
    first, given = compared[0], forecast.valid.cpu().numpy()
    score = Score(windows=len(part), not_forecast=int((part & ~given).sum()))
    for key, mean in metric_set.metrics(first).items():
        score.add(key, mean)
    errors = first.errors()
    for frame, horizon in enumerate(protocol.step_times()):
        at = errors.frames(slice(frame, frame + 1))
        score.add(f"ADE at {horizon:g} s", METRICS["ADE"](at))
        if protocol.metric_set == "egoexo4d":
            score.add(f"MPJPE at {horizon:g} s", METRICS["MPJPE"](at))
    for count in (*protocol.best_of, protocol.hypotheses):
        again = count != protocol.hypotheses
        drawn = _compare(forecaster, cut, part, protocol, count, window)[0] if again else compared
        asked = any(key.endswith(f" best of {count}") for key in protocol.metrics)
        if asked or len(drawn) > 1:
            best = metric_set.metrics(_best(drawn, metric_set.distance))
            for key in metric_set.best:
                score.add(f"{key} best of {count if asked else len(drawn)}", best[key])
    covariance = forecast.wrist_covariance.cpu().numpy()[:, 0, : protocol.predicted, :, :3, :3]
    valid = np.broadcast_to(part[:, None, :, WRIST], first.actual.shape[:3])
    coverage = wrist_coverage(first.keypoints[..., WRIST, :], covariance, first.actual[..., WRIST, :], valid)
    if coverage.weight:
        score.add("wrist coverage of 90 %", coverage)
    return score


def _compare(
    forecaster: Forecaster, cut: Cut, part: np.ndarray, protocol: Protocol, hypotheses: int, window: Window
) -> tuple[list[Compared], Forecast]:
    """What a forecaster says of some windows beside what happened, one `Compared` a hypothesis."""
    forecast = forecaster.forecast(window, hypotheses=min(hypotheses, forecaster.spec.max_hypotheses), seed=0)
    forecast = at_times(forecast, protocol.step_times(), window)
    given, steps = forecast.valid.cpu().numpy(), slice(0, protocol.predicted)
    keypoints = forecast.keypoints.cpu().numpy()[:, :, steps].astype(np.float64)
    held = cut.window.keypoints[:, -1].numpy()[:, None, None]
    keypoints = np.where(given[:, None, None, ..., None], keypoints, held)
    rotation = forecast.wrist_rotation.cpu().numpy()[:, :, steps].astype(np.float64)
    held = cut.window.wrist_rotation[:, -1].numpy()[:, None, None]
    rotation = np.where(given[:, None, None, :, WRIST, None, None], rotation, held)
    known = cut.future_rotation_valid.all(axis=1) & cut.window.rotation_valid.numpy().any(axis=1) & part[..., WRIST]
    compared = [
        Compared(keypoints[:, k], cut.future, part, rotation[:, k], cut.future_rotation, known)
        for k in range(keypoints.shape[1])
    ]
    return compared, forecast


def _best(compared: list[Compared], distance: Callable[[Compared], np.ndarray]) -> Compared:
    """Of K forecasts of the same samples, for each sample the nearest."""
    choice = np.argmin([distance(one) for one in compared], axis=0)
    sample = np.arange(len(choice))
    keypoints, rotation = (
        np.stack([getattr(one, name) for one in compared])[choice, sample] for name in ("keypoints", "rotation")
    )
    return replace(compared[0], keypoints=keypoints, rotation=rotation)


def _nothing_counts(episodes: dict[str, Episode], protocol: Protocol) -> str:
    need = f"protocol {protocol.name!r} needs {protocol.seconds:g} s in which a wrist is always valid"
    if not episodes:
        return f"no episode was given; {need}"
    longest = max(episode.duration for episode in episodes.values())
    unbroken = max(longest_unbroken(episode, protocol.step) for episode in episodes.values())
    of = "the recording lasts" if len(episodes) == 1 else f"the longest of {len(episodes)} recordings lasts"
    said = f"no window can be scored: {need}; {of} {longest:.2f} s"
    if longest < protocol.seconds:
        return f"{said}: record longer"
    return (
        f"{said}, and a wrist is seen for at most {unbroken:.2f} s without a gap of more than "
        f"{MAX_GAP_STEPS * protocol.step:g} s; keep the hand in the picture, and find it in every frame of a video by "
        "egohand track, or egohand run --video --offline"
    )
