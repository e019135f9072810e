"""The synthetic scene as a player's source: a tracker's noisy hand poses, the camera's pose, the task, and pictures."""

import heapq
from collections.abc import Iterator

import numpy as np
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import String

from egohand_ros.msg import HandPoseArray

from ..data.synthetic import generate_scene, observe
from ..geometry.rotations import quaternion_from_matrix
from .messages import build_hand_pose_array_msg, hands, header_msg, pose_msg
from .player_sources import Item, camera_info_msg, image_item, image_topics

WORLD_FRAME = "world"
_DEFAULT_DURATION = 20.0  # s
_CAMERA_DELAY = 0.005  # s from acquisition to the pose of a head tracker
_IMAGE_DELAY = 0.010


class SyntheticSource:
    """Everything that a camera with a hand tracker would send while somebody works at a table."""

    has_clock = False
    start = 0.0

    def __init__(self, parameters):
        self._parameters = parameters
        self.duration = parameters.duration or _DEFAULT_DURATION
        self._scene = generate_scene(parameters.seed, self.duration, parameters.pose_rate)
        self._view = observe(self._scene)
        self.topics = {"hand_poses": HandPoseArray, "camera_pose": PoseStamped, "prompt": String}
        self._picture = None
        if parameters.images:
            from ..data.synthetic.render import SceneRenderer

            self._picture = SceneRenderer(self._scene, self._view.camera)
            self.topics |= image_topics(parameters)

    def items(self, start: float) -> Iterator[Item]:
        """All streams in order of arrival; stamps are the times of acquisition, from `start` on."""
        streams = [self._prompt(start), self._camera_poses(start), self._hand_poses(start)]
        if self._picture is not None:
            streams.append(self._images(start))
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
            yield Item(start + arrival, "hand_poses", build_hand_pose_array_msg(seen))

    def _images(self, start: float) -> Iterator[Item]:
        for frame in np.arange(0, len(self._scene), self._parameters.pose_rate / self._parameters.image_rate):
            frame = int(frame)
            due = start + self._scene.stamp[frame]
            yield Item(due, "camera_info", camera_info_msg(self._view.camera, due, self._parameters.frame_id))
            yield image_item(self._picture.render(frame), due, self._parameters)._replace(time=due + _IMAGE_DELAY)
