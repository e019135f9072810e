"""From the path of a human hand to the command stream: which moment is commanded, and what doubt does to it."""

import numpy as np
import pytest

from egohand_ros.errors import RejectedInput
from egohand_ros.hand.poses import posed_hand
from egohand_ros.hand.skeleton import FINGERS
from egohand_ros.robot.follow.command_stream import Follower, FollowerOptions
from egohand_ros.robot.follow.forecast_gain import ForecastGain
from egohand_ros.robot.follow.hand_path import HandPath
from egohand_ros.robot.follow.path_follower import ConfidenceGate, PathFollower
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.limits.audit import audit_limits

HAND = load_hand("allegro_right")
START = 50.0


def hand_at(time):
    """Keypoints (21, 3) m of a hand that closes steadily."""
    return posed_hand(dict.fromkeys(FINGERS, 0.2 + 0.5 * (time - START)), spread=0.5, opposition=0.4)


def path(stamp, std=np.nan, motion=1.0, steps=11):
    """The future of `hand_at`, exaggerated by `motion`, with a deviation that grows to `std` m."""
    times = stamp + 0.1 * np.arange(steps)
    keypoints = np.array([hand_at(stamp + motion * (time - stamp)) for time in times])
    return HandPath(times, keypoints, np.linspace(0.0, 1.0, steps)[:, None] * std * np.ones(21))


def solved(keypoints):
    follower = PathFollower(HAND)
    return follower.follow(HandPath(np.array([1.0]), keypoints[None], np.full((1, 21), np.nan)), 1.0, 1.0, 0.0).q


def test_the_pose_of_the_moment_of_effect_is_commanded():
    now = START + 0.5
    for lead in (0.0, 0.15, 0.4):
        aim = PathFollower(HAND).follow(path(now - 0.05), now - 0.05, now, lead)
        assert aim.lead == pytest.approx(lead + 0.05)
        np.testing.assert_allclose(aim.q, solved(hand_at(now + lead)), atol=0.03)


@pytest.mark.parametrize("std, share", [(0.0, 1.0), (0.02, 1.0), (0.625, 0.5), (2.0, 0.0)])
def test_doubt_shortens_the_way_ahead_down_to_the_observation(std, share):
    # The deviation at the lead of 0.2 s is a fifth of the last one: sure up to 0.05 m, lost from 0.2 m on.
    aim = PathFollower(HAND, gate=ConfidenceGate(0.05, 0.2)).follow(path(START, std), START, START, 0.2)
    assert aim.lead == pytest.approx(0.2 * share, abs=1e-6)
    if share == 0.0:
        np.testing.assert_allclose(aim.q, solved(hand_at(START)), atol=1e-3)


def test_a_hopeless_observation_is_refused_and_a_hand_that_is_none_too():
    follower = PathFollower(HAND)
    hopeless = HandPath(START + np.array([0.0, 0.5]), np.stack([hand_at(START)] * 2), np.full((2, 21), 1.0))
    with pytest.raises(RejectedInput, match="low_confidence"):
        follower.follow(hopeless, START, START, 0.1)
    with pytest.raises(RejectedInput):
        follower.follow(HandPath(np.array([START]), np.full((1, 21, 3), np.nan), np.zeros((1, 21))), START, START, 0.1)


@pytest.mark.parametrize("motion, gain", [(1.0, 1.0), (2.0, 0.5), (-1.0, 0.0), (0.5, 1.0)])
def test_forecast_motion_counts_as_far_as_it_came_true(motion, gain):
    learned, lead = ForecastGain(), 0.2
    for i in range(300):
        stamp = START + i / 30.0
        phase = START + 0.5 + 0.4 * np.sin(stamp)
        future = START + 0.5 + 0.4 * np.sin(stamp + 0.1 * np.arange(6))
        keypoints = np.array([hand_at(phase + motion * (time - phase)) for time in future])
        keypoints[0] = hand_at(phase)
        scaled = learned(HandPath(stamp + 0.1 * np.arange(6), keypoints, np.full((6, 21), np.nan)), stamp, lead)
    assert learned.value == pytest.approx(gain, abs=0.12)
    np.testing.assert_allclose(scaled.keypoints[0], keypoints[0])
    apart = scaled.keypoints[2] - keypoints[0]
    np.testing.assert_allclose(apart, learned.value * (keypoints[2] - keypoints[0]), atol=1e-12)


@pytest.mark.parametrize("blend_time, gentle", [(0.05, True), (0.0, False)])
def test_a_new_path_takes_over_without_a_jump_of_position_or_velocity(blend_time, gentle):
    follower, sent = Follower(HAND, FollowerOptions(blend_time=blend_time)), []
    follower.enable(START, HAND.rest_q)
    for i in range(300):
        now = START + 0.005 * i
        if i % 12 == 0:  # they contradict each other by 5 mrad
            times = now + np.array([0.0, 0.5])
            q = HAND.rest_q + 0.1 * (times[:, None] - START) + 0.005 * (i % 24 == 0)
            follower.set_path(times, q, now, now)
        sent.append(follower.tick(now))
    acceleration = np.diff([command.qd for command in sent[150:]], axis=0) / 0.005
    assert bool(np.abs(acceleration).max() < 0.5 * HAND.acceleration_limit.max()) is gentle
    np.testing.assert_allclose(sent[-1].q, HAND.rest_q + 0.1 * (now - START), atol=0.006)


@pytest.mark.parametrize("seed", range(2))
def test_late_lost_reordered_and_contradictory_paths_of_hands_break_no_limit(seed):
    rng = np.random.default_rng(seed)
    follower = PathFollower(HAND, options=FollowerOptions(blend_time=rng.choice([0.0, 0.03])))
    now, sent, refused = START, [], 0
    follower.commands.enable(now)
    for _ in range(400):
        now += rng.choice([0.005, rng.uniform(0.0006, 0.03), rng.uniform(0.0, 0.4)], p=[0.8, 0.15, 0.05])
        made = now - rng.choice([0.03, rng.uniform(0.0, 0.6), -0.2])
        keypoints = hand_at(START + rng.uniform(0.0, 2.0, 4)[:, None, None].mean()) + rng.normal(
            0, rng.choice([0.001, 0.03]), (4, 21, 3)
        )
        future = HandPath(
            made + np.array([0.0, 0.1, 0.2, 0.5]), keypoints, np.full((4, 21), rng.choice([np.nan, 0.01, 0.1]))
        )
        try:
            aim = follower.follow(future, made, now, rng.uniform(0.0, 0.4), rng.random())
            follower.look_ahead(aim, made, now)
        except RejectedInput:
            refused += 1
        command = follower.commands.tick(now)
        if command is not None:
            sent.append(command)
    assert refused > 20 and len(sent) > 300
    audit = audit_limits(HAND, [c.stamp for c in sent], [c.q for c in sent])
    assert audit.violations == 0, audit
