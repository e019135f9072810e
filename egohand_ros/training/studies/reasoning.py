"""What reasoning before motion is worth: EgoMAN on generated scenes that it was not trained on, each with one
instruction and look-alikes, against the naive forecasters on the same windows, and without each of its inputs; and how
far off the places are of which it is told where the wrist will touch, and where it ends.

    python -m egohand_ros.training.studies.reasoning out/joint/model --scenes 100 --out reasoning.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...data.windows import Cut, cut_windows
from ...evaluation.protocol import NAIVE
from ...forecast.common.protocol import Forecast, Forecaster, Waypoints
from ...forecast.egoman.config import SPAN, STEP
from ...forecast.registry import make_forecaster
from ...hand.skeleton import WRIST
from ...outputs import write_text
from ...stream.window import Window
from ..windows.goal_windows import SeenGoals, see_goals
from .judging import interval

TEST_SEED = 80_000_000
LATE = 2.0  # s; errors are means from here on
WHOLE = "image and words"
PATH = "the path through the waypoints"


def study(forecaster: Forecaster, scenes: int, first: int = TEST_SEED, path: Forecaster | None = None) -> dict:
    """Errors in m from LATE s on, and at the last step, of the hand that acts, by forecaster, with 95 % intervals over
    scenes; ratios to the best naive one; errors of contact times, s, and of waypoints' places, m. `path` is the same
    model without its motion expert."""
    spec = forecaster.spec
    seen = [
        see_goals(first + i, spec.image_size, spec.step, spec.window_length, spec.horizon_steps) for i in range(scenes)
    ]
    naive = {
        name: make_forecaster(name, step=spec.step, window_length=spec.window_length, horizon_steps=spec.horizon_steps)
        for name in NAIVE
    }
    errors: dict[str, list[float]] = {}
    last: dict[str, list[float]] = {}
    places: dict[str, dict[str, list[np.ndarray]]] = {}
    times = []
    for number, one in enumerate(seen):
        cut = cut_windows(one.scene.scene.episode, one.frames, spec.step, spec.window_length, spec.horizon_steps)
        window, side = shown(cut.window, one), one.scene.side
        late = spec.step_times().numpy() >= LATE

        def judge(name: str, given: Window, by: Forecaster, cut=cut, side=side, late=late) -> Forecast:
            forecast = by.forecast(given)
            apart = forecast.keypoints[:, 0, :, side, WRIST].numpy() - cut.future[:, :, side, WRIST]
            away = np.linalg.norm(apart, axis=-1)
            errors.setdefault(name, []).append(float(away[:, late].mean()))
            last.setdefault(name, []).append(float(away[:, -1].mean()))
            return forecast

        other = seen[(number + 1) % len(seen)]
        for name, given in without(window, shown(cut.window, other)).items():
            told = judge(name, given, forecaster).waypoints
            for moment, away in _places(told, cut, one).items():
                places.setdefault(name, {}).setdefault(moment, []).append(away)
            if name == WHOLE:
                times += _contact_errors(told, one)
        for moment, away in _places(None, cut, one).items():
            places.setdefault("where it is now", {}).setdefault(moment, []).append(away)
        for name, by in naive.items():
            judge(name, cut.window, by)
        if path is not None:
            judge(PATH, window, path)
    best = min(naive, key=lambda name: np.mean(errors[name]))
    ratios = lambda of: {  # noqa: E731
        name: interval(np.array(of[name]), np.array(of[best])) for name in of if name not in naive
    }
    return {
        "scenes": scenes,
        "first seed": first,
        "late": {name: interval(np.array(values)) for name, values in errors.items()},
        "last step": {name: interval(np.array(values)) for name, values in last.items()},
        "best naive": best,
        "ratio": ratios(errors),
        "ratio, last step": ratios(last),
        "contact": _times(np.array(times)),
        "median error of places": {
            name: {moment: float(np.median(np.concatenate(values))) for moment, values in of.items()}
            for name, of in places.items()
        },
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


def _contact_errors(told: Waypoints, seen: SeenGoals) -> list[tuple[float, float, float]]:
    """Forecast and true time of each contact within the horizon, s, and the probability of it."""
    actual, column = _until(seen)["contact"], _column(told, "contact", seen)
    inside = (actual > 0.0) & (actual < SPAN)
    found, sure = told.time[:, column].numpy(), told.contact[:, column].numpy()
    return list(zip(found[inside], actual[inside], sure[inside], strict=True))


def _places(told: Waypoints | None, cut: Cut, seen: SeenGoals) -> dict[str, np.ndarray]:
    """How far the places of contact and end are off the wrist that acts at those times, m, where they are ahead and
    within the horizon; without waypoints, where it is now."""
    rows, side, found = np.arange(len(cut.future)), seen.scene.side, {}
    for moment, seconds in _until(seen).items():
        inside = (seconds > 0.0) & (seconds < SPAN)
        step = np.clip(np.round(seconds / STEP).astype(int) - 1, 0, cut.future.shape[1] - 1)
        actual = cut.future[rows, step, side, WRIST]
        now = cut.window.keypoints[:, -1, side, WRIST].numpy()
        place = now if told is None else told.position[:, _column(told, moment, seen)].numpy()
        found[moment] = np.linalg.norm(place - actual, axis=-1)[inside]
    return found


def _until(seen: SeenGoals) -> dict[str, np.ndarray]:
    """(V,) s from each picture to contact and end, negative where they are past."""
    scene, stamp = seen.scene, seen.scene.scene.stamp
    past = stamp[seen.frames] - stamp[0]
    return {"contact": scene.contact - past, "end": scene.end - past}


def _column(told: Waypoints, moment: str, seen: SeenGoals) -> int:
    """Of a moment of the hand that acts."""
    sides = told.side[0].tolist()
    return [(label, side) for label, side in zip(told.labels, sides, strict=True)].index((moment, seen.scene.side))


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
    parser.add_argument("--first-seed", type=int, default=TEST_SEED, help="of the scenes")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    forecaster = make_forecaster(args.model)
    path = make_forecaster(args.model, sampling_steps=0) if forecaster.config.along else None
    result = study(forecaster, args.scenes, args.first_seed, path)
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if args.out:
        write_text(Path(args.out), text)


if __name__ == "__main__":
    main()
