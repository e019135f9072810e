"""Generated scenes with their pictures, and forecasters that are shown them, or noise, and are told the task, or random
words: what images and words are worth to a forecaster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.synthetic import Scene, generate_scene
from ..data.synthetic.goals import generate_goal_scene
from ..data.synthetic.render import SceneRenderer
from ..forecast.common.protocol import Forecast, Forecaster, ForecasterSpec
from ..geometry.camera import Camera
from ..stream.window import Window
from .ego_motion import TOP_SHARE
from .protocol import Protocol, Result, evaluate, forecaster_for, get_protocol

_FIELD_OF_VIEW = 90.0  # degrees, horizontal
# Scenes are that far apart in time (s), so that a stamp tells the scene.
_APART = 1000.0

# Scenes with one instruction each that nothing is trained on.
GOAL_TEST_SEED = 70_000_000
BASELINES = ("persistence", "kalman")
OURS, HANDS_ALONE, WITHOUT_DEPTH = "Ours", "Ours, hands alone", "Ours w/o Depth"
# EggHand's table 3: noisy vision, dummy language.
INPUTS = {
    "Ours w. Noisy Vision": (True, False),
    "Ours w. Dummy Language": (False, True),
    "Ours w. Noisy Vision & Dummy Language": (True, True),
}


@dataclass(frozen=True)
class SeenScene:
    """A scene at the model's rate with a picture (T, H, W, 3) uint8 RGB of every frame, and the camera's matrix (3,
    3); and depth (T, H, W) float16 m where it is wanted.
    """

    scene: Scene
    images: np.ndarray
    matrix: np.ndarray
    depth: np.ndarray | None = None


def see(scene: Scene, height: int, width: int, depth: bool = False) -> SeenScene:
    """A scene with pictures of this size, px."""
    renderer = SceneRenderer(scene, Camera.from_horizontal_fov(width, height, _FIELD_OF_VIEW))
    if not depth:
        return SeenScene(scene, np.stack([renderer.render(i) for i in range(len(scene))]), renderer.camera.matrix)
    images, depths = zip(*(renderer.render_with_depth(i) for i in range(len(scene))), strict=True)
    return SeenScene(scene, np.stack(images), renderer.camera.matrix, np.stack(depths).astype(np.float16))


def see_story(seed: int, number: int, duration: float, rate: float, height: int) -> SeenScene:
    """Scene `seed` of many actions, the `number`th of all in time."""
    scene = generate_scene(seed, duration, rate, start=_APART * (number + 1))
    return see(scene, height, round(height * 4 / 3))


def see_goal(seed: int, number: int, rate: float, height: int, depth: bool = False) -> SeenScene:
    """Scene `seed` of one instruction among distractors, the `number`th of all in time."""
    scene = generate_goal_scene(seed, rate=rate, start=_APART * (number + 1)).scene
    return see(scene, height, round(height * 4 / 3), depth)


class Pictures:
    """Gives windows the images that the camera took, found by their stamps."""

    def __init__(self, scenes: Sequence[SeenScene], spec: ForecasterSpec):
        self._offsets, self._step = np.array(spec.image_offsets), spec.step
        self._scenes = {round(s.scene.stamp[0] / _APART): s for s in scenes}

    def show(self, window: Window) -> Window:
        """The window with its images, and their camera."""
        seen = [self._scenes[int(stamp // _APART)] for stamp in window.stamp.tolist()]
        images = [self._images(s, stamp) for s, stamp in zip(seen, window.stamp.tolist(), strict=True)]
        matrix = torch.from_numpy(np.stack([np.tile(s.matrix, (len(self._offsets), 1, 1)) for s in seen]))
        shown = replace(window, images=torch.from_numpy(np.stack(images)), camera_matrix=matrix)
        if any(s.depth is None for s in seen):
            return shown
        depth = [s.depth[self._frames(s, stamp)] for s, stamp in zip(seen, window.stamp.tolist(), strict=True)]
        return replace(shown, depth=torch.from_numpy(np.stack(depth).astype(np.float32)))

    def _images(self, seen: SeenScene, stamp: float) -> np.ndarray:
        return seen.images[self._frames(seen, stamp)]

    def _frames(self, seen: SeenScene, stamp: float) -> np.ndarray:
        frame = round((stamp - seen.scene.stamp[0]) / self._step)
        return np.clip(frame + self._offsets, 0, len(seen.images) - 1)


class Seeing:
    """A forecaster that is given the images of its windows, or noise (and then no depth), and the task, or random
    words; `deep`: and their depth, where there is any."""

    def __init__(
        self,
        forecaster: Forecaster,
        pictures: Pictures,
        noisy: bool = False,
        dummy: bool = False,
        words: Sequence[str] = (),
        deep: bool = True,
    ):
        self._forecaster, self._pictures, self._deep = forecaster, pictures, deep
        # It brings the pictures itself: episodes of scenes have none.
        self.spec = replace(forecaster.spec, needs=tuple(n for n in forecaster.spec.needs if n.modality != "images"))
        self._noisy, self._dummy, self._words = noisy, dummy, list(words)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        window, rng = self._pictures.show(window), np.random.default_rng(round(float(window.stamp[0]) * 1e3))
        if self._noisy:
            noise = np.clip(rng.normal(127.5, 64.0, window.images.shape), 0, 255).astype(np.uint8)
            window = replace(window, images=torch.from_numpy(noise))
        if self._noisy or not self._deep:
            window = replace(window, depth=None)
        if self._dummy:
            said = tuple(" ".join(rng.choice(self._words, len(text.split()))) for text in window.prompt)
            window = replace(window, prompt=said)
        return self._forecaster.forecast(window, hypotheses, seed)


def needs_images(spec: ForecasterSpec) -> bool:
    """Whether nothing is forecast without images."""
    return any(need.modality == "images" for need in spec.needs)


def words_of(scenes: Sequence[SeenScene]) -> list[str]:
    """The vocabulary of the scenes' tasks."""
    return sorted({word for s in scenes for word in s.scene.task.replace(";", " ; ").split()})


