"""Transforms as TF takes them."""

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform, TransformStamped, Vector3

from ...geometry.rotations import quaternion_from_matrix
from .basic import header_msg, quaternion_msg


def build_transform_msg(stamp: float | Time, parent: str, child: str, T_parent_child: np.ndarray) -> TransformStamped:
    """geometry_msgs/TransformStamped of T_parent_child (4, 4), m."""
    x, y, z = T_parent_child[:3, 3].tolist()
    rotation = quaternion_msg(quaternion_from_matrix(T_parent_child[:3, :3]))
    transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=rotation)
    return TransformStamped(header=header_msg(stamp, parent), child_frame_id=child, transform=transform)
