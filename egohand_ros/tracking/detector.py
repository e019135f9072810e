"""Hands in one image: 21 landmarks in pixels, 21 metric landmarks, and which hand it is. MediaPipe does the work."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..hand.skeleton import NUM_KEYPOINTS
from ..images.decoding import check_image
from .hand_graphs import FoundHand, HandGraph, make_graphs, quiet_stderr
from .warmup import drawn_hand

# Two detections whose landmarks lie this close, relative to the hand's extent, are one hand seen twice. With
# different sides they have to be closer, because two crossing hands do come near each other.
_DUPLICATE_SAME_SIDE, _DUPLICATE_OTHER_SIDE = 0.30, 0.12


_RESET_SIZE, _RESET_TRIES = 64, 5  # px, images

# MediaPipe searches the whole image as long as it follows fewer hands than it may: with one of two hands in view that
# is more than half of the work of every image. So a single hand is followed by a graph for one hand, and the second one
# is looked for in every tenth image, a third of a second at 30 Hz.
_SEARCH_EVERY = 10


@dataclass(frozen=True)
class Detection:
    """One hand in one image.

    landmarks (21, 2) px of the given image, pixel centres at integers; may lie outside the image.
    world (21, 3) m, MediaPipe's metric landmarks: origin near the middle of the hand, axes roughly those of a camera
    that looks straight at the hand (x right, y down, z away). They are those of an average hand.
    side "left" or "right", the person's own; score 0 to 1, MediaPipe's certainty of the side.
    """

    landmarks: np.ndarray
    world: np.ndarray
    side: str
    score: float

    @property
    def extent(self) -> float:
        """Diagonal, px, of the box around the landmarks."""
        return float(np.linalg.norm(np.ptp(self.landmarks, axis=0)))


class HandDetector:
    """MediaPipe Hands in its video mode: it follows the hands of the last image and looks for new ones.

    One thread at a time; images in order of time. `model_complexity` 0 is faster, 1 more exact. Images wider than
    `processing_width` px are resized first: MediaPipe's models see 192 and 224 px squares in any case.
    """

    def __init__(
        self,
        max_hands: int = 2,
        model_complexity: int = 1,
        processing_width: int = 640,
        min_detection_confidence: float = 0.5,
        min_tracking_confidence: float = 0.5,
        model_path: str = "",
    ):
        """Loads and warms the models, or those of a `hand_landmarker.task` file. Raises `UserError` when MediaPipe or
        that is not there."""
        self._width = processing_width
        self._graphs = make_graphs(
            max_hands, model_complexity, min_detection_confidence, min_tracking_confidence, model_path
        )
        with quiet_stderr():
            for graph in self._graphs:
                graph.process(drawn_hand())
            self.reset()

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Hands in an RGB uint8 image (height, width, 3). Raises `RejectedInput` for what is no such image."""
        image = check_image(image)
        height, width = image.shape[:2]
        if width > self._width:
            size = (self._width, max(1, round(height * self._width / width)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        detections = self._follow(image, width, height)
        self._found = len(detections)
        return detections

    def _follow(self, image: np.ndarray, width: int, height: int) -> list[Detection]:
        """Detections by the graph that the number of hands calls for; (width, height) is the size of the original
        image.
        """
        one, every = self._graphs[0], self._graphs[-1]
        if self._found == 1:
            self._since_search += 1
            if one is every or self._since_search < _SEARCH_EVERY:
                detections = _run(one, image, width, height)
                if detections or one is every:
                    return detections
        self._since_search = 0
        return _run(every, image, width, height)

    def reset(self) -> None:
        """Forget the hands of the last image (time jumped, another camera)."""
        # An empty image ends all following. MediaPipe's own reset would load the models anew.
        empty = np.zeros((_RESET_SIZE, _RESET_SIZE, 3), np.uint8)
        self._found = self._since_search = 0
        for graph in self._graphs:
            for _ in range(_RESET_TRIES):
                if not graph.process(empty):
                    break

    def close(self) -> None:
        """Free the models; the detector cannot be used afterwards."""
        for graph in self._graphs:
            graph.close()


def _run(graph: HandGraph, image: np.ndarray, width: int, height: int) -> list[Detection]:
    """What a MediaPipe graph finds in an image, in px of the original of width x height."""
    return without_duplicates([_detection(found, width, height) for found in graph.process(image)])


def without_duplicates(detections: list[Detection]) -> list[Detection]:
    """The detections, surest side first, without those that repeat a surer one."""
    kept: list[Detection] = []
    for candidate in sorted(detections, key=lambda d: -d.score):
        if not any(_is_same_hand(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def _is_same_hand(a: Detection, b: Detection) -> bool:
    distance = np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean()
    limit = _DUPLICATE_SAME_SIDE if a.side == b.side else _DUPLICATE_OTHER_SIDE
    return distance < limit * min(a.extent, b.extent)


def _detection(found: FoundHand, width: int, height: int) -> Detection:
    # MediaPipe's 0 and 1 are the outer edges of the image; camera models count from the centre of the first pixel.
    pixels = found.landmarks * (width, height) - 0.5
    assert pixels.shape == (NUM_KEYPOINTS, 2) and found.world.shape == (NUM_KEYPOINTS, 3)
    return Detection(pixels, found.world, found.side, found.score)
