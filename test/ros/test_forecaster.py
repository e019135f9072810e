"""The forecaster node over DDS: right forecasts in every form, the newest first, with regions that hold what they
promise.
"""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from forecaster_driver import BOTH, LEFT, RIGHT, STEP, VELOCITY
from geometry_msgs.msg import PoseArray
from nav_msgs.msg import Path
from rclpy.parameter import Parameter
from robot_graph import Process
from trajectory_msgs.msg import MultiDOFJointTrajectory
from visualization_msgs.msg import MarkerArray

from egohand_ros.forecast.naive.persistence import Persistence
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.messages.basic import seconds
from egohand_ros.messages.forecast import POSITION_GRID, QUATERNION_GRID, parse_hand_forecast_array_msg
from egohand_ros.messages.hands import EXTRAPOLATED
from egohand_ros.msg import Latency


def test_a_constant_velocity_hand_is_forecast_where_it_will_be(probe, driver):
    d = driver(forecaster="cvm")
    latency = probe.collect(Latency, "forecaster/debug/latency")
    probe.wait(lambda: d.node.outputs.latency.publisher.get_subscription_count() == 1, 10, "latency subscriber")
    for i in range(10):
        futures = d.answer(d.message(BOTH + VELOCITY * (i * STEP)))
    assert futures.frame_id == "camera" and futures.model_id == "cvm"
    assert np.allclose(futures.step_times, STEP * np.arange(1, 11))
    for hand in futures.hands:
        expected = BOTH[hand.side] + VELOCITY * (9 * STEP + futures.step_times)[:, None, None]
        assert np.abs(hand.keypoints[0] - expected).max() < POSITION_GRID
        assert np.allclose(hand.wrist_rotation, palm_rotations(BOTH)[hand.side], atol=4 * QUATERNION_GRID)
    assert len(futures.hands) == 2
    assert futures.stamp <= futures.inference_start <= futures.inference_end <= probe.now()
    probe.wait(lambda: latency, 5, "latency")
    assert latency[-1].stages[:1] == ["input_age"] and latency[-1].stages[-1] == "total"
    assert latency[-1].useful_horizon == pytest.approx(1.0 - latency[-1].durations[-1])


def test_stock_messages_say_the_same(probe, driver):
    d = driver(forecaster="kalman", hypotheses=3, seed=1)
    kinds = {"path": Path, "poses": PoseArray, "trajectory": MultiDOFJointTrajectory}
    got = {name: probe.collect(kind, f"forecast/left/{name}") for name, kind in kinds.items()}
    markers = probe.collect(MarkerArray, "forecast/markers")
    probe.wait(lambda: d.node.outputs.markers.get_subscription_count() == 1, 10, "marker subscriber")
    futures = d.history()
    of_the_last = lambda m: abs(seconds(m.header.stamp) - futures.stamp) < 1e-6  # noqa: E731
    probe.wait(lambda: all(messages and of_the_last(messages[-1]) for messages in got.values()), 10, "parallel topics")
    probe.wait(lambda: markers and of_the_last(markers[-1].markers[0]), 10, "markers")
    wrist = futures.hand(LEFT).wrist[0]
    path, poses, trajectory = (got[name][-1] for name in kinds)
    as_points = lambda points: np.array([(p.x, p.y, p.z) for p in points])  # noqa: E731
    assert np.allclose(as_points(p.pose.position for p in path.poses), wrist, atol=POSITION_GRID)
    assert np.allclose(as_points(p.position for p in poses.poses), wrist, atol=POSITION_GRID)
    assert np.allclose(as_points(p.transforms[0].translation for p in trajectory.points), wrist, atol=POSITION_GRID)
    assert trajectory.joint_names == ["left_wrist"]
    assert np.allclose([seconds(p.time_from_start) for p in trajectory.points], futures.step_times)
    times = [seconds(p.header.stamp) - futures.stamp for p in path.poses]
    assert np.allclose(times, futures.step_times, atol=1e-6)
    assert {m.header.frame_id for m in markers[-1].markers} == {"camera"}
    spaces = [m.ns for m in markers[-1].markers]
    assert spaces.count("left/paths") == 3 and spaces.count("left/hand") == 1 and spaces.count("left/covariance") == 10
    assert all(0.0 < seconds(m.lifetime) < 1.0 for m in markers[-1].markers)


def test_an_extrapolated_hand_is_no_observation(probe, driver):
    d = driver()
    d.history()
    futures = d.answer(d.message(BOTH + 0.05, state=np.array([EXTRAPOLATED, EXTRAPOLATED])))
    assert np.allclose(futures.hand(LEFT).keypoints[0, 0], BOTH[LEFT], atol=POSITION_GRID)


def test_a_hand_not_seen_for_long_is_not_forecast(probe, driver):
    d = driver(hand_timeout=0.25)
    assert len(d.history().hands) == 2
    only_right = BOTH.copy()
    only_right[LEFT] = np.nan
    sides = [[hand.side for hand in d.answer(d.message(only_right)).hands] for _ in range(4)]
    assert sides == [[LEFT, RIGHT], [LEFT, RIGHT], [RIGHT], [RIGHT]]  # 0.1, 0.2, 0.3, 0.4 s after it was last seen


