"""Metrics against values computed by hand."""

import numpy as np
import pytest

from egohand_ros.evaluation.metric_sets import METRIC_SETS, Compared
from egohand_ros.evaluation.metrics import (
    CHI2_3_90,
    METRICS,
    Errors,
    Mean,
    ade,
    fde,
    mpjpe,
    mpjpe_final,
    mpjpe_without_wrists,
    wrist_coverage,
)
from egohand_ros.evaluation.protocol import _best

LEFT, RIGHT, WRIST = 0, 1, 0


def still(samples=1, frames=2):
    return np.zeros((samples, frames, 2, 21, 3))


def test_displacement_is_mean_over_wrists_then_frames_then_samples():
    actual, forecast = still(samples=2), still(samples=2)
    valid = np.zeros((2, 2, 2, 21), bool)
    # Sample 0: the right wrist is 3 cm off in frame 0; both are off in frame 1, by 1 cm and 5 cm (3-4-5).
    forecast[0, 0, RIGHT, WRIST, 0] = 0.03
    forecast[0, 1, RIGHT, WRIST, 1] = 0.01
    forecast[0, 1, LEFT, WRIST] = [0.03, 0.0, 0.04]
    valid[0, 0, RIGHT, WRIST] = valid[0, 1, :, WRIST] = True
    # Sample 1: the left wrist alone, off by 10 cm in frame 1 only.
    forecast[1, 1, LEFT, WRIST, 2] = 0.10
    valid[1, :, LEFT, WRIST] = True
    errors = Errors.between(forecast, actual, valid)
    # Sample 0: (3 + (1 + 5) / 2) / 2 = 3 cm; sample 1: (0 + 10) / 2 = 5 cm. Pooling the wrists would give 3.17 cm.
    assert ade(errors).value == pytest.approx(0.04)
    assert fde(errors).value == pytest.approx((0.03 + 0.10) / 2)


def test_pose_error_is_relative_to_the_own_wrist_and_pooled_with_the_wrists_zeros():
    forecast = still()
    forecast[..., 0] += 0.2  # moving the whole hand costs nothing
    forecast[0, 0, RIGHT, 8, 1] = 0.06
    forecast[0, 1, RIGHT, 8, 1] = 0.12
    valid = np.zeros((1, 2, 2, 21), bool)
    valid[:, :, RIGHT, [WRIST, 8, 4]] = True
    errors = Errors.between(forecast, still(), valid)
    assert mpjpe(errors).value == pytest.approx((0.06 + 0.12) / 6)  # 2 frames x (wrist, thumb tip, index tip)
    assert mpjpe_final(errors).value == pytest.approx(0.12 / 3)
    assert mpjpe_without_wrists(errors).value == pytest.approx((0.06 + 0.12) / 4)


def test_a_wrist_error_counts_in_the_pose_of_its_own_hand_only():
    forecast = still(frames=1)
    forecast[0, 0, LEFT, WRIST, 0] = 0.05
    errors = Errors.between(forecast, still(frames=1), True)
    assert mpjpe(errors).value == pytest.approx(20 * 0.05 / 42)


def test_keypoints_of_a_hand_without_wrist_do_not_count():
    forecast = still(frames=1)
    forecast[0, 0, LEFT, 5] = 9.0
    valid = np.ones((1, 1, 2, 21), bool)
    valid[0, 0, LEFT, WRIST] = False
    assert mpjpe(Errors.between(forecast, still(frames=1), valid)).value == 0.0


def test_metrics_of_batches_add_up_to_the_metric_of_all():
    rng = np.random.default_rng(0)
    forecast, actual = rng.normal(size=(2, 7, 5, 2, 21, 3))
    valid = rng.random((7, 5, 2, 21)) < 0.8
    whole = Errors.between(forecast, actual, valid)
    parts = [Errors.between(forecast[s], actual[s], valid[s]) for s in (slice(0, 2), slice(2, 7))]
    for name, metric in METRICS.items():
        assert sum((metric(part) for part in parts), Mean()).value == pytest.approx(metric(whole).value), name


def test_nothing_valid_is_nan_and_not_zero():
    errors = Errors.between(still(), still(), False)
    assert np.isnan(ade(errors).value) and np.isnan(mpjpe(errors).value)


def test_best_hypothesis_is_chosen_for_each_sample_by_its_displacement():
    first, second = still(samples=2, frames=1), still(samples=2, frames=1)
    first[0, 0, :, :, 0], second[1, 0, :, :, 0] = 1.0, 2.0
    second[0, 0, :, 8, 1] = 0.5
    turn = np.tile(np.eye(3), (2, 1, 2, 1, 1))
    every = np.ones((2, 2, 21), bool)
    both = [Compared(f, still(samples=2, frames=1), every, turn, turn, every[..., 0]) for f in (first, second)]
    best = _best(both, METRIC_SETS["egoexo4d"].distance).errors()
    assert ade(best).value == 0.0
    assert best.absolute[0, 0, 0, 8] == 0.5


def test_coverage_of_a_true_gaussian_is_what_it_says():
    rng = np.random.default_rng(1)
    root = np.diag([0.1, 0.02, 0.3]) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    actual = rng.normal(size=(20000, 3)) @ root
    covariance = np.broadcast_to(root.T @ root, (20000, 3, 3))
    cover = wrist_coverage(np.zeros_like(actual), covariance, actual, np.ones(20000, bool))
    assert cover.value == pytest.approx(0.90, abs=0.01)
    inside = np.array([[np.sqrt(CHI2_3_90) * 0.999, 0, 0]])
    assert wrist_coverage(np.zeros((1, 3)), np.eye(3)[None], inside, np.array([True])).value == 1.0
    assert wrist_coverage(np.zeros((1, 3)), np.eye(3)[None], inside * 1.01, np.array([True])).value == 0.0
    assert wrist_coverage(np.zeros((1, 3)), np.zeros((1, 3, 3)), inside, np.array([True])).value == 0.0, (
        "no region at all"
    )
