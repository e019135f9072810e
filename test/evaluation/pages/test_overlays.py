"""Forecasts drawn on the frames of a bag: at the moments that have an image, where the camera saw the hand."""

import base64
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader, Writer

from egohand_ros.cli.main import main
from egohand_ros.data.bags.bag import episode_to_bag
from egohand_ros.data.bags.message_types import MessageTypes
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.evaluation.metrics import Mean
from egohand_ros.evaluation.pages.evaluation_report import styles
from egohand_ros.evaluation.pages.overlays import forecast_frames, worth_a_picture
from egohand_ros.evaluation.protocol import Result, Score, get_protocol
from egohand_ros.geometry.camera import Camera
from egohand_ros.geometry.transforms import invert_transform, transform_points

CAMERA = Camera.from_horizontal_fov(640, 480, 90)


@pytest.fixture(scope="module")
def scene():
    return generate_scene(3, 7.0, 10.0)


@pytest.fixture(scope="module")
def bag(scene, tmp_path_factory):
    """The scene as a bag, with grey images at every third observation."""
    folder = tmp_path_factory.mktemp("bags")
    episode = replace(scene.episode, stamp=scene.episode.stamp + 10.0)
    episode_to_bag(episode, folder / "hands")
    add_images(folder / "hands", folder / "bag", episode.stamp[::3])
    return folder / "bag"


def add_images(source, target, stamps):
    types = MessageTypes()
    make = lambda name, **fields: types.store.types[name](**fields)  # noqa: E731
    with Reader(source) as reader, Writer(target, version=9) as writer:
        same = {}
        for connection in reader.connections:
            text, digest = types.definition(connection.msgtype)
            same[connection.id] = writer.add_connection(
                connection.topic, connection.msgtype, msgdef=text, rihs01=digest
            )
        for connection, time, data in reader.messages():
            writer.write(same[connection.id], time, data)
        names = {"/image/compressed": "sensor_msgs/msg/CompressedImage", "/camera_info": "sensor_msgs/msg/CameraInfo"}
        topics = {}
        for topic, name in names.items():
            text, digest = types.definition(name)
            topics[topic] = writer.add_connection(topic, name, msgdef=text, rihs01=digest)
        jpeg = cv2.imencode(".jpg", np.full((480, 640, 3), 90, np.uint8))[1].ravel()
        for stamp in stamps:
            time = make("builtin_interfaces/msg/Time", sec=int(stamp), nanosec=round(stamp % 1 * 1e9))
            header = make("std_msgs/msg/Header", stamp=time, frame_id="camera")
            roi = make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
            k, p = CAMERA.matrix.ravel(), np.hstack([CAMERA.matrix, np.zeros((3, 1))]).ravel()
            info = dict(
                height=480, width=640, distortion_model="plumb_bob", d=np.zeros(5), k=k, r=np.eye(3).ravel(), p=p
            )
            messages = {
                "/image/compressed": make(names["/image/compressed"], header=header, format="jpeg", data=jpeg),
                "/camera_info": make(names["/camera_info"], header=header, binning_x=0, binning_y=0, roi=roi, **info),
            }
            for topic, message in messages.items():
                writer.write(topics[topic], round(stamp * 1e9), types.store.serialize_cdr(message, names[topic]))


def pixels(picture):
    return cv2.imdecode(np.frombuffer(base64.b64decode(picture.image.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


def test_forecasts_are_drawn_where_the_camera_saw_the_hand(scene, bag):
    pictures = forecast_frames([bag, bag / "nothing"], ["persistence", "kalman"], get_protocol("egoexo4d"))
    assert len(pictures) == 8 and [p.caption.split(": ")[1] for p in pictures[:2]] == ["persistence", "kalman"]
    drawn = 0
    for picture in pictures[::2]:
        frame = round(float(picture.caption.split(" s")[0]) * 10)
        assert frame % 3 == 0, "a moment with an image"
        image = pixels(picture)
        changed = np.abs(image.astype(int) - 90).max(axis=-1) > 60
        hands = transform_points(invert_transform(scene.T_world_camera[frame]), scene.keypoints[frame].reshape(-1, 3))
        for x, y in CAMERA.project(hands) * image.shape[1] / 640:
            if 5 < x < image.shape[1] - 5 and 5 < y < image.shape[0] - 5:
                drawn += 1
                assert changed[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5].any()
        assert changed.mean() < 0.3
    assert drawn > 40
    assert any((pixels(a) != pixels(b)).any() for a, b in zip(pictures[::2], pictures[1::2])), "each its own forecast"


def test_the_page_shows_them_and_other_inputs_have_none(scene, bag, tmp_path):
    page = tmp_path / "page.html"
    arguments = ["--forecaster", "persistence", "--ego-motion", "0.1", "--report", str(page)]
    assert main(["evaluate", str(bag), *arguments]) == 0
    html = page.read_text()
    assert html.count("data:image/jpeg") == 4 and "With the most camera motion" in html
    scene.episode.save(tmp_path / "a.npz")
    assert main(["evaluate", str(tmp_path / "a.npz"), *arguments]) == 0
    assert "data:image/jpeg" not in page.read_text()


def test_the_learned_ones_and_the_best_are_drawn_not_the_first_in_line():
    def result(**errors):
        scores = {name: Score({"ADE": Mean(error, 1.0)}) for name, error in errors.items()}
        return Result(get_protocol("egoexo4d"), 1, scores, {})

    assert worth_a_picture(result(persistence=3.0, static=9.0, cvm=8.0, kalman=2.0, mine=1.0)) == [
        "mine",
        "kalman",
        "persistence",
    ]
    assert worth_a_picture(result(a=4.0, b=3.0, c=2.0, persistence=1.0)) == ["c", "b", "persistence"]


def test_a_forecaster_has_its_colour_whatever_it_is_beside():
    alone, beside = styles(["kalman", "mine"]), styles(["mine", "persistence", "kalman", "egohand-small"])
    assert alone.items() <= beside.items() and len(set(beside.values())) == 4
    many = styles([f"forecaster {i}" for i in range(5)])
    assert len(set(many.values())) == 5
