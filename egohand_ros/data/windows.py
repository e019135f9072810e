"""Episodes cut into (window, future) pairs at a model's rate, for evaluation and training.

Every window ends at a recorded frame, as a live one does, so that no observation is interpolated with a later one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ..geometry.rotations import slerp
from ..geometry.transforms import make_transform
from ..hand.skeleton import WRIST
from ..stream.resample import HandSamples, bracket, resample
from ..stream.window import Window

if TYPE_CHECKING:
    from ..forecast.common.protocol import ForecasterSpec

# Frames further apart than this many steps are not interpolated between: a frame that is missing at the model's own
# rate is missing, and is not made up of its neighbours.
MAX_GAP_STEPS = 1.5
_SAME_TIME = 1e-9  # s


class Recorded(Protocol):
    """The part of an `Episode` that windows are cut from; an episode gives windows itself, so it is not imported."""

    stamp: np.ndarray
    keypoints: np.ndarray
    valid: np.ndarray
    wrist_rotation: np.ndarray
    camera_pose: np.ndarray | None
    task: str


@dataclass(frozen=True)
class Cut:
    """B windows of an episode with what came after them, in the episode's frame.

    window   the observations, as a forecaster sees them
    future   keypoints (B, S, 2, 21, 3) m, zero where not valid
    future_valid (B, S, 2, 21) bool
    future_rotation (B, S, 2, 3, 3) R_frame_palm, the identity where not known
    future_rotation_valid (B, S, 2) bool
    body     joints `body_names` of the wearer's body in window and future (B, T + S, J, 3) m, NaN where not known; None
             for an episode without
    """

    window: Window
    future: np.ndarray
    future_valid: np.ndarray
    future_rotation: np.ndarray
    future_rotation_valid: np.ndarray
    body: np.ndarray | None = field(default=None, kw_only=True)
    body_names: tuple[str, ...] = field(default=(), kw_only=True)

    def takes_part(self) -> np.ndarray:
        """(B, 2, 21) bool: keypoints valid in every observed and future frame, of hands whose wrist is."""
        every = self.window.valid.numpy().all(axis=1) & self.future_valid.all(axis=1)
        return every & every[..., WRIST : WRIST + 1]


def window_ends(stamp: np.ndarray, step: float, observed: int, predicted: int, stride: int = 1) -> np.ndarray:
    """Indices of the frames at which windows end: those nearest to a grid of `step * stride` s, whose past and future
    are inside the recording. stamp (T,) s."""
    first, last = stamp[0] + (observed - 1) * step, stamp[-1] - predicted * step
    count = int(np.floor((last - first) / (step * stride) + 1e-6)) + 1
    if count < 1:
        return np.zeros(0, dtype=int)
    grid = first + step * stride * np.arange(count)
    after = np.clip(np.searchsorted(stamp, grid), 1, len(stamp) - 1)
    nearest = np.where(grid - stamp[after - 1] <= stamp[after] - grid, after - 1, after)
    return np.unique(nearest)


def cut_windows(episode: Recorded, ends: np.ndarray, step: float, observed: int, predicted: int) -> Cut:
    """The windows that end at frames `ends` (B,), `observed` frames long, and the `predicted` frames after each.

    Frames are `step` s apart. A hand that is not seen at the window's last frame is not seen there by interpolation.
    """
    max_gap = MAX_GAP_STEPS * step
    offsets = step * np.arange(1 - observed, predicted + 1)
    at = (episode.stamp[ends][:, None] + offsets).ravel()
    hands = resample(episode.stamp, episode.keypoints, episode.valid, episode.wrist_rotation, at, max_gap)
    shape = (len(ends), len(offsets))
    keypoints, valid, rotation, rotation_valid = (
        array.reshape(*shape, *array.shape[1:])
        for array in (getattr(hands, name) for name in HandSamples.__annotations__)
    )
    valid[:, observed - 1] &= episode.valid[ends]
    rotation_valid[:, observed - 1] &= episode.valid[ends][..., WRIST]
    past = slice(0, observed)
    window = Window(
        stamp=torch.from_numpy(episode.stamp[ends]),
        keypoints=torch.from_numpy(keypoints[:, past] * valid[:, past, ..., None]),
        valid=torch.from_numpy(valid[:, past].copy()),
        wrist_rotation=torch.from_numpy(rotation[:, past].copy()),
        rotation_valid=torch.from_numpy(rotation_valid[:, past].copy()),
        camera_pose=camera_poses(episode, at.reshape(shape)[:, past], max_gap),
        prompt=(episode.task,) * len(ends),
    )
    return Cut(
        window,
        keypoints[:, observed:],
        valid[:, observed:],
        rotation[:, observed:],
        rotation_valid[:, observed:],
        body=_body(episode, at.reshape(shape), max_gap),
        body_names=getattr(episode, "body_names", ()),
    )


def _body(episode: Recorded, at: np.ndarray, max_gap: float) -> np.ndarray | None:
    """Joints of the body (B, F, J, 3) m at times (B, F) s, or None where the episode has none."""
    joints = getattr(episode, "body", None)
    if joints is None:
        return None
    before, after, weight, inside = bracket(episode.stamp, at.ravel(), max_gap)
    share = weight[:, None, None]
    between = np.where(share > 0, (1.0 - share) * joints[before] + share * joints[after], joints[before])
    return np.where(inside[:, None, None], between, np.nan).reshape(*at.shape, *joints.shape[1:])


def with_images(window: Window, episode: Recorded, spec: ForecasterSpec) -> Window:
    """A window of `episode` at the rate of `spec`, with what else a forecaster looks at: pictures, their depth and
    camera's matrix, where the detector saw keypoints, shapes of the hands. What the episode has not stays away, and so
    do pictures without the task that they need."""
    images, batch = getattr(episode, "images", None), window.batch
    added: dict = {}
    if getattr(episode, "betas", None) is not None and "betas" in spec.modalities:
        added["betas"] = torch.from_numpy(episode.betas).expand(batch, 2, -1)
    if images is None:
        return replace(window, **added)
    views, size = max(len(spec.image_offsets), 1), spec.image_size
    if spec.looks and (not spec.images_need_prompt or episode.task):
        first, *more = images.views(spec, window.stamp.numpy())
        added |= {"images": torch.from_numpy(first), "more_images": tuple(map(torch.from_numpy, more)) or None}
        depth = images.depth(spec, window.stamp.numpy()) if "depth" in spec.modalities else None
        added["depth"] = None if depth is None else torch.from_numpy(depth)
    matrix = images.matrix(size)
    if matrix is not None and (spec.looks or "camera_matrix" in spec.modalities):
        added["camera_matrix"] = torch.from_numpy(matrix).expand(batch, views, 3, 3)
    if getattr(episode, "pixels", None) is not None and images.camera is not None and "pixels" in spec.modalities:
        at = window.stamp.numpy()[:, None] + spec.step * np.arange(1 - window.length, 1)
        before, after, weight, known = bracket(episode.stamp, at.ravel(), MAX_GAP_STEPS * spec.step)
        share = weight[:, None, None, None]
        pixels = (1.0 - share) * episode.pixels[before] + share * episode.pixels[after]
        pixels[~known] = np.nan
        pixels *= (size[1] / images.camera.width, size[0] / images.camera.height)
        added["pixels"] = torch.from_numpy(pixels.reshape(*at.shape, *pixels.shape[1:]))
    return replace(window, **added)


def camera_poses(episode: Recorded, at: np.ndarray, max_gap: float) -> torch.Tensor | None:
    """T_world_camera (B, T, 4, 4) at times (B, T) s, or None where the episode has no camera poses."""
    if episode.camera_pose is None:
        return None
    before, after, weight, _ = bracket(episode.stamp, at.ravel(), max_gap)
    start, end = episode.camera_pose[before], episode.camera_pose[after]
    w = weight[:, None]
    rotation = slerp(start[:, :3, :3], end[:, :3, :3], weight)
    poses = make_transform(rotation, (1.0 - w) * start[:, :3, 3] + w * end[:, :3, 3])
    return torch.from_numpy(poses.reshape(*at.shape, 4, 4))


def longest_unbroken(episode: Recorded, step: float) -> float:
    """Seconds for which a wrist is valid without a gap that windows with frames `step` s apart do not bridge."""
    longest = 0.0
    for side in range(2):
        seen = episode.stamp[episode.valid[:, side, WRIST]]
        for part in np.split(seen, np.flatnonzero(np.diff(seen) > MAX_GAP_STEPS * step + _SAME_TIME) + 1):
            longest = max(longest, float(part[-1] - part[0]) if len(part) else 0.0)
    return longest
