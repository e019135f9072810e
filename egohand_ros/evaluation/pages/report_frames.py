"""Key frames of a report: the camera's picture with the observed hands, the forecast and what then happened drawn
in.
"""

import base64
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from ...geometry.camera import Camera
from ...geometry.transforms import invert_transform, transform_points
from ...hand.skeleton import BONES, WRIST
from ...stream.aligner import PoseTrack
from ..recording import RecordedForecast, Recording, read_images
from ..session import actual_hands, fixed_frame_hands

_DRAWN_WIDTH = 1280  # px; lines are drawn finer than the camera's own pixels
_JPEG_QUALITY = 78
_GHOST_TIMES = (0.3, 0.6)  # s ahead at which a whole forecast hand is drawn
_NEAR = 0.12  # s between an image and the forecast that is drawn into it; a robot's further off is told in its caption

# BGR
_OBSERVED, _ACTUAL = (245, 245, 245), (255, 230, 120)
_NOW, _LATER = np.array([60, 190, 255]), np.array([60, 40, 235])


@dataclass(frozen=True)
class KeyFrame:
    """Two pictures as data URIs ("" where there is none), the time since the start in s and a caption."""

    time: float
    camera: str
    robot: str
    caption: str


def key_frames(recording: Recording, count: int = 6) -> list[KeyFrame]:
    """Pictures of moments with much motion, spread over the session; none where no image was recorded."""
    forecasts = [f for f in recording.forecasts if len(f.step_times)]
    if not forecasts or recording.hands is None:
        return []
    chosen = _lively(recording, forecasts, count)
    stamps = [f.stamp for f in chosen]
    pictures = read_images(recording.path, "image", stamps)
    robots = read_images(recording.path, "sim_hand/image", [s + 0.05 for s in stamps])
    painter = Painter(recording, recording.forecasts[0].frame)
    frames = []
    for forecast, picture, robot in zip(chosen, pictures, robots):
        seen = picture is not None and abs(picture[0] - forecast.stamp) < _NEAR
        shown = robot is not None and abs(robot[0] - forecast.stamp) < 0.5
        if seen or shown:
            camera = data_uri(painter.paint(picture[1], forecast)) if seen else ""
            time = forecast.stamp - recording.play_start
            off = robot[0] - forecast.stamp if shown else 0.0
            caption = f"{time:.1f} s" + (f"; the robot {off:+.1f} s" if abs(off) > _NEAR else "")
            frames.append(KeyFrame(time, camera, data_uri(robot[1]) if shown else "", caption))
    return frames


def _lively(recording: Recording, forecasts: list[RecordedForecast], count: int) -> list[RecordedForecast]:
    """The forecast with the longest wrist path in each of `count` equal parts of the session."""
    stamps = np.array([f.stamp for f in forecasts])
    length = np.array(
        [np.nansum(np.linalg.norm(np.diff(f.keypoints[0, :, :, WRIST], axis=0), axis=-1)) for f in forecasts]
    )
    pictures = _image_stamps(recording, stamps)
    near = np.abs(stamps - pictures) < 0.02
    length = np.where(near, length, -1.0) if near.any() else length
    edges = np.linspace(stamps[0], stamps[-1] + 1e-6, count + 1)
    parts = [np.flatnonzero((stamps >= a) & (stamps < b)) for a, b in pairwise(edges)]
    return [forecasts[part[np.argmax(length[part])]] for part in parts if len(part)]


def _image_stamps(recording: Recording, stamps: np.ndarray) -> np.ndarray:
    """The stamp of the camera image next to each time."""
    taken = recording.image_stamps
    if not len(taken):
        return np.full(len(stamps), np.inf)
    after = np.clip(np.searchsorted(taken, stamps), 1, len(taken) - 1) if len(taken) > 1 else np.zeros(len(stamps), int)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(taken[after] - stamps) < np.abs(taken[before] - stamps), taken[after], taken[before])


