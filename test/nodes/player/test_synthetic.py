"""What the synthetic source plays, and when: pictures, and hands that come of them."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from egohand_ros.messages.basic import seconds
from egohand_ros.nodes.messages.image import parse_camera_info_msg, parse_compressed_image_msg, parse_image_msg
from egohand_ros.nodes.player.node import PlayerParameters
from egohand_ros.nodes.player.synthetic import IMAGE_DELAY, SyntheticSource

START = 100.0


def items(**parameters):
    given = PlayerParameters(**{"duration": 0.3, "image_rate": 30.0, **parameters})
    return list(SyntheticSource(given).items(START))


def test_hands_of_a_tracker_that_takes_no_time_come_right_behind_their_image():
    played = items(tracker_latency=0.0)
    assert [item.time for item in played] == sorted(item.time for item in played)
    images = [i for i, item in enumerate(played) if item.topic == "image"]
    assert len(images) == 9
    for i in images:
        image, hands = played[i], played[i + 1]
        assert hands.topic == "hand_poses" and hands.time == image.time
        assert hands.message.header == image.message.header
        assert image.time == pytest.approx(seconds(image.message.header.stamp) + IMAGE_DELAY, abs=1e-6)


def test_a_tracker_that_takes_time_is_late_by_it():
    for latency in (0.03, 0.2):
        played = [item for item in items(images=False, tracker_latency=latency) if item.topic == "hand_poses"]
        late = np.array([item.time - seconds(item.message.header.stamp) for item in played])
        assert (late >= latency - 1e-6).all() and late.min() < 1.1 * latency


def test_pictures_are_the_same_in_every_transport_and_calibrated():
    raw, compressed = items(), items(image_transport="compressed")
    picture = next(item.message for item in raw if item.topic == "image")
    assert parse_image_msg(picture).shape == (480, 640, 3) and picture.encoding == "rgb8"
    jpeg = next(item.message for item in compressed if item.topic == "image/compressed")
    difference = parse_image_msg(picture).astype(int) - parse_compressed_image_msg(jpeg)
    assert np.abs(difference).mean() < 1.0
    camera = parse_camera_info_msg(next(item.message for item in raw if item.topic == "camera_info"))
    assert camera.fits(640, 480)
