"""A window's arrays -> rows of right hands, what a network takes, and their states -> both hands in the window's frame.

The network knows one frame, that of the camera at the image's time (optical), and one hand, the right one (the paper's
data is of right hands). A left hand is given as its mirror image, with the picture, the depth and the words mirrored
too, which is ours: rows are hands, those of a window one after the other, [left, right].
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import interpolate

from ...hand.skeleton import LEFT, WRIST
from ...stream.window import Window
from ..vlm.thinker import prompts_of
from .state import HandState
from .vision_language import mirrored_words

_MIRROR = (-1.0, 1.0, 1.0)  # of the camera's axes


@dataclass(frozen=True)
class Rows:
    """keypoints (2 B, T, 21, 3) float32 m and known (2 B, T, 21) of right hands in the camera's frame. A keypoint that
    is not seen is where it was seen last before."""

    keypoints: torch.Tensor
    known: torch.Tensor

    def at(self, index: torch.Tensor) -> "Rows":
        """Some of them."""
        return Rows(self.keypoints[index], self.known[index])


@dataclass(frozen=True)
class Views:
    """What some rows see: images (N, H, W, 3) uint8 RGB or None, depth (N, H, W) m or None, and words."""

    images: torch.Tensor | None
    depth: torch.Tensor | None
    prompts: tuple[str, ...]


def camera_frames(window: Window) -> np.ndarray:
    """T_window_camera (B, 4, 4) of the last observation; the identity without camera poses: the window's frame is then
    taken to be the camera's."""
    if window.camera_pose is None:
        return np.broadcast_to(np.eye(4), (window.batch, 4, 4))
    return window.camera_pose[:, -1].cpu().numpy()


def rows_of_window(window: Window, frame: np.ndarray) -> Rows:
    """Both hands of windows in frames T_window_camera (B, 4, 4)."""
    return rows_in(window.keypoints.cpu().numpy(), window.valid.cpu().numpy(), frame)


def rows_in(keypoints: np.ndarray, valid: np.ndarray, frame: np.ndarray) -> Rows:
    """Keypoints (B, T, 2, 21, 3) m of the window's frame, valid (B, T, 2, 21), as rows in frames T_window_camera (B, 4,
    4)."""
    local = (keypoints - frame[:, None, None, None, :3, 3]) @ frame[:, None, None, :3, :3]
    local[:, :, LEFT] *= _MIRROR
    times = np.arange(valid.shape[1])[None, :, None, None]
    before = np.maximum.accumulate(np.where(valid, times, -1), axis=1)
    filled = np.take_along_axis(local, np.maximum(before, 0)[..., None], axis=1)
    by_row = lambda array: torch.from_numpy(np.ascontiguousarray(array.swapaxes(1, 2))).flatten(0, 1)  # noqa: E731
    return Rows(by_row(filled).float(), by_row(before >= 0))


def views_of(window: Window, rows: torch.Tensor, size: int) -> Views:
    """What rows (N,) int64 see, pictures at `size` px."""
    windows, left = rows // 2, rows % 2 == LEFT
    prompts = prompts_of(window)
    words = tuple(
        mirrored_words(prompts[i]) if mirrored else prompts[i]
        for i, mirrored in zip(windows.tolist(), left.tolist(), strict=True)
    )
    images = None if window.images is None else _picture(window.images[:, -1], size)
    depth = None if window.depth is None else _depth(window.depth[:, -1], size)
    return Views(
        None if images is None else _flipped(images[windows], left, -2),
        None if depth is None else _flipped(depth[windows], left, -1),
        words,
    )


def with_depth(views: Views, depth: torch.Tensor | None) -> Views:
    """The same with a depth estimated of its images, where it has none."""
    return views if views.depth is not None or depth is None else replace(views, depth=depth)


def points_out(keypoints: torch.Tensor, frame: np.ndarray) -> np.ndarray:
    """Keypoints or vertices (2 B, K, S, N, 3) m of rows in the window's frame: (B, K, S, 2, N, 3)."""
    points = keypoints.double().cpu().unflatten(0, (-1, 2)).numpy().copy()  # (B, 2, K, S, N, 3)
    points[:, LEFT] *= _MIRROR
    moved = points @ frame[:, None, None, None, :3, :3].swapaxes(-1, -2) + frame[:, None, None, None, None, :3, 3]
    return np.moveaxis(moved, 1, 3)


def mano_out(
    states: HandState, rest_wrist: torch.Tensor, frame: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """MANO's pose (B, K, S, 2, 16, 3) rad, translation (B, K, S, 2, 3) m and betas (B, 2, 10) in the window's frame of
    states (2 B, K, S) of rows, whose right hands rest with their wrists at (2 B, K, S, 3) m.

    A rotation mirrored in x turns by the mirrored vector the other way round.
    """
    from ...hand.mano_layer import turn

    sides = lambda tensor: tensor.unflatten(0, (-1, 2))  # noqa: E731
    pose, translation, rest = (sides(t).clone() for t in (states.pose, states.translation, rest_wrist))
    mirror = pose.new_tensor(_MIRROR)
    pose[:, LEFT] *= -mirror
    translation[:, LEFT] *= mirror
    rest[:, LEFT] *= mirror
    transform = torch.from_numpy(np.ascontiguousarray(frame)).to(pose)[:, None, None, None]
    pose, translation = turn(pose, translation, rest, transform)
    return pose.movedim(1, 3), translation.movedim(1, 3), sides(states.betas)[:, :, 0, 0]


def _picture(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images (B, H, W, 3) uint8 at `size` px, squeezed."""
    if tuple(images.shape[1:3]) == (size, size):
        return images
    resized = interpolate(images.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _depth(depth: torch.Tensor, size: int) -> torch.Tensor:
    if tuple(depth.shape[1:]) == (size, size):
        return depth.float()
    return interpolate(depth[:, None].float(), (size, size), mode="nearest")[:, 0]


def _flipped(pictures: torch.Tensor, left: torch.Tensor, axis: int) -> torch.Tensor:
    """Those of left hands mirrored."""
    shape = (-1, *(1,) * (pictures.dim() - 1))
    return torch.where(left.to(pictures.device).reshape(shape), pictures.flip(axis), pictures)


def seen_now(rows: Rows) -> torch.Tensor:
    """(2 B,) bool: hands whose wrist is known at the end of the window."""
    return rows.known[:, -1, WRIST]
