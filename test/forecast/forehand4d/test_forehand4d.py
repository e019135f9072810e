"""ForeHand4D's states, what its networks are told, and the way back to a window's frame."""

import fixtures
import pytest
import torch
from scipy.spatial.transform import Rotation
from synthetic_mano import mano_data

from egohand_ros.forecast.common.vit import ViTConfig
from egohand_ros.forecast.forehand4d import inputs
from egohand_ros.forecast.forehand4d.network import ForeHand4DConfig, ForeHand4DForecaster, ForeHand4DLifter
from egohand_ros.forecast.forehand4d.objective import project
from egohand_ros.forecast.forehand4d.refinement import Refinement, Seen, agreement, refine
from egohand_ros.forecast.forehand4d.state import (
    CHANNELS,
    geometry_of,
    motion_from_pose,
    motion_from_state,
    state_from_motion,
)
from egohand_ros.hand.mano_layer import ManoLayer
from egohand_ros.hand.skeleton import LEFT, RIGHT

FRAMES = 6
INTRINSICS = torch.tensor([[[200.0, 0, 112], [0, 200.0, 112], [0, 0, 1]]])


@pytest.fixture(scope="module")
def mano() -> dict[str, ManoLayer]:
    return {side: ManoLayer(mano_data(side)) for side in ("left", "right")}


@pytest.fixture
def hands() -> tuple[torch.Tensor, torch.Tensor]:
    """Pose (1, 6, 2, 16, 3) rad and translation (1, 6, 2, 3) m half a metre in front of the camera."""
    pose = 0.2 * fixtures.numbers(1, FRAMES, 2, 16, 3, seed=1)
    return pose, 0.03 * fixtures.numbers(1, FRAMES, 2, 3, seed=2) + torch.tensor([0.0, 0.0, 0.55])


@pytest.fixture
def camera() -> torch.Tensor:
    """T_frame_camera (1, 6, 4, 4) float64 of a head that moves."""
    pose = torch.eye(4, dtype=torch.float64).repeat(1, FRAMES, 1, 1)
    vectors = torch.tensor([1.0, -2.0, 0.3]) + 0.05 * fixtures.numbers(FRAMES, 3, seed=3)
    pose[0, :, :3, :3] = torch.from_numpy(Rotation.from_rotvec(vectors.numpy()).as_matrix())
    pose[0, :, :3, 3] = torch.tensor([2.0, 1.0, 1.5]) + 0.02 * fixtures.numbers(FRAMES, 3, seed=4)
    return pose


def test_state_is_right_hand_first_and_z_scored(hands):
    pose, translation = hands
    state = state_from_motion(motion_from_pose(pose, translation))
    assert state.shape == (1, FRAMES, CHANNELS)
    right = Rotation.from_rotvec(pose[0, 0, RIGHT, 0].numpy()).as_matrix()
    torch.testing.assert_close(state[0, 0, :6].double(), torch.from_numpy(right[:2].reshape(6)), rtol=0, atol=1e-6)
    expected = (translation[0, 0, LEFT, 2] - 0.47753079) / 0.25474921
    torch.testing.assert_close(state[0, 0, 197], expected)
    back = motion_from_state(state)
    torch.testing.assert_close(back.pose, pose, rtol=0, atol=1e-5)
    torch.testing.assert_close(back.translation, translation, rtol=0, atol=1e-6)


def test_motion_comes_back_in_the_windows_frame(hands, camera, mano):
    """World parameters -> the network's state in the camera's frame -> keypoints in the world: those of the
    parameters."""
    pose, translation = hands
    translation = translation + torch.tensor([2.0, 1.0, 1.5])
    world = geometry_of(pose, translation, mano)
    motion = inputs.motion_in_camera(pose, translation, mano, torch.linalg.inv(camera[:, 0]).float())
    found = inputs.hands_in_frame(state_from_motion(motion), mano, camera[:, 0])
    torch.testing.assert_close(found.keypoints, world.keypoints, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.vertices, world.vertices, rtol=0, atol=2e-5)
    wrist = Rotation.from_rotvec(pose[0, :, LEFT, 0].numpy()).as_matrix()
    torch.testing.assert_close(found.wrist_rotation[0, :, LEFT].double(), torch.from_numpy(wrist), rtol=0, atol=1e-5)


