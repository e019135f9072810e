"""`EpisodeImages`: the pictures of a recording, with their times and camera, read when windows want them.

A picture is decoded once for all the windows that show it: what was decoded is kept at the size that forecasters want,
in a file without a name on disk, so that a recording may be larger than memory.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..geometry.camera import Camera
from ..stream.aligner import AlignmentLimits, WindowSpec, last_pictures, shrunk, shrunk_depth
from .image_sources import DepthSource, ImageSource, source_from_json

Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class EpisodeImages:
    """N pictures of a recording.

    stamp   (N,) s, strictly increasing, on the clock of the episode
    source  where they are
    camera  that took them, at their size; None where it is not known
    """

    stamp: np.ndarray
    source: ImageSource
    camera: Camera | None = None
    _kept: "dict[Sizes, _Shrunk]" = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        stamp = np.asarray(self.stamp, dtype=np.float64)
        if stamp.shape != (self.source.frames,) or not np.isfinite(stamp).all() or (np.diff(stamp) <= 0).any():
            raise UserError(
                f"{self.source.frames} images have {stamp.size} times; each needs one, later than that before it"
            )
        object.__setattr__(self, "stamp", stamp)

    def __len__(self) -> int:
        return len(self.stamp)

    def __getstate__(self) -> dict:
        return {**vars(self), "_kept": {}}  # another process keeps its own

    def covers(self, stamps: np.ndarray) -> np.ndarray:
        """(B,) bool: times (B,) s at which the newest picture is no older than a live camera's may be."""
        newest = np.searchsorted(self.stamp, np.asarray(stamps) + 1e-6) - 1
        age = stamps - self.stamp[np.maximum(newest, 0)]
        return (newest >= 0) & (age <= AlignmentLimits().picture_max_age)

    def views(self, spec: WindowSpec, stamps: np.ndarray) -> tuple[np.ndarray, ...]:
        """What windows that end at `stamps` (B,) s show: (B, V, H, W, 3) uint8 RGB at each size of the spec, as
        `Window.images` and `more_images` have them."""
        return self.take(last_pictures(self.stamp, spec, np.asarray(stamps)), sizes_of(spec))

    def take(self, numbers: np.ndarray, sizes: Sizes) -> tuple[np.ndarray, ...]:
        """Pictures `numbers` (...) at each of some sizes (height, width): (..., H, W, 3) each."""
        if sizes not in self._kept:
            self._kept[sizes] = _Shrunk(self.source, sizes)
        return self._kept[sizes].take(numbers)

    def depth(self, spec: WindowSpec, stamps: np.ndarray) -> np.ndarray | None:
        """Depth of the same pictures of which `views` are, (B, V, H, W) float32 m, 0 where unknown, as `Window.depth`
        has it; None where the source gives none."""
        if not isinstance(self.source, DepthSource):
            return None
        numbers = last_pictures(self.stamp, spec, np.asarray(stamps))
        kept = {
            number: shrunk_depth(self.source.depth(number), spec.image_size) for number in np.unique(numbers).tolist()
        }
        return np.stack([kept[number] for number in numbers.ravel().tolist()]).reshape(*numbers.shape, *spec.image_size)

    def matrix(self, size: tuple[int, int]) -> np.ndarray | None:
        """The camera's matrix (3, 3) px for pictures of `size` (height, width); None where it is not known."""
        return None if self.camera is None else self.camera.scaled(size[1], size[0]).matrix

    def to_json(self) -> dict:
        """For a file of an episode; stamps are an array of their own there."""
        camera = self.camera
        described = None if camera is None else {
            "matrix": camera.matrix.tolist(),
            "width": camera.width,
            "height": camera.height,
            "distortion_model": camera.distortion_model,
            "distortion": camera.distortion.tolist(),
        }  # fmt: skip
        return {"source": self.source.to_json(), "camera": described}

    @classmethod
    def from_json(cls, described: dict, stamp: np.ndarray, beside: Path) -> "EpisodeImages":
        """The way back of `to_json`; the folder `beside` is where pictures are looked for too."""
        camera = described.get("camera")
        if camera is not None:
            camera = Camera(**{**camera, "matrix": np.array(camera["matrix"]), "distortion": camera["distortion"]})
        return cls(stamp, source_from_json(described["source"], beside), camera)


def sizes_of(spec: WindowSpec) -> Sizes:
    """Every size (height, width) at which a forecaster looks at pictures."""
    return (tuple(spec.image_size), *(tuple(size) for size in spec.more_image_sizes))


def decode_all(
    recordings: Sequence[EpisodeImages], spec: WindowSpec, progress: Callable[[int, int], None] | None = None
) -> None:
    """Decode every picture of some recordings, several at a time, so that what draws windows from all of them at random
    finds them decoded. `progress(done, total)` counts recordings."""

    def decode(images: EpisodeImages) -> None:
        for start in range(0, len(images), _AHEAD):
            images.take(np.arange(start, min(start + _AHEAD, len(images))), sizes_of(spec))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(decode, recordings), start=1):
            if progress is not None:
                progress(done, len(recordings))


_AHEAD = 64  # pictures decoded in one go


class _Shrunk:
    """The pictures of a source at some sizes, in files without names: each is decoded once, when it is first wanted."""

    def __init__(self, source: ImageSource, sizes: Sizes):
        self._source, self._sizes = source, sizes
        self._lock, self._have = threading.Lock(), np.zeros(source.frames, dtype=bool)
        self._reader: Iterator[np.ndarray] | None = None
        self._next = 0  # number of the picture that the reader gives next
        self._arrays = [_on_disk((source.frames, *size, 3)) for size in sizes]

    def take(self, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        with self._lock:
            missing = np.unique(numbers)
            missing = missing[~self._have[missing]]
            if len(missing) and self._source.at_once:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    list(pool.map(lambda n: self._keep(n, next(self._source.read(n))), missing.tolist()))
            elif len(missing):
                self._read_to(int(missing[-1]))
            return tuple(array[numbers] for array in self._arrays)

    def _read_to(self, last: int) -> None:
        """Go on where the reader is: all before that is kept."""
        if self._reader is None:
            self._reader = self._source.read(0)
        while self._next <= last:
            image = next(self._reader, None)
            if image is None:
                raise UserError(f"{self._source.frames} images are expected, but they end after {self._next}")
            self._keep(self._next, image)
            self._next += 1

    def _keep(self, number: int, image: np.ndarray) -> None:
        for array, small in zip(self._arrays, shrunk(image, self._sizes), strict=True):
            array[number] = small
        self._have[number] = True


def _on_disk(shape: tuple[int, ...]) -> np.ndarray:
    """An array of zeros in a file that takes as much of the disk as is written, and is gone with the array."""
    file = tempfile.TemporaryFile(prefix="egohand_images_")  # noqa: SIM115, as long as the array
    file.truncate(int(np.prod(shape, dtype=np.int64)))
    return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
