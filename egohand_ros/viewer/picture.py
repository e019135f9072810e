"""The camera's image with the hands and the fan of forecasts drawn in."""

import cv2
import numpy as np

from ..geometry.transforms import invert_transform, transform_points
from ..hand.skeleton import SIDES, WRIST
from ..images.drawing import SIDE_COLOURS, draw_path, draw_skeleton
from .moment import Moment
from .shapes import SHOWN_HYPOTHESES

WIDTH = 640  # px; a wider image costs transport and shows no more in its panel


def draw_picture(moment: Moment) -> np.ndarray | None:
    """RGB uint8 (H, W, 3), at most `WIDTH` px wide; without a calibration, or where the camera is not known, just the
    image; None without one."""
    if moment.picture is None:
        return None
    canvas = moment.picture
    if canvas.shape[1] > WIDTH:
        size = WIDTH, round(canvas.shape[0] * WIDTH / canvas.shape[1])
        canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    canvas = np.array(canvas)  # its own: what came may be shared
    to_camera = _to_camera(moment)
    if moment.camera is None or to_camera is None or not moment.camera.fits(canvas.shape[1], canvas.shape[0]):
        return canvas
    hands = transform_points(to_camera, moment.shown_hands())
    for side, name in enumerate(SIDES):
        colour = SIDE_COLOURS[name]
        future = moment.futures.hand(side) if moment.futures is not None else None
        if future is not None:
            for k in reversed(range(min(len(future.probability), SHOWN_HYPOTHESES))):
                path = np.concatenate([hands[side, WRIST][None], transform_points(to_camera, future.wrist[k])])
                shown = path[np.isfinite(path).all(axis=-1)]
                draw_path(canvas, shown, moment.camera, tuple(c // 2 for c in colour) if k else colour)
        if np.isfinite(hands[side]).any():
            camera = moment.camera.scaled(canvas.shape[1], canvas.shape[0])
            draw_skeleton(canvas, camera.project(np.nan_to_num(hands[side], nan=-1.0)), colour)
    return canvas


def _to_camera(moment: Moment) -> np.ndarray | None:
    """T_camera_shown (4, 4): the camera's pose where all is shown in its fixed frame, else its own frame is shown."""
    if moment.camera_pose is None:
        return np.eye(4)
    if moment.camera_pose.frame_id != moment.frame:
        return None
    return invert_transform(moment.camera_pose.transform)
