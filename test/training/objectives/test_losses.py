"""Losses against values worked out by hand, and their masks."""

import pytest
import torch

from egohand_ros.training.objectives.losses import (
    GeometryWeights,
    absolute_loss,
    geometry_loss,
    pairwise_loss,
    relative_loss,
)


@pytest.fixture
def hand() -> torch.Tensor:
    """Keypoint i at x = i cm."""
    keypoints = torch.zeros(1, 1, 21, 3, dtype=torch.float64)
    keypoints[..., 0] = 0.01 * torch.arange(21)
    return keypoints


ALL = torch.ones(1, 1, 21, dtype=torch.bool)


def test_a_shift_is_an_absolute_error_alone(hand):
    moved = hand + torch.tensor([0.01, -0.02, 0.03], dtype=torch.float64)
    assert absolute_loss(moved, hand, ALL) == pytest.approx(0.06)
    assert relative_loss(moved, hand, ALL) == pytest.approx(0.0)
    assert pairwise_loss(moved, hand, ALL) == pytest.approx(0.0, abs=1e-12)


def test_one_keypoint_moved(hand):
    moved = hand.clone()
    moved[..., 20, 0] += 0.05
    assert absolute_loss(moved, hand, ALL) == pytest.approx(0.05 / 21)
    assert relative_loss(moved, hand, ALL) == pytest.approx(0.05 / 20)
    # 20 of the 210 pairs have the moved keypoint, each 0.05 longer.
    assert pairwise_loss(moved, hand, ALL) == pytest.approx(20 * 0.05**2 / 210)
    total, _ = geometry_loss(moved, hand, ALL, GeometryWeights())
    assert total == pytest.approx(0.6 * 0.05 / 21 + 0.2 * 0.05 / 20 + 0.2 * 20 * 0.05**2 / 210)


def test_a_moved_wrist_moves_all_others_relative_to_it(hand):
    moved = hand.clone()
    moved[..., 0, 1] += 0.02
    assert relative_loss(moved, hand, ALL) == pytest.approx(0.02)


def test_what_is_not_valid_reaches_neither_loss_nor_gradient(hand):
    valid = ALL.clone()
    valid[..., 7] = False
    wrong = hand.clone()
    wrong[..., 7, :] = float("nan")
    predicted = hand.clone().requires_grad_()
    total, _ = geometry_loss(predicted, wrong, valid)
    assert total.item() == pytest.approx(0.0, abs=1e-12)
    total.backward()
    assert predicted.grad.isfinite().all() and predicted.grad[..., 7, :].abs().sum() == 0


def test_without_its_wrist_a_hand_has_no_relative_loss(hand):
    valid = ALL.clone()
    valid[..., 0] = False
    moved = hand.clone()
    moved[..., 1:, 0] *= 2
    assert relative_loss(moved, hand, valid) == 0.0
    assert absolute_loss(moved, hand, torch.zeros_like(ALL)) == 0.0
