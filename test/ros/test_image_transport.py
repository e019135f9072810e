"""Raw images over DDS: the subscription follows its publishers, and what is lost on the way is said."""

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from robot_graph import Probe, Process
from sensor_msgs.msg import Image

from egohand_ros.nodes.messages.basic import header_msg
from egohand_ros.nodes.messages.image import build_image_msg

VGA = np.zeros((480, 640, 3), np.uint8)


@pytest.fixture
def probe(ros):
    probe = Probe("camera")
    yield probe
    probe.close()


class Camera:
    """A camera whose driver publishes with a reliability of its own."""

    def __init__(self, probe, reliability):
        self.probe, self.last = probe, 0.0
        self.images = probe.publisher(Image, "image", QoSProfile(depth=5, reliability=reliability))

    def film(self, at_once=1):
        """At most 30 times a second."""
        now = self.probe.now()
        if now - self.last > 1 / 30:
            self.last = now
            for i in range(at_once):
                self.images.publish(build_image_msg(VGA, header_msg(now + 1e-4 * i, "camera")))

    def film_too_fast(self):
        """More at once than any machine takes in."""
        self.film(30)

    def is_heard(self, reliability):
        found = self.probe.node.get_subscriptions_info_by_topic("/image")
        return [each.qos_profile.reliability for each in found] == [reliability]


def test_the_subscription_is_as_reliable_as_its_publishers_and_losses_are_told(probe):
    with Process("hand_tracker", camera_fov=60.0, max_image_age=30.0, min_image_rate=1000.0):
        reliable = Camera(probe, ReliabilityPolicy.RELIABLE)
        found = lambda: reliable.is_heard(ReliabilityPolicy.RELIABLE)  # noqa: E731
        probe.wait(found, what="a reliable subscription", each=reliable.film)
        received = lambda: int(probe.diagnostics.get("hand_tracker", {}).get("count/received/image", 0))  # noqa: E731
        before = received()
        probe.wait(lambda: received() > before, what="images over the new subscription", each=reliable.film)
        assert probe.diagnostics["hand_tracker"]["image reliability"] == "reliable"

        probe.node.destroy_publisher(reliable.images)
        lossy = Camera(probe, ReliabilityPolicy.BEST_EFFORT)
        found = lambda: lossy.is_heard(ReliabilityPolicy.BEST_EFFORT)  # noqa: E731
        probe.wait(found, what="a subscription that hears a best-effort publisher", each=lossy.film)
        said = ("were lost on the way", "less than min_image_rate, 1000 Hz")
        told = lambda: all(text in probe.levels.get("hand_tracker", (0, ""))[1] for text in said)  # noqa: E731
        probe.wait(told, what="a warning of images that are lost", each=lossy.film_too_fast)
        assert probe.levels["hand_tracker"][0] >= 1
        assert "Fast DDS profile" in probe.levels["hand_tracker"][1]
