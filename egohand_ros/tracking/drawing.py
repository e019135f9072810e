"""What the tracker found, drawn on its image: the debug image."""

import cv2
import numpy as np

from ..geometry.camera import Camera
from ..images.drawing import SIDE_COLOURS, draw_skeleton
from .identity import TrackingState
from .tracker import TrackedHands

_UNSURE = (150, 150, 150)
_TEXT = (255, 255, 255)


def draw_hands(image: np.ndarray, tracked: TrackedHands, camera: Camera) -> np.ndarray:
    """A copy of an RGB uint8 image with every tracked hand: skeleton, side, track id, confidence and distance.

    The image may be a resized copy of the camera's. Extrapolated hands are grey, lost ones are not drawn.
    """
    canvas = image.copy()
    scale = np.array([image.shape[1] / camera.width, image.shape[0] / camera.height])
    for hand in tracked.hands:
        if hand.state is TrackingState.LOST:
            continue
        colour = SIDE_COLOURS[hand.side] if hand.state is TrackingState.MEASURED else _UNSURE
        pixels = hand.landmarks * scale
        draw_skeleton(canvas, pixels, colour)
        distance = np.linalg.norm(hand.keypoints[0])
        label = f"{hand.side} {hand.track_id}  {hand.confidence:.2f}  {distance:.2f} m"
        _draw_label(canvas, label, pixels[np.isfinite(pixels).all(1)].max(axis=0, initial=0), colour)
    return canvas


def _draw_label(canvas: np.ndarray, text: str, corner: np.ndarray, colour: tuple[int, int, int]) -> None:
    size = canvas.shape[1] / 1600
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = int(np.clip(corner[0] - width, 0, max(canvas.shape[1] - width, 0)))
    y = int(np.clip(corner[1] + 2 * height, 2 * height, canvas.shape[0] - height))
    cv2.rectangle(canvas, (x - 3, y - height - 4), (x + width + 3, y + 4), colour, -1)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, _TEXT, 1, cv2.LINE_AA)