def test_projection_leaves_out_what_is_not_in_the_image(hands, camera, mano):
    ahead = geometry_of(*hands, mano).keypoints.double()
    points = torch.einsum("btij,btskj->btski", camera[..., :3, :3], ahead) + camera[:, :, None, None, :3, 3]
    valid = torch.ones(1, FRAMES, 2, 21, dtype=torch.bool)
    seen = inputs.projected(points, valid, camera, INTRINSICS)
    expected = project(ahead.float(), torch.eye(4).repeat(1, FRAMES, 1, 1), INTRINSICS)
    torch.testing.assert_close(seen.pixels[seen.valid], expected[seen.valid], rtol=0, atol=1e-3)
    assert seen.valid.float().mean() > 0.5
    behind = 2 * camera[:, :, None, None, :3, 3] - points
    assert not inputs.projected(behind, valid, camera, INTRINSICS).valid.any()


def test_networks_take_what_inputs_give(hands, camera, mano):
    config = ForeHand4DConfig(
        FRAMES, 16, 1, steps=5, vit=ViTConfig(16, 1, 2, 32, (256, 192), padding=2, class_token=False)
    )
    images = torch.randint(0, 256, (1, 3, 224, 224, 3), dtype=torch.uint8)
    forecaster, lifter = ForeHand4DForecaster(config).eval(), ForeHand4DLifter(config).eval()
    noise = fixtures.numbers(1, FRAMES, CHANNELS, seed=5)
    with torch.no_grad():
        tokens = forecaster.tokens(inputs.image_input(images))
        assert tokens.shape == (1, 192, 16)
        assert forecaster.sample(tokens, noise, fixtures.Noise(1)).shape == noise.shape
        points = geometry_of(*hands, mano).keypoints
        seen = inputs.projected(
            points, torch.ones(1, FRAMES, 2, 21, dtype=torch.bool), torch.eye(4).repeat(1, FRAMES, 1, 1), INTRINSICS
        )
        frames = torch.tensor([[True] * 4 + [False] * 2])
        given = inputs.lifter_input(seen, camera, INTRINSICS, frames)
        assert (
            given.camera[0, 0].reshape(4, 4).allclose(torch.eye(4), atol=1e-6)
        )  # the first frame's camera is the current one
        assert all((getattr(given, name)[0, 4:] == 0).all() for name in ("points", "camera", "rays", "angles"))
        assert lifter.sample_ddim(lifter.tokens(given), noise, steps=3).shape == noise.shape
    with pytest.raises(ValueError, match="224 x 224"):
        inputs.image_input(images[:, :, :100])


def test_condition_tokens_are_dropped_in_training_only():
    config = ForeHand4DConfig(FRAMES, 16, 1, condition_drop=0.5)
    motion = ForeHand4DLifter(config).motion
    tokens = torch.ones(4, 200, 16)
    dropped = (motion.train().some_dropped(tokens) == 0).all(-1)
    assert 0.35 < dropped.float().mean() < 0.65
    assert torch.equal(motion.eval().some_dropped(tokens), tokens)


def test_refinement_brings_a_motion_to_its_keypoints(hands, camera, mano):
    pose, translation = hands
    keypoints = geometry_of(pose, translation, mano).keypoints
    still = torch.eye(4).repeat(1, FRAMES, 1, 1)
    seen = Seen(
        project(keypoints, still, INTRINSICS),
        torch.ones(1, FRAMES, 2, 21, dtype=torch.bool),
        still,
        INTRINSICS,
        keypoints,
    )
    off = motion_from_pose(pose + 0.05, translation + 0.01)
    before = float(agreement(off.pose, off.translation, seen, mano))
    told = []
    found, after = refine(
        off, seen, mano, settings=Refinement(iterations=40, enough=0.0), progress=lambda i, loss: told.append(loss)
    )
    assert after < 0.2 * before and len(told) == 40 and told[0] == pytest.approx(before, rel=1e-4)
    assert (found.translation - translation).abs().max() < 0.011
    broken = Seen(seen.pixels * torch.nan, seen.valid, still, INTRINSICS)
    kept, loss = refine(off, broken, mano, settings=Refinement(iterations=3))
    assert torch.isnan(torch.tensor(loss)) and torch.allclose(kept.translation, off.translation)
