"""sensor_msgs images and camera calibrations to arrays (`parse_…_msg`) and back. Pure functions; no node needed.

Input is distrusted: a `parse_` function raises `RejectedInput` for anything odd. What it does is below `nodes/`, for
bags.
"""

import array

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from ...geometry.camera import Camera, camera_of_info
from ...images.decoding import decode_image
from ...images.raw_images import raw_depth, raw_image


def parse_image_msg(message: Image) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a raw colour image; raises as `raw_image`."""
    return raw_image(message)


def parse_depth_msg(message: Image) -> np.ndarray:
    """Depth float32 (height, width) m, 0 where unknown; raises as `raw_depth`."""
    return raw_depth(message)


def parse_compressed_image_msg(message: CompressedImage, min_width: int = 0) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a JPEG, PNG or WebP message; raises as `decode_image`, which explains
    `min_width`.
    """
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
