"""`egohand-motion`: it turns with the motion, holds what it does not see, and its NumPy network is the trained one."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.data.windows import cut_windows
from egohand_ros.errors import UserError
from egohand_ros.forecast.motion.features import NUMBERS, VECTORS, Past, look_back
from egohand_ros.forecast.motion.network import MotionNetwork, read_networks
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.geometry.rotations import exp_rotation
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.training import motion_training


@pytest.fixture(scope="module")
def window():
    episode = observe(generate_scene(5, 5.0)).episode
    return cut_windows(episode, np.arange(70, 110, 5), 0.1, 20, 10).window


@pytest.fixture(scope="module")
def forecaster():
    return make_forecaster("egohand-motion")


def _walk(rng: np.random.Generator, count: int = 6) -> np.ndarray:
    walk = np.cumsum(0.02 * rng.normal(size=(count, 20, 3)), axis=1)
    return walk - walk[:, -1:]


def test_vectors_turn_with_the_motion_and_numbers_do_not():
    rng = np.random.default_rng(0)
    points, seen = _walk(rng), rng.random((6, 20)) < 0.8
    seen[:, -1] = True
    turn = exp_rotation(np.array([0.3, -1.1, 0.7])) * [1, 1, -1]  # and mirrored
    one, other = look_back(points, seen, 1e-3), look_back(points @ turn.T, seen, 1e-3)
    assert other.vectors == pytest.approx(one.vectors @ turn.T, abs=1e-12)
    assert other.numbers == pytest.approx(one.numbers, abs=1e-5)
    assert one.vectors.shape[1] == VECTORS and one.numbers.shape[1] == NUMBERS


def test_what_is_not_seen_is_not_looked_at():
    rng = np.random.default_rng(1)
    points, seen = _walk(rng), np.ones((6, 20), dtype=bool)
    seen[:, 3:9] = False
    elsewhere = np.where(seen[..., None], points, 7.0)
    one, other = look_back(points, seen, 1e-3), look_back(elsewhere, seen, 1e-3)
    assert np.array_equal(one.vectors, other.vectors) and np.array_equal(one.numbers, other.numbers)


def test_a_denser_stream_is_told_of_where_it_is_known():
    rng = np.random.default_rng(2)
    points, seen, recent = _walk(rng), np.ones((6, 20), dtype=bool), rng.normal(size=(6, 2, 3))
    recent[3:] = np.nan
    with_, without = look_back(points, seen, 1e-3, recent), look_back(points, seen, 1e-3)
    assert not np.allclose(with_.vectors[:3, :2], without.vectors[:3, :2])
    assert np.array_equal(with_.vectors[3:], without.vectors[3:])
    assert np.array_equal(with_.vectors[:, 2:], without.vectors[:, 2:])


def test_the_forecast_turns_and_moves_with_the_world(window, forecaster):
    turn, shift = torch.from_numpy(exp_rotation(np.array([0.2, 0.5, -2.0]))), torch.tensor([1.0, -2.0, 0.5])
    elsewhere = replace(
        window,
        keypoints=window.keypoints @ turn.T + shift.double(),
        wrist_rotation=turn @ window.wrist_rotation,
    )
    here, there = forecaster.forecast(window), forecaster.forecast(elsewhere)
    shown = here.valid[:, None, None, :, :, None]
    expected = (here.keypoints @ turn.T + shift.double()) * shown
    assert torch.allclose(there.keypoints * shown, expected, atol=1e-6)


def test_a_hand_is_forecast_whether_or_not_the_other_is_seen(window, forecaster):
    both = forecaster.forecast(window)
    valid = window.valid.clone()
    valid[:, :, 0] = False
    alone = forecaster.forecast(replace(window, valid=valid))
    assert not alone.valid[:, 0].any()
    shown = both.valid[:, 1]
    assert torch.allclose(alone.keypoints[:, 0, :, 1][:, :, shown[0]], both.keypoints[:, 0, :, 1][:, :, shown[0]])


def test_a_hand_that_has_not_moved_stays(window, forecaster):
    keypoints = window.keypoints[:, -1:].expand(-1, 20, -1, -1, -1).clone()
    rotation = window.wrist_rotation[:, -1:].expand(-1, 20, -1, -1, -1).clone()
    still = replace(
        window,
        keypoints=keypoints,
        wrist_rotation=rotation,
        valid=window.valid[:, -1:].expand(-1, 20, -1, -1).clone(),
        rotation_valid=window.rotation_valid[:, -1:].expand(-1, 20, -1).clone(),
    )
    told = forecaster.forecast(still)
    seen = still.valid[:, -1, :, WRIST]
    away = (told.keypoints[:, 0, :, :, WRIST] - keypoints[:, -1:, :, WRIST]).norm(dim=-1)
    assert away.swapaxes(1, 2)[seen].max() < 1e-9


def test_the_network_is_the_one_that_was_trained():
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=(40, NUMBERS)).astype(np.float32)
    trained = motion_training.MotionTrainee(numbers)
    torch.nn.init.normal_(trained.layers[-1].weight, std=0.1)
    arrays = {name: array.numpy() for name, array in trained.eval().arrays("wrist").items()}
    parts = [tuple(arrays[f"wrist.{part}{i}"] for i in range(3)) for part in ("weight", "bias")]
    ours = MotionNetwork(arrays["wrist.mean"], arrays["wrist.deviation"], *parts)
    vectors, kalman = (rng.normal(size=shape).astype(np.float32) for shape in ((40, VECTORS, 3), (40, 10, 3)))
    with torch.inference_mode():
        expected = trained(*map(torch.from_numpy, (vectors, numbers, kalman))).numpy()
    assert ours(Past(vectors, numbers), kalman) == pytest.approx(expected, abs=1e-4)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="cannot read weights"):
        read_networks(path, ("wrist",), 10)
    save_file({"wrist.mean": np.zeros(3)}, path)
    with pytest.raises(UserError, match="is not of egohand-motion: it lacks"):
        read_networks(path, ("wrist",), 10)


def test_training_on_recordings_leaves_weights_that_forecast_them_better(tmp_path, window):
    """A few steps on one generated recording, from the command to the forecast."""
    folder = tmp_path / "mine"
    folder.mkdir()
    generate_scene(9, 8.0).episode.save(folder / "one.npz")
    command = [sys.executable, "-m", "egohand_ros.training.studies.real.real_motion", str(folder)]
    command += ["--out", str(tmp_path / "out"), "--generated", "0", "--steps", "120"]
    told = subprocess.run([*command, "--judge", str(folder)], check=True, capture_output=True, text=True).stdout
    assert "mine egohand-motion ADE -" in told and (tmp_path / "out" / "judged.json").is_file()
    mine = make_forecaster("egohand-motion", checkpoint=tmp_path / "out")
    episode = generate_scene(9, 8.0).episode
    cut = cut_windows(episode, np.arange(80, 200, 5), 0.1, 20, 10)
    known = cut.future_valid[..., WRIST]
    told = [one.forecast(cut.window).keypoints[:, 0, :, :, WRIST].numpy() for one in (mine, make_forecaster("kalman"))]
    missed = [np.linalg.norm(wrist - cut.future[..., WRIST, :], axis=-1) for wrist in told]
    assert missed[0][known].mean() < 0.95 * missed[1][known].mean()
