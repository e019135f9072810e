"""Camera poses out of TF, on machines that have tf2_ros (it is not on PyPI)."""

import numpy as np
from builtin_interfaces.msg import Time as TimeMsg
from rclpy.node import Node
from rclpy.time import Time

from ...errors import UserError
from ...messages.poses import parse_stamped_transform_msg


class TransformSource:
    """T_fixed_frame of whatever frame is asked for, at whatever time. Raises `UserError` without tf2_ros."""

    def __init__(self, node: Node, fixed_frame: str):
        try:
            import tf2_ros
        except ImportError:
            raise UserError(
                "camera_pose_source is tf, but tf2_ros is not installed; "
                "apt install ros-$ROS_DISTRO-tf2-ros-py, or publish camera_pose and set camera_pose_source to topic"
            ) from None
        self._fixed_frame, self._error = fixed_frame, tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def at(self, frame_id: str, stamp: TimeMsg) -> np.ndarray | None:
        """T_fixed_frame (4, 4) at a stamp, between the transforms around it; None while those are not there."""
        try:
            message = self._buffer.lookup_transform(self._fixed_frame, frame_id, Time.from_msg(stamp))
        except self._error:
            return None
        return parse_stamped_transform_msg(message).transform

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()
