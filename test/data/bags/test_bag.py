"""Bags: written and read in both storages, opened by stock rosbags, cut off, namespaced, hostile."""

import os
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer

from egohand_ros.data.bags.bag import episode_to_bag, episodes_from_bag
from egohand_ros.data.bags.message_types import MessageTypes
from egohand_ros.data.bags.reading import read_messages
from egohand_ros.data.bags.recording import STORAGES
from egohand_ros.data.load import load_episodes
from egohand_ros.data.synthetic import TrackerModel, generate_scene, observe
from egohand_ros.errors import UserError
from egohand_ros.geometry.transforms import make_transform
from egohand_ros.hand.skeleton import LEFT, RIGHT, WRIST


@pytest.fixture(scope="module")
def episode():
    return observe(generate_scene(1, 6.0), TrackerModel(lost_every=1.0)).episode


class Bag:
    """Writes messages of plain values into a bag; they are recorded in the order of writing, whatever their stamps
    say.
    """

    def __init__(self, folder, storage="mcap"):
        self.types, self.connections, self.clock = MessageTypes(), {}, 0
        self.writer = Writer(folder, version=9, storage_plugin=STORAGES[storage])

    def __enter__(self):
        self.writer.open()
        return self

    def __exit__(self, *error):
        self.writer.close()

    def make(self, name, **fields):
        self.types.learn(name)
        return self.types.store.types[name](**fields)

    def header(self, stamp, frame):
        ns = round(stamp * 1e9)
        time = self.make("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)
        return self.make("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def pose(self, position, quaternion=(0, 0, 0, 1)):
        point = self.make("geometry_msgs/msg/Point", **dict(zip("xyz", map(float, position))))
        orientation = self.make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, quaternion))))
        return self.make("geometry_msgs/msg/Pose", position=point, orientation=orientation)

    def write(self, topic, name, **fields):
        message = self.make(name, **fields)
        if topic not in self.connections:
            text, type_hash = self.types.definition(name)
            self.connections[topic] = self.writer.add_connection(topic, name, msgdef=text, rihs01=type_hash)
        self.clock += 1_000_000
        self.writer.write(self.connections[topic], self.clock, self.types.store.serialize_cdr(message, name))

    def joints(self, topic, stamp, keypoints, frame="tracker"):
        poses = [self.pose(point) for point in keypoints]
        self.write(topic, "geometry_msgs/msg/PoseArray", header=self.header(stamp, frame), poses=poses)

    def camera(self, stamp, position):
        self.write(
            "/camera_pose", "geometry_msgs/msg/PoseStamped", header=self.header(stamp, "map"), pose=self.pose(position)
        )


HAND = np.array([0.0, 0.0, 0.5]) + 0.1 * np.random.default_rng(0).random((21, 3))


@pytest.mark.parametrize("storage", STORAGES)
def test_an_episode_comes_back_from_a_bag(tmp_path, episode, storage):
    episode_to_bag(episode, tmp_path / "bag", storage, namespace="/alice")
    (back,) = episodes_from_bag(tmp_path / "bag")
    assert (back.valid == episode.valid).all() and 0 < episode.valid.mean() < 1
    assert np.allclose(back.stamp, episode.stamp + 1.0, atol=1e-8)
    assert np.allclose(back.keypoints, episode.keypoints, equal_nan=True)
    assert np.allclose(back.camera_pose, episode.camera_pose)
    assert np.allclose(back.wrist_rotation, episode.wrist_rotation, equal_nan=True)
    assert back.task == episode.task
    suffix = {"mcap": ".mcap", "sqlite3": ".db3"}[storage]
    file = next(path for path in (tmp_path / "bag").iterdir() if path.suffix == suffix)
    assert len(load_episodes(file)[0]) == len(episode), "the storage file alone is enough"


def test_what_cannot_be_written_whole_leaves_no_part_of_it_and_what_was_there(tmp_path, episode, monkeypatch):
    """At the level of the library: whoever calls these from a script is as safe as the commands."""
    kept = tmp_path / "kept.npz"
    episode.save(kept)
    whole = kept.read_bytes()

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", lambda path, **_: (Path(path).write_bytes(b"half"), fails()))
    with pytest.raises(UserError, match="No space left"):
        episode.save(kept)
    monkeypatch.setattr(Writer, "write", fails)
    with pytest.raises(UserError, match="No space left"):
        episode_to_bag(episode, tmp_path / "bag")
    assert kept.read_bytes() == whole and [path.name for path in tmp_path.iterdir()] == ["kept.npz"]


@pytest.mark.parametrize("storage", STORAGES)
def test_stock_rosbags_reads_our_bags(tmp_path, episode, storage):
    episode_to_bag(episode, tmp_path / "bag", storage)
    with AnyReader([tmp_path / "bag"]) as reader:
        kinds = {c.topic: c.msgtype for c in reader.connections}
        assert kinds == {
            "/hand_poses": "egohand_ros/msg/HandPoseArray",
            "/camera_pose": "geometry_msgs/msg/PoseStamped",
            "/prompt": "std_msgs/msg/String",
        }
        wanted = [c for c in reader.connections if c.topic == "/hand_poses"]
        connection, _, data = next(reader.messages(wanted))
        message = reader.deserialize(data, connection.msgtype)
        hand = message.hands[0]
        assert message.header.frame_id == "camera_optical_frame" and hand.keypoints[0].z > 0.1
        assert hand.wrist_covariance[0] == -1 and hand.confidence == -1


