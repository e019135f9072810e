"""A made-up window of the right shapes, to warm a model up with before real input comes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..geometry.camera import Camera
from ..hand.skeleton import FINGERS, NUM_KEYPOINTS
from .aligner import WindowBuilder, WindowSpec
from .window import Window


def example_hand() -> np.ndarray:
    """An open hand (21, 3) m with the wrist at the origin: fingers along x, spread along y, the palm bent along z."""
    keypoints = np.zeros((NUM_KEYPOINTS, 3))
    for i in range(len(FINGERS)):
        y = 0.02 * (2 - i)
        for joint, x in enumerate((0.08, 0.115, 0.14, 0.16)):
            keypoints[1 + 4 * i + joint] = x, y, -0.005 * joint
    return keypoints


def example_window(spec: WindowSpec) -> Window:
    """Both hands moving steadily before a camera that looks at them; images and depth where the spec wants them."""
    builder = WindowBuilder(spec)
    builder.set_prompt("warm up")
    hands = np.stack([example_hand() * (1, -1, 1), example_hand()]) + (0.4, 0.0, -0.2)
    valid = np.ones((2, NUM_KEYPOINTS), dtype=bool)
    height, width = spec.image_size
    builder.set_calibration(Camera.from_horizontal_fov(width, height, 90.0))
    for i in range(spec.window_length):
        stamp = 1.0 + i * spec.step
        builder.add_camera_pose(stamp, np.eye(4))
        builder.add_image(stamp, np.zeros((height, width, 3), dtype=np.uint8))
        builder.add_depth(stamp, np.ones((height, width), dtype=np.float32))
        builder.add_hands(stamp, hands + (0.001 * i, 0.0, 0.0), valid)
    window = builder.window()
    assert window is not None, "it was given hands"
    return window


def example_windows(spec: WindowSpec) -> Iterator[Window]:
    """Windows with and without each input that may be missing at any time: a compiled model compiles for each mix."""
    full = example_window(spec)
    for images in (True, False) if full.images is not None else (True,):
        for prompt in (True, False) if "prompt" in spec.modalities else (True,):
            seen = full if images else full.without_images()
            yield seen if prompt else replace(seen, prompt=("",) * full.batch)
