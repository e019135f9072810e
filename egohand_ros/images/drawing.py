"""Hands and forecasts drawn on an image (OpenCV): for the debug image and the report."""

import cv2
import numpy as np

from ..geometry.camera import Camera
from ..hand.skeleton import BONES

# RGB, told apart also by readers with the usual colour blindness.
SIDE_COLOURS = {"left": (0, 158, 222), "right": (255, 140, 0)}


def draw_skeleton(canvas: np.ndarray, pixels: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw 21 keypoints (21, 2) px and their bones into an RGB uint8 image; non-finite ones are left out."""
    width = _line_width(canvas)
    for parent, child in BONES:
        _draw_line(canvas, pixels[parent], pixels[child], colour, width)
    for point in pixels:
        if _drawable(point, canvas):
            cv2.circle(canvas, _integer(point), width + 1, colour, -1, cv2.LINE_AA)


def draw_path(canvas: np.ndarray, points: np.ndarray, camera: Camera, colour: tuple[int, int, int]) -> None:
    """Draw a path (S, 3) m of the camera's optical frame, such as forecast wrists, fading towards its end.

    `canvas` is an RGB uint8 image of the camera, of any size with its aspect. Parts behind the camera are left out.
    """
    scale = np.array([canvas.shape[1] / camera.width, canvas.shape[0] / camera.height])
    pixels = camera.project(points) * scale
    width = _line_width(canvas)
    for i in range(len(pixels) - 1):
        fade = 1.0 - 0.7 * i / max(len(pixels) - 1, 1)
        _draw_line(canvas, pixels[i], pixels[i + 1], tuple(int(fade * c) for c in colour), width + 1)
    if len(pixels) and _drawable(pixels[-1], canvas):
        cv2.circle(canvas, _integer(pixels[-1]), 2 * width + 2, colour, width, cv2.LINE_AA)


def _line_width(canvas: np.ndarray) -> int:
    return max(1, round(canvas.shape[1] / 480))


def _draw_line(canvas, start, end, colour, width) -> None:
    if _drawable(start, canvas) and _drawable(end, canvas):
        cv2.line(canvas, _integer(start), _integer(end), colour, width, cv2.LINE_AA)


def _drawable(point: np.ndarray, canvas: np.ndarray) -> bool:
    """Finite and not so far outside that OpenCV's integers overflow."""
    return bool(np.isfinite(point).all() and np.abs(point).max() < 10 * max(canvas.shape[:2]))


def _integer(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
