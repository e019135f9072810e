"""Which bags may be replaced."""

import pytest
import yaml

from egohand_ros.ownership import is_our_recording


@pytest.mark.parametrize(
    ("topic", "kind", "complaint"),
    [
        ("/person/hand_poses", "egohand_ros/msg/HandPoseArray", None),
        ("/person/session", "std_msgs/msg/String", None),  # of a session whose nodes did not start
        ("/session", "std_msgs/msg/Int32", "is not a recording of egohand's own"),
        ("/chatter", "std_msgs/msg/String", "is not a recording of egohand's own"),
    ],
)
def test_a_recording_is_ours_by_our_messages_or_by_what_a_session_tells(tmp_path, topic, kind, complaint):
    topics = [{"topic_metadata": {"name": topic, "type": kind}, "message_count": 0}]
    described = {"relative_file_paths": ["a.mcap"], "topics_with_message_count": topics}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": described}))
    (tmp_path / "a.mcap").write_bytes(b"")
    assert is_our_recording(tmp_path) == complaint
