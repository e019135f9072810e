"""A drawn open hand that the detector takes for a real one, so that every model has run once before the first image."""

import cv2
import numpy as np

_SKIN, _SHADE, _BACKGROUND = (224, 172, 140), (170, 115, 90), (90, 100, 110)
# Outline of the palm, and (base, tip) of index to little finger, in a 256 px square with the wrist at the bottom.
_PALM = ((100, 215), (84, 150), (96, 122), (120, 112), (144, 114), (166, 130), (170, 170), (156, 215))
_FINGERS = (((98, 125), (78, 50)), ((120, 115), (114, 32)), ((142, 118), (150, 38)), ((162, 130), (184, 62)))
_THUMB = (((100, 190), (58, 140), 22), ((58, 140), (44, 110), 18))


def drawn_hand(size: int = 480, side: str = "left", span: float = 0.4) -> np.ndarray:
    """RGB uint8 (size, size, 3): the palm of a left or right hand, fingers up, as large as `span` of the image.

    It is a left hand as a camera (not a mirror) sees it: the thumb is on the left of a palm that faces the camera.
    """
    scale = size / 256 * span
    offset = size * (1 - span) / 2

    def at(point: tuple[float, float]) -> tuple[int, int]:
        return int(point[0] * scale + offset), int(point[1] * scale + offset)

    def stroke(start, end, colour, width) -> None:
        cv2.line(image, at(start), at(end), colour, max(1, int(width * scale)), cv2.LINE_AA)

    image = np.full((size, size, 3), _BACKGROUND, np.uint8)
    stroke((128, 200), (128, 256 / span), _SKIN, 50)  # the forearm, to the edge of the image
    cv2.fillPoly(image, [np.array([at(p) for p in _PALM])], _SKIN, cv2.LINE_AA)
    for base, tip in _FINGERS:
        stroke(base, tip, _SHADE, 20)  # a darker rim tells neighbouring fingers apart
        stroke(base, tip, _SKIN, 17)
    for start, end, width in _THUMB:
        stroke(start, end, _SKIN, width)
    image = cv2.GaussianBlur(image, (5, 5), 0)
    return image if side == "left" else np.ascontiguousarray(image[:, ::-1])
