"""Recordings scored in order, as the node forecasts them: window after window, so that what learns on the way can be
judged.

Every recording begins anew. A forecast is made at each frame, at most 30 a second, of what was seen until then, and
each of its steps is scored where the recording shows what came. A hand counts where its wrist is seen at the frame and
was seen before in the window, that is, where every naive forecaster forecasts it; one that a forecaster leaves out is
held where it was seen last.

What is compared with is the best naive forecaster of each source, chosen in hindsight for each column. Intervals are by
bootstrap over recordings (B. Efron, Ann. Statist. 7(1), 1979); over blocks of 5 s where a source has one recording
only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.episode import Episode
from ..data.windows import Cut, cut_windows, with_images
from ..errors import UserError
from ..forecast.common.calibration import Scores, score
from ..forecast.common.protocol import Forecast, Forecaster
from ..forecast.live.assessment import OnlineAssessment
from ..forecast.registry import make_forecaster
from ..forecast.resampling import at_times
from ..hand.skeleton import WRIST
from ..json_text import without_nan
from ..stream.window import Window, last_observations
from .protocol import NAIVE

RATE = 30.0  # Hz, at most, of forecasts
HORIZONS = (0.1, 0.3, 0.5, 1.0)  # s, shown
SETTLED = 30.0  # s of a recording after which regions count
_BLOCK = 5.0  # s
_BATCH = 128
_RESAMPLES, _SEED = 1000, 0
KINDS = ("wrist", "keypoints")  # ADE is the mean of the first, MPJPE of the second, which is relative to the wrist
REGIONS = ("position", "rotation", "keypoint")


@dataclass
class Sums:
    """Errors (R, U, S) m of both kinds and how many there are, by recording R or block U; regions (3, 2): inside,
    counted.
    """

    error: np.ndarray
    count: np.ndarray
    regions: np.ndarray

    def mean(
        self, kind: int, steps: np.ndarray | slice = slice(None), units: np.ndarray | slice = slice(None)
    ) -> float:
        """Over some steps and units; NaN where nothing counts."""
        count = self.count[kind, units][:, steps].sum()
        return float(self.error[kind, units][:, steps].sum() / count) if count else float("nan")


@dataclass(frozen=True)
class Source:
    """One source's recordings, scored: `sums` by forecaster over `units`, which are recordings or blocks of one."""

    recordings: int
    seconds: float
    units: str
    sums: dict[str, Sums]
    step_times: np.ndarray

    def columns(self) -> dict[str, tuple[int, np.ndarray | slice]]:
        """What is shown: by name the kind of error and the steps."""
        at = {f"{h:g} s": np.flatnonzero(np.isclose(self.step_times, h)) for h in HORIZONS}
        shown = {"ADE": (0, slice(None)), "MPJPE": (1, slice(None)), **{name: (0, steps) for name, steps in at.items()}}
        return {name: column for name, column in shown.items() if isinstance(column[1], slice) or len(column[1])}

    def value(self, name: str, column: str) -> float:
        """Error of a forecaster, m."""
        kind, steps = self.columns()[column]
        return self.sums[name].mean(kind, steps)

    def best_naive(self, column: str) -> str | None:
        """The naive forecaster with the least error in a column; None where nothing counts."""
        values = {name: self.value(name, column) for name in NAIVE if name in self.sums}
        known = {name: value for name, value in values.items() if np.isfinite(value)}
        return min(known, key=known.get) if known else None

    def ratio(self, name: str, column: str, other: str | None = None) -> tuple[float, float, float]:
        """Error of a forecaster over that of another, by default the best naive one, and the 95 % interval of that."""
        best = other or self.best_naive(column)
        if best is None:
            return (float("nan"),) * 3
        kind, steps = self.columns()[column]
        ours, theirs = (self.sums[n].error[kind][:, steps].sum(axis=1) for n in (name, best))
        rng = np.random.default_rng(_SEED)
        drawn = rng.integers(0, len(ours), (_RESAMPLES, len(ours)))
        bottom = theirs[drawn].sum(axis=1)
        ratios = ours[drawn].sum(axis=1)[bottom > 0] / bottom[bottom > 0]
        total = theirs.sum()
        if not total > 0 or not len(ratios):
            return (float("nan"),) * 3
        return float(ours.sum() / total), *(float(q) for q in np.quantile(ratios, (0.025, 0.975)))

    def coverage(self, name: str) -> dict[str, float]:
        """Share of what came inside the 90 % regions, once they were adapted for `SETTLED` s; NaN where nothing is that
        long.
        """
        inside, counted = self.sums[name].regions
        return {k: float(i / c) if c else float("nan") for k, i, c in zip(REGIONS, inside, counted, strict=True)}


