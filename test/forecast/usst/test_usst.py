"""USST's way from a window's arrays to its units and back, and its loss for the truth."""

import fixtures
import pytest
import torch
from scipy.spatial.transform import Rotation

from egohand_ros.forecast.usst import inputs
from egohand_ros.forecast.usst.network import USSTOutput
from egohand_ros.forecast.usst.objective import usst_loss
from egohand_ros.hand.skeleton import LEFT, RIGHT, WRIST


@pytest.fixture
def window() -> dict[str, torch.Tensor]:
    """Two windows of 12 frames; hands 0.6 m ahead of a head that moves."""
    pose = torch.eye(4, dtype=torch.float64).repeat(2, 12, 1, 1)
    pose[..., :3, :3] = torch.from_numpy(Rotation.from_rotvec([1.0, -0.5, 0.2]).as_matrix())
    pose[..., :3, 3] = torch.tensor([1.0, 2.0, 1.5]) + 0.02 * fixtures.numbers(2, 12, 3, seed=1).cumsum(1)
    ahead = 0.05 * fixtures.numbers(2, 12, 2, 21, 3, seed=2).double() + torch.tensor([0.0, 0.05, 0.6])
    keypoints = torch.einsum("btij,btskj->btski", pose[..., :3, :3], ahead) + pose[:, :, None, None, :3, 3]
    return {"pose": pose, "keypoints": keypoints, "valid": torch.ones(2, 12, 2, 21, dtype=torch.bool)}


def test_points_come_back_in_the_windows_frame(window):
    points, seen = inputs.wrist_points(window["keypoints"], window["valid"], window["pose"])
    assert points.shape == (2, 2, 12, 3) and seen.all() and points.abs().max() <= 0.5
    found = inputs.wrists_in_frame(points, torch.zeros(2, 2, 12, 2), window["pose"][:, 0])
    wrists = window["keypoints"][..., WRIST, :].transpose(1, 2)
    torch.testing.assert_close(found.wrists.double(), wrists, rtol=0, atol=2e-6)
    surer = inputs.wrists_in_frame(points, torch.full((2, 2, 12, 2), -2.0), window["pose"][:, 0])
    torch.testing.assert_close(surer.deviation, found.deviation * torch.e**-1, rtol=1e-3, atol=0)


def test_gaps_keep_the_last_place_and_a_hand_never_seen_is_said(window):
    valid = window["valid"].clone()
    valid[0, [0, 1, 5], LEFT, WRIST] = False
    valid[1, :, RIGHT, WRIST] = False
    points, seen = inputs.wrist_points(window["keypoints"], valid, window["pose"])
    assert seen.tolist() == [[True, True], [True, False]]
    assert torch.equal(points[0, LEFT, 5], points[0, LEFT, 4]) and torch.equal(points[0, LEFT, 0], points[0, LEFT, 2])


def test_pictures_and_padding():
    pictures = inputs.picture_input(torch.full((1, 7, 64, 64, 3), 255, dtype=torch.uint8))
    assert pictures.shape == (1, 7, 3, 64, 64) and torch.equal(pictures, torch.ones_like(pictures))
    assert inputs.padded(pictures, 10).shape[1] == 10 and inputs.padded(pictures, 10)[:, 7:].abs().max() == 0
    with pytest.raises(ValueError, match="7 observations"):
        inputs.padded(pictures, 5)
    assert inputs.observed_count(40) == 24 and inputs.observed_count(torch.tensor([5, 64])).tolist() == [3, 38]


def test_loss_is_zero_for_the_truth_and_ignores_padding():
    points = 0.3 * fixtures.numbers(2, 10, 3, seed=3)
    observed, frames = torch.tensor([6, 4]), torch.tensor([10, 7])
    velocity = points.diff(dim=1, prepend=torch.zeros(2, 1, 3))
    truth = USSTOutput(points, torch.zeros(2, 10, 2), velocity)
    total, parts = usst_loss(truth, points, observed, frames)
    assert float(total) < 1e-6 and set(parts) == {"future", "observed", "future_velocity", "observed_velocity", "warp"}
    wrong = points.clone()
    wrong[1, 7:] += 5.0
    padded, _ = usst_loss(USSTOutput(wrong, torch.zeros(2, 10, 2), velocity), points, observed, frames)
    assert float(padded) == pytest.approx(float(total), abs=1e-9)
    wrong[1, 5] += 1.0
    worse, parts = usst_loss(USSTOutput(wrong, torch.zeros(2, 10, 2), velocity), points, observed, frames)
    assert float(worse) > 1e-4 and float(parts["observed"]) == 0.0
