import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egohand_ros.forecast.common.frames import canonical_frame, wrist_frames
from egohand_ros.forecast.common.observed import Observed, pose_hand
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.stream.window import Window


def make_window(keypoints: np.ndarray, camera: np.ndarray | None = None) -> Window:
    rotation = palm_rotations(keypoints)
    known = np.isfinite(rotation).all((-1, -2))
    return Window(
        stamp=torch.zeros(len(keypoints), dtype=torch.float64),
        keypoints=torch.from_numpy(keypoints),
        valid=torch.ones(keypoints.shape[:-1], dtype=torch.bool),
        wrist_rotation=torch.from_numpy(np.where(known[..., None, None], rotation, np.eye(3))),
        rotation_valid=torch.from_numpy(known),
        camera_pose=None if camera is None else torch.from_numpy(camera),
    )


@pytest.fixture
def window(rng):
    camera = np.tile(np.eye(4), (3, 6, 1, 1))
    camera[..., :3, :3] = Rotation.random(18, random_state=1).as_matrix().reshape(3, 6, 3, 3)
    camera[..., :3, 3] = rng.normal(size=(3, 6, 3))
    return make_window(rng.normal(size=(3, 6, 2, 21, 3)) * 0.1, camera)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["canonical", "wrist"])
def test_out_undoes_in(window, rng, kind):
    frame = canonical_frame(window) if kind == "canonical" else wrist_frames(Observed.from_window(window))
    lead = frame.origin.shape[:-1]
    points = rng.normal(size=(*lead, 4, 5, 3))
    assert np.allclose(frame.points_out(frame.points_in(points)), points)
    assert np.allclose(frame.vectors_out(frame.vectors_in(points)), points)
    rotations = Rotation.random(int(np.prod(lead)) * 4, random_state=2).as_matrix().reshape(*lead, 4, 3, 3)
    local = frame.rotations_in(rotations)
    assert np.allclose(np.linalg.det(local), 1.0)
    assert np.allclose(frame.rotations_out(local), rotations)


def test_canonical_frame_starts_at_the_first_camera_and_keeps_gravity(window):
    frame = canonical_frame(window)
    camera = window.camera_pose[:, 0].numpy()
    assert np.allclose(frame.points_in(camera[:, :3, 3]), 0.0)
    forward = frame.vectors_in(camera[:, :3, 2])
    assert (forward[:, 0] > 0).all() and np.allclose(forward[:, 1], 0.0)
    assert np.allclose(frame.vectors_in(np.tile([0.0, 0.0, 1.0], (3, 1))), [0.0, 0.0, 1.0])


def test_a_hand_looks_the_same_wherever_it_is_and_on_both_sides(window, rng):
    """A left hand that mirrors the right one, moved and turned at will, has the same local keypoints and rotations."""
    right = window.keypoints.numpy()[:, :, 1]
    turn = Rotation.random(random_state=3).as_matrix()
    left = (right * [1.0, -1.0, 1.0]) @ turn.T + [0.3, -0.2, 1.1]
    both = make_window(np.stack([left, right], axis=2))
    observed = Observed.from_window(both)
    frames = wrist_frames(observed)
    keypoints = frames.points_in(np.moveaxis(observed.keypoints, 2, 1))
    rotations = frames.rotations_in(np.moveaxis(observed.rotation, 2, 1))
    assert np.allclose(keypoints[:, 0], keypoints[:, 1])
    assert np.allclose(rotations[:, 0], rotations[:, 1])
    articulation = frames.articulation(np.moveaxis(observed.articulation()[0], 2, 1))
    assert np.allclose(articulation[:, 0], articulation[:, 1])
    posed = pose_hand(frames.points_in(np.moveaxis(observed.wrist, 2, 1)), rotations, articulation)
    assert np.allclose(posed, keypoints)


def test_covariances_turn_with_the_frame(window, rng):
    frame = wrist_frames(Observed.from_window(window))
    samples = rng.normal(size=(3, 2, 500, 3)) * [1.0, 0.1, 0.3]
    local = np.einsum("...ni,...nj->...ij", samples, samples) / 500
    turned = frame.vectors_out(samples)
    expected = np.einsum("...ni,...nj->...ij", turned, turned) / 500
    assert np.allclose(frame.covariances_out(local), expected)