def with_inputs(forecaster: Forecaster, pictures: Pictures, words: Sequence[str]) -> dict[str, Seeing]:
    """The forecaster as it is, and with each of its inputs replaced as `INPUTS` says."""
    kinds = {OURS: (False, False)} | INPUTS
    rows = {name: Seeing(forecaster, pictures, noisy, dummy, words) for name, (noisy, dummy) in kinds.items()}
    if "depth" in forecaster.spec.modalities:
        rows[WITHOUT_DEPTH] = Seeing(forecaster, pictures, deep=False)
    return rows


def goal_scenes(
    first_seed: int, count: int, spec: ForecasterSpec, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[SeenScene]:
    """Scenes of one instruction each, rendered at the forecaster's rate and image size."""
    seen = []
    for i in range(count):
        deep = "depth" in spec.modalities
        seen.append(see_goal(first_seed + i, i, 1.0 / spec.step, spec.image_size[0], deep))
        progress(i + 1, count)
    return seen


def evaluate_inputs(
    forecaster: Forecaster,
    scenes: Sequence[SeenScene],
    progress: Callable[[int, int], None] | None = None,
    protocol: Protocol | None = None,
) -> Result:
    """What a trained forecaster loses without its images and words, on scenes that it has not seen; beside baselines,
    and itself without either."""
    protocol = protocol or get_protocol("egoexo4d")
    rows = {name: forecaster_for(name, protocol) for name in BASELINES}
    if not needs_images(forecaster.spec):
        rows[HANDS_ALONE] = forecaster
    rows |= with_inputs(forecaster, Pictures(scenes, forecaster.spec), words_of(scenes))
    episodes = {f"scene {s.scene.seed}": s.scene.episode for s in scenes}
    return evaluate(episodes, rows, protocol, progress, ego_motion=TOP_SHARE)
