import numpy as np
import pytest

from egohand_ros.forecast.live.temporal_filter import TemporalOrthogonalFilter
from egohand_ros.geometry.rotations import geodesic_angle, matrix_from_rotation_vector

HAND = np.random.default_rng(0).normal(scale=0.05, size=(21, 3))
HAND -= HAND[0]
STEPS = 0.1 * np.arange(1, 11)


def truth(times):
    rotation = matrix_from_rotation_vector(np.stack([0 * times, 0.2 * times, 0.8 * times], axis=-1))
    wrist = np.stack([0.3 * times, np.sin(times), 0 * times], axis=-1)
    return wrist[:, None] + HAND @ np.swapaxes(rotation, -1, -2), rotation


def noisy(times, rng, position=0.01, angle=0.1):
    keypoints, rotation = truth(times)
    wrist = keypoints[:, :1] + rng.normal(scale=position, size=(len(times), 1, 3))
    turned = rotation @ matrix_from_rotation_vector(rng.normal(scale=angle, size=(len(times), 3)))
    return wrist + HAND @ np.swapaxes(turned, -1, -2), turned


def test_one_forecast_comes_back_as_it_was():
    tof = TemporalOrthogonalFilter(horizon=1.0)
    keypoints, rotation = truth(5.0 + STEPS)
    tof.add(5.0, 5.0 + STEPS, keypoints, rotation)
    out, turn, known = tof.at(5.0 + STEPS)
    assert known.all()
    np.testing.assert_allclose(out, keypoints, atol=1e-9)
    np.testing.assert_allclose(turn, rotation, atol=1e-9)
    assert not tof.at(np.array([5.0, 6.5]))[2].any()


def test_averaging_overlapping_forecasts_cuts_error_and_jitter_and_keeps_the_hand_rigid():
    rng = np.random.default_rng(1)
    tof = TemporalOrthogonalFilter(horizon=1.0)
    raw_error, error, raw, filtered, angles, raw_angles = [], [], [], [], [], []
    for stamp in 10.0 + 0.1 * np.arange(60):
        keypoints, rotation = noisy(stamp + STEPS, rng)
        tof.add(stamp, stamp + STEPS, keypoints, rotation)
        if stamp < 11.0:
            continue  # the first horizon has few forecasts to average
        want, want_rotation = truth(np.array([stamp + 0.1]))
        out, turn, known = tof.at(np.array([stamp + 0.1]))
        assert known.all()
        bones = np.linalg.norm(out[0] - out[0, :1], axis=-1)
        np.testing.assert_allclose(bones, np.linalg.norm(HAND, axis=-1), atol=1e-6)
        raw_error.append(np.linalg.norm(keypoints[0, 0] - want[0, 0]))
        error.append(np.linalg.norm(out[0, 0] - want[0, 0]))
        raw_angles.append(geodesic_angle(rotation[0], want_rotation[0]))
        angles.append(geodesic_angle(turn[0], want_rotation[0]))
        raw.append(keypoints[0, 0])
        filtered.append(out[0, 0])
    assert np.mean(error) < 0.5 * np.mean(raw_error)  # ten independent errors averaged: 0.32
    assert np.mean(angles) < 0.5 * np.mean(raw_angles)
    assert np.std(np.diff(filtered, 3, axis=0)) < 0.5 * np.std(np.diff(raw, 3, axis=0))


def test_recent_forecasts_count_more_when_asked_to():
    plain, recent = TemporalOrthogonalFilter(1.0), TemporalOrthogonalFilter(1.0, recency=0.1)
    for stamp, offset in ((3.0, 0.0), (3.5, 1.0)):
        keypoints = np.broadcast_to(HAND + [offset, 0, 0], (10, 21, 3))
        for tof in (plain, recent):
            tof.add(stamp, stamp + STEPS, keypoints, np.tile(np.eye(3), (10, 1, 1)))
    assert plain.at(np.array([3.8]))[0][0, 0, 0] == pytest.approx(0.5)
    assert recent.at(np.array([3.8]))[0][0, 0, 0] == pytest.approx(1.0 / (1.0 + np.exp(-5.0)))


def test_a_ring_that_wraps_and_a_clock_that_restarts_leave_nothing_old_behind():
    tof = TemporalOrthogonalFilter(horizon=1.0)
    for stamp in (2.0, 500.0, 3.0):
        keypoints, rotation = truth(stamp + STEPS)
        tof.add(stamp, stamp + STEPS, keypoints, rotation)
        np.testing.assert_allclose(tof.at(stamp + STEPS)[0], keypoints, atol=1e-9)
    assert not tof.at(np.array([500.5]))[2].any()
    with pytest.raises(ValueError, match="grid is 2.0"):
        TemporalOrthogonalFilter(1.0, grid=2.0)
