"""Augmentation keeps what has to stay and hides what a worse tracker would not have seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egohand_ros.data.synthetic.free_motion import generate_free_motion
from egohand_ros.data.windows import cut_windows, window_ends
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.training.windows.augment import NONE, Augmentation, augment, disturb, mirror, move, redefine


@pytest.fixture(scope="module")
def cut():
    episode = generate_free_motion(2, 8.0)
    return cut_windows(episode, window_ends(episode.stamp, 0.1, 20, 10)[::5], 0.1, 20, 10)


def test_nothing_changes_without_augmentation_but_the_heading(cut):
    same = augment(cut, NONE, np.random.default_rng(0))
    assert torch.equal(same.window.valid, cut.window.valid)
    distance = lambda c: np.linalg.norm(np.diff(c.future[..., 0, :], axis=1), axis=-1)  # noqa: E731
    assert np.allclose(distance(same), distance(cut)) and np.allclose(same.future[..., 2], cut.future[..., 2])


def test_mirroring_twice_is_nothing(cut):
    twice = mirror(mirror(cut))
    assert torch.allclose(twice.window.keypoints, cut.window.keypoints)
    assert torch.allclose(twice.window.wrist_rotation, cut.window.wrist_rotation)
    assert torch.allclose(twice.window.camera_pose, cut.window.camera_pose)
    assert np.allclose(twice.future, cut.future) and np.allclose(twice.future_rotation, cut.future_rotation)


@pytest.mark.parametrize("change", [mirror, lambda cut: move(cut, 1.0, 1.3, 0.9)])
def test_rotations_stay_those_of_the_palms(cut, change):
    changed = change(cut)
    assert np.allclose(
        palm_rotations(changed.window.keypoints.numpy()), changed.window.wrist_rotation.numpy(), atol=1e-6
    )
    assert np.allclose(palm_rotations(changed.future), changed.future_rotation, atol=1e-2)
    camera = changed.window.camera_pose[..., :3, :3].numpy()
    assert np.allclose(np.linalg.det(camera), 1.0) and np.allclose(camera.swapaxes(-1, -2) @ camera, np.eye(3))


def test_scales_act_on_paths_and_on_hands(cut):
    scaled = move(cut, 0.0, 2.0, 0.5)
    assert np.allclose(scaled.future[..., 0, :], 2.0 * cut.future[..., 0, :])
    relative = lambda c: c.future - c.future[..., :1, :]  # noqa: E731
    assert np.allclose(relative(scaled), 0.5 * relative(cut))


def test_noise_is_as_large_as_asked_and_leaves_the_future_alone(cut):
    options = replace(NONE, noise=(0.005, 0.005))
    noisy = augment(cut, options, np.random.default_rng(0))
    plain = augment(cut, NONE, np.random.default_rng(0))
    error = (noisy.window.keypoints - plain.window.keypoints).numpy()
    assert error.std() == pytest.approx(0.005, rel=0.05)
    assert np.array_equal(noisy.future, plain.future)
    assert not torch.allclose(noisy.window.wrist_rotation, plain.window.wrist_rotation)


@pytest.mark.parametrize("own", [True, False])
def test_other_trackers_mean_other_points_of_the_same_hand(cut, own):
    """Constant in the palm over a window and its future; the palm's own axes too, or those of the new points."""
    options = replace(NONE, offset=0.01, wrist_offset=0.02, tilt=0.1)
    mask = np.full(cut.window.batch, own)
    other = redefine(cut, options, mask, np.random.default_rng(4))
    joined = lambda c: (  # noqa: E731
        np.concatenate([c.window.keypoints.numpy(), c.future], axis=1),
        np.concatenate([c.window.wrist_rotation.numpy(), c.future_rotation], axis=1),
    )
    (before, palm), (after, changed) = joined(cut), joined(other)
    offset = (after - before) @ palm
    assert np.allclose(offset, offset[:, :1], atol=1e-9)
    assert offset[:, 0, :, 1:].std() == pytest.approx(0.01, rel=0.05)
    assert offset[:, 0, :, 0].std() == pytest.approx(0.02, rel=0.2)
    turn = palm.swapaxes(-1, -2) @ changed
    assert np.abs(turn - np.eye(3)).max() > 0.05
    if own:
        assert np.allclose(turn, turn[:, :1], atol=1e-9)
    else:
        assert np.allclose(changed, palm_rotations(after), atol=1e-9)


def test_gaps_never_take_the_last_observation(cut):
    options = replace(NONE, gap=1.0)
    window = disturb(cut.window, options, np.zeros(cut.window.batch, dtype=bool), np.random.default_rng(1))
    assert window.valid[:, -1].all() and not window.valid.all()
    assert (window.keypoints[~window.valid] == 0).all()
    assert not (window.rotation_valid & ~window.valid[..., 0]).any()


def test_missing_keypoints_are_missing_throughout_but_the_palm_stays_known(cut):
    window = disturb(
        cut.window, replace(NONE, sparse=1.0), np.zeros(cut.window.batch, dtype=bool), np.random.default_rng(2)
    )
    seen = window.valid.any(dim=1)
    assert torch.equal(seen, window.valid.all(dim=1)) and not seen.all()
    assert window.valid[..., 0].all() and window.rotation_valid.all()


def test_a_lost_hand_is_lost_and_the_other_is_not(cut):
    window = disturb(
        cut.window, replace(NONE, hand_lost=1.0), np.zeros(cut.window.batch, dtype=bool), np.random.default_rng(3)
    )
    assert (window.valid.any(dim=(1, 3)).sum(dim=1) == 1).all()


@pytest.mark.parametrize("wrong", [{"noise": (0.0, 1.0)}, {"time_scale": (2.0, 1.0)}, {"hand_scale": (1.0,)}])
def test_senseless_ranges_are_refused(wrong):
    with pytest.raises(ValueError, match="expected two positive numbers"):
        Augmentation(**wrong)
