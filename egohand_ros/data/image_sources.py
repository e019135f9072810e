"""Where the pictures of a recording are: a video, image files, a tar, a bag's topic, or memory. Nothing is read before
it is asked for.

A source has `frames` pictures, numbered from 0, `read(first)` gives them in order from one on, `at_once` says whether
any of them costs as little as the next one, and `to_json` describes it so that `source_from_json` finds it again.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from ..errors import RejectedInput, UserError
from ..images.decoding import decode_image
from ..images.raw_images import raw_image


class ImageSource(Protocol):
    """See the module's docstring; pictures are RGB (H, W, 3) uint8."""

    at_once: bool

    @property
    def frames(self) -> int: ...

    def read(self, first: int) -> Iterator[np.ndarray]: ...

    def to_json(self) -> dict: ...


@runtime_checkable
class DepthSource(Protocol):
    """A source of pictures that knows how far away is what they show."""

    def depth(self, number: int) -> np.ndarray:
        """(H, W) float32 m along the optical axis, 0 where unknown, of picture `number`."""
        ...


@dataclass(frozen=True)
class VideoFrames:
    """`count` pictures of a video file from number `start` on. Videos are decoded from their beginning: seeking in them
    is exact for no codec that OpenCV reads."""

    path: str
    count: int
    start: int = 0
    at_once = False

    @property
    def frames(self) -> int:
        return self.count

    def read(self, first: int) -> Iterator[np.ndarray]:
        """Pictures from `first` on. Raises `UserError` where the file is not there, or no video."""
        if not Path(self.path).is_file():
            raise UserError(f"the recording's video {self.path} is not there; put it there, or beside the recording")
        capture = cv2.VideoCapture(self.path)
        try:
            for _ in range(self.start + first):
                if not capture.grab():
                    return
            for _ in range(self.count - first):
                read, frame = capture.read()
                if not read:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def to_json(self) -> dict:
        return {"kind": "video", "path": self.path, "count": self.count, "start": self.start}


@dataclass(frozen=True)
class ImageFiles:
    """A file a picture, `names` in a folder."""

    path: str
    names: tuple[str, ...]
    at_once = True

    @property
    def frames(self) -> int:
        return len(self.names)

    def read(self, first: int) -> Iterator[np.ndarray]:
        """Pictures from `first` on. Raises `UserError` for a file that is not there, or no picture."""
        for name in self.names[first:]:
            yield _decoded(Path(self.path, name), lambda file: file.read_bytes())

    def to_json(self) -> dict:
        return {"kind": "files", "path": self.path, "names": list(self.names)}


@dataclass(frozen=True)
class TarImages:
    """Members `names` of a tar."""

    path: str
    names: tuple[str, ...]
    at_once = False  # a member is found by going through those before it

    @property
    def frames(self) -> int:
        return len(self.names)

    def read(self, first: int) -> Iterator[np.ndarray]:
        """Pictures from `first` on. Raises `UserError` where the tar cannot be read or a member is no picture."""
        try:
            with tarfile.open(self.path) as tar:
                for name in self.names[first:]:
                    yield _decoded(Path(self.path, name), lambda file, name=name: tar.extractfile(name).read())
        except (tarfile.TarError, KeyError) as error:
            raise UserError(f"pictures of {self.path} cannot be read: {error}") from None

    def to_json(self) -> dict:
        return {"kind": "tar", "path": self.path, "names": list(self.names)}


@dataclass(frozen=True)
class BagImages:
    """Those messages of an image topic, raw or compressed, whose stamps in ns are `stamps`, increasing."""

    path: str
    topic: str
    stamps: tuple[int, ...]
    at_once = False

    @property
    def frames(self) -> int:
        return len(self.stamps)

    def read(self, first: int) -> Iterator[np.ndarray]:
        """Pictures from `first` on. Raises `UserError` for one that cannot be decoded."""
        from .bags.reading import read_messages  # the readers of bags take half a second, which no other source needs

        wanted = iter(self.stamps[first:])
        next_one = next(wanted, None)
        for message in read_messages(self.path, (self.topic,)):
            if next_one is None:
                return
            if stamp_in_ns(message.data) != next_one:
                continue
            try:
                yield (
                    decode_image(bytes(message.data.data))
                    if hasattr(message.data, "format")
                    else raw_image(message.data)
                )
            except RejectedInput as error:
                raise UserError(f"an image on {self.topic} of {self.path} cannot be used: {error}") from None
            next_one = next(wanted, None)

    def to_json(self) -> dict:
        return {"kind": "bag", "path": self.path, "topic": self.topic, "stamps": list(self.stamps)}


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Pictures (N, H, W, 3) uint8 that are in memory already; nothing finds them again from a file."""

    images: np.ndarray
    at_once = True

    @property
    def frames(self) -> int:
        return len(self.images)

    def read(self, first: int) -> Iterator[np.ndarray]:
        """Pictures from `first` on."""
        return iter(self.images[first:])

    def to_json(self) -> dict:
        raise UserError(
            "pictures that are in memory alone cannot be saved with an episode; write them to a video first"
        )


_KINDS = {"video": VideoFrames, "files": ImageFiles, "tar": TarImages, "bag": BagImages}


def source_from_json(described: dict, beside: Path) -> ImageSource:
    """What `to_json` described. Where its path is not there, it is looked for by its name in the folder `beside`."""
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in described.items()}
    kind = _KINDS.get(given.pop("kind", ""))
    if kind is None:
        raise UserError(f"images of an episode are of kind {described.get('kind')!r}; known: {', '.join(_KINDS)}")
    path = Path(given["path"])
    if not path.exists() and (beside / path.name).exists():
        given["path"] = str(beside / path.name)
    return kind(**given)


def stamp_in_ns(message) -> int:
    """The stamp of a message's header."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def _decoded(path: Path, read) -> np.ndarray:
    try:
        return decode_image(read(path))
    except (OSError, RejectedInput) as error:
        raise UserError(f"image {path} cannot be read: {error}") from None