class Painter:
    """Projects what is known about a moment into the camera's image of it."""

    def __init__(self, recording: Recording, frame: str):
        """`frame` is that of the forecasts to be drawn."""
        self._recording = recording
        self._hands = fixed_frame_hands(recording, frame)
        self._camera_track = None
        if recording.camera is not None and frame == recording.camera.frame:
            self._camera_track = PoseTrack(np.inf, 0.2)
            for stamp, pose in zip(recording.camera.stamp, recording.camera.pose):
                self._camera_track.add(stamp, pose)

    def paint(self, image: np.ndarray, forecast: RecordedForecast) -> np.ndarray:
        """The image, enlarged, with everything drawn in."""
        scale = _DRAWN_WIDTH / image.shape[1]
        canvas = cv2.resize(image, (_DRAWN_WIDTH, round(image.shape[0] * scale)), interpolation=cv2.INTER_CUBIC)
        project = self._projection(forecast.stamp, canvas.shape, image.shape)
        if project is None:
            return canvas
        times = forecast.stamp + np.concatenate([[0.0], forecast.step_times])
        actual, valid = actual_hands(self._hands, times)
        for side in range(2):
            future = forecast.keypoints[0, :, side]
            if np.isfinite(future[0, WRIST]).all():
                self._ghosts(canvas, project, forecast, future)
            if valid[0, side].any():
                _skeleton(canvas, project(np.where(valid[0, side][:, None], actual[0, side], np.nan)), _OBSERVED, 4)
            if np.isfinite(future[0, WRIST]).all():
                path = (
                    np.concatenate([actual[:1, side, WRIST], future[:, WRIST]])
                    if valid[0, side, WRIST]
                    else future[:, WRIST]
                )
                seen = np.where(valid[:, side, WRIST, None], actual[:, side, WRIST], np.nan)
                _path(canvas, project(seen), [_ACTUAL] * len(seen), 4)
                _path(canvas, project(path), _fade(len(path)), 6)
        return canvas

    def _ghosts(self, canvas: np.ndarray, project, forecast: RecordedForecast, future: np.ndarray) -> None:
        for ahead in reversed(_GHOST_TIMES):
            step = int(np.argmin(np.abs(forecast.step_times - ahead)))
            layer = canvas.copy()
            colour = _fade(len(future))[step]
            _skeleton(layer, project(future[step]), colour, 5)
            cv2.addWeighted(layer, 0.55, canvas, 0.45, 0.0, dst=canvas)

    def _projection(self, stamp: float, drawn: tuple, taken: tuple):
        """A function from points (..., 3) in the forecasts' frame to pixels of the canvas; None without a
        calibration.
        """
        matrix = self._recording.camera_matrix
        if matrix is None or matrix[0, 0] <= 0:
            return None
        camera = Camera(matrix, taken[1], taken[0]).scaled(drawn[1], drawn[0])
        T_camera_frame = np.eye(4)
        if self._camera_track is not None:
            poses, known = self._camera_track.at(np.array([stamp]))
            if not known[0]:
                return None
            T_camera_frame = invert_transform(poses[0])
        return lambda points: camera.project(transform_points(T_camera_frame, points))


def _fade(count: int) -> list[tuple[int, ...]]:
    weights = np.linspace(0.0, 1.0, max(count, 2))[:, None]
    return [tuple(int(c) for c in colour) for colour in (1 - weights) * _NOW + weights * _LATER]


def _skeleton(canvas: np.ndarray, pixels: np.ndarray, colour, width: int) -> None:
    for a, b in BONES:
        _segment(canvas, pixels[a], pixels[b], colour, width)
    for point in pixels:
        if np.isfinite(point).all():
            cv2.circle(canvas, _whole(point), width + 1, colour, -1, cv2.LINE_AA)


def _path(canvas: np.ndarray, pixels: np.ndarray, colours: list, width: int) -> None:
    for i in range(len(pixels) - 1):
        _segment(canvas, pixels[i], pixels[i + 1], (20, 20, 20), width + 3)
    for i in range(len(pixels) - 1):
        _segment(canvas, pixels[i], pixels[i + 1], colours[i + 1], width)


def _segment(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, colour, width: int) -> None:
    if np.isfinite(a).all() and np.isfinite(b).all() and max(np.abs(a).max(), np.abs(b).max()) < 1e4:
        cv2.line(canvas, _whole(a), _whole(b), colour, width, cv2.LINE_AA)


def _whole(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def data_uri(image: np.ndarray) -> str:
    """A BGR image as a data URI."""
    _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
