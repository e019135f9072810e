"""What a hand tracker on the head camera would report of a scene: noisy, late, with gaps, in the camera's frame."""

from dataclasses import dataclass

import numpy as np

from ...geometry.camera import Camera
from ...geometry.transforms import invert_transform, transform_points
from ...hand.skeleton import NUM_KEYPOINTS
from ..episode import Episode
from .scene import Scene


@dataclass(frozen=True)
class TrackerModel:
    """Errors of a camera-based hand tracker. Lengths in m, times in s.

    keypoint_std of each keypoint, keypoint_time its correlation time; depth_std of the whole hand along the viewing
    ray, and depth_time; lost_every and lost_for, mean times between and during dropouts; latency and its jitter, from
    acquisition to arrival; min_in_view, the share of a hand's keypoints that have to be in the image.
    """

    keypoint_std: float = 0.003
    keypoint_time: float = 0.10
    depth_std: float = 0.006
    depth_time: float = 0.40
    lost_every: float = 12.0
    lost_for: float = 0.12
    latency: float = 0.030
    latency_jitter: float = 0.006
    min_in_view: float = 0.6


@dataclass(frozen=True)
class TrackerView:
    """T observations: stamp (T,) s of acquisition and arrival (T,) s, increasing; keypoints (T, 2, 21, 3) m in the
    camera's optical frame, NaN where not valid (T, 2, 21); T_world_camera (T, 4, 4); camera; task."""

    stamp: np.ndarray
    arrival: np.ndarray
    keypoints: np.ndarray
    valid: np.ndarray
    T_world_camera: np.ndarray
    camera: Camera
    task: str

    @property
    def episode(self) -> Episode:
        """The observations moved to the world frame."""
        moved = transform_points(self.T_world_camera[:, None], self.keypoints)
        return Episode(self.stamp, moved, self.valid, camera_pose=self.T_world_camera, task=self.task)


def default_camera(width: int = 640, height: int = 480) -> Camera:
    """The head camera: an ideal pinhole with 95 degrees of horizontal view."""
    return Camera.from_horizontal_fov(width, height, 95.0)


def observe(
    scene: Scene, model: TrackerModel = TrackerModel(), camera: Camera | None = None, seed: int | None = None
) -> TrackerView:
    """A tracker's view of every frame of a scene; repeatable by `seed` (default: the scene's)."""
    camera = camera or default_camera()
    rng = np.random.default_rng([scene.seed if seed is None else seed, 0x7AC])
    step, length = 1.0 / scene.rate, len(scene)
    actual = transform_points(invert_transform(scene.T_world_camera)[:, None], scene.keypoints)
    noise = correlated_noise((length, 2, NUM_KEYPOINTS, 3), model.keypoint_time / step, rng) * model.keypoint_std
    depth = correlated_noise((length, 2, 1, 1), model.depth_time / step, rng) * model.depth_std
    ray = actual / np.linalg.norm(actual, axis=-1, keepdims=True)
    seen = in_view(actual, camera, model.min_in_view) & ~dropouts(length, model, step, rng)
    valid = np.repeat(seen[..., None], NUM_KEYPOINTS, axis=-1)
    keypoints = np.where(valid[..., None], actual + noise + depth * ray, np.nan)
    delay = model.latency + np.abs(rng.normal(0.0, model.latency_jitter, length))
    arrival = np.maximum.accumulate(scene.stamp + delay)
    return TrackerView(scene.stamp, arrival, keypoints, valid, scene.T_world_camera, camera, scene.task)


def in_view(keypoints: np.ndarray, camera: Camera, share: float) -> np.ndarray:
    """(T, 2) bool: hands, keypoints (T, 2, 21, 3) m in the optical frame, of which at least `share` is in the image."""
    u, v = np.moveaxis(camera.project(keypoints), -1, 0)
    with np.errstate(invalid="ignore"):
        inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    return inside.mean(axis=-1) >= share


def dropouts(length: int, model: TrackerModel, step: float, rng: np.random.Generator) -> np.ndarray:
    """(T, 2) bool, true while a hand is lost: exponential times between losses and of each."""
    lost = np.zeros((length, 2), dtype=bool)
    times = step * np.arange(length)
    for side in range(2):
        begin = rng.exponential(model.lost_every)
        while begin < length * step:
            end = begin + rng.exponential(model.lost_for)
            lost[:, side] |= (times >= begin) & (times < end)
            begin = end + rng.exponential(model.lost_every)
    return lost


def correlated_noise(shape: tuple[int, ...], frames: float, rng: np.random.Generator) -> np.ndarray:
    """Unit-variance first-order autoregressive noise along axis 0, correlated over `frames` frames."""
    keep = np.exp(-1.0 / max(frames, 1e-6))
    white = rng.standard_normal(shape)
    white[1:] *= np.sqrt(1.0 - keep * keep)
    for i in range(1, len(white)):  # scipy.signal would take a second to import
        white[i] += keep * white[i - 1]
    return white
