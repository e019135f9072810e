"""Bags as commit 7349481 recorded them, before hand messages became lean: definitions, and any bag turned into such a
one."""

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from egohand_ros.data.bags.message_types import types_of_bag
from egohand_ros.messages.basic import covariance_matrices

DEFINITIONS = {
    "HandPose": """
std_msgs/Header header
uint8 LEFT=0
uint8 RIGHT=1
uint8 side
uint32 UNKNOWN_TRACK=0
uint32 track_id
float32 confidence
uint8 MEASURED=0
uint8 EXTRAPOLATED=1
uint8 LOST=2
uint8 tracking_state
geometry_msgs/PoseWithCovariance wrist
geometry_msgs/Point[21] keypoints
bool[21] valid
float32[21] keypoint_confidence
""",
    "HandPoseArray": "std_msgs/Header header\negohand_ros/HandPose[] hands\n",
    "HandForecastStep": """
builtin_interfaces/Duration time_from_start
geometry_msgs/PoseWithCovariance wrist
geometry_msgs/Point[21] keypoints
float32[21] standard_deviation
""",
    "HandForecastHypothesis": "float32 probability\negohand_ros/HandForecastStep[] steps\n",
    "HandForecast": """
std_msgs/Header header
uint8 LEFT=0
uint8 RIGHT=1
uint8 side
uint32 track_id
egohand_ros/HandForecastHypothesis[] hypotheses
""",
    "HandForecastArray": """
std_msgs/Header header
egohand_ros/HandForecast[] forecasts
string stage
builtin_interfaces/Time inference_start
builtin_interfaces/Time inference_end
string model_id
""",
}


def old_store():
    """A type store with the definitions of then."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, f"egohand_ros/msg/{name}"))
    return store


def age_bag(path: Path, old: Path) -> None:
    """The same recording as then: every message in the definitions of then, and nothing compressed."""
    store = old_store()
    with Reader(path) as reader, Writer(old, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        new, connections = types_of_bag(reader), {}
        for connection, stamp, data in reader.messages():
            kind = connection.msgtype
            if connection.topic not in connections:
                connections[connection.topic] = writer.add_connection(connection.topic, kind, typestore=store)
            if kind.startswith("egohand_ros/"):
                data = store.serialize_cdr(_aged(new.deserialize_cdr(data, kind), store), kind)
            writer.write(connections[connection.topic], stamp, data)


def _aged(message, store):
    """A message and all parts of it, in the types of then."""
    if isinstance(message, list):
        return [_aged(part, store) for part in message]
    if not hasattr(message, "__msgtype__"):
        return message
    fields = {name: _aged(value, store) for name, value in vars(message).items() if name != "__msgtype__"}
    kind = store.types[message.__msgtype__.replace("Point32", "Point")]
    if "wrist_orientation" in fields:
        covariance = covariance_matrices(fields.pop("wrist_covariance")).reshape(36)
        if np.isnan(covariance).any():
            covariance = np.r_[-1.0, np.zeros(35)]
        pose = store.types["geometry_msgs/msg/Pose"](fields["keypoints"][0], fields.pop("wrist_orientation"))
        fields["wrist"] = store.types["geometry_msgs/msg/PoseWithCovariance"](pose, covariance)
    return kind(**{name: value for name, value in fields.items() if name in kind.__dataclass_fields__})
