"""Recordings for 3D views: what is made of hands and camera poses, and nothing of what was recorded changes."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from egohand_ros.cli.main import main
from egohand_ros.data.bags import bag as bags
from egohand_ros.data.bags.reading import read_messages
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.geometry.transforms import UPRIGHT_OPTICAL
from egohand_ros.messages.poses import parse_stamped_transform_msg
from egohand_ros.nodes.foxglove.recording import add_what_foxglove_shows
from egohand_ros.viewer.moment import chain


def tree(bag) -> dict[str, tuple[str, np.ndarray]]:
    """The newest parent and T_parent_frame of each frame on /tf."""
    frames = {}
    for message in read_messages(bag, ("/tf",)):
        for transform in message.data.transforms:
            frames[transform.child_frame_id] = (
                transform.header.frame_id,
                parse_stamped_transform_msg(transform).transform,
            )
    return frames


@pytest.fixture(scope="module")
def episode():
    return generate_scene(seed=1, duration=1.0).episode


def test_hands_and_frames_are_made_and_the_rest_stays(episode, tmp_path):
    bag, out = tmp_path / "bag", tmp_path / "out"
    bags.episode_to_bag(episode, bag, namespace="ego")
    made = add_what_foxglove_shows(bag, out)
    before, after = list(read_messages(bag)), list(read_messages(out))
    recorded = {message.topic for message in before}
    kept = [(m.topic, m.received, repr(m.data)) for m in after if m.topic in recorded]
    assert kept == [(m.topic, m.received, repr(m.data)) for m in before]
    assert made["/ego/hand_poses/markers"] == sum(m.topic == "/ego/hand_poses" for m in before) == len(episode)
    frames = tree(out)
    assert set(frames) == {"left_wrist", "right_wrist", "camera_optical_frame"}
    assert all(chain(frames, frame, "world") is not None for frame in frames), "no way to the layout's fixed frame"
    assert np.allclose(frames["camera_optical_frame"][1], episode.camera_pose[-1], atol=1e-6)


def test_hands_of_a_camera_without_poses_are_upright_in_the_layouts_frame(episode, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bags, "WORLD_FRAME", "head_camera")
    bag, out = tmp_path / "bag", tmp_path / "out"
    bags.episode_to_bag(replace(episode, camera_pose=None), bag)
    assert main(["convert", str(bag), "--out", str(out), "--to", "foxglove"]) == 0
    assert "/hand_poses/markers" in capsys.readouterr().out
    parent, transform = tree(out)["head_camera"]
    assert parent == "world" and np.allclose(transform, UPRIGHT_OPTICAL)


def test_a_tree_that_was_recorded_is_left_as_it_is(episode, tmp_path):
    bag, once, twice = (tmp_path / name for name in ("bag", "once", "twice"))
    bags.episode_to_bag(episode, bag)
    add_what_foxglove_shows(bag, once)
    assert not add_what_foxglove_shows(once, twice), "everything is there already"
    assert sum(1 for _ in read_messages(once)) == sum(1 for _ in read_messages(twice))


def test_what_cannot_be_shown_is_refused_in_a_line(episode, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["convert", str(tmp_path / "empty"), "--out", str(tmp_path / "out"), "--to", "foxglove"]) == 2
    assert "holds no recording" in capsys.readouterr().err and not (tmp_path / "out").exists()
