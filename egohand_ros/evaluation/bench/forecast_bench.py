"""How long one forecast takes, as a live node would ask: a window of a synthetic scene again and again, or, of a
forecaster that learns from what follows, window after window of a stream.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...data.synthetic import generate_scene, observe
from ...data.synthetic.tracker import default_camera
from ...data.windows import cut_windows
from ...forecast.common.protocol import Forecaster
from ...stream.window import Window
from ..stream import single

STREAM_RATE = 30.0  # Hz
_TASK = "put the blue ball in the middle"


@dataclass(frozen=True)
class Timing:
    """Times of single forecasts (repeats,) s, of `hypotheses` futures of both hands, with or without images and
    prompt."""

    forecaster: str
    hypotheses: int
    images: bool
    seconds: np.ndarray

    def percentile(self, percent: float) -> float:
        """ms."""
        return float(np.percentile(self.seconds, percent)) * 1e3


def live_stream(forecaster: Forecaster, count: int, seed: int = 0) -> list[Window]:
    """As many windows that follow each other at `STREAM_RATE`, of one; no images."""
    spec = forecaster.spec
    length = spec.window_length * spec.step
    episode = observe(generate_scene(seed, length + (count + 5) / STREAM_RATE, rate=STREAM_RATE)).episode
    first = int(np.searchsorted(episode.stamp - episode.stamp[0], length))
    return single(cut_windows(episode, np.arange(first, first + count), spec.step, spec.window_length, 0).window)


def live_window(forecaster: Forecaster, images: bool, prompt: str = "", seed: int = 0) -> Window:
    """A window of one, both hands seen, at the forecaster's rate; with images of a calibrated camera and a prompt where
    it looks at those. With images, a forecaster that looks at them only for a task is given one where `prompt` is
    empty.
    """
    spec = forecaster.spec
    episode = observe(generate_scene(seed, (spec.window_length + spec.horizon_steps + 5) * spec.step)).episode
    seen = np.flatnonzero(episode.valid.all(axis=(1, 2)))
    end = seen[np.searchsorted(episode.stamp[seen], spec.step * spec.window_length)]
    window = cut_windows(episode, np.array([end]), spec.step, spec.window_length, spec.horizon_steps).window
    images = images and "images" in spec.modalities
    prompt = prompt or (_TASK if images and spec.images_need_prompt else "")
    window = replace(window, prompt=(prompt,) if prompt else None)
    if not images:
        return window
    shape = (1, len(spec.image_offsets), *spec.image_size, 3)
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))
    camera = default_camera().scaled(*spec.image_size[::-1])
    more = tuple(torch.zeros(*shape[:2], *size, 3, dtype=torch.uint8) for size in spec.more_image_sizes) or None
    matrix = torch.from_numpy(camera.matrix).expand(*shape[:2], 3, 3)
    return replace(window, images=pixels, camera_matrix=matrix, more_images=more)


def time_forecasts(
    name: str,
    forecaster: Forecaster,
    hypotheses: Sequence[int],
    repeats: int,
    prompt: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[Timing]:
    """Time every number of hypotheses the forecaster gives, without images and, if it takes them, with."""
    cases = [(k, images) for images in (False, True) for k in hypotheses if k <= forecaster.spec.max_hypotheses]
    if "images" not in forecaster.spec.modalities:
        cases = [case for case in cases if not case[1]]
    timings = []
    for done, (count, images) in enumerate(cases, 1):
        first = max(3, repeats // 10)  # these allocate, compile and record graphs
        learns = hasattr(forecaster, "reset") and not images  # then the same window again would cost less
        windows = live_stream(forecaster, first + repeats) if learns else [live_window(forecaster, images, prompt)]
        for i in range(first):
            forecaster.forecast(windows[i % len(windows)], count, seed=0)
        seconds = np.empty(repeats)
        for i in range(repeats):
            window = windows[(first + i) % len(windows)]
            start = time.perf_counter()
            forecaster.forecast(window, count, seed=i)  # returns arrays on the CPU, so the device is done
            seconds[i] = time.perf_counter() - start
        timings.append(Timing(name, count, images, seconds))
        if progress is not None:
            progress(done, len(cases))
    return timings
