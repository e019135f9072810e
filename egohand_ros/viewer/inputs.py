"""The topics that the page looks at, and what becomes of their messages: live ones and recorded ones alike."""

from collections.abc import Callable

from ..geometry.camera import camera_of_info
from ..images.decoding import decode_image
from ..images.raw_images import raw_image
from ..messages.basic import Message, parse_header, seconds
from ..messages.forecast import Futures, parse_hand_forecast_array_msg
from ..messages.hands import parse_hand_pose_array_msg
from ..messages.joints import parse_joint_sample_msg
from ..messages.poses import parse_stamped_pose_msg, parse_stamped_transform_msg
from ..messages.status import parse_node_states_msg
from .feed import Feed
from .picture import WIDTH
from .shapes import SHOWN_HYPOTHESES

Give = Callable[[Feed, Message], None]


def _hands(feed: Feed, message: Message) -> None:
    feed.on_hands(parse_hand_pose_array_msg(message))


def _futures(feed: Feed, message: Message) -> None:
    parsed = isinstance(message, Futures)
    feed.on_futures(message if parsed else parse_hand_forecast_array_msg(message, SHOWN_HYPOTHESES))


def _camera_info(feed: Feed, message: Message) -> None:
    feed.on_camera(camera_of_info(message))


def _targets(feed: Feed, message: Message) -> None:
    feed.on_targets(parse_joint_sample_msg(message))


def _measured(feed: Feed, message: Message) -> None:
    feed.on_measured(parse_joint_sample_msg(message))


def _camera_pose(feed: Feed, message: Message) -> None:
    feed.on_camera_pose(parse_stamped_pose_msg(message))


def _image(feed: Feed, message: Message) -> None:
    feed.on_picture(parse_header(message.header)[0], lambda: raw_image(message))


def _compressed(feed: Feed, message: Message) -> None:
    feed.on_picture(parse_header(message.header)[0], lambda: decode_image(bytes(message.data), WIDTH))


def _transforms(feed: Feed, message: Message) -> None:
    for transform in message.transforms:
        pose = parse_stamped_transform_msg(transform)
        feed.on_transform(pose.frame_id, transform.child_frame_id, pose.transform)


def _diagnostics(feed: Feed, message: Message) -> None:
    feed.on_nodes(seconds(message.header.stamp), parse_node_states_msg(message))


# By relative name: the type, and what takes it. In the order in which what came at one time is given: the camera's
# poses before the hands that are moved by them, forecasts before the hands that they are judged by.
INPUTS: dict[str, tuple[str, Give]] = {
    "/tf_static": ("tf2_msgs/msg/TFMessage", _transforms),
    "/tf": ("tf2_msgs/msg/TFMessage", _transforms),
    "camera_info": ("sensor_msgs/msg/CameraInfo", _camera_info),
    "camera_pose": ("geometry_msgs/msg/PoseStamped", _camera_pose),
    "odometry": ("nav_msgs/msg/Odometry", _camera_pose),
    "image": ("sensor_msgs/msg/Image", _image),
    "image/compressed": ("sensor_msgs/msg/CompressedImage", _compressed),
    "hand_forecasts": ("egohand_ros/msg/HandForecastArray", _futures),
    "hand_poses": ("egohand_ros/msg/HandPoseArray", _hands),
    "joint_targets": ("sensor_msgs/msg/JointState", _targets),
    "arm_targets": ("sensor_msgs/msg/JointState", _targets),
    "joint_states": ("sensor_msgs/msg/JointState", _measured),
    "/diagnostics": ("diagnostic_msgs/msg/DiagnosticArray", _diagnostics),
}
