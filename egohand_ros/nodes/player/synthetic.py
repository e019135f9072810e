"""The synthetic scene as a player's source: a tracker's noisy hand poses, the camera's pose, the task, and pictures."""

import heapq
from collections.abc import Iterator

import cv2
import numpy as np
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import String

from ...data.synthetic import TrackerModel, generate_scene, observe
from ...geometry.rotations import quaternion_from_matrix
from ...messages.hands import hands
from ...msg import HandPoseArray
from ..messages.basic import header_msg, pose_msg
from ..messages.hands import build_hand_pose_array_msg
from .items import Item, build_compressed_image_msg, camera_info_msg, image_item, image_topics

WORLD_FRAME = "world"
_DEFAULT_DURATION = 20.0  # s
_CAMERA_DELAY = 0.005  # s from acquisition to the pose of a head tracker
IMAGE_DELAY = 0.010
_JITTER = 0.2  # of the tracker's latency
_DRAWN_AHEAD = 1800  # images kept in memory as JPEG, about 50 kB each


class SyntheticSource:
    """Everything that a camera with a hand tracker would send while somebody works at a table."""

    has_clock = False
    start = 0.0

    def __init__(self, parameters):
        self._parameters = parameters
        self.duration = parameters.duration or _DEFAULT_DURATION
        self._scene = generate_scene(parameters.seed, self.duration, parameters.pose_rate)
        latency = parameters.tracker_latency
        self._view = observe(self._scene, TrackerModel(latency=latency, latency_jitter=_JITTER * latency))
        self.topics = {"hand_poses": HandPoseArray, "camera_pose": PoseStamped, "prompt": String}
        self._picture = None
        if parameters.images:
            from ...data.synthetic.render import SceneRenderer

            self._picture = SceneRenderer(self._scene, self._view.camera)
            self.topics |= image_topics(parameters)
            self._draw_ahead()

    def items(self, start: float) -> Iterator[Item]:
        """All streams in order of arrival; stamps are the times of acquisition, from `start` on."""
        streams = [self._prompt(start), self._camera_poses(start), self._hand_poses(start)]
        if self._picture is not None:
            streams.insert(0, self._images(start))  # of what is due at one time the image goes first: hands come of it
        return heapq.merge(*streams, key=lambda item: item.time)

    def _prompt(self, start: float) -> Iterator[Item]:
        yield Item(start, "prompt", String(data=self._scene.task))

    def _camera_poses(self, start: float) -> Iterator[Item]:
        for stamp, pose in zip(self._view.stamp, self._view.T_world_camera):
            message = PoseStamped(header=header_msg(start + stamp, WORLD_FRAME))
            message.pose = pose_msg(pose[:3, 3], quaternion_from_matrix(pose[:3, :3]))
            yield Item(start + stamp + _CAMERA_DELAY, "camera_pose", message)

    def _hand_poses(self, start: float) -> Iterator[Item]:
        view = self._view
        for stamp, arrival, keypoints, valid in zip(view.stamp, view.arrival, view.keypoints, view.valid):
            seen = hands(start + stamp, self._parameters.frame_id, keypoints, valid=valid, track_id=np.array([1, 2]))
            arrival = max(arrival, stamp + IMAGE_DELAY)  # no tracker is faster than its image
            yield Item(start + arrival, "hand_poses", build_hand_pose_array_msg(seen))

    def _images(self, start: float) -> Iterator[Item]:
        for frame in self._image_frames:
            taken = self._scene.stamp[frame]
            due = start + taken
            yield Item(due, "camera_info", camera_info_msg(self._view.camera, due, self._parameters.frame_id))
            yield self._image(frame, due)._replace(time=start + (taken + IMAGE_DELAY))

    def _image(self, frame: int, due: float) -> Item:
        drawn = self._drawn.get(frame)
        if drawn is None:
            return image_item(self._draw(frame), due, self._parameters)
        if self._parameters.image_transport == "raw":
            pixels = cv2.imdecode(np.frombuffer(drawn.data, np.uint8), cv2.IMREAD_COLOR)
            return image_item(pixels, due, self._parameters)
        drawn.header = header_msg(due, self._parameters.frame_id)
        return Item(due, "image/compressed", drawn)

    def _draw(self, frame: int) -> np.ndarray:
        return self._picture.render(frame)[..., ::-1]

    def _draw_ahead(self) -> None:
        """Draw before playing begins, so that drawing does not compete with the pipeline that is watched."""
        parameters = self._parameters
        every = parameters.pose_rate / parameters.image_rate
        self._image_frames = np.arange(0, len(self._scene), every).astype(int).tolist()
        header = header_msg(0.0, parameters.frame_id)
        self._drawn = {
            frame: build_compressed_image_msg(self._draw(frame), header, parameters.jpeg_quality)
            for frame in self._image_frames[:_DRAWN_AHEAD]
        }
