"""The forecaster node and a system that reasons by a language model beside the stream; and one in another process."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String
from tiny_egoman import TINY as TINY_EGOMAN
from tiny_egomotion import TINY as TINY_EGOMOTION
from tiny_megohand import TINY as TINY_MEGOHAND

from egohand_ros.forecast.egoman.forecaster import EgoMANForecaster
from egohand_ros.forecast.egomotion.forecaster import EgoMotionForecaster
from egohand_ros.forecast.live.separate import SeparateForecaster
from egohand_ros.forecast.megohand.forecaster import MEgoHandForecaster
from egohand_ros.nodes.messages.basic import time_msg

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "external_forecaster" / "mine.py"


@pytest.fixture(scope="module", params=["egoman", "egomotion"])
def reasoning(request, tmp_path_factory) -> tuple[str, str, int]:
    """The name of a system, a saved forecaster of it of a few numbers, and how many steps it forecasts."""
    torch.manual_seed(0)
    folder, egoman = tmp_path_factory.mktemp(request.param), request.param == "egoman"
    (EgoMANForecaster(TINY_EGOMAN) if egoman else EgoMotionForecaster(TINY_EGOMOTION)).save_pretrained(folder)
    return request.param, str(folder), 49 if egoman else TINY_EGOMOTION.horizon_steps


def test_it_thinks_beside_the_stream_and_what_it_gives_is_published(probe, driver, reasoning):
    name, folder, steps = reasoning
    d = driver(forecaster=folder, device="cpu", hypotheses=3)
    beside = d.node.model._forecaster
    assert isinstance(beside.forecaster, SeparateForecaster) and beside.thoughts > 0, "warm, in a process of its own"
    images = probe.publisher(Image, "image", 5)
    prompts = probe.node.create_publisher(
        String, "prompt", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    probe.wait(lambda: images.get_subscription_count() == 1, 20, "image subscriber")
    assert d.history().hands == (), "it needs images"

    def show(words: str) -> None:
        count = d.node.health.counted("received/prompt")
        prompts.publish(String(data=words))
        probe.wait(lambda: d.node.health.counted("received/prompt") > count, 20, "prompt")

    def look() -> tuple:
        """The hands that are forecast with a picture of now."""
        count = d.node.health.counted("received/image")
        seen = Image(height=56, width=84, encoding="rgb8", step=252, data=bytes([200, 100, 50]) * (56 * 84))
        seen.header.stamp, seen.header.frame_id = time_msg(d.stamp), "camera"
        images.publish(seen)
        probe.wait(lambda: d.node.health.counted("received/image") > count, 20, "image")
        return d.history()

    for words in ("take the red cup", "take the blue cup"):
        show(words)
        look()
        futures = until_forecast(look)
        assert beside._last.prompt == (words,), "neither hand is forecast by what was thought of other words"
        assert len(futures.hands) == 2 and futures.hands[0].keypoints.shape == (3, steps, 21, 3)
        if name == "egomotion":
            assert not futures.waypoints and not futures.holds_fingers
            continue
        assert {point.label for point in futures.waypoints} == {"start", "contact", "end"}
        assert all(0.0 <= p.contact <= 1.0 for p in futures.waypoints if p.label == "contact")
        assert futures.holds_fingers


def until_forecast(look):
    """What is forecast, once something is: it is worked on beside the stream."""
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        futures = look()
        if futures.hands:
            break
        time.sleep(0.02)
    return futures


@pytest.fixture(scope="module")
def megohand(tmp_path_factory) -> str:
    """A saved MEgoHand of a few numbers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("megohand")
    MEgoHandForecaster(TINY_MEGOHAND).save_pretrained(folder)
    return str(folder)


def test_a_context_is_worked_out_beside_the_stream_from_picture_and_depth(probe, driver, megohand):
    d = driver(forecaster=megohand, device="cpu", hypotheses=3)
    beside = d.node.model._forecaster
    assert isinstance(beside.forecaster, SeparateForecaster) and beside.thoughts > 0, "warm, in a process of its own"
    images, depths = probe.publisher(Image, "image", 5), probe.publisher(Image, "depth", 5)
    probe.wait(lambda: images.get_subscription_count() + depths.get_subscription_count() == 2, 20, "subscribers")
    assert d.history().hands == (), "it needs images"

    def show(publisher, encoding: str, data: bytes, step: int) -> None:
        seen = Image(height=48, width=64, encoding=encoding, step=step, data=data)
        seen.header.stamp, seen.header.frame_id = time_msg(d.stamp), "camera"
        publisher.publish(seen)

    def look():
        count = d.node.health.counted("received/image")
        show(depths, "32FC1", np.full((48, 64), 0.7, dtype="<f4").tobytes(), 256)
        show(images, "rgb8", bytes([200, 100, 50]) * (48 * 64), 192)
        probe.wait(lambda: d.node.health.counted("received/image") > count, 20, "image")
        return d.history()

    futures = until_forecast(look)
    assert len(futures.hands) == 2 and futures.hands[0].keypoints.shape == (3, 5, 21, 3)
    assert not futures.holds_fingers


def test_a_process_that_ends_is_said_in_the_diagnostics_and_the_node_lives(probe, driver):
    d = driver(forecaster=f"external:{sys.executable} {EXAMPLE}")
    assert len(d.history().hands) == 2
    diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
    process = d.node.model._forecaster._process
    os.killpg(process._process.pid, signal.SIGKILL)
    assert d.answer(d.message()).hands == ()
    said = lambda: any("ended with status -9" in s.message for m in diagnostics for s in m.status)  # noqa: E731
    probe.wait(said, 20, "the reason in the diagnostics")
    assert d.node.health.counted("failed_forecasts") == 1 and "Traceback" not in str(diagnostics[-1])
    process._rest = 0.0
    assert len(d.history().hands) == 2, "it is started again"
