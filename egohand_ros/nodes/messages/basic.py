"""The small parts that every message is made of: stamps, headers, poses, points."""

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Point32, Pose, Quaternion
from std_msgs.msg import Header

from ...messages.basic import time_parts


def time_msg(seconds: float | Time) -> Time:
    """builtin_interfaces/Time of seconds, to the nearest ns. A Time is passed through, so that stamps survive
    exactly.
    """
    if isinstance(seconds, Time):
        return seconds
    sec, nanosec = time_parts(seconds)
    return Time(sec=sec, nanosec=nanosec)


def duration_msg(seconds: float) -> Duration:
    """builtin_interfaces/Duration of seconds, to the nearest ns."""
    sec, nanosec = time_parts(seconds)
    return Duration(sec=sec, nanosec=nanosec)


def header_msg(stamp: float | Time, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=time_msg(stamp), frame_id=frame_id)


def quaternion_msg(quaternion: np.ndarray) -> Quaternion:
    """geometry_msgs/Quaternion of (4,) xyzw."""
    x, y, z, w = quaternion.tolist()
    return Quaternion(x=x, y=y, z=z, w=w)


def pose_msg(position: np.ndarray, quaternion: np.ndarray) -> Pose:
    """geometry_msgs/Pose of a position (3,) m and a quaternion (4,) xyzw."""
    x, y, z = position.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=quaternion_msg(quaternion))


def points32_msg(points: np.ndarray) -> list[Point32]:
    """geometry_msgs/Point32 of points (N, 3) m."""
    return [Point32(x=x, y=y, z=z) for x, y, z in points.tolist()]