class Slow(Persistence):
    """Waits for the test before each forecast."""

    def __init__(self):
        super().__init__()
        self.spec = replace(self.spec, name="slow")
        self.go_on = threading.Event()
        self.stamps = []

    def forecast(self, window, hypotheses=1, seed=None):
        if float(window.stamp[0]) > 1e6:  # not the warm-up
            self.stamps.append(float(window.stamp[0]))
            self.go_on.wait(20)
        return super().forecast(window, hypotheses, seed)


def test_newest_wins_when_the_model_is_too_slow(probe, driver, registered):
    model = Slow()
    d = driver(forecaster=registered(model))
    messages = [d.message() for _ in range(1)]
    d.poses.publish(messages[0])
    probe.wait(lambda: model.stamps, 10, "first inference")
    for _ in range(8):
        messages.append(d.message())
        d.poses.publish(messages[-1])
        probe.wait(lambda: d.node.health.counted("observations") == len(messages), 10, "observation")
    model.go_on.set()
    probe.wait(lambda: len(d.forecasts) == 2, 10, "forecasts")
    assert d.forecasts[0].header.stamp == messages[0].header.stamp
    assert d.forecasts[1].header.stamp == messages[-1].header.stamp
    d.answer(d.message())  # the sentinel: nothing of the dropped ones comes any more
    assert len(d.forecasts) == 3 and d.node._worker.dropped == 7
    probe.wait(lambda: probe.diagnostics.get("forecaster", {}).get("dropped") == "7", 10, "drops in diagnostics")


def test_a_node_that_was_held_up_forecasts_the_newest_and_keeps_the_history(probe, driver):
    d = driver(forecaster="cvm")
    d.answer(d.message())
    # Nobody spins: the messages queue up.
    messages = [d.message(BOTH + VELOCITY * (i * STEP)) for i in range(8)]
    for message in messages:
        d.poses.publish(message)
    probe.wait(lambda: len(d.forecasts) >= 2, 10, "forecast")
    last = parse_hand_forecast_array_msg(d.forecasts[-1])
    assert d.forecasts[-1].header.stamp == messages[-1].header.stamp
    expected = BOTH[LEFT] + VELOCITY * (8 * STEP)
    assert (
        np.abs(last.hand(LEFT).keypoints[0, 0] - expected).max() < POSITION_GRID
    )  # the velocity of those that were passed over
    d.answer(d.message(BOTH))
    assert len(d.forecasts) == 3 and d.node._worker.dropped == 7


@pytest.mark.parametrize("adapt", [True, False])
def test_regions_are_adapted_to_what_happened_unless_told_otherwise(probe, driver, adapt):
    """A hand that jitters by 5 mm an axis, seen by a forecaster that gives no deviations of its own."""
    d, numbers = driver(adapt_uncertainty=adapt), np.random.default_rng(0)
    jitter = 0.005
    for _ in range(80):
        futures = d.answer(d.message(BOTH + numbers.normal(0.0, jitter, (2, 1, 3))))
    for hand in futures.hands:
        std = np.sqrt(np.diagonal(hand.wrist_covariance[0], axis1=-2, axis2=-1))
        if adapt:  # that of the difference of two positions
            assert np.allclose(std[:, :3], math.sqrt(2) * jitter, rtol=0.3)
            assert np.allclose(hand.keypoint_std[0], math.sqrt(2) * jitter, rtol=0.3)
        else:
            assert np.isnan(std).all()
    shown = lambda: probe.diagnostics.get("forecaster", {})  # noqa: E731
    probe.wait(lambda: int(shown().get("forecasts scored", 0)) >= 60, 10, "scores in diagnostics")
    assert shown()["regions adapted"] == str(adapt)
    assert float(shown()["ADE [m]"]) == pytest.approx(
        math.sqrt(2) * jitter * 1.6, rel=0.15
    )  # mean length of 3 Gaussians
    if not adapt:  # regions of a metre hold everything
        assert float(shown()["coverage of 90% regions"]) == 1.0


def test_hypotheses_are_limited_by_the_model(probe, driver):
    node = driver(autostart=False, hypotheses=2)
    assert not node.autostart() and "at most 1" in node.failure
    d = driver(forecaster="kalman", hypotheses=4, seed=3)
    assert len(d.history().hand(LEFT).probability) == 4
    assert not d.node.set_parameters([Parameter("hypotheses", value=100)])[0].successful
    assert d.node.set_parameters([Parameter("hypotheses", value=2)])[0].successful
    assert len(d.history().hand(LEFT).probability) == 2


def test_an_unknown_forecaster_ends_the_process_with_the_known_ones(ros):
    process = Process("forecaster", forecaster="crystal_ball")
    assert process.ended() == 2
    assert "crystal_ball" in process.errors and "persistence" in process.errors and "Traceback" not in process.errors
