"""Forecasts of an evaluation drawn on the camera's frames, where a recording has them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.bags.bag import episodes_from_bag
from ...data.bags.recording import SUFFIXES, is_closed
from ...data.episode import Episode
from ...data.windows import cut_windows, window_ends
from ...forecast.common.protocol import Forecaster
from ...hand.skeleton import WRIST
from ...stream.window import Window
from ..protocol import NAIVE, Protocol, Result, forecaster_for, window_for
from ..recording import RecordedForecast, Recording, read_images, read_recording
from .report_frames import Painter, data_uri

# Of one bag: as many moments, and forecasters at each: the best of those that are learned, and the best of the others.
_MOMENTS, _FORECASTERS = 4, 3
_NEAR = 0.1  # s between a frame and the forecast that is drawn on it


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, and whose forecast of which moment it is."""

    image: str
    caption: str


def worth_a_picture(result: Result) -> list[str]:
    """The forecasters to draw, the best first: by the protocol's first metric, learned ones before naive ones."""
    key = result.protocol.metrics[0]
    error = {name: value if math.isfinite(value := result.metrics(name)[key]) else math.inf for name in result.scores}
    ranked = sorted(error, key=lambda name: error[name])
    learned, naive = [name for name in ranked if name not in NAIVE], [name for name in ranked if name in NAIVE]
    count = _FORECASTERS - 1 if naive else _FORECASTERS
    return (learned[:count] + naive)[:_FORECASTERS]


def forecast_frames(inputs: Sequence[Path | str], names: Sequence[str], protocol: Protocol) -> list[Picture]:
    """Moments with much motion of every bag among `inputs` that has images and a calibration, as each forecaster sees
    them.
    """
    forecasters = {name: forecaster_for(name, protocol) for name in names}
    pictures = []
    for path in map(Path, inputs):
        is_bag = path.is_dir() and is_closed(path) and any(entry.name.endswith(SUFFIXES) for entry in path.iterdir())
        recording = read_recording(path) if is_bag else None
        if recording is not None and len(recording.image_stamps) and recording.camera_matrix is not None:
            pictures += _pictures(recording, episodes_from_bag(path)[0], forecasters, protocol)
    return pictures


def _pictures(
    recording: Recording, episode: Episode, forecasters: dict[str, Forecaster], protocol: Protocol
) -> list[Picture]:
    ends = _lively(recording, episode, protocol)
    if not len(ends):
        return []
    cut = cut_windows(episode, ends, protocol.step, protocol.observed, protocol.predicted)
    frame = recording.hands.frame[0] if episode.camera_pose is None else recording.camera.frame
    painter = Painter(recording, frame)
    images = read_images(recording.path, "image", list(episode.stamp[ends]))
    seen = {name: window_for(forecaster, episode, ends, cut, protocol) for name, forecaster in forecasters.items()}
    made = {name: _recorded(forecaster, seen[name], frame) for name, forecaster in forecasters.items()}
    return [
        Picture(data_uri(painter.paint(found[1], forecasts[i])), f"{found[0] - recording.play_start:.1f} s: {name}")
        for i, found in enumerate(images)
        for name, forecasts in made.items()
        if found is not None and abs(found[0] - episode.stamp[ends[i]]) < _NEAR
    ]


def _lively(recording: Recording, episode: Episode, protocol: Protocol) -> np.ndarray:
    """The frame with an image and the longest way of the wrists to come, in each part of the recording."""
    ends = window_ends(episode.stamp, protocol.step, protocol.observed, protocol.predicted)
    near = np.abs(recording.image_stamps[:, None] - episode.stamp[ends]).min(axis=0) < 0.02
    ends = ends[near]
    if not len(ends):
        return ends
    cut = cut_windows(episode, ends, protocol.step, protocol.observed, protocol.predicted)
    seen = cut.takes_part()[..., WRIST]
    way = np.linalg.norm(np.diff(cut.future[..., WRIST, :], axis=1), axis=-1).sum(axis=1)
    motion = np.where(seen, way, 0.0).sum(axis=-1)
    parts = [part for part in np.array_split(np.arange(len(ends)), _MOMENTS) if len(part) and motion[part].max() > 0]
    return ends[[part[np.argmax(motion[part])] for part in parts]]


def _recorded(forecaster: Forecaster, window: Window, frame: str) -> list[RecordedForecast]:
    """First hypotheses in the form in which a recording has them."""
    forecast = forecaster.forecast(window, seed=0)
    shown = forecast.valid.cpu().numpy()[:, None, None, ..., None]
    keypoints = np.where(shown, forecast.keypoints.double().cpu().numpy(), np.nan)[:, :1]
    times, std = forecast.step_times.cpu().numpy(), np.full(keypoints.shape[1:-1], np.nan)
    return [
        RecordedForecast(float(stamp), float(stamp), frame, times, points, std, np.ones(1), 0.0, "")
        for stamp, points in zip(forecast.stamp, keypoints)
    ]
