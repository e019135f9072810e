"""`track_video`: the hands in every frame of a video file, by the tracker of the `hand_tracker` node."""

from collections.abc import Callable

import cv2
import numpy as np

from ..errors import UserError
from ..geometry.camera import Camera
from ..hand.skeleton import NUM_KEYPOINTS, SIDES
from ..tracking.tracker import HandTracker, TrackerConfig, TrackingState
from .episode import Episode
from .episode_images import EpisodeImages
from .image_sources import VideoFrames
from .video import Video, shrunk_size

IMAGE_WIDTH = 640  # px; what the tracker looks at anyway
# The stamp of the first frame, s: zero says in messages that there is none.
_FIRST = 1.0


def track_video(
    video: Video,
    camera_fov: float = 70.0,
    config: TrackerConfig | None = None,
    task: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Episode:
    """Hands measured in each frame, in the camera's optical frame; frame n is at 1 + n / fps s.

    camera_fov is the camera's horizontal field of view in degrees, without distortion. What the tracker extrapolates
    over gaps is no measurement and left out. The episode has the video's pictures, and where in them the detector saw
    keypoints. `progress(done, total)` counts frames. Raises `UserError` for a video
    without any.
    """
    if not 1.0 <= camera_fov < 180.0:
        raise UserError(f"camera_fov {camera_fov}: expected 1 to 180 degrees")
    camera = Camera.from_horizontal_fov(*shrunk_size(video.width, video.height, IMAGE_WIDTH), camera_fov)
    tracker, stamps, keypoints, rotations = HandTracker(config or TrackerConfig()), [], [], []
    pixels = []
    to_video = np.array([video.width / camera.width, video.height / camera.height])
    try:
        for number, frame in enumerate(video.read(IMAGE_WIDTH)):
            stamp = _FIRST + number / video.fps
            tracked = tracker.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), stamp, camera)
            points, rotation = np.full((2, NUM_KEYPOINTS, 3), np.nan), np.full((2, 3, 3), np.nan)
            seen_at = np.full((2, NUM_KEYPOINTS, 2), np.nan)
            for hand in tracked.hands:
                if hand.state is TrackingState.MEASURED:
                    side = SIDES.index(hand.side)
                    points[side] = np.where(hand.valid[:, None], hand.keypoints, np.nan)
                    rotation[side] = hand.wrist_rotation
                    seen_at[side] = hand.landmarks * to_video
            stamps.append(stamp)
            keypoints.append(points)
            rotations.append(rotation)
            pixels.append(seen_at)
            progress(number + 1, max(video.frames, number + 1))
    finally:
        tracker.close()
    if not stamps:
        raise UserError(f"{video.path} has no frame that can be read")
    points = np.stack(keypoints)
    return Episode(
        np.array(stamps),
        points,
        np.isfinite(points).all(axis=-1),
        np.stack(rotations),
        task=task,
        images=images_of_video(video, np.array(stamps), camera_fov),
        pixels=np.stack(pixels),
    )


def images_of_video(video: Video, stamp: np.ndarray, camera_fov: float) -> EpisodeImages:
    """The frames of a video as an episode's pictures, taken at times `stamp` (N,) s."""
    camera = Camera.from_horizontal_fov(video.width, video.height, camera_fov)
    return EpisodeImages(stamp, VideoFrames(str(video.path.resolve()), len(stamp)), camera)
