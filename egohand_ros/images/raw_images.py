"""sensor_msgs/Image, from a node or out of a bag, to arrays. The row step and the amount of data are checked before
anything reads them. Nodes then have cv_bridge convert the colours; bags are read without ROS, by OpenCV itself."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import RejectedInput
from .decoding import check_size

# encoding: (channels in the data, OpenCV's conversion to RGB, None where it is RGB)
_ENCODINGS = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
}

# encoding: (numpy type, metres of one unit)
_DEPTH_ENCODINGS = {"16UC1": (np.uint16, 1e-3), "mono16": (np.uint16, 1e-3), "32FC1": (np.float32, 1.0)}


@dataclass(frozen=True)
class CheckedImage:
    """A colour image whose size and amount of data fit, without padding; has the fields of a sensor_msgs/Image."""

    encoding: str
    width: int
    height: int
    data: np.ndarray  # uint8 (height, width, channels)
    is_bigendian: int = 0

    @property
    def step(self) -> int:
        """Bytes of a row."""
        return self.data.strides[0]


def checked_image(message) -> CheckedImage:
    """A colour image that can be converted; may share memory with the message.

    Raises `RejectedInput`: unsupported_encoding, truncated_image, bad_step, tiny_image, huge_image.
    """
    if message.encoding not in _ENCODINGS:
        known = ", ".join(_ENCODINGS)
        raise RejectedInput("unsupported_encoding", f"{message.encoding[:40]!r}; colour images are used: {known}")
    channels = _ENCODINGS[message.encoding][0]
    pixels = _rows(message, message.width * channels).reshape(message.height, message.width, channels)
    if channels == 2 and message.width % 2:
        raise RejectedInput("bad_step", f"{message.encoding} needs an even width, got {message.width}")
    return CheckedImage(message.encoding, message.width, message.height, pixels)


def raw_image(message) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a colour image; may share memory with the message. Raises as `checked_image`."""
    return to_rgb(checked_image(message))


def to_rgb(image: CheckedImage) -> np.ndarray:
    """RGB uint8 (height, width, 3); may share memory with the image."""
    conversion = _ENCODINGS[image.encoding][1]
    return image.data if conversion is None else cv2.cvtColor(image.data, conversion)


def raw_depth(message) -> np.ndarray:
    """Depth float32 (height, width) m (REP 118); 0 where unknown (0, NaN, infinite or negative in the message).

    Raises `RejectedInput`: unsupported_encoding, truncated_image, bad_step, tiny_image, huge_image.
    """
    if message.encoding not in _DEPTH_ENCODINGS:
        known = ", ".join(_DEPTH_ENCODINGS)
        raise RejectedInput("unsupported_encoding", f"{message.encoding[:40]!r}; depth images are {known}")
    kind, scale = _DEPTH_ENCODINGS[message.encoding]
    kind = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    depth = _rows(message, message.width * kind.itemsize).view(kind).astype(np.float32) * np.float32(scale)
    depth[~(np.isfinite(depth) & (depth > 0.0))] = 0.0
    return depth


def _rows(message, row: int) -> np.ndarray:
    """The bytes (height, row) of an image without the padding of its rows; may share memory with the message."""
    check_size(message.width, message.height)
    step = message.step or row
    if step < row:
        raise RejectedInput("bad_step", f"step is {step}, a row of {message.width} px takes {row} bytes")
    # The last row may come without its padding.
    if len(message.data) < step * (message.height - 1) + row:
        raise RejectedInput("truncated_image", f"{len(message.data)} bytes, {step * message.height} are needed")
    data = np.frombuffer(message.data, np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, (message.height, row), (step, 1), writeable=False)
    return np.ascontiguousarray(rows)
