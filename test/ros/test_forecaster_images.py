"""The forecaster node and a model that looks at images and the prompt."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from forecaster_driver import STEP
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from egohand_ros.data.bags.message_types import MessageTypes
from egohand_ros.data.bags.recording import BagWriter, Topic
from egohand_ros.evaluation.replay import replay_observations
from egohand_ros.forecast.naive.persistence import Persistence
from egohand_ros.geometry.camera import Camera
from egohand_ros.msg import Latency
from egohand_ros.nodes.messages.basic import header_msg, time_msg
from egohand_ros.nodes.messages.image import build_image_msg
from egohand_ros.nodes.player.items import build_compressed_image_msg, camera_info_msg


class Seeing(Persistence):
    """Looks at images and the prompt."""

    def __init__(self):
        super().__init__()
        self.spec = replace(
            self.spec,
            name="seeing",
            modalities=("keypoints", "images", "prompt"),
            image_offsets=(-2, 0),
            image_size=(32, 48),
        )
        self.windows = []

    def forecast(self, window, hypotheses=1, seed=None):
        self.windows.append(window)
        return super().forecast(window, hypotheses, seed)


def test_images_and_prompt_reach_a_model_that_wants_them(probe, driver, registered):
    model = Seeing()
    prompts = probe.node.create_publisher(
        String, "prompt", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    prompts.publish(String(data="pick up the mug"))  # before the node is there
    d = driver(forecaster=registered(model), device="cpu")
    images = probe.publisher(Image, "image", 5)
    probe.wait(lambda: images.get_subscription_count() == 1, 10, "image subscriber")
    probe.wait(lambda: d.node.health.counted("received/prompt") >= 1, 10, "prompt")
    d.answer(d.message())
    assert model.windows[-1].images is None and model.windows[-1].camera_matrix is None
    infos = probe.publisher(CameraInfo, "camera_info", 5)
    probe.wait(lambda: infos.get_subscription_count() == 1, 10, "camera_info subscriber")
    infos.publish(CameraInfo(width=192, height=128, k=[100.0, 0, 96, 0, 100, 64, 0, 0, 1]))
    probe.wait(lambda: d.node.health.counted("received/camera_info") == 1, 10, "calibration")
    infos.publish(CameraInfo(width=192, height=128))  # not calibrated: the one before it stays
    probe.wait(lambda: d.node.health.rejected("uncalibrated_camera") == 1, 10, "refusal of the bad calibration")
    image = Image(height=64, width=96, encoding="rgb8", step=288, data=bytes([200, 100, 50]) * (64 * 96))
    image.header.stamp, image.header.frame_id = time_msg(probe.now()), "camera"
    broken = Image(height=64, width=96, encoding="rgb8", step=288, data=bytes(10))
    broken.header.stamp, broken.header.frame_id = time_msg(probe.now() - 0.1), "camera"
    images.publish(broken)
    probe.wait(lambda: d.node.health.rejected("truncated_image") == 1, 10, "refusal of the broken image")
    images.publish(image)
    probe.wait(lambda: d.node.health.counted("received/image") == 2, 10, "image")
    d.stamp = probe.now() - 0.2
    d.answer(d.message())
    window = model.windows[-1]
    assert window.camera_matrix.tolist() == [2 * [[[25.0, 0.0, 24.0], [0.0, 25.0, 16.0], [0.0, 0.0, 1.0]]]]
    assert window.prompt == ("pick up the mug",)
    assert window.images.shape == (1, 2, 32, 48, 3)
    assert (window.images == torch.tensor([200, 100, 50], dtype=torch.uint8)).all()


def test_where_the_time_of_an_image_went_is_in_the_latency(probe, driver, registered):
    d = driver(forecaster=registered(Seeing()), image_transport="compressed")
    latency = probe.collect(Latency, "forecaster/debug/latency")
    images = probe.publisher(CompressedImage, "image/compressed", 5)
    probe.wait(lambda: images.get_subscription_count() == 1, 10, "image subscriber")
    probe.wait(lambda: d.node.outputs.latency.publisher.get_subscription_count() == 1, 10, "latency subscriber")
    d.answer(d.message())
    probe.wait(lambda: len(latency) == 1, 10, "latency")
    assert not {"image_age", "decode"} & set(latency[0].stages), "no image yet"
    images.publish(build_compressed_image_msg(np.zeros((64, 96, 3), np.uint8), header_msg(d.stamp, "camera"), 90))
    probe.wait(lambda: d.node.health.counted("received/image/compressed") == 1, 10, "image")
    d.answer(d.message())
    probe.wait(lambda: len(latency) == 2, 10, "latency")
    stages = dict(zip(latency[1].stages, latency[1].durations))
    assert 0.0 < stages["decode"] < stages["image_age"]
    assert list(stages)[:2] == ["input_age", "image_age"] and list(stages)[-1] == "total"


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_replay_gives_the_windows_that_the_node_saw(probe, driver, registered, tmp_path, transport):
    """Prompt, calibration and images count from their arrival on, in the node as in the replay of what it got."""
    model = Seeing()
    d = driver(forecaster=registered(model), image_transport=transport)
    image = {"raw": ("image", Image), "compressed": ("image/compressed", CompressedImage)}[transport]
    kinds = {"camera_info": CameraInfo, "prompt": String, image[0]: image[1]}
    publishers = {topic: probe.publisher(kind, topic, 5) for topic, kind in kinds.items()}
    for topic, publisher in publishers.items():
        probe.wait(lambda: publisher.get_subscription_count() >= 1, 10, f"subscriber of {topic}")
    types, bag, pixels = MessageTypes(), BagWriter(tmp_path / "bag"), np.random.default_rng(0)
    count = len(model.windows)  # of the warm-up

    def send(topic, message):
        kind = f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"
        bag.write(Topic(f"/{topic}", kind, *types.definition(kind)), int(1e9 * probe.now()), serialize_message(message))
        if topic == "hand_poses":
            d.answer(message)
            return
        before = d.node.health.counted(f"received/{topic}")
        publishers[topic].publish(message)
        probe.wait(lambda: d.node.health.counted(f"received/{topic}") > before, 10, topic)

    for i in range(6):
        if i == 2:
            send("camera_info", camera_info_msg(Camera.from_horizontal_fov(96, 64, 80.0), d.stamp, "camera"))
            send("camera_info", CameraInfo(width=96, height=64))  # refused by both
        if i == 3:
            send("prompt", String(data="put the cup on the shelf"))
        if i:
            picture = pixels.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            header = header_msg(d.stamp + STEP, "camera")
            jpeg = transport == "compressed"
            send(
                image[0], build_compressed_image_msg(picture, header, 90) if jpeg else build_image_msg(picture, header)
            )
        send("hand_poses", d.message())
    bag.close()
    refused = []
    again = list(replay_observations(tmp_path / "bag", model.spec, lambda source, error: refused.append(error.reason)))
    assert len(again) == len(model.windows) - count == 6 and refused == ["uncalibrated_camera"]
    for observation, window in zip(again, model.windows[count:]):
        for name, seen in vars(window).items():
            replayed = getattr(observation.window, name)
            if isinstance(seen, torch.Tensor):  # NaN: the matrix of a picture from before the calibration
                torch.testing.assert_close(replayed, seen, rtol=0, atol=0, equal_nan=True, msg=name)
            else:
                assert replayed == seen, name
    given = [(w.images is not None, w.camera_matrix is not None, bool(w.prompt[0])) for w in model.windows[count:]]
    assert given == [(False,) * 3, (True, False, False), (True, True, False)] + [(True,) * 3] * 3
