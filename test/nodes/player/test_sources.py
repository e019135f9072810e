"""A bag as a source of messages: those of an older definition come out as today's."""

from types import SimpleNamespace

import numpy as np
import pytest
from old_bag import age_bag

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message

from egohand_ros.data.bags.bag import episode_to_bag
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.messages.hands import parse_hand_pose_array_msg
from egohand_ros.msg import HandPoseArray
from egohand_ros.nodes.player.sources import BagSource


def played(bag):
    parameters = SimpleNamespace(path=str(bag), topics=("hand_poses",))
    messages = [item.message for item in BagSource(parameters).items(0.0)]
    return [deserialize_message(m, HandPoseArray) if isinstance(m, bytes) else m for m in messages]


def test_hands_of_an_old_bag_are_played_as_today(tmp_path):
    episode_to_bag(generate_scene(1, 1.0).episode, tmp_path / "new")
    age_bag(tmp_path / "new", tmp_path / "old")
    new, old = played(tmp_path / "new"), played(tmp_path / "old")
    assert len(new) == len(old) > 20
    for one, two in zip(new, old):
        assert one.header == two.header and isinstance(two, HandPoseArray)
        mine, theirs = parse_hand_pose_array_msg(one), parse_hand_pose_array_msg(two)
        for name in ("keypoints", "valid", "wrist_rotation", "state", "track_id"):
            assert np.allclose(getattr(mine, name), getattr(theirs, name), atol=1e-12, equal_nan=True), name
