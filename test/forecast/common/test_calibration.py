"""Conformal factors: exact on hand-made scores, right on data they were not fitted to, and kept on disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from egohand_ros.errors import UserError
from egohand_ros.forecast.common.calibration import RADIUS, Calibration, calibrate, conformal_quantile, score
from egohand_ros.forecast.common.protocol import Forecast


def make_forecast(batch: int, steps: int = 3, std: float = 0.01) -> Forecast:
    covariance = torch.eye(6, dtype=torch.float64).mul(std**2).expand(batch, 1, steps, 2, 6, 6)
    return Forecast(
        stamp=torch.zeros(batch, dtype=torch.float64),
        step_times=0.1 * torch.arange(1, steps + 1, dtype=torch.float64),
        keypoints=torch.zeros(batch, 1, steps, 2, 21, 3, dtype=torch.float64),
        wrist_rotation=torch.eye(3, dtype=torch.float64).expand(batch, 1, steps, 2, 3, 3),
        keypoint_std=torch.full((batch, 1, steps, 2, 21), std, dtype=torch.float64),
        wrist_covariance=covariance,
        probability=torch.ones(batch, 1, dtype=torch.float64),
        valid=torch.ones(batch, 2, 21, dtype=torch.bool),
    )


def gaussian_truth(rng, batch: int, spread: np.ndarray) -> np.ndarray:
    """Keypoints (batch, S, 2, 21, 3) around zero with deviation `spread` (S,) m."""
    return rng.normal(size=(batch, len(spread), 2, 21, 3)) * spread[None, :, None, None, None]


def test_radius_is_that_of_a_gaussian():
    assert RADIUS**2 == pytest.approx(6.2514, abs=1e-4)
    assert chi2.cdf(RADIUS**2, 3) == pytest.approx(0.9)


def test_conformal_quantile_by_hand():
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    assert conformal_quantile(scores) == 9.0  # ceil(10 * 0.9) = 9th of 9
    assert conformal_quantile(np.append(scores, [10.0, np.nan])) == 10.0
    assert conformal_quantile(scores[:8]) == np.inf  # too few to promise 90 %
    assert conformal_quantile(scores, 0.5) == 5.0


def test_scores_are_promised_radii():
    truth = np.zeros((1, 3, 2, 21, 3))
    truth[..., 0] = 0.01 * RADIUS
    scores = score(make_forecast(1), truth, np.ones(truth.shape[:-1], bool))
    assert np.allclose(scores.position, 1.0) and np.allclose(scores.keypoint, 1.0)
    assert np.isnan(scores.rotation).all()
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    rotations = np.broadcast_to(turn, (1, 3, 2, 3, 3))
    scores = score(make_forecast(1), truth, np.ones(truth.shape[:-1], bool), rotations, np.ones((1, 3, 2), bool))
    assert np.allclose(scores.rotation, (np.pi / 2) / (0.01 * RADIUS))


def test_calibrated_regions_hold_what_they_promise():
    rng, spread = np.random.default_rng(0), np.array([0.005, 0.02, 0.03])
    valid = np.ones((3000, 3, 2, 21), bool)
    calibration = calibrate([score(make_forecast(3000), gaussian_truth(rng, 3000, spread), valid)])
    assert calibration.position == pytest.approx(spread / 0.01, rel=0.05)
    adjusted = calibration.apply(make_forecast(3000))
    fresh = score(adjusted, gaussian_truth(rng, 3000, spread), valid)
    assert (fresh.position <= 1.0).mean(axis=(0, 2)) == pytest.approx(0.9, abs=0.02)
    assert (fresh.keypoint <= 1.0).mean(axis=(0, 2, 3)) == pytest.approx(0.9, abs=0.02)


def test_a_forecaster_without_deviations_gets_constant_ones():
    rng, spread = np.random.default_rng(1), np.array([0.005, 0.02, 0.03])
    bare = make_forecast(2000)
    bare = replace(bare, wrist_covariance=bare.wrist_covariance * torch.nan, keypoint_std=bare.keypoint_std * torch.nan)
    calibration = calibrate([score(bare, gaussian_truth(rng, 2000, spread), np.ones((2000, 3, 2, 21), bool))])
    assert calibration.position == pytest.approx(spread, rel=0.06)
    given = calibration.apply(bare).wrist_covariance[0, 0, :, 0, 0, 0].sqrt().numpy()
    assert given == pytest.approx(spread, rel=0.06)


def test_what_is_not_valid_is_not_counted():
    truth, valid = np.full((20, 3, 2, 21, 3), 99.0), np.zeros((20, 3, 2, 21), bool)
    with pytest.raises(UserError, match="too little data"):
        calibrate([score(make_forecast(20), truth, valid)])
    valid[:, :, 1] = True
    truth[:, :, 1] = 0.0
    truth[:, :, 1, :, 1] = 0.01
    assert calibrate([score(make_forecast(20), truth, valid)]).position == pytest.approx([1 / RADIUS] * 3, abs=1e-6)


def test_file_round_trip_and_mistakes(tmp_path):
    calibration = Calibration(np.array([1.0, 2.0]), np.array([0.5, 0.25]), np.array([1.5, 1.25]), 42)
    calibration.save(tmp_path / "calibration.json")
    again = Calibration.load(tmp_path / "calibration.json")
    assert again.to_json() == calibration.to_json() and again.samples == 42
    for wrong in ("nonsense", "{}", '{"coverage": 0.5, "position": [1], "rotation": [1], "keypoint": [1]}'):
        (tmp_path / "calibration.json").write_text(wrong)
        with pytest.raises(UserError, match="calibrat"):
            Calibration.load(tmp_path / "calibration.json")