def test_world_frame_without_camera(tmp_path):
    plain = generate_scene(2, 3.0, 10.0).episode
    plain = type(plain)(plain.stamp + 10.0, plain.keypoints, plain.valid)
    episode_to_bag(plain, tmp_path / "bag")
    (back,) = episodes_from_bag(tmp_path / "bag")
    assert back.camera_pose is None and back.task == ""
    assert np.allclose(back.stamp, plain.stamp) and np.allclose(back.keypoints, plain.keypoints)


@pytest.mark.parametrize("remove_metadata", [True, False])
def test_a_bag_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path, caplog, remove_metadata):
    long = observe(generate_scene(1, 60.0)).episode
    episode_to_bag(long, tmp_path / "bag")
    file = tmp_path / "bag" / "bag.mcap"
    os.truncate(file, file.stat().st_size * 2 // 3)
    if remove_metadata:
        (tmp_path / "bag" / "metadata.yaml").unlink()
    size = file.stat().st_size
    (back,) = episodes_from_bag(tmp_path / "bag")
    assert 0.2 * len(long) < len(back) < len(long)
    assert np.allclose(back.keypoints, long.keypoints[: len(back)], equal_nan=True)
    assert (
        "was not closed" if remove_metadata else "was cut off"
    ) in caplog.text and "messages could be read" in caplog.text
    assert file.stat().st_size == size, "the original is not touched"


def test_hands_in_the_cameras_frame_wait_for_no_pose_that_never_was(tmp_path, caplog):
    with Bag(tmp_path / "bag") as bag:
        for i in range(30):
            stamp = 5.0 + i / 10
            bag.joints("/tracker_poses/left", stamp, HAND, frame="camera_optical")
            if 10 <= i < 20:
                bag.camera(stamp + 0.003, (1.0, 2.0, 0.1 * i))
    (episode,) = episodes_from_bag(tmp_path / "bag")
    known = np.flatnonzero(episode.valid[:, LEFT, WRIST])
    assert known.tolist() == list(range(11, 20))
    expected = make_transform(np.eye(3), np.array([1.0, 2.0, 0.1 * (15 - 0.03)]))[:3, 3] + HAND
    assert np.allclose(episode.keypoints[15, LEFT], expected, atol=1e-6)
    assert "21 camera_pose_unknown" in caplog.text


def test_tracker_joints_of_two_topics_are_one_observation(tmp_path):
    with Bag(tmp_path / "bag") as bag:
        for i in range(10):
            bag.joints("/bob/tracker_poses/left", 5.0 + i / 10, HAND)
            bag.joints("/bob/tracker_poses/right", 5.0 + i / 10, HAND + 0.3)
    (episode,) = episodes_from_bag(tmp_path / "bag")
    assert episode.valid.all() and len(episode) == 10
    assert np.allclose(episode.keypoints[4, RIGHT], HAND + 0.3) and np.allclose(episode.keypoints[4, LEFT], HAND)


def test_tracker_joints_of_both_hands_in_one_message(tmp_path):
    with Bag(tmp_path / "bag") as bag:
        bag.joints("/tracker_poses", 5.0, np.concatenate([HAND, HAND + 0.3]))
        bag.joints("/tracker_poses", 5.1, HAND[:20])
    (episode,) = episodes_from_bag(tmp_path / "bag")
    assert len(episode) == 1 and episode.valid.all() and np.allclose(episode.keypoints[0, RIGHT], HAND + 0.3)


def test_bad_hands_and_stamps_are_left_out_and_counted(tmp_path, caplog):
    nan, huge = HAND.copy(), HAND * 1000
    nan[WRIST] = np.nan
    with Bag(tmp_path / "bag") as bag:
        for stamp, hand in (
            (5.0, HAND), (5.1, nan), (5.2, huge), (5.25, HAND), (5.15, HAND), (0.0, HAND), (5.3, HAND),
        ):  # fmt: skip
            bag.joints("/tracker_poses", stamp, hand)
    (episode,) = episodes_from_bag(tmp_path / "bag")
    assert episode.stamp == pytest.approx([5.0, 5.25, 5.3]) and episode.valid[:, LEFT, WRIST].all()
    for reason in ("non_finite_keypoint", "implausible_hand", "out_of_order", "zero_stamp"):
        assert f"1 {reason}" in caplog.text


def test_a_bag_that_looped_gives_an_episode_a_loop(tmp_path):
    with Bag(tmp_path / "bag") as bag:
        for _ in range(2):
            for i in range(10):
                bag.joints("/tracker_poses", 5.0 + i / 10, HAND)
    assert [len(episode) for episode in episodes_from_bag(tmp_path / "bag")] == [10, 10]


def test_topics_are_found_in_any_namespace_and_chosen(tmp_path, episode):
    episode_to_bag(episode, tmp_path / "bag", namespace="robot/person")
    topics = {message.topic for message in read_messages(tmp_path / "bag", ("hand_poses", "prompt"))}
    assert topics == {"/robot/person/hand_poses", "/robot/person/prompt"}
    assert len(list(read_messages(tmp_path / "bag"))) == 2 * len(episode) + 1


def test_what_is_no_bag_is_explained(tmp_path, episode):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(UserError):
            episodes_from_bag(path)
    with Bag(tmp_path / "other") as bag:
        bag.camera(5.0, (0, 0, 0))
    with pytest.raises(UserError, match="no hands on a topic"):
        episodes_from_bag(tmp_path / "other")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "junk.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    with pytest.raises(UserError):
        episodes_from_bag(tmp_path / "junk")
    with pytest.raises(UserError, match="exists already"):
        episode_to_bag(episode, tmp_path / "other")
    with pytest.raises(UserError, match="mcap, sqlite3"):
        episode_to_bag(episode, tmp_path / "new", "csv")
