"""Where and when hands meet: reaches of known ends, and several hypotheses at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import future

from egohand_ros.handover.transfer import TransferOptions, aperture, expected_transfer, rest_steps

TIMES = 0.1 * np.arange(1, 16)
OPTIONS = TransferOptions(time_std=0.01, time_growth=0.0)


def everywhere(points):
    return np.ones(points.shape[:-1], dtype=bool)


def reach(start, end, after, times=TIMES):
    """A minimum-jerk reach (S, 3) that begins at 0 s and is over `after` s later."""
    s = np.clip(times / after, 0.0, 1.0)[:, None]
    return start + (np.asarray(end) - start) * (10 * s**3 - 15 * s**4 + 6 * s**5)


@settings(max_examples=50)
@given(st.floats(0.5, 1.3), st.floats(0.2, 0.7))
def test_a_reach_ends_where_and_when_it_does(after, length):
    start, end = np.zeros(3), np.array([length, 0.0, 0.0])
    transfer = expected_transfer(future(reach(start, end, after)[None]), 0.0, TIMES, start, everywhere, OPTIONS)
    assert np.linalg.norm(transfer.position - end) < 0.02
    fine = np.arange(0.0, after, 1e-3)
    speed = np.linalg.norm(np.gradient(reach(start, end, after, fine), 1e-3, axis=0), axis=1)
    assert transfer.time[1] == pytest.approx(fine[speed > OPTIONS.rest_speed][-1], abs=0.07)
    assert transfer.time[0] <= transfer.time[1] <= transfer.time[2]
    assert transfer.probability == pytest.approx(1.0)


def test_hypotheses_that_differ_make_it_less_sure():
    start = np.zeros(3)
    ends = [np.array([0.5, y, 0.0]) for y in (-0.1, 0.0, 0.1)]
    paths = np.stack([reach(start, end, 0.6 + 0.2 * i) for i, end in enumerate(ends)])
    one = expected_transfer(future(paths[1:2]), 0.0, TIMES, start, everywhere, OPTIONS)
    many = expected_transfer(future(paths), 0.0, TIMES, start, everywhere, OPTIONS)
    assert many.covariance[1, 1] == pytest.approx(0.02 / 3, rel=0.1)
    assert many.radius > one.radius
    assert many.time[2] - many.time[0] > 0.3 > one.time[2] - one.time[0]


def test_covariance_counts_unless_it_is_left_out():
    start = np.zeros(3)
    hand = future(reach(start, [0.4, 0, 0], 0.8)[None], covariance=1e-3)
    with_it = expected_transfer(hand, 0.0, TIMES, start, everywhere)
    without = expected_transfer(hand, 0.0, TIMES, start, everywhere, use_covariance=False)
    assert with_it.covariance == pytest.approx(1e-3 * np.eye(3))
    assert without.radius == 0.0


def test_a_hand_that_does_not_come_to_rest_has_no_time():
    start = np.zeros(3)
    moving = np.linspace([0.1, 0, 0], [1.5, 0, 0], 15)[None]
    transfer = expected_transfer(future(moving), 0.0, TIMES, start, everywhere)
    assert np.isinf(transfer.time).all() and transfer.probability == 0.0
    assert transfer.position == pytest.approx([1.5, 0, 0])


def test_rest_out_of_reach_does_not_count():
    start = np.zeros(3)
    hand = future(reach(start, [0.4, 0, 0], 0.8)[None])
    nowhere = expected_transfer(hand, 0.0, TIMES, start, lambda p: p[..., 0] > 1.0)
    assert nowhere.probability == 0.0


def test_a_quantile_beyond_what_comes_to_rest_is_unknown():
    start = np.zeros(3)
    paths = np.stack([reach(start, [0.4, 0, 0], 0.8), np.linspace([0.1, 0, 0], [1.5, 0, 0], 15)])
    transfer = expected_transfer(future(paths, probability=np.array([0.7, 0.3])), 0.0, TIMES, start, everywhere)
    assert np.isfinite(transfer.time[:2]).all() and np.isinf(transfer.time[2])
    assert transfer.probability == pytest.approx(0.7)


def test_a_hand_at_rest_is_there_now():
    still = np.full((1, 15, 3), 0.4)
    steps, after = rest_steps(still, TIMES, np.full(3, 0.4), everywhere, 0.1)
    assert steps.tolist() == [0] and after.tolist() == [0.0]


def test_what_is_further_ahead_is_less_sure():
    start = np.zeros(3)
    soon, late = (expected_transfer(future(reach(start, [0.4, 0, 0], after)[None]), 0.0, TIMES, start, everywhere).time
                  for after in (0.5, 1.2))  # fmt: skip
    assert late[2] - late[0] > 1.5 * (soon[2] - soon[0]) > 0.1


def test_aperture_is_open_or_closed():
    keypoints = np.zeros((21, 3))
    keypoints[4] = (0.0, 0.1, 0.0)
    assert aperture(keypoints) == pytest.approx(0.1)
