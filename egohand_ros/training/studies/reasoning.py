"""What reasoning before motion is worth: EgoMAN on generated scenes that it was not trained on, each with one
instruction and look-alikes, against the naive forecasters on the same windows, and without each of its inputs.

    python -m egohand_ros.training.studies.reasoning out/joint/model --scenes 100 --out reasoning.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...data.windows import cut_windows
from ...evaluation.protocol import NAIVE
from ...forecast.common.protocol import Forecaster
from ...forecast.registry import make_forecaster
from ...hand.skeleton import WRIST
from ...outputs import write_text
from ...stream.window import Window
from ..windows.goal_windows import SeenGoals, see_goals
from .judging import interval

TEST_SEED = 80_000_000
LATE = 2.0  # s; errors are means from here on
WHOLE = "image and words"


def study(forecaster: Forecaster, scenes: int) -> dict:
    """Errors in m from LATE s on of the hand that acts, by forecaster, with 95 % intervals over scenes; ratios to the
    best naive one; and errors of contact times, s."""
    spec = forecaster.spec
    seen = [
        see_goals(TEST_SEED + i, spec.image_size, spec.step, spec.window_length, spec.horizon_steps)
        for i in range(scenes)
    ]
    naive = {
        name: make_forecaster(name, step=spec.step, window_length=spec.window_length, horizon_steps=spec.horizon_steps)
        for name in NAIVE
    }
    errors: dict[str, list[float]] = {}
    times = []
    for number, one in enumerate(seen):
        cut = cut_windows(one.scene.scene.episode, one.frames, spec.step, spec.window_length, spec.horizon_steps)
        window, side = shown(cut.window, one), one.scene.side
        late = spec.step_times().numpy() >= LATE

        def error(given: Window, by: Forecaster, cut=cut, side=side, late=late) -> float:
            apart = by.forecast(given).keypoints[:, 0, :, side, WRIST].numpy() - cut.future[:, :, side, WRIST]
            return float(np.linalg.norm(apart[:, late], axis=-1).mean())

        other = seen[(number + 1) % len(seen)]
        for name, given in without(window, shown(cut.window, other)).items():
            errors.setdefault(name, []).append(error(given, forecaster))
        for name, by in naive.items():
            errors.setdefault(name, []).append(error(cut.window, by))
        times += _contact_errors(forecaster, window, one)
    best = min(naive, key=lambda name: np.mean(errors[name]))
    return {
        "scenes": scenes,
        "late": {name: interval(np.array(values)) for name, values in errors.items()},
        "best naive": best,
        "ratio": {
            name: interval(np.array(errors[name]), np.array(errors[best])) for name in errors if name not in naive
        },
        "contact": _times(np.array(times)),
    }


def shown(window: Window, seen: SeenGoals) -> Window:
    """The window with the pictures, and the words, of a scene."""
    matrix = torch.from_numpy(np.tile(seen.matrix, (window.batch, 1, 1, 1)))
    images = torch.from_numpy(seen.images[np.arange(window.batch) % len(seen.images)])[:, None]
    return replace(window, images=images, camera_matrix=matrix, prompt=(seen.scene.scene.task,) * window.batch)


def without(window: Window, other: Window) -> dict[str, Window]:
    """The window as it is, and with each input replaced by that of another scene, or left out."""
    last = torch.arange(window.length) == window.length - 1
    return {
        WHOLE: window,
        "another image": replace(window, images=other.images),
        "other words": replace(window, prompt=other.prompt),
        "neither": replace(window, images=other.images, prompt=other.prompt),
        "no past motion": replace(window, valid=window.valid & last[None, :, None, None]),
    }


def _contact_errors(forecaster: Forecaster, window: Window, seen: SeenGoals) -> list[tuple[float, float, float]]:
    """Forecast and true time of each contact within the horizon, s, and the probability of it."""
    scene, stamp = seen.scene, seen.scene.scene.stamp
    actual = scene.contact - (stamp[seen.frames] - stamp[0])
    told = forecaster.forecast(window).waypoints
    place = [told.labels[i] == "contact" and int(told.side[0, i]) == scene.side for i in range(len(told.labels))]
    found, sure = told.time[:, place.index(True)].numpy(), told.contact[:, place.index(True)].numpy()
    inside = (actual > 0.0) & (actual < 4.5)
    return list(zip(found[inside], actual[inside], sure[inside], strict=True))


def _times(times: np.ndarray) -> dict[str, float]:
    """Median error of contact times, beside that of always saying their median; and how often a contact was held
    likely."""
    found, actual, sure = times.T
    return {
        "windows": len(times),
        "median error": float(np.median(np.abs(found - actual))),
        "of the median": float(np.median(np.abs(np.median(actual) - actual))),
        "held likely": float((sure >= 0.5).mean()),
    }


def main() -> None:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a trained one")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    result = study(make_forecaster(args.model), args.scenes)
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if args.out:
        write_text(Path(args.out), text)


if __name__ == "__main__":
    main()
