"""EgoH4's way from a window's arrays to its units and back; edge cases of its loss."""

import fixtures
import pytest
import torch
from scipy.spatial.transform import Rotation

from egohand_ros.forecast.egoh4 import inputs
from egohand_ros.forecast.egoh4.network import CONDITION, EgoH4Config, EgoH4Network
from egohand_ros.forecast.egoh4.objective import EgoH4Batch, egoh4_loss
from egohand_ros.geometry.canonical import canonical_from_camera
from egohand_ros.hand.skeleton import LEFT, RIGHT, WRIST

NETWORK = EgoH4Network(EgoH4Config(width=16, heads=2, layers=1, steps=10)).eval()


@pytest.fixture
def window() -> dict[str, torch.Tensor]:
    """Two windows of 30 frames: a person who looks down at hands half a metre away, anywhere in the world."""
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 30, 1, 1)
    looks = Rotation.from_euler("ZYX", [[30, 0, -120], [-100, 0, -110]], degrees=True).as_matrix()
    shake = Rotation.from_rotvec(0.05 * fixtures.numbers(60, 3, seed=1).numpy()).as_matrix().reshape(2, 30, 3, 3)
    poses[..., :3, :3] = torch.from_numpy(looks[:, None] @ shake)
    poses[..., :3, 3] = torch.tensor([3.0, -2.0, 1.6]) + 0.05 * fixtures.numbers(2, 30, 3, seed=2)
    ahead = 0.08 * fixtures.numbers(2, 30, 2, 21, 3, seed=3).double() + torch.tensor([0.0, 0.1, 0.5])
    keypoints = torch.einsum("btij,btskj->btski", poses[..., :3, :3], ahead) + poses[:, :, None, None, :3, 3]
    canonical = torch.from_numpy(canonical_from_camera(poses[:, 0].numpy()))
    return {
        "pose": poses,
        "keypoints": keypoints,
        "valid": torch.ones(2, 30, 2, 21, dtype=torch.bool),
        "canonical": canonical,
    }


def test_condition_says_where_the_head_is_and_where_wrists_are_seen(window):
    observed = slice(0, 20)
    valid = window["valid"].clone()
    valid[0, 3, LEFT, WRIST] = False
    given = inputs.condition(
        window["keypoints"][:, observed], valid[:, observed], window["pose"][:, observed], window["canonical"]
    )
    assert given.shape == (2, 20, CONDITION)
    torch.testing.assert_close(given[:, 0, :3], torch.zeros(2, 3), rtol=0, atol=1e-6)  # the origin is the first camera
    rows = given[:, 0, 3:9].unflatten(-1, (2, 3))
    # Optical z is the third column: ahead is +x and down, never to the side, in the canonical frame.
    assert (rows[:, 0, 2] > 0).all() and rows[:, 1, 2].abs().max() < 1e-6
    assert torch.equal(given[0, 3, 11:], torch.zeros(2))  # left wrist, not valid
    assert (given[0, 3, 9:11] > 0).all()
    camera = torch.linalg.inv(window["pose"][1, 5])
    point = camera[:3, :3] @ window["keypoints"][1, 5, RIGHT, WRIST] + camera[:3, 3]
    expected = (150.0 * point[:2] / point[2] + 255.5) / 512
    torch.testing.assert_close(given[1, 5, 9:11].double(), expected, rtol=0, atol=1e-6)


def test_wrists_behind_or_beside_the_picture_are_not_seen(window):
    keypoints = window["keypoints"].clone()
    behind = window["pose"][:, :, :3, 3] - 0.5 * window["pose"][:, :, :3, 2]
    keypoints[:, :, RIGHT, WRIST] = behind
    seen, _ = inputs.wrists_in_picture(keypoints, window["valid"], window["pose"])
    assert not seen[..., RIGHT].any() and seen[..., LEFT].all()