@dataclass(frozen=True)
class StreamResult:
    """Sources by name, and the forecasters that were asked for."""

    sources: dict[str, Source]
    forecasters: tuple[str, ...]

    def overall(self, name: str, column: str) -> float:
        """Geometric mean over sources of the ratio to each one's best naive forecaster."""
        ratios = [source.ratio(name, column)[0] for source in self.sources.values() if column in source.columns()]
        ratios = [ratio for ratio in ratios if np.isfinite(ratio)]
        return float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")

    def to_json(self) -> dict:
        """m, and ratios with their 95 % intervals; what is unknown null."""
        columns = next(iter(self.sources.values())).columns()
        overall = {name: {c: self.overall(name, c) for c in columns} for name in self.forecasters}
        return without_nan(
            {"sources": {k: self._source(v) for k, v in self.sources.items()}, "geometric_mean": overall}
        )

    def _source(self, source: Source) -> dict:
        columns = source.columns()
        return {
            "recordings": source.recordings,
            "seconds": source.seconds,
            "intervals": f"bootstrap over {source.units}",
            "best_naive": {column: source.best_naive(column) for column in columns},
            "forecasters": {
                name: {
                    "error": {column: source.value(name, column) for column in columns},
                    "ratio": {column: list(source.ratio(name, column)) for column in columns},
                    "coverage": source.coverage(name),
                }
                for name in source.sums
            },
        }


def evaluate_stream(
    sources: dict[str, list[Episode]],
    forecasters: list[str] | dict[str, Forecaster],
    progress: Callable[[int, int], None] | None = None,
    rate: float = RATE,
    regions: bool = True,
) -> StreamResult:
    """Score forecasters, and the naive ones beside them, on every recording of every source.

    `regions`: also how many wrists, rotations and keypoints fall into the 90 % regions, adapted as the node does, after
    `SETTLED` s; of the forecasters that are asked for. Scored are the steps of the first one; others see the same past
    at their own rate, and are brought to those times. `progress(done, total)` counts recordings. Raises `UserError`
    where a source has nothing that can be scored, and for a forecaster of a shorter horizon than the first.
    """
    made = {name: make_forecaster(name) for name in forecasters} if not isinstance(forecasters, dict) else forecasters
    if not made:
        raise UserError("no forecaster was named; give one or more, separated by commas")
    spec = next(iter(made.values())).spec
    sizes = (spec.step, spec.window_length, spec.horizon_steps)
    made = dict(made)
    for name in NAIVE:
        if name not in made:
            made[name] = make_forecaster(name, step=sizes[0], window_length=sizes[1], horizon_steps=sizes[2])
    for name, forecaster in made.items():
        own = forecaster.spec.horizon
        if own < spec.horizon - 1e-6:
            raise UserError(
                f"forecaster {name!r} forecasts {own:.3g} s, and the first one, whose steps are scored, "
                f"{spec.horizon:.3g} s; name the one with the shortest horizon first"
            )
    times = spec.step * np.arange(1, spec.horizon_steps + 1)
    scored, done, total = {}, 0, sum(map(len, sources.values()))
    asked = tuple(name for name in made if name in forecasters)
    for label, episodes in sources.items():
        parts = []
        for episode in episodes:
            parts.append(_score_recording(episode, made, sizes, times, rate, asked if regions else ()))
            done += 1
            if progress is not None:
                progress(done, total)
        scored[label] = _source(episodes, parts, times, label)
    return StreamResult(scored, asked)


