"""sensor_msgs images and camera calibrations to arrays (`parse_…_msg`) and back. Pure functions; no node needed.

Input is distrusted: a `parse_` function raises `RejectedInput` for anything odd. What it does is below `nodes/`, for
bags.
"""

import array
from dataclasses import replace

import numpy as np
from cv_bridge import CvBridge
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from ...geometry.camera import Camera, camera_of_info
from ...images.decoding import decode_image
from ...images.raw_images import checked_image, raw_depth, to_rgb

_BRIDGE = CvBridge()
# encoding: what cv_bridge calls it. It is not asked for the others: its port on PyPI lacks bayer_grbg8 and
# YUV 4:2:2, and takes 16UC1 for bytes, for which reason `parse_depth_msg` does without it, too.
_BRIDGE_NAMES = {name: name for name in ("rgb8", "bgr8", "rgba8", "bgra8")} | {
    "8UC3": "bgr8",
    "8UC4": "bgra8",
    "bayer_rggb8": "bayer_rggb8",
    "bayer_bggr8": "bayer_bggr8",
    "bayer_gbrg8": "bayer_gbrg8",
}


def parse_image_msg(message: Image) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a raw colour image, by cv_bridge; raises as `checked_image`."""
    image = checked_image(message)  # the port on PyPI takes rows for unpadded, whatever `step` says
    name = _BRIDGE_NAMES.get(image.encoding)
    return to_rgb(image) if name is None else _BRIDGE.imgmsg_to_cv2(replace(image, encoding=name), "rgb8")


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
    # By hand: cv_bridge's port calls what numpy 2.3 has no longer. An array.array is taken as it is; rclpy checks any
    # other sequence byte by byte.
    message.data = array.array("B", image.tobytes())
    return message
