"""The forecaster node and input that is wrong: refused by its reason, counted, never forecast."""

import copy
import math
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from forecaster_driver import BOTH, LEFT, RIGHT, STEP

from egohand_ros.messages.forecast import POSITION_GRID, parse_hand_forecast_array_msg
from egohand_ros.messages.hands import hands
from egohand_ros.nodes.messages.basic import time_msg
from egohand_ros.nodes.messages.hands import build_hand_pose_array_msg


def bad_messages(driver):
    """(reason, message): every way in which a hand message can be wrong."""
    two, last_good = driver.message, driver.stamp

    def with_(change):
        message = two()
        message.hands[0].header = copy.deepcopy(message.header)
        change(message)
        return message

    nan = BOTH.copy()
    valid = np.ones((2, 21), dtype=bool)
    nan[0, 3] = np.nan
    yield "non_finite_keypoint", two(nan, valid=valid)
    yield "huge_value", two(BOTH + 1e9)
    yield "implausible_hand", two(BOTH * 50)
    yield "implausible_hand", two(BOTH.mean(1, keepdims=True) + 0 * BOTH)
    yield "empty_frame", two(frame="")
    yield "unknown_frame", two(frame="somewhere")
    yield "unknown_side", with_(lambda m: setattr(m.hands[0], "side", 7))
    yield "duplicate_side", with_(lambda m: setattr(m.hands[0], "side", 1))
    yield "unknown_state", with_(lambda m: setattr(m.hands[0], "tracking_state", 9))
    yield "non_unit_quaternion", with_(lambda m: setattr(m.hands[0].wrist_orientation, "w", 7.0))
    yield "non_finite_pose", with_(lambda m: setattr(m.hands[0].wrist_orientation, "w", math.inf))
    yield "bad_covariance", with_(lambda m: m.hands[0].wrist_covariance.__setitem__(0, math.nan))
    yield "bad_confidence", with_(lambda m: setattr(m.hands[0], "confidence", 3.0))
    yield "frame_mismatch", with_(lambda m: setattr(m.hands[0].header, "frame_id", "other"))
    yield "stamp_mismatch", with_(lambda m: setattr(m.hands[0].header, "stamp", time_msg(5.0)))
    now = driver.probe.now()
    for reason, stamp in (("zero_stamp", 0.0), ("future_stamp", now + 100.0), ("stale_stamp", now - 100.0)):
        yield reason, build_hand_pose_array_msg(hands(stamp, "camera", BOTH))
    yield "out_of_order", build_hand_pose_array_msg(hands(last_good - 0.2, "camera", BOTH))
    yield "bad_stamp", with_(lambda m: setattr(m.header.stamp, "nanosec", 4_000_000_000))


def test_every_malformed_hand_is_refused_by_its_reason_and_never_forecast(probe, driver):
    d = driver()
    d.history()
    published, wanted = [], {}
    for reason, message in bad_messages(d):
        for hand in message.hands:
            if reason == "bad_stamp":
                hand.header.stamp = message.header.stamp
        d.poses.publish(message)
        probe.spin(0.01)
        published.append(message.header.stamp)
        wanted[reason] = wanted.get(reason, 0) + 1
    sentinel = d.message()
    futures = d.answer(sentinel)
    for hand in futures.hands:  # persistence: had anything bad got in, it would be repeated here
        assert np.allclose(hand.keypoints[0, 0], BOTH[hand.side], atol=POSITION_GRID)
    forecast_stamps = [f.header.stamp for f in d.forecasts]
    assert len(forecast_stamps) == 4 and not any(stamp in forecast_stamps for stamp in published)
    counted = {reason: d.node.health.rejected(reason) for reason in wanted}
    # Both hands of the huge and the shrunken message are refused, one by one.
    assert counted == wanted | {"implausible_hand": 4}
    shown = lambda: probe.diagnostics.get("forecaster", {})  # noqa: E731
    keys = {f"rejected/hand_poses/{reason}" for reason in wanted}
    probe.wait(lambda: keys <= set(shown()), 10, "diagnostics by reason")
    assert probe.levels["forecaster"][0] == 1


ODD_NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1.0, 3.0, 1e-30, 1e30, -1e37)


def mangle(message, numbers):
    """A few random fields of a HandPoseArray get random values, some of them sensible."""
    for _ in range(numbers.integers(1, 4)):
        hand = message.hands[numbers.integers(len(message.hands))] if message.hands else None
        odd = ODD_NUMBERS[numbers.integers(len(ODD_NUMBERS))]
        what = numbers.integers(9)
        if hand is None or what == 0:
            message.header.frame_id = ("", "camera", "x" * 300, "other")[numbers.integers(4)]
        elif what == 1:
            message.header.stamp = time_msg(float(numbers.choice([0.0, 1.0, 2e9, time.time(), time.time() - 3.0])))
        elif what == 2:
            setattr(hand.keypoints[numbers.integers(21)], "xyz"[numbers.integers(3)], odd)
        elif what == 3:
            setattr(hand.wrist_orientation, "xyzw"[numbers.integers(4)], odd)
        elif what == 4:
            hand.wrist_covariance[numbers.integers(21)] = odd
        elif what == 5:
            hand.side = int(numbers.integers(4))
        elif what == 6:
            hand.valid = (numbers.random(21) < 0.5).tolist()
        elif what == 7:
            hand.tracking_state = int(numbers.integers(5))
        else:
            message.hands = [hand] * int(numbers.integers(4))
    return message


def test_a_flood_of_mangled_messages_brings_nothing_odd_out_and_ends_in_a_right_forecast(probe, driver):
    d = driver()
    numbers = np.random.default_rng(0)
    count = 600
    for i in range(count):
        message = d.message()
        d.poses.publish(mangle(message, numbers) if i % 5 else message)
        d.stamp -= 0.9 * STEP
        if i % 10 == 9:
            probe.wait(lambda: d.node.health.counted("received/hand_poses") == i + 1, 10, "reception")
    # Later than anything that was taken, and long enough for a frame that was taken to be given up.
    d.stamp = probe.now() - 2.0
    futures = d.history()
    for hand in futures.hands:
        assert np.abs(hand.keypoints[0] - BOTH[hand.side]).max() < POSITION_GRID
    assert len(futures.hands) == 2 and futures.frame_id == "camera"
    for message in d.forecasts:
        for hand in parse_hand_forecast_array_msg(message).hands:
            assert np.nanmax(np.abs(hand.keypoints)) < 1e4
    assert d.node.health.rejected("internal_error") == 0
    reasons = {reason for (_, reason) in d.node.health._edges}
    assert len(reasons) > 10


def test_one_bad_hand_does_not_take_the_other_with_it(probe, driver):
    d = driver()
    broken = BOTH.copy()
    broken[LEFT] *= 50
    futures = d.answer(d.message(broken))
    assert [hand.side for hand in futures.hands] == [RIGHT]
    assert d.node.health.rejected("implausible_hand") == 1


def test_silence_is_reported_and_grows_into_an_error(probe, driver):
    d = driver()
    d.answer(d.message())
    level = lambda: probe.levels.get("forecaster", (0, ""))  # noqa: E731
    probe.wait(lambda: level()[0] == 1 and "no hands for" in level()[1], 10, "warning")
    d.node.inputs.last_input -= 10.0  # as if ten more seconds had passed
    probe.wait(lambda: level()[0] == 2, 10, "error")
    d.answer(d.message())
    probe.wait(lambda: level()[0] == 0, 10, "recovery", each=lambda: d.answer(d.message()))
