"""Video files as frames with times."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError


@dataclass(frozen=True)
class Video:
    """What a video file is: size in px, frames per second, number of frames as its container says."""

    path: Path
    width: int
    height: int
    fps: float
    frames: int

    @classmethod
    def open(cls, path: Path | str) -> "Video":
        """Look into a video file. Raises `UserError` for a file that is none."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"video {path} does not exist")
        capture = cv2.VideoCapture(str(path))
        try:
            width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            if not capture.isOpened() or width <= 0 or height <= 0:
                raise UserError(
                    f"{path} is not a video that OpenCV can read; if it was not cut off, convert it to H.264 in .mp4"
                )
            fps = capture.get(cv2.CAP_PROP_FPS)
            frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        finally:
            capture.release()
        return cls(path, width, height, fps if 1.0 <= fps <= 1000.0 else 30.0, frames)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.fps

    def read(self, max_width: int = 0) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 BGR in order, made narrower where wider than `max_width` px (0: never)."""
        capture = cv2.VideoCapture(str(self.path))
        try:
            while True:
                read, frame = capture.read()
                if not read:
                    return
                yield shrink(frame, max_width)
        finally:
            capture.release()


def shrunk_size(width: int, height: int, max_width: int) -> tuple[int, int]:
    """Size in px after `shrink`."""
    if not max_width or width <= max_width:
        return width, height
    return max_width, round(height * max_width / width)


def shrink(image: np.ndarray, max_width: int) -> np.ndarray:
    """An image at most `max_width` px wide, its proportions kept; 0 keeps its size."""
    size = shrunk_size(image.shape[1], image.shape[0], max_width)
    return image if size == image.shape[1::-1] else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
