"""Windows of generated scenes with their picture, their instruction, and where what it names is."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch

from ...data.synthetic.goals import DESTINATION, OBJECT, GoalScene, generate_goal_scene
from ...data.synthetic.render import SceneRenderer
from ...data.windows import Cut, cut_windows
from ...forecast.common.protocol import ForecasterSpec
from ...forecast.small.sight import CELL, cell_of, level_frame
from ...geometry.camera import Camera
from .augment import NONE, Augmentation, augment, log_uniform
from .batches import GroupSampler

GOAL_SEED = 60_000_000
_DURATION, _RATE = 6.0, 30.0
_MORE = 3.0  # s, at least, in which windows end
# Cameras differ; degrees of horizontal view.
_FIELD_OF_VIEW = (72.0, 112.0)
_VIEWS = 6  # pictures of a scene


@dataclass(frozen=True)
class SeenGoals:
    """A goal scene with V pictures (V, H, W, 3) uint8 RGB of its frames (V,), taken by a camera with matrix (3, 3), and
    their depth (V, H, W) float16 m where it is wanted."""

    scene: GoalScene
    frames: np.ndarray
    images: np.ndarray
    matrix: np.ndarray
    depth: np.ndarray | None = None


@dataclass(frozen=True)
class GoalCut(Cut):
    """A cut with labels: goals (B, 2, 3) m in the level frame of `forecast/small/sight.py`, NaN where not told, and the
    cell of the image in which each, or what tells it, is seen (B, 2); the number of cells where it is not. moments
    (B, 2) s from the last observation to the touch and to the end of what is done, negative where it was before, NaN
    where nothing can be found out; by the hand `side`, with the object `label`."""

    goals: np.ndarray
    cells: np.ndarray
    moments: np.ndarray
    side: int
    label: str


def see_goals(
    seed: int, size: tuple[int, int], step: float, observed: int, predicted: int, depth: bool = False
) -> SeenGoals:
    """Scene `seed` with pictures, and their `depth`, at frames at which windows of `observed` steps can end, `size`
    (height, width) px."""
    duration = max(_DURATION, (observed + predicted) * step + _MORE)
    scene = generate_goal_scene(seed, duration, _RATE)
    rng = np.random.default_rng([seed, 0x5EE])
    first, last = np.ceil((observed - 1) * step * _RATE), np.floor((duration - predicted * step) * _RATE) - 1
    frames = np.sort(rng.choice(np.arange(int(first), int(last) + 1), _VIEWS, replace=False))
    camera = Camera.from_horizontal_fov(size[1], size[0], rng.uniform(*_FIELD_OF_VIEW))
    renderer = SceneRenderer(scene.scene, camera)
    if not depth:
        return SeenGoals(scene, frames, np.stack([renderer.render(i) for i in frames]), camera.matrix)
    images, depths = zip(*(renderer.render_with_depth(i) for i in frames), strict=True)
    return SeenGoals(scene, frames, np.stack(images), camera.matrix, np.stack(depths).astype(np.float16))


def see_many(
    first_seed: int,
    count: int,
    size: tuple[int, int],
    spec: ForecasterSpec,
    progress: Callable[[int, int], None] | None,
) -> list[SeenGoals]:
    """`count` scenes, rendered by as many processes as there are cores."""
    seeds = range(first_seed, first_seed + count)
    shape = (size, spec.step, spec.window_length, spec.horizon_steps, "depth" in spec.modalities)
    seen = []
    # Not forked: torch's threads would not survive that.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for scene in pool.map(_see, seeds, [shape] * count, chunksize=8):
            seen.append(scene)
            if progress is not None:
                progress(len(seen), count)
    return seen


def _see(seed: int, shape: tuple) -> SeenGoals:
    return see_goals(seed, *shape)


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


@dataclass(frozen=True)
class GoalWindowSampler(GroupSampler):
    """As `WindowSampler`, of scenes with pictures: `group` windows from the same scene.

    `blind` of the groups see noise or another scene in place of their picture, `deaf` of them hear random words: both
    have nothing to find.
    """

    scenes: Sequence[SeenGoals]
    spec: ForecasterSpec
    batch: int
    group: int = 4
    seed: int = 0
    augmentation: Augmentation = NONE
    blind: float = 0.08
    deaf: float = 0.08

    def _group(self, rng: np.random.Generator) -> GoalCut:
        seen = self.scenes[rng.integers(len(self.scenes))]
        episode, spec = seen.scene.scene.episode, self.spec
        scale = float(log_uniform(rng, self.augmentation.time_scale))
        stamp = episode.stamp[seen.frames]
        fits = lambda scale: (  # noqa: E731
            (stamp - (spec.window_length - 1) * spec.step * scale >= episode.stamp[0])
            & (stamp + spec.horizon_steps * spec.step * scale <= episode.stamp[-1])
        )
        if not fits(scale).any():
            scale = 1.0
        view = rng.choice(np.flatnonzero(fits(scale)), self.group)
        cut = cut_windows(episode, seen.frames[view], spec.step * scale, spec.window_length, spec.horizon_steps)
        labelled = _label(cut, seen, view, scale)
        images, depth, task = seen.images[view], None if seen.depth is None else seen.depth[view], seen.scene.scene.task
        nothing = False
        if rng.random() < self.blind:
            nothing, images = True, self._other_images(images.shape, rng)
            depth = None if depth is None else np.zeros_like(depth)  # nobody knows
        if rng.random() < self.deaf:
            nothing, task = True, self._random_words(task, rng)
        if nothing:
            labelled = replace(
                labelled,
                goals=np.full_like(labelled.goals, np.nan),
                cells=np.full_like(labelled.cells, _cells(seen)),
                moments=np.full_like(labelled.moments, np.nan),
            )
        window = replace(
            labelled.window,
            images=torch.from_numpy(change_light(images, rng))[:, None],
            depth=None if depth is None else torch.from_numpy(depth.astype(np.float32))[:, None],
            camera_matrix=torch.from_numpy(np.tile(seen.matrix, (len(view), 1, 1, 1))),
            prompt=(task,) * len(view),
        )
        return augment(replace(labelled, window=window), self.augmentation, rng)

    def _other_images(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        if rng.random() < 0.5:
            return np.clip(rng.normal(127.5, 64.0, shape), 0, 255).astype(np.uint8)
        other = self.scenes[rng.integers(len(self.scenes))]
        return other.images[rng.integers(len(other.images), size=shape[0])]

    def _random_words(self, task: str, rng: np.random.Generator) -> str:
        words = " ".join(self.scenes[rng.integers(len(self.scenes))].scene.scene.task for _ in range(4)).split()
        return " ".join(rng.choice(words, len(task.split())))


def _label(cut: Cut, seen: SeenGoals, view: np.ndarray, scale: float) -> GoalCut:
    pose, frames = cut.window.camera_pose.numpy(), seen.frames[view]
    frame, size = level_frame(pose), seen.images.shape[1:3]
    goals = frame.points_in(seen.scene.goals[frames])
    # A destination is seen by what tells it: another thing, or the other person's hand.
    shown = np.stack([seen.scene.goals[frames, OBJECT], seen.scene.anchor[frames]], axis=1)
    matrix = np.tile(seen.matrix, (len(view), 1, 1))
    cells = np.stack([cell_of(shown[:, i], matrix, pose[:, -1], size) for i in (OBJECT, DESTINATION)], axis=1)
    goals = np.where((cells >= 0)[..., None], goals, np.nan)
    scene, stamp = seen.scene, seen.scene.scene.stamp
    moments = (np.array([scene.contact, scene.end]) - (stamp[frames] - stamp[0])[:, None]) / scale
    told = np.where(cells >= 0, cells, _cells(seen))
    return GoalCut(**vars(cut), goals=goals, cells=told, moments=moments, side=scene.side, label=scene.label)


def _cells(seen: SeenGoals) -> int:
    height, width = seen.images.shape[1:3]
    return (height // CELL) * (width // CELL)


def change_light(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images (..., 3) uint8 under another light, by another sensor: exposure, colour of the light, contrast, noise."""
    gain = np.exp(rng.normal(0.0, 0.15)) * np.exp(rng.normal(0.0, 0.05, 3))
    changed = 127.5 + (images * gain - 127.5) * np.exp(rng.normal(0.0, 0.12))
    changed += rng.normal(0.0, 1.0, images.shape) * rng.uniform(0.0, 6.0)
    return np.clip(changed, 0, 255).astype(np.uint8)
