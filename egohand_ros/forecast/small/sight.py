"""A window as the grounding of `egohand-small` sees it: the newest image with the direction of each of its cells, the
words of the task, and where the wrists are, all in one frame that is level and looks ahead.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ...geometry.canonical import canonical_from_camera
from ...geometry.transforms import invert_transform
from ...stream.window import Window
from ..common.frames import LocalFrame
from ..common.observed import Observed, last_index, take
from .config import CELL

MAX_WORDS = 20
WRISTS = 2 * (3 + 3 + 1)
_DISTANCE = 0.5  # m, typical


@dataclass(frozen=True)
class Sight:
    """B windows. `frame`: origin at the last camera position, Z up, X along the window's mean horizontal view.

    images (B, H, W, 3) uint8, rays (B, h, w, 3) float32 unit directions of cells, words (B, MAX_WORDS) int64 (0: none),
    wrists (B, WRISTS) float32, known (B,) bool: image, calibration, camera poses and a word of the vocabulary are there
    """

    images: np.ndarray
    rays: np.ndarray
    words: np.ndarray
    wrists: np.ndarray
    known: np.ndarray
    frame: LocalFrame

    def hand_maps(self, hands: LocalFrame) -> tuple[np.ndarray, np.ndarray]:
        """Rotation (N, 3, 3) and offset (N, 3) float32 m that take points of `frame`, as rows, to the N = 2 B frames of
        the hands."""
        basis, origin = (np.repeat(array, 2, axis=0) for array in (self.frame.basis, self.frame.origin))
        rotation = basis.swapaxes(-1, -2) @ hands.basis
        offset = ((origin - hands.origin)[:, None] @ hands.basis)[:, 0]
        return rotation.astype(np.float32), offset.astype(np.float32)


class Vocabulary:
    """Words by number, from 1; a word that is not in it is left out, as nothing is known about it."""

    def __init__(self, words: Sequence[str]):
        self._numbers = {word: i + 1 for i, word in enumerate(words)}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(B, MAX_WORDS) int64, padded with 0."""
        rows = np.zeros((len(texts), MAX_WORDS), dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            numbers = [self._numbers[word] for word in split(text) if word in self._numbers][:MAX_WORDS]
            row[: len(numbers)] = numbers
        return rows


def split(text: str) -> list[str]:
    """The words of a task, in small letters."""
    return re.findall(r"[a-z]+", text.lower())


def look(window: Window, observed: Observed, vocabulary: Vocabulary, size: tuple[int, int]) -> Sight | None:
    """What there is to see and to be told, at `size` (height, width) px; None where no window has all of it."""
    if window.images is None or window.camera_matrix is None or window.camera_pose is None or window.prompt is None:
        return None
    words = vocabulary.encode(window.prompt)
    known = (words > 0).any(axis=1)
    if not known.any():
        return None
    pose = window.camera_pose.cpu().numpy()
    frame = level_frame(pose)
    images, matrix = window.images[:, -1].cpu().numpy(), window.camera_matrix[:, -1].cpu().numpy()
    if images.shape[1:3] != size:
        matrix = np.diag([size[1] / images.shape[2], size[0] / images.shape[1], 1.0]) @ matrix
        images = np.stack([cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in images])
    in_frame = frame.basis.swapaxes(-1, -2) @ pose[:, -1, :3, :3]
    return Sight(images, cell_rays(matrix, in_frame, size), words, _wrists(observed, frame), known, frame)


def level_frame(pose: np.ndarray) -> LocalFrame:
    """The frame of `Sight` for camera poses (B, T, 4, 4) T_window_camera (optical).

    People say left and right of where their body faces; a head turns to and fro about it.
    """
    basis = canonical_from_camera(pose)[..., :3, :3].sum(axis=1)[..., :, 0]
    ahead = basis / np.maximum(np.linalg.norm(basis, axis=-1, keepdims=True), 1e-9)
    ahead = np.where(np.linalg.norm(basis, axis=-1, keepdims=True) > 1e-6, ahead, [1.0, 0.0, 0.0])
    zero, one = np.zeros(len(ahead)), np.ones(len(ahead))
    c, s = ahead[:, 0], ahead[:, 1]
    axes = np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    return LocalFrame(axes, pose[:, -1, :3, 3], np.broadcast_to(np.eye(3), axes.shape))


def cell_rays(matrix: np.ndarray, rotation: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Unit directions (B, h, w, 3) of the centres of cells, of camera matrices (B, 3, 3) px and R_frame_camera
    (B, 3, 3)."""
    u, v = ((np.arange(n // CELL) + 0.5) * CELL - 0.5 for n in size[::-1])
    pixels = np.stack([*np.meshgrid(u, v), np.ones((len(v), len(u)))], axis=-1)
    direction = np.einsum("bij,hwj->bhwi", rotation @ np.linalg.inv(matrix), pixels)
    return (direction / np.linalg.norm(direction, axis=-1, keepdims=True)).astype(np.float32)


def cell_of(points: np.ndarray, matrix: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Index (B,) of the cell in which points (B, 3) m are seen; -1 where they are not, or are NaN. `pose` (B, 4, 4) is
    T_window_camera."""
    inside = np.einsum(
        "bij,bj->bi", invert_transform(pose)[:, :3], np.concatenate([points, np.ones((len(points), 1))], 1)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        pixel = np.einsum("bij,bj->bi", matrix, inside)
        column, row = (np.floor((pixel[:, i] / pixel[:, 2] + 0.5) / CELL) for i in range(2))
        height, width = (n // CELL for n in size)
        seen = (inside[:, 2] > 0.05) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(seen, np.nan_to_num(row) * width + np.nan_to_num(column), -1).astype(np.int64)


def _wrists(observed: Observed, frame: LocalFrame) -> np.ndarray:
    """Of each hand: the last seen wrist, its lowest and farthest so far (they tell where the table is), seen or not."""
    seen = observed.wrist_valid
    wrist = frame.points_in(observed.wrist) / _DISTANCE
    last = take(wrist, last_index(seen))
    lowest = np.where(seen, wrist[..., 2], np.inf).min(axis=1)
    reach = np.where(seen, np.linalg.norm(wrist, axis=-1), -np.inf).max(axis=1)
    moved = np.linalg.norm(last - take(wrist, np.argmax(seen, axis=1)), axis=-1)
    any_seen = seen.any(axis=1)
    parts = np.concatenate([last, lowest[..., None], reach[..., None], moved[..., None]], axis=-1)
    parts = np.where(any_seen[..., None], parts, 0.0)
    return np.concatenate([parts, any_seen[..., None]], axis=-1).reshape(len(wrist), -1).astype(np.float32)
