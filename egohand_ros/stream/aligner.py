"""`WindowBuilder`: hands, camera poses, images and prompts that arrive when they like -> a `Window` at a model's rate.

The node feeds it messages as they come; the offline replay feeds it a bag's messages. Both get the same windows,
because geometry depends on stamps alone: an observation whose camera pose has not arrived yet waits for it. An image
counts from its arrival on, and so does a calibration, for the images that come after it.

Images are resized and not undistorted: `Window.camera_matrix` is the pinhole matrix of the lens scaled to their size,
which leaves a distorted lens off by its distortion. Give rectified images where that is too much.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2
import numpy as np

from ..geometry.camera import Camera
from ..geometry.rotations import slerp
from ..geometry.transforms import make_transform, transform_points
from ..hand.palm import palm_rotations
from ..hand.skeleton import NUM_KEYPOINTS
from .resample import bracket, resample
from .window import Window

if TYPE_CHECKING:  # importing it takes seconds, and readers of recordings have no need of it
    import torch

_FIRST_ROWS = 64  # of a history; it grows as it needs


class WindowSpec(Protocol):
    """The part of a forecaster's spec that shapes its windows."""

    step: float
    window_length: int
    modalities: tuple[str, ...]
    image_offsets: tuple[int, ...]
    image_size: tuple[int, int]
    more_image_sizes: tuple[tuple[int, int], ...]
    images_need_prompt: bool


@dataclass(frozen=True)
class AlignmentLimits:
    """Bounds. Two hand observations (camera poses) further apart than `max_gap` (`camera_max_gap`) s are not
    interpolated between; a picture more than `picture_max_age` s older than the observation is not shown, because the
    camera has stopped; `max_rate` Hz and `max_waiting` observations bound the memory."""

    max_gap: float = 0.25
    camera_max_gap: float = 0.25
    picture_max_age: float = 0.5
    max_rate: float = 250.0
    max_waiting: int = 64


class _Picture(NamedTuple):
    """A picture taken at `stamp` s, at each size that is wanted, and the camera's matrix (3, 3) px of the first."""

    stamp: float
    sizes: tuple[np.ndarray, ...]
    matrix: np.ndarray | None = None


class _History:
    """Rows with increasing stamps, of the last `span` s and at most `keep` of them, in contiguous arrays: appending
    takes constant time, and reading copies nothing."""

    def __init__(self, span: float, *rows: tuple[tuple[int, ...], type], keep: int | None = None):
        self._span, self._keep = span, keep
        columns: tuple[tuple[tuple[int, ...], type], ...] = (((), float), *rows)
        self._arrays: list[np.ndarray] = [np.zeros((_FIRST_ROWS, *shape), dtype=kind) for shape, kind in columns]
        self._start = self._end = 0

    def append(self, stamp: float, *values: np.ndarray) -> None:
        if self._end == len(self._arrays[0]):
            self._make_room()
        for array, value in zip(self._arrays, (stamp, *values)):
            array[self._end] = value
        self._end += 1
        if self._keep is not None:
            self._start = max(self._start, self._end - self._keep)
        while self._arrays[0][self._start] < stamp - self._span:
            self._start += 1

    def arrays(self) -> list[np.ndarray]:
        """stamp (T,) s and the rows (T, …), oldest first."""
        return [array[self._start : self._end] for array in self._arrays]

    @property
    def last(self) -> float:
        """Newest stamp, s; -inf before the first."""
        return float(self._arrays[0][self._end - 1]) if len(self) else -math.inf

    def __len__(self) -> int:
        return self._end - self._start

    def _make_room(self) -> None:
        """Move the rows to the front, of arrays twice as long when more than half of them is in use."""
        count = len(self)
        for i, live in enumerate(self.arrays()):
            array = self._arrays[i]
            room = np.zeros((2 * len(array), *array.shape[1:]), array.dtype) if 2 * count > len(array) else array
            room[:count] = live.copy()
            self._arrays[i] = room
        self._start, self._end = 0, count


