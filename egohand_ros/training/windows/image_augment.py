"""Augmentation of a window's images: where they are cut out, and their colours. Geometry stays what it is."""

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch

from ...stream.window import Window

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_HUES = 180.0  # of OpenCV, a whole turn


@dataclass(frozen=True)
class ImageAugmentation:
    """Zero switches a part off; all frames of a window are changed alike.

    shift        share of the image's sides by which it may be moved. A network that looks at the middle `c` of a
                 picture sees a random part of that size with (1 - c) / 2
    brightness, contrast, saturation   factors from 1 - x to 1 + x
    hue          share of the circle of hues, to either side
    """

    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self):
        for field in fields(self):
            value, most = getattr(self, field.name), 0.5 if field.name in ("shift", "hue") else 1.0
            if not 0.0 <= value <= most:
                raise ValueError(f"{field.name} is {value}; expected 0 to {most:g}")


NONE = ImageAugmentation()


def augment_images(window: Window, options: ImageAugmentation, rng: np.random.Generator) -> Window:
    """A copy with other images (B, V, H, W, 3); each window is changed in its own way."""
    if window.images is None or options == NONE:
        return window
    changed = [_changed(images, options, rng) for images in window.images.numpy()]
    return replace(window, images=torch.from_numpy(np.stack(changed)))


def _changed(images: np.ndarray, options: ImageAugmentation, rng: np.random.Generator) -> np.ndarray:
    """Of one window (V, H, W, 3) uint8."""
    colours = _moved(images, options.shift, rng).astype(np.float32)
    order = rng.permutation(4)
    factors = [rng.uniform(1.0 - x, 1.0 + x) for x in (options.brightness, options.contrast, options.saturation)]
    turn = rng.uniform(-options.hue, options.hue)
    for which in order:
        if which == 0:
            colours = colours * factors[0]
        elif which == 1:
            colours = factors[1] * colours + (1.0 - factors[1]) * (colours @ _GREY).mean()
        elif which == 2:
            colours = factors[2] * colours + (1.0 - factors[2]) * (colours @ _GREY)[..., None]
        elif turn:
            colours = _turned(colours, turn)
        colours = np.clip(colours, 0.0, 255.0)
    return np.round(colours).astype(np.uint8)


def _moved(images: np.ndarray, shift: float, rng: np.random.Generator) -> np.ndarray:
    """What comes in at a border repeats it."""
    height, width = images.shape[1:3]
    down, right = (round(side * rng.uniform(-shift, shift)) for side in (height, width))
    rows, columns = np.arange(height) + down, np.arange(width) + right
    return images[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)]


def _turned(colours: np.ndarray, turn: float) -> np.ndarray:
    flat = np.round(colours).astype(np.uint8).reshape(-1, *colours.shape[2:])
    hues = cv2.cvtColor(flat, cv2.COLOR_RGB2HSV)
    hues[..., 0] = (hues[..., 0].astype(np.int16) + round(turn * _HUES)) % int(_HUES)
    return cv2.cvtColor(hues, cv2.COLOR_HSV2RGB).reshape(colours.shape).astype(np.float32)
