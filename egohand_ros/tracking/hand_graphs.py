"""MediaPipe's hand graphs in both of its interfaces: `solutions`, which it had until 0.10.21 with the models inside,
and Tasks, which it has since, with the models in a file of the user's (`hand_landmarker.task`).

Both run the same networks; what they find is given alike, as `FoundHand`.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import UserError

_STEP_MS = 33  # Tasks wants times that grow; its filters take them for those of a usual camera
# `solutions` names the hand as if the image were a mirror's (a selfie), Tasks as the person has it; an egocentric
# camera does not mirror.
_SIDE_IN_SOLUTIONS = {"Left": "right", "Right": "left"}
_SIDE_IN_TASKS = {"Left": "left", "Right": "right"}
_MODEL = "hand_landmarker.task, from the page of MediaPipe's Hand Landmarker"


class FoundHand(NamedTuple):
    """A hand in an image: landmarks (21, 2) from 0 to 1 between the image's outer edges, world (21, 3) m, the person's
    own side, and how sure that is, 0 to 1."""

    landmarks: np.ndarray
    world: np.ndarray
    side: str
    score: float


class HandGraph(Protocol):
    """Follows up to so many hands from image to image."""

    def process(self, image: np.ndarray) -> list[FoundHand]:
        """Hands in an RGB uint8 image (height, width, 3)."""
        ...

    def close(self) -> None:
        """Free the models."""
        ...


def make_graphs(
    max_hands: int, model_complexity: int, min_detection_confidence: float, min_tracking_confidence: float, model: str
) -> list[HandGraph]:
    """A graph for one hand, and one for each number up to `max_hands`. `model` is a .task file, "" for the models of
    `solutions`. Raises `UserError` where MediaPipe, or what it needs, is missing."""
    kind: Any = _SolutionsGraph
    if model:
        if not Path(model).is_file():
            raise UserError(f"model_path {model} does not exist; expected {_MODEL}")
        kind = _TasksGraph
    confidence = (min_detection_confidence, min_tracking_confidence)
    with quiet_stderr():
        return [kind(number, model_complexity, *confidence, model) for number in range(1, max_hands + 1)]


class _SolutionsGraph:
    def __init__(self, hands: int, complexity: int, detection: float, tracking: float, model: str):
        try:
            from mediapipe.python.solutions.hands import Hands
        except ImportError as error:
            raise UserError(_what_is_missing(error)) from None
        self._graph = Hands(
            static_image_mode=False,
            max_num_hands=hands,
            model_complexity=complexity,
            min_detection_confidence=detection,
            min_tracking_confidence=tracking,
        )

    def process(self, image: np.ndarray) -> list[FoundHand]:
        result = self._graph.process(image)
        if not result.multi_hand_landmarks:
            return []
        best = [handedness.classification[0] for handedness in result.multi_handedness]
        return [
            FoundHand(_flat(seen.landmark), _solid(world.landmark), _SIDE_IN_SOLUTIONS[side.label], float(side.score))
            for seen, world, side in zip(
                result.multi_hand_landmarks, result.multi_hand_world_landmarks, best, strict=True
            )
        ]

    def close(self) -> None:
        self._graph.close()


class _TasksGraph:
    """`complexity` is that of the models in the file."""

    def __init__(self, hands: int, complexity: int, detection: float, tracking: float, model: str):
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise UserError(_what_is_missing(error)) from None
        self._image, self._form, self._time = mediapipe.Image, mediapipe.ImageFormat.SRGB, 0
        options = vision.HandLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(Path(model).resolve())),
            running_mode=vision.RunningMode.VIDEO,
            num_hands=hands,
            min_hand_detection_confidence=detection,
            min_hand_presence_confidence=tracking,
            min_tracking_confidence=tracking,
        )
        try:
            self._graph = vision.HandLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(f"model_path {model} is not {_MODEL} ({reason})") from None

    def process(self, image: np.ndarray) -> list[FoundHand]:
        self._time += _STEP_MS
        given = self._image(image_format=self._form, data=np.ascontiguousarray(image))
        result = self._graph.detect_for_video(given, self._time)
        return [
            FoundHand(_flat(seen), _solid(world), _SIDE_IN_TASKS[side[0].category_name], float(side[0].score))
            for seen, world, side in zip(
                result.hand_landmarks, result.hand_world_landmarks, result.handedness, strict=True
            )
        ]

    def close(self) -> None:
        self._graph.close()


def _flat(landmarks: Any) -> np.ndarray:
    return np.array([(p.x, p.y) for p in landmarks])


def _solid(landmarks: Any) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in landmarks])


def _what_is_missing(error: ImportError) -> str:
    try:
        import mediapipe

        version = getattr(mediapipe, "__version__", "")
    except ImportError:
        return f"hand tracking needs MediaPipe ({error}); pip install mediapipe==0.10.21"
    return (
        f"this MediaPipe {version} has no hand models inside: give hand_tracker's model_path a {_MODEL}, "
        "or pip install mediapipe==0.10.21"
    )


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence the C++ side, which logs to file descriptor 2 and obeys no log level before its own initialisation."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