def _source(episodes: list[Episode], parts: list[dict[str, Sums]], times: np.ndarray, label: str) -> Source:
    alone = len(parts) == 1
    sums = {}
    for name in parts[0] if parts else ():
        # By recording: the sum over its blocks.
        merged = [part[name] if alone else _whole(part[name]) for part in parts]
        sums[name] = Sums(
            np.concatenate([s.error for s in merged], axis=1),
            np.concatenate([s.count for s in merged], axis=1),
            sum(s.regions for s in merged),
        )
    if not sums or not next(iter(sums.values())).count[0].sum():
        raise UserError(f"{label} has nothing to score: a wrist must be seen in two frames, and again after a step")
    units = f"blocks of {_BLOCK:g} s" if alone else "recordings"
    return Source(len(parts), sum(episode.duration for episode in episodes), units, sums, times)


def _whole(sums: Sums) -> Sums:
    return Sums(sums.error.sum(axis=1, keepdims=True), sums.count.sum(axis=1, keepdims=True), sums.regions)


def stream_frames(stamp: np.ndarray, rate: float = RATE) -> np.ndarray:
    """Indices of the frames that are forecast: all, or as many as leave 1 / rate s between them."""
    kept, last = [], -np.inf
    for frame, time in enumerate(stamp):
        if time - last >= 0.99 / rate:
            kept.append(frame)
            last = time
    return np.array(kept, dtype=int)


def _score_recording(
    episode: Episode,
    forecasters: dict[str, Forecaster],
    sizes: tuple[float, int, int],
    times: np.ndarray,
    rate: float,
    regions: tuple[str, ...],
) -> dict[str, Sums]:
    for forecaster in forecasters.values():
        forget(forecaster)
    frames = stream_frames(episode.stamp, rate)
    blocks = ((episode.stamp[frames] - episode.stamp[0]) / _BLOCK).astype(int)
    shape = (len(KINDS), blocks[-1] + 1, sizes[2])
    sums = {name: Sums(np.zeros(shape), np.zeros(shape), np.zeros((2, len(REGIONS)))) for name in forecasters}
    long = episode.duration > SETTLED + sizes[0] * sizes[2]
    assessments = {name: OnlineAssessment() for name in regions if long}
    for start in range(0, len(frames), _BATCH):
        part = slice(start, start + _BATCH)
        cut = cut_windows(episode, frames[part], *sizes)
        for name, forecaster in forecasters.items():
            window = window_of(forecaster, cut.window, episode, frames[part], sizes)
            forecast = at_times(in_order(forecaster, window), times, window)
            _add(sums[name], forecast, cut, blocks[part])
            if name in assessments:
                settled = episode.stamp[frames[part]] - episode.stamp[0] >= SETTLED
                _add_regions(sums[name].regions, assessments[name], forecast, cut, settled)
    return sums


def forget(forecaster: Forecaster) -> None:
    """A new recording begins; forecasters without a memory have nothing to forget."""
    reset = getattr(forecaster, "reset", None)
    if reset is not None:
        reset()


def window_of(
    forecaster: Forecaster, window: Window, episode: Episode, frames: np.ndarray, sizes: tuple[float, int, int]
) -> Window:
    """What a forecaster sees at some frames of an episode: the end of `window`, which has step and length of `sizes`,
    or the same past at its own rate."""
    spec = forecaster.spec
    if np.isclose(spec.step, sizes[0]) and spec.window_length <= sizes[1]:
        own = last_observations(window, spec.window_length)
    else:
        own = cut_windows(episode, frames, spec.step, spec.window_length, 0).window
    return with_images(own, episode, spec)


def in_order(forecaster: Forecaster, window: Window) -> Forecast:
    """Forecasts of windows that follow each other: one after the other where the forecaster has a memory."""
    if not hasattr(forecaster, "reset"):
        return forecaster.forecast(window)
    return _joined([forecaster.forecast(one) for one in single(window)])


