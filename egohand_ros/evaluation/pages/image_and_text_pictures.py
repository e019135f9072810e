"""What an instruction changes, drawn: the image with the goals that were found, and the hands' forecast with and
without.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from ...data.windows import cut_windows
from ...forecast.common.protocol import Forecast, Forecaster
from ...geometry.camera import Camera
from ...geometry.transforms import invert_transform, transform_points
from ...hand.skeleton import WRIST
from ...images.drawing import draw_path
from ..image_and_text_inputs import Pictures, SeenScene, needs_images

# RGB: what happened, the forecast of the hands alone (without words, where images are needed), and that of the hands
# with image and words.
_ACTUAL, _ALONE, _TOLD = (255, 255, 255), (222, 60, 40), (20, 120, 255)
_GOALS = ((255, 220, 0), (0, 220, 120))  # the object, its destination
_SCALE, _COLUMNS, _LEAST = 4, 3, 0.3


def draw_forecasts(forecaster: Forecaster, scenes: Sequence[SeenScene]) -> np.ndarray:
    """RGB uint8: of each scene the moment at which the instruction changed the forecast most."""
    tiles = [_draw(forecaster, scene) for scene in scenes]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % _COLUMNS)
    rows = [np.concatenate(tiles[i : i + _COLUMNS], axis=1) for i in range(0, len(tiles), _COLUMNS)]
    return np.concatenate(rows)


def _draw(forecaster: Forecaster, seen: SeenScene) -> np.ndarray:
    spec, episode = forecaster.spec, seen.scene.episode
    ends = np.arange(spec.window_length, len(episode) - spec.horizon_steps)
    cut = cut_windows(episode, ends, spec.step, spec.window_length, spec.horizon_steps)
    window = Pictures([seen], spec).show(cut.window)
    forecast = forecaster.forecast(window)
    silent = replace(window, prompt=("",) * window.batch) if needs_images(spec) else cut.window
    told, alone = (f.keypoints[:, 0, :, :, WRIST].numpy() for f in (forecast, forecaster.forecast(silent)))
    change = np.linalg.norm(told - alone, axis=-1)[:, -1]
    moment, side = np.unravel_index(np.argmax(change), change.shape)
    image = seen.images[ends[moment]]
    height, width = image.shape[:2]
    canvas = cv2.resize(image, (_SCALE * width, _SCALE * height), interpolation=cv2.INTER_CUBIC)
    camera = Camera(seen.matrix, width, height)
    into_camera = invert_transform(seen.scene.T_world_camera[ends[moment]])
    start = episode.keypoints[ends[moment], side, WRIST][None]
    paths = (
        (cut.future[moment, :, side, WRIST], _ACTUAL),
        (alone[moment, :, side], _ALONE),
        (told[moment, :, side], _TOLD),
    )
    for path, colour in paths:
        draw_path(canvas, transform_points(into_camera, np.concatenate([start, path])), camera, colour)
    for point, found, colour in _goals(forecast, int(moment)):
        pixel = _SCALE * camera.project(transform_points(into_camera, point[None]))[0]
        if found > _LEAST and np.isfinite(pixel).all():
            cv2.circle(canvas, tuple(int(v) for v in pixel), 5 * _SCALE, colour, 2, cv2.LINE_AA)
    cv2.putText(canvas, seen.scene.task, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def _goals(forecast: Forecast, row: int) -> list[tuple[np.ndarray, float, tuple[int, int, int]]]:
    """Point, probability and colour of each goal that was looked for; none where a forecaster finds none."""
    if forecast.goal_points is None or forecast.goal_probability is None:
        return []
    found = forecast.goal_points[row].numpy(), forecast.goal_probability[row].tolist()
    return list(zip(*found, _GOALS, strict=True))
