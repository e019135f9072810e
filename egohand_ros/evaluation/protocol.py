"""Evaluation protocols, and the evaluation of any forecasters by one of them.

A protocol is data: to add one, add an entry to `PROTOCOLS`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.episode import Episode
from ..data.windows import Cut, cut_windows, window_ends
from ..errors import UserError
from ..forecast.base import Forecaster, make_forecaster
from ..hand.skeleton import WRIST
from ..stream.window import Window
from .metrics import METRICS, Errors, Mean, best_hypothesis, wrist_coverage

# The forecasters without learned weights: what every other one is compared with.
NAIVE = ("persistence", "static", "cvm", "damped", "kalman")

# Windows are forecast this many at a time; the result does not depend on it.
BATCH = 256


@dataclass(frozen=True)
class Protocol:
    """`observed` frames at `rate` Hz in, `predicted` frames out, a window every `stride` frames; metrics by name.

    `hypotheses` is the K of best-of-K; the metrics themselves are those of the first hypothesis. `horizons` (s) are
    the times whose errors are shown; the details have those of every step.
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


PROTOCOLS: dict[str, Protocol] = {
    "egoexo4d": Protocol("egoexo4d", "EgoH4 and EggHand on Ego-Exo4D hands: 2 s in, 1 s out at 10 Hz", 10.0, 20, 10),
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
    """What an evaluation found: scores by forecaster, of all windows and by episode."""

    protocol: Protocol
    windows: int
    scores: dict[str, Score]
    by_episode: dict[str, dict[str, Score]]

    def metrics(self, name: str) -> dict[str, float]:
        """The protocol's metrics of one forecaster, m."""
        return self.scores[name].values(self.protocol.metrics)

    def to_json(self) -> dict:
        """{"protocol", "windows", "forecasters": {name: metrics}, "details"}; numbers in m, unknown ones null."""
        return _without_nan(
            {
                "protocol": self.protocol.name,
                "windows": self.windows,
                "forecasters": {name: self.metrics(name) for name in self.scores},
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
) -> Result:
    """Score forecasters on every window of every episode.

    A keypoint takes part in a window if it is valid in all of its frames, a hand if its wrist does, and a window counts
    if a hand does. A keypoint that a forecaster leaves out is scored as held at its last observation, and counted.
    `forecasters` are preset names, or objects by name; `episodes` may have labels. `progress(done, total)` counts
    forecast windows. Raises `UserError` where no window counts or a forecaster does not fit the protocol.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if not isinstance(forecasters, dict):
        forecasters = {name: forecaster_for(name, protocol) for name in forecasters}
    if not isinstance(episodes, dict):
        episodes = {f"episode {i}": episode for i, episode in enumerate(episodes)}
    for name, forecaster in forecasters.items():
        check_fit(name, forecaster, protocol)
    ends = {
        label: window_ends(e.stamp, protocol.step, protocol.observed, protocol.predicted, protocol.stride)
        for label, e in episodes.items()
    }
    total, done = sum(map(len, ends.values())) * len(forecasters), 0
    by_episode = {label: {name: Score() for name in forecasters} for label in episodes}
    for label, episode in episodes.items():
        for start in range(0, len(ends[label]), BATCH):
            batch = ends[label][start : start + BATCH]
            cut, part = _counted_windows(episode, batch, protocol)
            for name, forecaster in forecasters.items():
                if len(part):
                    by_episode[label][name].merge(score_batch(forecaster, cut, part, protocol))
                done += len(batch)
                if progress is not None:
                    progress(done, total)
    scores = {name: Score() for name in forecasters}
    for per_forecaster in by_episode.values():
        for name, score in per_forecaster.items():
            scores[name].merge(score)
    windows = next(iter(scores.values())).windows if scores else 0
    if not windows:
        raise UserError(_nothing_counts(episodes, protocol))
    return Result(protocol, windows, scores, by_episode)


def forecaster_for(name: str, protocol: Protocol) -> Forecaster:
    """The forecaster of a preset name at the protocol's rate and horizon."""
    forecaster = make_forecaster(name)
    if _misfit(forecaster, protocol) is None:
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
    if not math.isclose(spec.step, protocol.step, rel_tol=1e-6):
        return f"its step is {spec.step:g} s, {protocol.step:g} s is needed"
    if spec.window_length > protocol.observed:
        return f"it looks at {spec.window_length} frames, only {protocol.observed} are observed"
    if spec.horizon_steps < protocol.predicted:
        return f"it forecasts {spec.horizon_steps} steps, {protocol.predicted} are needed"
    return None


def score_batch(forecaster: Forecaster, cut: Cut, part: np.ndarray, protocol: Protocol) -> Score:
    """One forecaster's score on some windows, of which the keypoints `part` (B, 2, 21) take part."""
    window = last_observations(cut.window, forecaster.spec.window_length)
    hypotheses = min(protocol.hypotheses, forecaster.spec.max_hypotheses)
    forecast = forecaster.forecast(window, hypotheses=hypotheses, seed=0)
    given = forecast.valid.cpu().numpy()
    steps = slice(0, protocol.predicted)
    keypoints = forecast.keypoints.cpu().numpy()[:, :, steps].astype(np.float64)
    held = cut.window.keypoints[:, -1].numpy()[:, None, None]
    keypoints = np.where(given[:, None, None, ..., None], keypoints, held)
    valid = np.broadcast_to(part[:, None], (len(part), protocol.predicted, *part.shape[1:]))
    errors = [Errors.between(keypoints[:, k], cut.future, valid) for k in range(keypoints.shape[1])]

    score = Score(windows=len(part), not_forecast=int((part & ~given).sum()))
    for key, metric in METRICS.items():
        score.add(key, metric(errors[0]))
    for frame, horizon in enumerate(protocol.step_times()):
        at = errors[0].frames(slice(frame, frame + 1))
        score.add(f"ADE at {horizon:g} s", METRICS["ADE"](at))
        score.add(f"MPJPE at {horizon:g} s", METRICS["MPJPE"](at))
    if len(errors) > 1:
        best = best_hypothesis(errors)
        for key in ("ADE", "FDE"):
            score.add(f"{key} best of {len(errors)}", METRICS[key](best))
    covariance = forecast.wrist_covariance.cpu().numpy()[:, 0, steps, :, :3, :3]
    coverage = wrist_coverage(keypoints[:, 0, ..., WRIST, :], covariance, cut.future[..., WRIST, :], valid[..., WRIST])
    if coverage.weight:
        score.add("wrist coverage of 90 %", coverage)
    return score


def last_observations(window: Window, length: int) -> Window:
    """The window without all but its last `length` observations."""
    if length == window.length:
        return window
    tail = slice(window.length - length, None)
    camera = None if window.camera_pose is None else window.camera_pose[:, tail]
    return Window(
        window.stamp,
        window.keypoints[:, tail],
        window.valid[:, tail],
        window.wrist_rotation[:, tail],
        window.rotation_valid[:, tail],
        camera,
        window.images,
        window.depth,
        window.prompt,
    )


def _counted_windows(episode: Episode, ends: np.ndarray, protocol: Protocol) -> tuple[Cut, np.ndarray]:
    """The windows among those that end at frames `ends` that count, and the keypoints that take part (B, 2, 21)."""
    cut = cut_windows(episode, ends, protocol.step, protocol.observed, protocol.predicted)
    counted = cut.takes_part()[..., WRIST].any(axis=1)
    if not counted.all():
        cut = cut_windows(episode, ends[counted], protocol.step, protocol.observed, protocol.predicted)
    return cut, cut.takes_part()


def _nothing_counts(episodes: dict[str, Episode], protocol: Protocol) -> str:
    need = f"protocol {protocol.name!r} needs {protocol.seconds:g} s in which a wrist is always valid"
    if not episodes:
        return f"no episode was given; {need}"
    longest = max(episode.duration for episode in episodes.values())
    return f"no window can be scored: {need}; the longest of {len(episodes)} episodes lasts {longest:.2f} s"


def _without_nan(value):
    """NaN is no JSON: it becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
