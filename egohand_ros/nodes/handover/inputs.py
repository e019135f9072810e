"""Hands and forecasts of any frame -> the frame of the robot's base."""

from collections import OrderedDict

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.time import Time

from ...errors import RejectedInput, UserError
from ...messages.poses import parse_stamped_pose_msg, parse_stamped_transform_msg
from ..base.node import EgoHandNode
from ..messages.basic import time_msg

_KEPT = 64  # camera poses
_OFF = 0.05  # s by which a camera pose may be off the stamp that it is used for


class Frames:
    """T_base_frame of any frame at any time: the base's own, the fixed one, a camera's by `camera_pose`, or TF's."""

    def __init__(self, node: EgoHandNode):
        p = node.parameters
        self._base, self._fixed, self._T_base_fixed = p.base_frame, p.fixed_frame, p.T_base_fixed()
        self._camera: OrderedDict[float, np.ndarray] = OrderedDict()
        self._tf = _Transforms(node, p.base_frame) if p.use_tf else None

    def forget(self) -> None:
        """The clock jumped."""
        self._camera.clear()

    def close(self) -> None:
        """Stop listening to TF."""
        if self._tf is not None:
            self._tf.close()
            self._tf = None

    def on_camera_pose(self, message: PoseStamped) -> None:
        """Where the camera was. Raises `RejectedInput`."""
        pose = parse_stamped_pose_msg(message)
        if pose.frame_id != self._fixed:
            raise RejectedInput("unknown_frame", f"camera_pose is in {pose.frame_id!r}, not in {self._fixed!r}")
        self._camera[pose.stamp] = self._T_base_fixed @ pose.transform
        while len(self._camera) > _KEPT:
            self._camera.popitem(last=False)

    def base_from(self, frame_id: str, stamp: float) -> np.ndarray:
        """T_base_frame (4, 4) at a stamp. Raises `RejectedInput`: unknown_frame."""
        if frame_id == self._base:
            return np.eye(4)
        if self._tf is not None:
            return self._tf.at(frame_id, stamp)
        if frame_id == self._fixed:
            return self._T_base_fixed
        pose = self.camera(stamp)
        if pose is None:
            raise RejectedInput("unknown_frame", f"{frame_id!r} is neither {self._base!r} nor {self._fixed!r}, and no "
                                "camera_pose of that time has come")  # fmt: skip
        return pose

    def camera(self, stamp: float) -> np.ndarray | None:
        """T_base_camera (4, 4) at a stamp, None where it is not known."""
        near = min(self._camera, key=lambda known: abs(known - stamp), default=np.inf)
        return self._camera[near] if abs(near - stamp) <= _OFF else None


class _Transforms:
    def __init__(self, node: EgoHandNode, base_frame: str):
        try:
            import tf2_ros
        except ImportError:
            raise UserError(
                "use_tf is true, but tf2_ros is not installed; apt install ros-$ROS_DISTRO-tf2-ros-py, or give "
                "base_pose and publish camera_pose"
            ) from None
        self._base, self._error = base_frame, tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def at(self, frame_id: str, stamp: float) -> np.ndarray:
        try:
            message = self._buffer.lookup_transform(self._base, frame_id, Time.from_msg(time_msg(stamp)))
        except self._error as error:
            raise RejectedInput("unknown_frame", " ".join(str(error).split())) from None
        return parse_stamped_transform_msg(message).transform

    def close(self) -> None:
        self._listener.unregister()
