"""sensor_msgs images and camera calibrations to arrays (`parse_…_msg`) and back. Pure functions; no node needed.

Input is distrusted: a `parse_` function raises `RejectedInput` for anything odd. OpenCV converts colours here rather
than cv_bridge, because the row step and the amount of data have to be checked before anything reads them.
"""

import array

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from ..errors import RejectedInput
from ..geometry.camera import Camera, camera_of_info
from ..tracking.images import check_size, decode_image

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


def parse_image_msg(message: Image) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a raw colour image; may share memory with the message.

    Raises `RejectedInput`: unsupported_encoding, truncated_image, bad_step, tiny_image, huge_image.
    """
    if message.encoding not in _ENCODINGS:
        known = ", ".join(_ENCODINGS)
        raise RejectedInput("unsupported_encoding", f"{message.encoding[:40]!r}; colour images are used: {known}")
    channels, conversion = _ENCODINGS[message.encoding]
    pixels = _rows(message, message.width * channels).reshape(message.height, message.width, channels)
    if conversion is None:
        return pixels
    if channels == 2 and message.width % 2:
        raise RejectedInput("bad_step", f"{message.encoding} needs an even width, got {message.width}")
    return cv2.cvtColor(pixels, conversion)


def parse_depth_msg(message: Image) -> np.ndarray:
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


def _rows(message: Image, row: int) -> np.ndarray:
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


def parse_compressed_image_msg(message: CompressedImage, min_width: int = 0) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a JPEG, PNG or WebP message; raises as `decode_image`, which explains `min_width`."""
    return decode_image(memoryview(message.data).tobytes(), min_width)


def parse_camera_info_msg(message: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of a CameraInfo; raises as `camera_of_info`, which explains `rectified`."""
    return camera_of_info(message, rectified)


def build_image_msg(image: np.ndarray, header: Header) -> Image:
    """rgb8 Image of RGB uint8 (height, width, 3)."""
    height, width = image.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    # An array.array is taken as it is; rclpy checks any other sequence byte by byte.
    message.data = array.array("B", image.tobytes())
    return message
