"""What `egohand bench pipeline` makes of what the nodes say of their time."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState

from egohand_ros.cli.bench_pipeline import summary
from egohand_ros.errors import UserError
from egohand_ros.msg import HandPoseArray
from egohand_ros.nodes.bench.pipeline import _LATENCY_TOPICS, _result
from egohand_ros.nodes.messages.basic import header_msg
from egohand_ros.nodes.messages.hands import build_latency_msg
from egohand_ros.nodes.player.synthetic import IMAGE_DELAY

STAMPS = 100.0 + np.arange(61) / 30.0  # the first second is warm-up
AGE, WAITED, TOTAL = 0.012, 0.004, 0.032  # s: input age, image received before the hands, observation to command


def session(image_stages, lost=()):
    """A session's collected messages: every observation forecast, and commanded but for the `lost` ones."""
    forecasts = [{"input_age": AGE, **image_stages(i), "total": 0.02} for i in range(len(STAMPS))]
    commanded = [i for i in range(len(STAMPS)) if i not in lost]
    messages = {
        _LATENCY_TOPICS[0]: [build_latency_msg(stamp, stages) for stamp, stages in zip(STAMPS, forecasts)],
        _LATENCY_TOPICS[1]: [build_latency_msg(STAMPS[i], {"input_age": 0.02, "total": TOTAL}) for i in commanded],
        "hand_poses": [HandPoseArray(header=header_msg(stamp, "camera")) for stamp in STAMPS],
        "joint_targets": [JointState(header=header_msg(stamp, "")) for stamp in STAMPS],
    }
    return SimpleNamespace(collected={topic: [serialize_message(m) for m in some] for topic, some in messages.items()})


STATE = SimpleNamespace(wall_seconds=2.0, cpu_seconds={"forecaster": 0.5})


def test_an_image_is_timed_from_its_receipt_to_the_command_and_from_when_it_was_due():
    seen = session(lambda i: {"image_age": WAITED, "decode": 0.001} if i != 40 else {}, lost=(35, 36))
    result = _result(seen, STATE, "seeing")
    assert (result.poses, len(result.latency), result.lost) == (31, 29, 2)
    numbers = summary(result)
    assert numbers["end_to_end_ms"]["p50"] == pytest.approx(1e3 * (TOTAL - AGE))
    assert numbers["image_to_command_ms"]["max"] == pytest.approx(1e3 * (TOTAL - AGE + WAITED))
    assert numbers["image_due_to_command_ms"]["p95"] == pytest.approx(1e3 * (TOTAL - IMAGE_DELAY))
    unseen = [int(np.isnan(samples).sum()) for samples in (result.image_latency, result.image_due_latency)]
    assert unseen == [1, 1], "a window without image"
    assert len(result.stages["forecaster/decode"]) == 30


def test_a_forecaster_that_looks_at_no_image_is_an_error_and_without_images_nothing_is_said_of_them():
    blind = session(lambda i: {})
    with pytest.raises(UserError, match="'kalman' looked at no image"):
        _result(blind, STATE, "kalman")
    numbers = summary(_result(blind, STATE, ""))
    assert numbers["image_to_command_ms"] == {} and numbers["end_to_end_ms"]["p95"] == pytest.approx(20.0)
