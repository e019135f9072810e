"""2D keypoints to 4D hands: the authors' file, frames of another rate and size, refinement, and the command."""

import json
from dataclasses import replace

import fixtures
import numpy as np
import parity_forehand4d as parity
import pytest
import torch
from synthetic_mano import write_mano_arrays

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.data.episode_images import EpisodeImages
from egohand_ros.data.image_sources import VideoFrames
from egohand_ros.errors import UserError
from egohand_ros.evaluation.bench.lifting import judge_hands
from egohand_ros.forecast.forehand4d.lift import LiftOptions, lift, load_lifter, square
from egohand_ros.geometry.camera import Camera
from egohand_ros.hand.mano_layer import load_mano_layers
from egohand_ros.hand.skeleton import LEFT, RIGHT

CAMERA = Camera(np.array([[500.0, 0, 300], [0, 500, 250], [0, 0, 1]]), 640, 480)
COUNT = 9


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    pytest.importorskip("smplx")
    return write_mano_arrays(tmp_path_factory.mktemp("mano"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Made of the authors' names at a small size."""
    path = tmp_path_factory.mktemp("lifter") / "model.ckpt"
    torch.save(parity.checkpoint_of(parity.stored_state(fixtures.stored("forehand4d"), "small", "lifter")), path)
    return path


@pytest.fixture(scope="module")
def network(checkpoint):
    network = load_lifter(checkpoint)
    network.config = replace(network.config, frames=6)  # two parts, the second one shorter
    return network


@pytest.fixture(scope="module")
def hands(mano):
    """Keypoints (9, 2, 21, 3) m of MANO hands half a metre before the camera, and where they are seen."""
    layers, keypoints = load_mano_layers(mano), np.zeros((COUNT, 2, 21, 3))
    for i, side in enumerate(("left", "right")):
        pose = 0.1 * fixtures.numbers(COUNT, 16, 3, seed=i)
        place = 0.03 * fixtures.numbers(COUNT, 3, seed=5 + i) + torch.tensor([0.0, 0.0, 0.55])
        keypoints[:, i] = layers[side](pose, None, place).keypoints.numpy()
    pixels = CAMERA.project(keypoints)
    pixels[3, RIGHT] = np.nan
    return keypoints, pixels


def test_the_whole_picture_is_in_the_square(hands):
    keypoints, pixels = hands
    points, matrix = square(pixels, CAMERA)
    told = keypoints @ matrix.T
    np.testing.assert_allclose((told[..., :2] / told[..., 2:])[0], points[0])
    corners, _ = square(np.array([[0.0, 0], [640, 480]]), CAMERA)
    np.testing.assert_allclose(corners, [[0, 28], [224, 196]])


def test_every_frame_comes_out_wherever_the_camera_is(hands, network, mano):
    layers, (_, pixels) = load_mano_layers(mano), hands
    options = LiftOptions(sampling_steps=3)
    here = lift(pixels, CAMERA, network, layers, options=options)
    assert here.keypoints.shape == (COUNT, 2, 21, 3) and np.isfinite(here.keypoints).all() and here.error > 0
    moved = np.tile(np.eye(4), (COUNT, 1, 1))
    moved[:, :3, 3] = 1.0, 2.0, 3.0
    there = lift(pixels, CAMERA, network, layers, moved, options=options)
    np.testing.assert_allclose(there.keypoints, here.keypoints + (1, 2, 3), atol=1e-5)
    for i, side in enumerate(("left", "right")):
        pose, place = (torch.from_numpy(array[:, i]).float() for array in (there.pose, there.translation))
        made = layers[side](pose, None, place).keypoints.numpy()
        np.testing.assert_allclose(made, there.keypoints[:, i], atol=1e-4)
    with pytest.raises(UserError, match="no 2D keypoint is seen"):
        lift(np.full_like(pixels, np.nan), CAMERA, network, layers)


def test_refinement_brings_the_hands_to_their_pixels(hands, network, mano):
    layers, (_, pixels) = load_mano_layers(mano), hands
    rough = lift(pixels, CAMERA, network, layers, options=LiftOptions(sampling_steps=2))
    fine = lift(pixels, CAMERA, network, layers, options=LiftOptions(sampling_steps=2, refine=60))
    assert fine.error < 0.8 * rough.error


def test_hands_are_judged_by_their_pictures(hands):
    keypoints, pixels = hands
    stamp, valid = np.arange(COUNT) / 30.0, np.isfinite(pixels).all(-1)
    images = EpisodeImages(stamp, VideoFrames("nowhere.avi", COUNT), CAMERA)
    still = np.repeat(keypoints[:1], COUNT, axis=0)
    at = np.repeat(CAMERA.project(keypoints[:1]), COUNT, axis=0)
    judged = judge_hands(Episode(stamp, still, valid, images=images, pixels=at + 3.0))
    assert judged.reprojection == pytest.approx(3.0 * 2**0.5) and judged.frames == COUNT
    assert judged.acceleration < 1e-9 and judged.bone_variation < 1e-9
    shaken = judge_hands(Episode(stamp, keypoints, valid, images=images, pixels=pixels))
    assert shaken.reprojection < 1e-6 and shaken.acceleration > 1.0 and shaken.bone_variation < 5.0
    with pytest.raises(UserError, match="without 2D keypoints"):
        judge_hands(Episode(stamp, keypoints, valid))


def test_the_command_lifts_an_episode_and_says_what_both_are_like(hands, mano, checkpoint, tmp_path, capsys):
    keypoints, pixels = hands
    stamp = 1.0 + np.arange(COUNT) / 30.0
    images = EpisodeImages(stamp, VideoFrames("nowhere.avi", COUNT), CAMERA)
    valid = np.isfinite(pixels).all(-1)
    Episode(stamp, keypoints, valid, images=images, pixels=pixels).save(tmp_path / "in.npz")
    out, told = tmp_path / "out.npz", tmp_path / "told.json"
    lift_it = ["lift", str(tmp_path / "in.npz"), "--out", str(out), "--mano", str(mano), "--device", "cpu"]
    assert main([*lift_it, "--checkpoint", str(checkpoint), "--sampling-steps", "1", "--json", str(told)]) == 0
    made = Episode.load(out)
    assert made.mano_pose.shape == (COUNT, 2, 16, 3) and not made.valid[3, RIGHT].any() and made.valid[3, LEFT].all()
    assert json.loads(told.read_text())["tracker (PnP)"]["reprojection"] < 1e-6
    assert "lifted" in capsys.readouterr().out
    for wrong, said in (
        ([], "has no shipped weights: give --checkpoint FILE"),
        (["--checkpoint", str(tmp_path / "in.npz")], "in.npz"),
    ):
        assert main([*lift_it, "--overwrite", *wrong]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