class PoseTrack:
    """Camera poses T_frame_camera of the last `span` s, interpolated between two at most `max_gap` s apart."""

    def __init__(self, span: float, max_gap: float):
        self._max_gap = max_gap
        self._poses = _History(span, ((4, 4), float))

    def __len__(self) -> int:
        return len(self._poses)

    def add(self, stamp: float, pose: np.ndarray) -> None:
        """Append a pose (4, 4); one that is not newer than the newest is ignored."""
        if stamp > self._poses.last:
            self._poses.append(stamp, pose)

    def may_come(self, stamp: float) -> bool:
        """True while the pose at `stamp` s is not known but a later message could still bracket it."""
        return stamp > self._poses.last

    def at(self, stamps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """T_frame_camera (M, 4, 4) at times (M,) s, and whether each is known (M,); the nearest pose where it is
        not.
        """
        if not len(self._poses):
            return np.tile(np.eye(4), (len(stamps), 1, 1)), np.zeros(len(stamps), dtype=bool)
        times, poses = self._poses.arrays()
        before, after, weight, known = bracket(times, stamps, self._max_gap)
        rotation = slerp(poses[before, :3, :3], poses[after, :3, :3], weight)
        w = weight[:, None]
        return make_transform(rotation, (1.0 - w) * poses[before, :3, 3] + w * poses[after, :3, 3]), known


class WindowBuilder:
    """Collects inputs and builds the window that ends at the newest complete observation.

    With `camera_frame=True` hands are given in the camera's optical frame and are moved to the frame of the camera
    poses; each observation is complete once a camera pose brackets its stamp. Otherwise hands stay in the frame they
    come in. Inputs have been checked (`guard.py`) before they come here.
    """

    def __init__(self, spec: WindowSpec, camera_frame: bool = False, limits: AlignmentLimits = AlignmentLimits()):
        self.spec, self.limits, self.camera_frame = spec, limits, camera_frame
        # One more gap than the window is long, so that its oldest time is still bracketed.
        self._span = spec.step * (spec.window_length - 1) + max(limits.max_gap, limits.camera_max_gap)
        self.dropped_waiting = 0
        self._prompt = ""
        self._calibration: Camera | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything but the prompt and the calibration, as after a clock reset."""
        self._hands = self._hand_history()
        self._camera = PoseTrack(self._span + 1.0, self.limits.camera_max_gap)
        self._waiting: deque[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = deque()
        self._images: deque[_Picture] = deque()
        self._depth: deque[_Picture] = deque()

    def set_camera_frame(self, camera_frame: bool) -> None:
        """Whether hands come in the camera's frame from now on; a change forgets the hands, not the camera's poses."""
        if camera_frame != self.camera_frame:
            self.camera_frame = camera_frame
            self._hands = self._hand_history()
            self._waiting.clear()

    def _hand_history(self) -> _History:
        keypoints, valid, rotation = (((2, NUM_KEYPOINTS, 3), float), ((2, NUM_KEYPOINTS), bool), ((2, 3, 3), float))
        return _History(self._span, keypoints, valid, rotation, keep=int(self._span * self.limits.max_rate) + 2)

    def set_prompt(self, prompt: str) -> None:
        """The task text of windows from now on."""
        self._prompt = prompt

    def set_calibration(self, camera: Camera | None) -> None:
        """The camera of the images that come from now on; None where it is not known."""
        self._calibration = camera

    def add_hands(
        self, stamp: float, keypoints: np.ndarray, valid: np.ndarray, rotation: np.ndarray | None = None
    ) -> bool:
        """One observation: keypoints (2, 21, 3) m, valid (2, 21), R_frame_palm (2, 3, 3) with NaN where unknown (from
        the palm's keypoints when not given). Returns whether a new observation became complete."""
        keypoints = np.where(valid[..., None], keypoints, np.nan)
        palm = palm_rotations(keypoints)
        rotation = palm if rotation is None else np.where(np.isfinite(rotation), rotation, palm)
        if not self.camera_frame:
            self._hands.append(stamp, keypoints, valid, rotation)
            return True
        self._waiting.append((stamp, keypoints, valid, rotation))
        if len(self._waiting) > self.limits.max_waiting:
            self._waiting.popleft()
            self.dropped_waiting += 1
        return self._complete_waiting()

    def add_camera_pose(self, stamp: float, T_frame_camera: np.ndarray) -> bool:
        """One camera pose (4, 4). Returns whether a waiting observation became complete by it."""
        self._camera.add(stamp, T_frame_camera)
        return self._complete_waiting()

    def wants_image(self, stamp: float) -> bool:
        """Whether an image of this time would be kept: ask before decoding one."""
        looks = "images" in self.spec.modalities and (bool(self._prompt) or not self.spec.images_need_prompt)
        return looks and self._is_due(self._images, stamp)

    def add_image(self, stamp: float, rgb: np.ndarray) -> bool:
        """One RGB image (H, W, 3) uint8; resized here, once, and only if it is wanted. False where the calibration is
        not that of this image, which then has none."""
        if not self.wants_image(stamp):
            return True
        camera, (height, width) = self._calibration, self.spec.image_size
        fits = camera is None or camera.fits(rgb.shape[1], rgb.shape[0])
        matrix = camera.scaled(width, height).matrix if camera is not None and fits else None
        sizes = (self.spec.image_size, *self.spec.more_image_sizes)
        self._add_picture(self._images, _Picture(stamp, shrunk(rgb, sizes), matrix))
        return fits

    def add_depth(self, stamp: float, depth: np.ndarray) -> None:
        """One depth image (H, W) float32 m, 0 where unknown."""
        if "depth" in self.spec.modalities and self._is_due(self._depth, stamp):
            self._add_picture(self._depth, _Picture(stamp, (shrunk_depth(depth, self.spec.image_size),)))

    def window(self) -> Window | None:
        """The window of batch 1 that ends at the newest complete observation, or None before the first one."""
        import torch

        if not len(self._hands):
            return None
        stamp, keypoints, valid, rotation = self._hands.arrays()
        times = stamp[-1] - self.spec.step * np.arange(self.spec.window_length - 1, -1, -1)
        hands = resample(stamp, keypoints, valid, rotation, times, self.limits.max_gap)
        camera = None
        if len(self._camera):
            poses, known = self._camera.at(times)
            camera = torch.from_numpy(poses)[None] if known[-1] else None
        images = self._pictures(self._images, times)
        matrices = [self._images[i].matrix for i in self._chosen(self._images, times[-1])]
        calibrated = bool(matrices) and matrices[-1] is not None
        filled = [np.full((3, 3), np.nan) if matrix is None else matrix for matrix in matrices]
        return Window(
            stamp=torch.tensor([times[-1]], dtype=torch.float64),
            keypoints=torch.from_numpy(hands.keypoints)[None],
            valid=torch.from_numpy(hands.valid)[None],
            wrist_rotation=torch.from_numpy(hands.rotation)[None],
            rotation_valid=torch.from_numpy(hands.rotation_valid)[None],
            camera_pose=camera,
            images=images[0] if images else None,
            depth=next(iter(self._pictures(self._depth, times)), None),
            prompt=(self._prompt,),
            camera_matrix=torch.from_numpy(np.stack(filled))[None] if calibrated else None,
            more_images=images[1:] or None,
        )

    def image_stamp(self) -> float | None:
        """When the newest image of `window()` was taken, s; None where it has none."""
        if not len(self._hands):
            return None
        chosen = self._chosen(self._images, self._hands.last)
        return self._images[max(chosen)].stamp if len(chosen) else None

    def _complete_waiting(self) -> bool:
        completed = False
        while self._waiting and not self._camera.may_come(self._waiting[0][0]):
            stamp, keypoints, valid, rotation = self._waiting.popleft()
            poses, known = self._camera.at(np.array([stamp]))
            if not known[0]:
                self.dropped_waiting += 1
                continue
            moved = transform_points(poses[0], keypoints)
            self._hands.append(stamp, moved, valid, poses[0, :3, :3] @ rotation)
            completed = True
        return completed

    def _add_picture(self, pictures: deque[_Picture], picture: _Picture) -> None:
        pictures.append(picture)
        while pictures[0].stamp < picture.stamp - self._span:
            pictures.popleft()

    def _is_due(self, pictures: deque[_Picture], stamp: float) -> bool:
        # Four pictures a step are enough to find one near every offset, whatever the camera's rate.
        return not pictures or stamp >= pictures[-1].stamp + self.spec.step / 4.0

    def _pictures(self, pictures: deque[_Picture], times: np.ndarray) -> tuple[torch.Tensor, ...]:
        """The last picture at or before each offset's time (the oldest one where none is), (1, V, …) at every size;
        nothing without any."""
        import torch

        chosen = [pictures[i].sizes for i in self._chosen(pictures, times[-1])]
        return tuple(torch.from_numpy(np.stack(views))[None] for views in zip(*chosen, strict=True))

    def _chosen(self, pictures: deque[_Picture], stamp: float) -> np.ndarray:
        """Index of the picture for each offset (V,) from `stamp` s; none where all are too old."""
        if not pictures or stamp - pictures[-1].stamp > self.limits.picture_max_age:
            return np.zeros(0, dtype=int)
        return last_pictures(np.array([picture.stamp for picture in pictures]), self.spec, np.array([stamp]))[0]


def shrunk(rgb: np.ndarray, sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """A picture (H, W, 3) at each of some sizes (height, width), its aspect not kept."""
    return tuple(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for height, width in sizes)


def shrunk_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A depth image (H, W) m at a size (height, width): what is beside an edge is not mixed over it."""
    return cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)


def last_pictures(taken: np.ndarray, spec: WindowSpec, stamps: np.ndarray) -> np.ndarray:
    """Which of the pictures taken at times (N,) s windows that end at `stamps` (B,) s see, (B, V): for each offset the
    last one at or before its time, the first one where none is."""
    wanted = stamps[:, None] + spec.step * np.array(spec.image_offsets)
    return np.maximum(np.searchsorted(taken, wanted + 1e-6) - 1, 0)