def single(window: Window) -> list[Window]:
    """The windows of a batch, each on its own."""
    fields = {k: v for k, v in vars(window).items() if v is not None and k != "more_images"}
    more = window.more_images

    def one(b: int) -> Window:
        views = None if more is None else tuple(images[b : b + 1] for images in more)
        return replace(window, **{k: v[b : b + 1] for k, v in fields.items()}, more_images=views)

    return [one(b) for b in range(window.batch)]


def _joined(forecasts: list[Forecast]) -> Forecast:
    first = forecasts[0]
    fields = ("stamp", "keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance", "probability", "valid")
    return replace(
        first, stage=None, goal_points=None, goal_probability=None,
        body=None, mano=None, vertices=None, waypoints=None,
        **{name: torch.cat([getattr(forecast, name) for forecast in forecasts]) for name in fields},
    )  # fmt: skip


def _add(sums: Sums, forecast: Forecast, cut: Cut, blocks: np.ndarray) -> None:
    steps = cut.future.shape[1]
    valid = cut.window.valid.numpy()
    held, given = _last_seen(cut.window), forecast.valid.cpu().numpy()
    told = forecast.keypoints[:, 0, :steps].double().cpu().numpy()
    told = np.where(given[:, None, ..., None], told, held[:, None])
    hand = valid[:, -1, :, WRIST] & (valid[..., WRIST].sum(axis=1) >= 2)
    counts = cut.future_valid & hand[:, None, :, None] & valid.any(axis=1)[:, None]
    away = told - cut.future
    wrist = np.linalg.norm(away[..., WRIST, :], axis=-1)
    relative = np.linalg.norm(away[..., WRIST + 1 :, :] - away[..., WRIST : WRIST + 1, :], axis=-1)
    fingers = counts[..., WRIST + 1 :] & counts[..., WRIST : WRIST + 1]
    for kind, (error, known) in enumerate(((wrist, counts[..., WRIST]), (relative, fingers))):
        axes = tuple(range(2, error.ndim))
        np.add.at(sums.error[kind], blocks, np.where(known, error, 0.0).sum(axis=axes))
        np.add.at(sums.count[kind], blocks, known.sum(axis=axes))


def _last_seen(window: Window) -> np.ndarray:
    """Keypoints (B, 2, 21, 3) where each was seen last in a window."""
    valid = window.valid.numpy()
    last = valid.shape[1] - 1 - np.argmax(valid[:, ::-1], axis=1)
    return np.take_along_axis(window.keypoints.numpy(), last[:, None, ..., None], axis=1)[:, 0]


def _add_regions(
    regions: np.ndarray, assessment: OnlineAssessment, forecast: Forecast, cut: Cut, settled: np.ndarray
) -> None:
    """Publish, observe, and count once settled, frame by frame."""
    window = cut.window
    for b in range(window.batch):
        adapted = assessment.publish(_one(forecast, b))
        rotation = np.where(window.rotation_valid[b, -1, :, None, None], window.wrist_rotation[b, -1], np.nan)
        assessment.observe(
            float(window.stamp[b]), window.keypoints[b, -1].numpy(), window.valid[b, -1].numpy(), rotation
        )
        if settled[b]:
            truth = (cut.future, cut.future_valid, cut.future_rotation, cut.future_rotation_valid)
            scores: Scores = score(adapted, *(array[b : b + 1] for array in truth))
            for kind, name in enumerate(REGIONS):
                values = getattr(scores, name)
                known = np.isfinite(values)
                regions[:, kind] += (values[known] <= 1.0).sum(), known.sum()


def _one(forecast: Forecast, b: int) -> Forecast:
    fields = ("stamp", "keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance", "probability", "valid")
    return replace(
        forecast, stage=None, goal_points=None, goal_probability=None,
        body=None, mano=None, vertices=None, waypoints=None,
        **{name: getattr(forecast, name)[b : b + 1] for name in fields},
    )  # fmt: skip
