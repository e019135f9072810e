"""A forecaster node in the process of the test, a tracker for it, and the messages of that tracker's camera."""

import numpy as np
from nav_msgs.msg import Odometry

from egohand_ros.geometry.rotations import matrix_from_rotation_vector, quaternion_from_matrix
from egohand_ros.geometry.transforms import make_transform
from egohand_ros.messages.forecast import parse_hand_forecast_array_msg
from egohand_ros.messages.hands import hands
from egohand_ros.msg import HandForecastArray, HandPoseArray
from egohand_ros.nodes.messages.basic import pose_msg, time_msg
from egohand_ros.nodes.messages.hands import build_hand_pose_array_msg
from egohand_ros.stream.warmup import example_hand

LEFT, RIGHT = 0, 1
VELOCITY = np.array([0.3, -0.1, 0.05])  # m/s
BOTH = np.stack([example_hand() * (1, -1, 1), example_hand()]) + np.array([[0.4, 0.2, 0.1], [0.4, -0.2, 0.1]])[:, None]
# Stamps are spaced in whole steps of the models and lie in the past, so that slow machines and fast ones forecast the
# same.
STEP = 0.1
AGE = 30.0  # s, of the first stamp


class Driver:
    """A forecaster node that the probe spins, and a tracker for it."""

    def __init__(self, probe, node):
        self.probe, self.node = probe, node
        self.forecasts = probe.collect(HandForecastArray, "hand_forecasts")
        self.poses = probe.publisher(HandPoseArray, "hand_poses", 50)
        self.stamp = probe.now() - AGE
        probe.wait(lambda: self.poses.get_subscription_count() == 1, 20, "subscriber of hand_poses")
        probe.wait(lambda: probe.node.count_publishers("hand_forecasts") == 1, 20, "publisher of hand_forecasts")
        probe.wait(lambda: node.outputs.forecasts.get_subscription_count() >= 1, 20, "subscriber of hand_forecasts")

    def message(self, keypoints=BOTH, frame="camera", **known):
        """HandPoseArray one step after the one before."""
        self.stamp += STEP
        return build_hand_pose_array_msg(hands(self.stamp, frame, np.asarray(keypoints), **known))

    def history(self, keypoints=BOTH):
        """A few observations, forecast."""
        for _ in range(3):
            futures = self.answer(self.message(keypoints))
        return futures

    def answer(self, message):
        """Publish one observation and wait for the forecast of it."""
        self.poses.publish(message)
        stamp = message.header.stamp
        self.probe.wait(lambda: any(f.header.stamp == stamp for f in self.forecasts), 20, "forecast")
        return parse_hand_forecast_array_msg(next(f for f in self.forecasts if f.header.stamp == stamp))


def camera_at(stamp, turn, frame="odom"):
    """A camera that turns and moves; T_odom_camera."""
    return (
        stamp,
        frame,
        make_transform(matrix_from_rotation_vector(np.array([0.1, turn, 0.2])), np.array([turn, 1.0, 1.5])),
    )


def camera_msg(kind, stamp, frame, transform):
    pose = pose_msg(transform[:3, 3], quaternion_from_matrix(transform[:3, :3]))
    message = kind()
    message.header.stamp, message.header.frame_id = time_msg(stamp), frame
    if kind is Odometry:
        message.pose.pose, message.child_frame_id = pose, "head"
    else:
        message.pose = pose
    return message
