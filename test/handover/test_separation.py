"""How fast the robot may close in: the formula, its inverse, the person's body, and what forecasts may do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import future, futures, hand_at

from egohand_ros.handover.separation import (
    RADIUS_90,
    SeparationOptions,
    allowed_speed,
    forecast_separation,
    measure_pairs,
    person_body,
    region_90,
    required_separation,
)

ROUNDING = 1e-12  # m/s
OPTIONS = SeparationOptions()
speeds = st.floats(0.001, 3.0)
ROBOT = (np.array([[0.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 0.5]]), np.array([0.05]))


def test_the_formula_is_the_standards():
    """Each term by hand: 1.6 (0.08 + 0.13) + 0.5 0.08 + 0.5 0.13 / 2 + 0.035, at 0.5 m/s."""
    stop = 0.5 / 5.0 + 0.03
    expected = 1.6 * (0.08 + stop) + 0.5 * 0.08 + 0.5 * stop / 2 + 0.03 + 0.005
    assert required_separation(0.5, OPTIONS) == pytest.approx(expected)
    later = SeparationOptions(reaction_time=0.18)
    assert required_separation(1.0, later) - required_separation(1.0, OPTIONS) == pytest.approx(0.26)  # the known price


@given(speeds, st.floats(0.0, 4.0))
def test_the_allowed_speed_is_the_inverse_of_the_required_separation(speed, human):
    distance = required_separation(speed, OPTIONS, human)
    assert allowed_speed(distance, OPTIONS, human) == pytest.approx(speed, rel=1e-6)


@given(st.floats(-0.5, 3.0), st.floats(0.0, 2.0), st.floats(0.0, 4.0))
def test_nearer_or_faster_people_never_allow_more(distance, more, human):
    allowed = allowed_speed(distance, OPTIONS, human)
    assert allowed <= allowed_speed(distance + more, OPTIONS, human) + ROUNDING
    assert allowed_speed(distance, OPTIONS, human + more) <= allowed + ROUNDING
    assert allowed_speed(distance, OPTIONS, human) >= 0.0


def test_a_measured_hand_counts_with_at_least_the_worst_speed():
    assert allowed_speed(0.5, OPTIONS, 0.0) == allowed_speed(0.5, OPTIONS, 1.6) > allowed_speed(0.5, OPTIONS, 2.5)


def test_a_persons_body_covers_what_is_seen():
    head = np.array([1.4, 0.0, 0.6])
    body = person_body(hand_at([0.9, -0.2, 0.3]), head)
    names = [(int(s), bool(h)) for s, h in zip(body.side, body.is_hand)]
    assert names == [(1, True), (1, True), (1, False), (-1, False), (-1, False)]
    keypoints = hand_at([0.9, -0.2, 0.3])[1]
    along = body.end[0] - body.start[0]
    t = np.clip((keypoints - body.start[0]) @ along / (along @ along), 0, 1)
    off = np.linalg.norm(keypoints - body.start[0] - t[:, None] * along, axis=-1)
    assert (off <= body.radius[0]).all()
    assert len(person_body(np.full((2, 21, 3), np.nan))) == 0


def test_the_right_shoulder_is_on_the_right_of_one_who_faces_the_robot():
    body = person_body(hand_at([0.9, 0.0, 0.3]), np.array([1.4, 0.0, 0.6]))
    assert body.end[2, 1] > 0.1  # who looks along -x has the right hand at +y


def test_only_the_transferring_hand_is_exempt_and_only_at_its_speed():
    keypoints = hand_at([0.2, 0.0, 0.25])
    keypoints[0] = hand_at([0.2, 0.1, 0.25], side=0)[0]
    body = person_body(keypoints, np.array([0.6, 0.0, 0.6]))
    free = measure_pairs(ROBOT, body, OPTIONS)
    exempt = measure_pairs(ROBOT, body, OPTIONS, exempt_side=1)
    assert free.allowed[(body.side[free.person] == 1) & body.is_hand[free.person]].max() == 0.0
    hand = body.is_hand[exempt.person] & (body.side[exempt.person] == 1)
    assert exempt.allowed[hand] == pytest.approx(OPTIONS.transfer_speed)
    assert (exempt.allowed[~hand] == free.allowed[~hand]).all()


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_a_forecast_is_never_better_than_the_nearest_of_its_steps(seed):
    rng = np.random.default_rng(seed)
    paths = rng.uniform(0.1, 1.5, size=(4, 6, 3))
    result = forecast_separation(ROBOT, futures(future(paths, 1e-3)), OPTIONS, now=0.0)
    flat = paths.reshape(-1, 3)
    axis = np.clip(flat[:, 2], 0.0, 0.5)
    gap = np.linalg.norm(flat - np.stack([0 * axis, 0 * axis, axis], 1), axis=1) - 0.05 - 0.012 - RADIUS_90 * 1e-3**0.5
    assert result.distance == pytest.approx(gap.min())
    to_go = np.tile(0.1 * np.arange(1, 7), 4)
    assert result.speed == pytest.approx((allowed_speed(gap, OPTIONS) + 2.0 * to_go).min())


@given(st.floats(1e-6, 0.05), st.integers(1, 5))
def test_less_sure_forecasts_and_more_hypotheses_only_slow(covariance, more):
    rng = np.random.default_rng(more)
    one = rng.uniform(0.2, 1.0, size=(1, 5, 3))
    many = np.concatenate([one, rng.uniform(0.2, 1.0, size=(more, 5, 3))])
    sure = forecast_separation(ROBOT, futures(future(one)), OPTIONS, 0.0)
    unsure = forecast_separation(ROBOT, futures(future(one, covariance)), OPTIONS, 0.0)
    several = forecast_separation(ROBOT, futures(future(many, covariance)), OPTIONS, 0.0)
    assert several.speed <= unsure.speed <= sure.speed
    assert (several.allowed <= unsure.allowed).all() and (unsure.allowed <= sure.allowed).all()
    assert several.distance <= unsure.distance <= sure.distance


def test_steps_that_have_passed_and_no_forecast_say_nothing():
    near = futures(future(np.full((1, 3, 3), 0.1)))
    assert forecast_separation(ROBOT, near, OPTIONS, now=0.31).speed == np.inf
    assert forecast_separation(ROBOT, None, OPTIONS, now=0.0).distance == np.inf
    assert np.isfinite(forecast_separation(ROBOT, near, OPTIONS, now=0.29).speed)


def test_the_region_holds_nine_tenths():
    rng = np.random.default_rng(0)
    covariance = np.eye(3) * 4e-4
    samples = rng.multivariate_normal(np.zeros(3), covariance, 20000)
    inside = np.linalg.norm(samples, axis=1) <= region_90(covariance)
    assert inside.mean() == pytest.approx(0.9, abs=0.01)
    assert region_90(np.full((3, 3), np.nan)) == 0.0


def test_options_that_contradict_are_refused():
    with pytest.raises(ValueError, match="forecast_deceleration"):
        SeparationOptions(deceleration=1.0)
    with pytest.raises(ValueError, match="positive"):
        SeparationOptions(reaction_time=0.0)
