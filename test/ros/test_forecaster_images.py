"""The forecaster node and a model that looks at images and the prompt."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

from egohand_ros.forecast.persistence import Persistence
from egohand_ros.nodes.messages import time_msg


class Seeing(Persistence):
    """Looks at images and the prompt."""

    def __init__(self):
        super().__init__()
        self.spec = replace(
            self.spec, name="seeing", modalities=("keypoints", "images", "prompt"), image_offsets=(-2, 0), image_size=(32, 48)
        )
        self.windows = []

    def forecast(self, window, hypotheses=1, seed=None):
        self.windows.append(window)
        return super().forecast(window, hypotheses, seed)


def test_images_and_prompt_reach_a_model_that_wants_them(probe, driver, registered):
    model = Seeing()
    prompts = probe.node.create_publisher(String, "prompt", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
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
    assert window.camera_matrix.tolist() == [[[25.0, 0.0, 24.0], [0.0, 25.0, 16.0], [0.0, 0.0, 1.0]]]
    assert window.prompt == ("pick up the mug",)
    assert window.images.shape == (1, 2, 32, 48, 3)
    assert (window.images == torch.tensor([200, 100, 50], dtype=torch.uint8)).all()
