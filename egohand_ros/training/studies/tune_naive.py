"""Fits the few numbers of `damped` and `kalman`, by their error relative to persistence.

    python -m egohand_ros.training.studies.tune_naive --episodes 24 [--recording recording.tsv]

prints the values that stand in `forecast/naive/damped_velocity.py` and `forecast/naive/kalman.py`. Data: synthetic
episodes as a tracker with default, with a third of the default, and without noise sees them, and any recordings given.
Recordings together weigh as much as the synthetic episodes together.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from ...data.episode import Episode
from ...data.load import load_episodes
from ...data.synthetic import TrackerModel, generate_scene, observe
from ...data.windows import Cut, cut_windows, window_ends
from ...evaluation.protocol import Score, get_protocol, score_batch
from ...forecast.common.protocol import Forecaster
from ...forecast.naive.damped_velocity import DampedVelocity
from ...forecast.naive.kalman import ARTICULATION, POSITION, ROTATION, Bank, Kalman
from ...forecast.naive.persistence import Persistence
from ...hand.skeleton import WRIST

_PROTOCOL = replace(get_protocol("egoexo4d"), stride=5, hypotheses=1)
_SYNTHETIC_SOURCES = 3
Dataset = list[tuple[Cut, np.ndarray]]


def datasets(episodes: int, recordings: list[Path]) -> list[Dataset]:
    """Windows with the keypoints that take part, by source."""
    scenes = [generate_scene(1_000_000 + seed, 20.0) for seed in range(episodes)]
    full = TrackerModel()
    third = replace(full, keypoint_std=full.keypoint_std / 3, depth_std=full.depth_std / 3)
    sources = [[scene.episode for scene in scenes]]
    sources += [[observe(scene, model).episode for scene in scenes] for model in (third, full)]
    sources += [load_episodes(path) for path in recordings]
    return [[cut_counted(episode) for episode in source] for source in sources]


def cut_counted(episode: Episode) -> tuple[Cut, np.ndarray]:
    """The windows of an episode that count."""
    p = _PROTOCOL
    ends = window_ends(episode.stamp, p.step, p.observed, p.predicted, p.stride)
    cut = cut_windows(episode, ends, p.step, p.observed, p.predicted)
    kept = ends[cut.takes_part()[..., WRIST].any(axis=1)]
    cut = cut_windows(episode, kept, p.step, p.observed, p.predicted)
    return cut, cut.takes_part()


def score(forecaster: Forecaster, data: Dataset) -> Score:
    """All windows of one source."""
    total = Score()
    for cut, part in data:
        if len(part):
            total.merge(score_batch(forecaster, cut, part, _PROTOCOL))
    return total


def relative_error(forecaster: Forecaster, data: list[Dataset], floor: list[Score], metrics: tuple[str, ...]) -> float:
    """Error divided by that of persistence: mean over metrics and sources, then of synthetic and recorded."""
    ratios = [
        np.mean([own.metrics[metric].value / base.metrics[metric].value for metric in metrics])
        for own, base in zip((score(forecaster, source) for source in data), floor)
    ]
    synthetic, recorded = ratios[:_SYNTHETIC_SOURCES], ratios[_SYNTHETIC_SOURCES:]
    return float(np.mean([np.mean(group) for group in (synthetic, recorded) if group]))


def fit(objective: Callable[[np.ndarray], float], start: list[float]) -> np.ndarray:
    """Positive parameters that minimise `objective`, by Nelder and Mead on their logarithms."""
    found = minimize(
        lambda x: objective(np.exp(np.clip(x, -12, 4))),
        np.log(start),
        method="Nelder-Mead",
        options=dict(maxfev=40, xatol=0.03, fatol=2e-4, initial_simplex=_simplex(np.log(start))),
    )
    return np.exp(np.clip(found.x, -12, 4))


def _simplex(start: np.ndarray) -> np.ndarray:
    return np.vstack([start, start + 0.7 * np.eye(len(start))])


def refaded(models: Bank, fading_time: float) -> Bank:
    """The same filters with another fading time."""
    return tuple(replace(model, fading_time=fading_time) for model in models)


def main() -> None:
    """Fit both forecasters and print their parameters and relative errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=24, help="synthetic episodes of 20 s")
    parser.add_argument("--recording", type=Path, action="append", default=[], help="a recording to fit on as well")
    args = parser.parse_args()
    data = datasets(args.episodes, args.recording)
    floor = [score(Persistence(), source) for source in data]
    path, hand = ("ADE", "FDE"), ("MPJPE", "MPJPE-F")

    def error(forecaster: Forecaster, metrics: tuple[str, ...]) -> float:
        return relative_error(forecaster, data, floor, metrics)

    (position_time,) = fit(lambda x: error(DampedVelocity(position_time_constant=x[0]), path), [0.2])
    times = fit(
        lambda x: error(DampedVelocity(rotation_time_constant=x[0], articulation_time_constant=x[1]), hand), [0.2, 0.1]
    )
    damped = DampedVelocity(1 / 10, 20, 10, position_time, *times)
    print("damped: position, rotation, articulation time constants", np.round([position_time, *times], 3))

    position = refaded(POSITION, fit(lambda x: error(Kalman(position=refaded(POSITION, x[0])), path), [0.15])[0])
    rotation = refaded(ROTATION, fit(lambda x: error(Kalman(rotation=refaded(ROTATION, x[0])), hand), [0.12])[0])
    articulation = refaded(
        ARTICULATION,
        fit(lambda x: error(Kalman(rotation=rotation, articulation=refaded(ARTICULATION, x[0])), hand), [0.12])[0],
    )
    kalman = Kalman(position=position, rotation=rotation, articulation=articulation)
    times = [models[0].fading_time for models in (position, rotation, articulation)]
    print("kalman: position, rotation, articulation fading times", np.round(times, 3))
    for name, forecaster in (("damped", damped), ("kalman", kalman)):
        ratios = [
            relative_error(forecaster, [source] * 4, [base] * 4, path + hand) for source, base in zip(data, floor)
        ]
        print(f"{name}: error relative to persistence, by source", np.round(ratios, 3))


if __name__ == "__main__":
    main()
