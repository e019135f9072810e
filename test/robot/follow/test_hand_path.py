"""Paths of forecast hands: right at the points, smooth between them, still beyond them, whatever the frame."""

import numpy as np
import pytest

from egohand_ros.geometry.rotations import matrix_from_rotation_vector
from egohand_ros.hand.palm import to_palm_frame
from egohand_ros.robot.follow.hand_path import forecast_path, observed_path

RNG = np.random.default_rng(0)
HAND = np.cumsum(RNG.normal(0, 0.02, (21, 3)), axis=0)
STEPS = 0.1 * np.arange(1, 6)


def turning(angles):
    """The same hand, carried off and turned."""
    turns = [matrix_from_rotation_vector(np.array([0, 0, angle])) for angle in angles]
    return np.stack([HAND @ turn.T + RNG.normal(0, 1, 3) for turn in turns])


def test_a_hand_that_only_moves_rigidly_keeps_its_articulation_between_steps():
    path = forecast_path(10.0, STEPS, turning(0.6 * np.arange(1, 6)), np.full((5, 21), np.nan), "right", HAND)
    for time in np.linspace(9.0, 11.0, 41):
        np.testing.assert_allclose(path.at(time)[0], to_palm_frame(HAND, "right"), atol=1e-12)


def test_between_points_it_interpolates_and_beyond_them_it_stays():
    poses = np.stack([HAND * (1 + 0.1 * i) for i in range(1, 6)])
    std = np.linspace(0.01, 0.05, 5)[:, None] * np.ones(21)
    path = forecast_path(10.0, STEPS, poses, std, "right", HAND)
    palm = to_palm_frame(HAND, "right")
    for time, growth, deviation in ((9.0, 1.0, 0.0), (10.05, 1.05, 0.005), (10.25, 1.25, 0.025), (12.0, 1.5, 0.05)):
        keypoints, deviations = path.at(time)
        np.testing.assert_allclose(keypoints, palm * growth, atol=1e-12)
        np.testing.assert_allclose(deviations, deviation, atol=1e-12)
    assert path.end == pytest.approx(10.5)


def test_without_an_observation_the_steps_are_continued_back_to_the_stamp():
    poses = np.stack([HAND * (1 + 0.1 * i) for i in range(1, 6)])
    path = forecast_path(10.0, STEPS, poses, np.full((5, 21), np.nan), "left")
    for time in (9.0, 10.0, 10.05, 10.15):
        growth = 1.0 + max(time - 10.0, 0.0)
        np.testing.assert_allclose(path.at(time)[0], to_palm_frame(HAND, "left") * growth, atol=1e-12)


def test_one_step_alone_holds():
    path = forecast_path(10.0, STEPS[:1], HAND[None], np.full((1, 21), np.nan), "left")
    np.testing.assert_allclose(path.at(10.0)[0], to_palm_frame(HAND, "left"))


def test_a_live_pose_stays():
    path = observed_path(3.0, HAND, "right")
    np.testing.assert_allclose(path.at(99.0)[0], to_palm_frame(HAND, "right"))
