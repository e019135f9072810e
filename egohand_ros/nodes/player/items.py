"""What a source gives the player: messages with the time at which each is due, and how images become such."""

import array
from typing import Any, NamedTuple

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from ...geometry.camera import Camera
from ..messages.basic import header_msg
from ..messages.image import build_image_msg


class Item(NamedTuple):
    """A message (or its CDR bytes) and the time in s at which it is due."""

    time: float
    topic: str
    message: Any


def build_compressed_image_msg(pixels: np.ndarray, header: Header, quality: int) -> CompressedImage:
    """JPEG of BGR uint8 (H, W, 3), named as image_transport names it."""
    _, encoded = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))
    message = CompressedImage(header=header, format="bgr8; jpeg compressed bgr8")
    message.data = array.array("B", encoded.tobytes())
    return message


def image_item(pixels: np.ndarray, due: float, parameters) -> Item:
    """BGR uint8 (H, W, 3) as `image` or `image/compressed`, as the player's parameters say."""
    header = header_msg(due, parameters.frame_id)
    if parameters.image_transport == "raw":
        return Item(due, "image", build_image_msg(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), header))
    return Item(due, "image/compressed", build_compressed_image_msg(pixels, header, parameters.jpeg_quality))


def image_topics(parameters) -> dict[str, type]:
    """Topics of a source that has a camera."""
    image = {"image": Image} if parameters.image_transport == "raw" else {"image/compressed": CompressedImage}
    return image | {"camera_info": CameraInfo}


def camera_info_msg(camera: Camera, stamp: float, frame_id: str) -> CameraInfo:
    """CameraInfo of an unrectified camera."""
    matrix = camera.matrix
    projection = np.hstack([matrix, np.zeros((3, 1))])
    return CameraInfo(
        header=header_msg(stamp, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=camera.distortion.tolist(),
        k=matrix.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=projection.ravel().tolist(),
    )