def test_the_quarter_turn_is_that_of_the_authors_picture():
    """A point's pixel in the turned camera's picture, laid upright as they do (x' = 511 - y, y' = x), is that of the
    upright one."""
    upright = torch.tensor([0.1, -0.2, 0.7], dtype=torch.float64)
    turned = inputs.UPRIGHT_FROM_TURNED.T @ upright
    pixel = inputs.Picture().pixels(turned)
    torch.testing.assert_close(torch.stack([511 - pixel[1], pixel[0]]), inputs.Picture().pixels(upright))


def test_targets_and_forecasts_are_each_others_way_back(window):
    body = window["keypoints"][:, :, 0, :15] + 0.3
    valid = window["valid"].clone()
    valid[0, :, LEFT, 4:] = False
    state, known = inputs.targets(
        NETWORK, window["keypoints"], valid, window["canonical"], body, torch.ones(2, 30, 15, dtype=torch.bool)
    )
    assert state.shape == (2, 30, 171) and state.abs().max() <= 1.0 and known.shape == (2, 30, 57)
    assert (state.unflatten(-1, (57, 3))[~known] == -1).all() and (~known).sum() == 30 * 17
    future = inputs.future_keypoints(NETWORK, state, window["canonical"])
    assert future.shape == (2, 10, 2, 21, 3)
    there = valid[:, 20:]
    torch.testing.assert_close(future[there], window["keypoints"][:, 20:][there], rtol=0, atol=5e-6)
    joints = inputs.joints_in_frame(NETWORK, state, window["canonical"])
    torch.testing.assert_close(joints[:, :, :15], body, rtol=0, atol=5e-6)
    assert len(inputs.BODY_NAMES) == 15
    several = inputs.joints_in_frame(NETWORK, state[:, None].expand(-1, 3, -1, -1), window["canonical"])  # hypotheses
    torch.testing.assert_close(several[:, 2], joints)


def test_samples_depend_on_the_condition_and_stay_in_bounds(window):
    given = inputs.condition(
        window["keypoints"][:, :20], window["valid"][:, :20], window["pose"][:, :20], window["canonical"]
    )
    noise = fixtures.numbers(2, 30, 171, seed=4)
    one, other = (NETWORK.sample(c, None, noise, fixtures.Noise(1)) for c in (given, 0.5 * given))
    assert one.abs().max() <= 1.0 and not torch.equal(one, other)
    assert NETWORK.sample_ddim(given, None, noise, steps=4).shape == one.shape


def test_loss_is_zero_for_the_truth_and_counts_only_what_is_known(window):
    state, known = inputs.targets(NETWORK, window["keypoints"], window["valid"], window["canonical"])
    picture = inputs.Picture()
    seen, pixels = inputs.wrists_in_picture(window["keypoints"], window["valid"], window["pose"])
    batch = EgoH4Batch(
        state,
        known,
        (pixels / picture.size)[:, :20, [RIGHT, LEFT]].float(),
        seen[:, :20, [RIGHT, LEFT]],
        inputs.to_picture(window["pose"], window["canonical"])[:, :20],
        torch.zeros(2, 20, 2),
    )
    sure = torch.full((2, 30, 2), -20.0)
    total, parts = egoh4_loss(NETWORK, state, sure, batch)
    assert float(total) < 1e-5 and float(parts["reprojection"]) < 1e-5 and float(parts["body_observed"]) == 0.0
    off = state.clone().unflatten(-1, (57, 3))
    off[:, :, 15:] += 0.01
    _, parts = egoh4_loss(NETWORK, off.flatten(2), sure, batch)
    assert float(parts["hand_future"]) == pytest.approx(0.01, rel=1e-3) and float(parts["reprojection"]) > 0.01
    off = off.requires_grad_()
    egoh4_loss(NETWORK, off.flatten(2), sure, batch)[0].backward()
    assert torch.isfinite(off.grad).all() and (off.grad[:, :, :15] == 0).all()
