"""Bags of before hand messages became lean give the same arrays and figures as the same content recorded today."""

import numpy as np
import pytest
from old_bag import age_bag
from rosbags.rosbag2 import Reader

from egohand_ros.data.bags.bag import episode_to_bag, episodes_from_bag
from egohand_ros.data.bags.message_types import MessageTypes, is_current, types_of_bag
from egohand_ros.data.bags.recording import new_writer
from egohand_ros.data.synthetic import TrackerModel, generate_scene, observe
from egohand_ros.evaluation.recording import read_recording
from egohand_ros.evaluation.replay import compare_with_live, replay_forecasts
from egohand_ros.evaluation.session import score_session
from egohand_ros.forecast.common.futures import futures_from_forecast
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.messages.cdr import encode_hand_forecast_array

FORECASTS = "egohand_ros/msg/HandForecastArray"


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A recording of four seconds with forecasts, as of today and as of then."""
    folder = tmp_path_factory.mktemp("bags")
    episode_to_bag(observe(generate_scene(1, 4.0), TrackerModel(lost_every=1.0)).episode, folder / "inputs")
    forecasts = {}
    for made in replay_forecasts(folder / "inputs", make_forecaster("kalman"), hypotheses=2):
        futures = futures_from_forecast(
            made.forecast, made.observation.frame_id, fresh=made.published, model_id="kalman"
        )
        forecasts[futures.stamp] = encode_hand_forecast_array(futures)
    with Reader(folder / "inputs") as reader, new_writer(folder / "new", "mcap") as writer:
        types, connections = MessageTypes(), {}

        def put(topic, kind, stamp, data):
            if topic not in connections:
                text, type_hash = types.definition(kind)
                connections[topic] = writer.add_connection(topic, kind, msgdef=text, rihs01=type_hash)
            writer.write(connections[topic], stamp, data)

        for connection, stamp, data in reader.messages():
            put(connection.topic, connection.msgtype, stamp, data)
        for stamp, data in forecasts.items():
            put("/hand_forecasts", FORECASTS, round(stamp * 1e9), data)
    age_bag(folder / "new", folder / "old")
    return folder / "new", folder / "old"


def test_the_definition_in_the_bag_tells_its_age(bags):
    for bag, current in zip(bags, (True, False)):
        with Reader(bag) as reader:
            assert is_current(types_of_bag(reader), FORECASTS) == current
    sizes = [(bag / f"{bag.name}.mcap").stat().st_size for bag in bags]
    assert sizes[0] < 0.35 * sizes[1], sizes


def test_an_old_bag_is_the_same_episode(bags):
    (new,), (old,) = map(episodes_from_bag, bags)
    assert new.valid.any() and (new.valid == old.valid).all() and (new.stamp == old.stamp).all()
    for name in ("keypoints", "wrist_rotation", "camera_pose"):
        assert np.array_equal(getattr(new, name), getattr(old, name), equal_nan=True), name


def test_an_old_bag_gives_the_same_report_and_scores(bags):
    new, old = map(read_recording, bags)
    assert len(new.forecasts) > 50 and new.forecasts[-1].keypoints.shape[0] == 2
    for one, two in zip(new.forecasts, old.forecasts, strict=True):
        for name in ("stamp", "step_times", "keypoints", "std", "probability"):
            assert np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True), name
    assert score_session(new) == score_session(old)
    assert score_session(new)["forecast"]["forecasters"]["kalman"]["ADE"] > 0


def test_an_old_bag_replays_as_it_was(bags):
    (count, difference), (old_count, old_difference) = (
        compare_with_live(bag, make_forecaster("kalman")) for bag in bags
    )
    assert count == old_count > 50
    assert difference == old_difference < 1e-9
