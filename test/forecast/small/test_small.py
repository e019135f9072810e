"""egohand-small: equal to its baseline before training, symmetric by construction, and honest about what it cannot
see."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egohand_ros.data.synthetic.free_motion import generate_free_motion
from egohand_ros.data.windows import cut_windows, window_ends
from egohand_ros.errors import UserError
from egohand_ros.forecast.common.calibration import Calibration
from egohand_ros.forecast.common.observed import Observed, log_rotation
from egohand_ros.forecast.naive.kalman import Kalman
from egohand_ros.forecast.registry import from_pretrained, make_forecaster, untrained
from egohand_ros.forecast.small.forecaster import SmallForecaster
from egohand_ros.forecast.small.network import Correction, SmallConfig, SmallNetwork, exp_rotation
from egohand_ros.stream.window import Window
from egohand_ros.training.objectives.objective import LossWeights
from egohand_ros.training.objectives.small import SmallObjective
from egohand_ros.training.windows.augment import mirror

CONFIG = SmallConfig(width=64, layers=1, flow_width=32, flow_layers=1, observation_width=16)


@pytest.fixture(scope="module")
def cut():
    episode = generate_free_motion(1, 8.0)
    ends = window_ends(episode.stamp, 0.1, 20, 10)
    return cut_windows(episode, ends[::6], 0.1, 20, 10)


@pytest.fixture(scope="module")
def window(cut) -> Window:
    return cut.window


@pytest.fixture(scope="module")
def forecaster(cut) -> SmallForecaster:
    """Random weights everywhere, so that nothing is hidden behind a zero."""
    torch.manual_seed(0)
    forecaster = SmallForecaster(CONFIG)
    SmallObjective(forecaster, LossWeights()).fit([cut])
    for parameter in forecaster.network.parameters():
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    return forecaster


def turned(window: Window, turn: np.ndarray, shift: np.ndarray) -> Window:
    camera = window.camera_pose.clone()
    camera[..., :3, :] = torch.from_numpy(turn) @ camera[..., :3, :]
    camera[..., :3, 3] += torch.from_numpy(shift)
    return replace(
        window,
        keypoints=(window.keypoints @ torch.from_numpy(turn.T) + torch.from_numpy(shift)) * window.valid[..., None],
        wrist_rotation=torch.from_numpy(turn) @ window.wrist_rotation,
        camera_pose=camera,
    )


def test_untrained_it_is_the_kalman_forecast(window):
    expected, given = Kalman().forecast(window), untrained("egohand-small").forecast(window)
    assert torch.allclose(given.keypoints, expected.keypoints, atol=1e-6)
    assert torch.allclose(given.wrist_rotation, expected.wrist_rotation, atol=1e-6)
    assert torch.equal(given.valid, expected.valid)


def test_the_first_hypothesis_does_not_depend_on_the_others(forecaster, window):
    one, several = forecaster.forecast(window), forecaster.forecast(window, 6, seed=2)
    assert several.keypoints.shape[1] == 6 and torch.allclose(one.keypoints[:, 0], several.keypoints[:, 0], atol=1e-7)
    assert torch.equal(several.keypoints, forecaster.forecast(window, 6, seed=2).keypoints)
    spread = several.keypoints[:, 1:, -1, :, 0].std(dim=1)
    assert (spread > 1e-3).all(), "samples differ"
    assert torch.allclose(several.probability.sum(1), torch.ones(window.batch, dtype=torch.float64))


def test_a_hand_that_is_not_seen_is_not_forecast(forecaster, window):
    valid = window.valid.clone()
    valid[:, :, 0] = False
    alone = replace(window, valid=valid, rotation_valid=window.rotation_valid & valid[..., 0])
    forecast = forecaster.forecast(alone, 3, seed=1)
    assert not forecast.valid[:, 0].any() and forecast.valid[:, 1].all()
    assert forecast.keypoints.isfinite().all() and forecast.wrist_covariance[:, :, :, 0].isnan().all()


@pytest.mark.parametrize("gravity", [True, False])
def test_the_forecast_moves_with_the_world(forecaster, window, gravity):
    """Turned about gravity with cameras, turned in any way without."""
    rotation = Rotation.from_euler("z", 0.8) if gravity else Rotation.random(random_state=4)
    turn, shift = rotation.as_matrix(), np.array([1.0, -2.0, 0.5])
    moved = turned(window, turn, shift)
    if not gravity:
        window, moved = replace(window, camera_pose=None), replace(moved, camera_pose=None)
    here, there = forecaster.forecast(window, 3, seed=0), forecaster.forecast(moved, 3, seed=0)
    expected = here.keypoints @ torch.from_numpy(turn.T) + torch.from_numpy(shift)
    assert torch.allclose(there.keypoints, expected, atol=1e-5)
    assert torch.allclose(there.wrist_rotation, torch.from_numpy(turn) @ here.wrist_rotation, atol=1e-5)
    position = torch.from_numpy(turn) @ here.wrist_covariance[..., :3, :3] @ torch.from_numpy(turn.T)
    assert torch.allclose(there.wrist_covariance[..., :3, :3], position, rtol=1e-3, atol=1e-9)


def test_left_and_right_are_mirror_images(forecaster, cut):
    """But for one input, the side itself: a network that ignores it forecasts the mirror image in the mirror."""
    from egohand_ros.forecast.small.features import OWN

    side = OWN - 1
    kept = forecaster.network.observation.weight[:, side].clone()
    with torch.no_grad():
        forecaster.network.observation.weight[:, side] = 0.0
    try:
        here, there = forecaster.forecast(cut.window), forecaster.forecast(mirror(cut).window)
    finally:
        with torch.no_grad():
            forecaster.network.observation.weight[:, side] = kept
    reflected = here.keypoints.flip(3) * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(there.keypoints, reflected, atol=1e-5)


def test_values_behind_a_mask_do_not_matter(forecaster, window):
    valid = window.valid.clone()
    valid[:, 3:9, 1] = False
    valid[:, :, 0, 8] = False
    hidden = replace(window, valid=valid, rotation_valid=window.rotation_valid & valid[..., 0])
    strange = torch.where(valid[..., None], window.keypoints, torch.full_like(window.keypoints, 3.0))
    other = replace(hidden, keypoints=strange)
    assert torch.equal(forecaster.forecast(hidden).keypoints, forecaster.forecast(other).keypoints)
    assert not forecaster.forecast(hidden).valid[:, 0, 8].any()


def test_coefficients_undo_corrections():
    torch.manual_seed(0)
    network = SmallNetwork(CONFIG)
    network.fit_bases(torch.randn(80, 10, 3), torch.randn(80, 10, 3), torch.randn(80, 10, 20, 3))
    coefficients = torch.randn(4, CONFIG.time_components, CONFIG.channels)
    assert torch.allclose(network.coefficients(network.correction(coefficients)), coefficients, atol=1e-4)


def test_bases_whiten_the_corrections_they_are_fitted_to():
    """Three smooth curves of known size: coefficients get unit variance, and the curves come back."""
    rng, time = np.random.default_rng(0), np.arange(1, 11) / 10
    curves = torch.from_numpy(np.stack([time, time**2, time**3], 1)).float()
    wrist = torch.einsum("sc,mci->msi", curves, torch.from_numpy(rng.normal(size=(4000, 3, 3))).float() * 0.1)
    network = SmallNetwork(replace(CONFIG, time_components=3))
    network.fit_bases(wrist, wrist, wrist[..., None, :].expand(-1, -1, 20, -1) * 0.1)
    correction = Correction(wrist, wrist, wrist[..., None, :].expand(-1, -1, 20, -1) * 0.1)
    coefficients = network.coefficients(correction)
    assert torch.allclose(coefficients[..., :3].std(dim=(0, 2)), torch.ones(3), atol=0.1)
    assert torch.allclose(network.correction(coefficients).wrist, wrist, atol=1e-4)


def test_exp_rotation_is_scipys():
    vectors = np.random.default_rng(0).normal(size=(50, 3)) * 2.0
    vectors[0] = 0.0
    given = exp_rotation(torch.from_numpy(vectors)).numpy()
    assert np.allclose(given, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-7)


def test_a_saved_forecaster_forecasts_the_same(forecaster, window, tmp_path):
    steps = CONFIG.horizon_steps
    saved = SmallForecaster(
        CONFIG, forecaster.network, Calibration(np.full(steps, 2.0), np.ones(steps), np.ones(steps))
    )
    saved.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    expected, given = saved.forecast(window, 3, seed=1), again.forecast(window, 3, seed=1)
    assert torch.equal(given.keypoints, expected.keypoints)
    assert torch.equal(given.wrist_covariance, expected.wrist_covariance)
    assert again.spec.calibrated and not forecaster.spec.calibrated
    bare = forecaster.forecast(window)
    assert torch.allclose(given.wrist_covariance[:, 0, ..., :3, :3], 4.0 * bare.wrist_covariance[:, 0, ..., :3, :3])
    assert make_forecaster("egohand-small", checkpoint=str(tmp_path)).spec.checkpoint_hash == again.spec.checkpoint_hash
    assert make_forecaster(str(tmp_path)).spec.checkpoint_hash == again.spec.checkpoint_hash


def test_damaged_files_are_told_in_one_line(forecaster, tmp_path):
    forecaster.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot read weights"):
        from_pretrained(tmp_path)
    weights.write_bytes(whole)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"width": 64', '"width": 96'))
    with pytest.raises(UserError, match="does not fit its config.json"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config.replace('"width"', '"breadth"'))
    with pytest.raises(UserError, match="unknown key 'breadth'"):
        from_pretrained(tmp_path)
    with pytest.raises(UserError, match="torch sees no GPU" if not torch.cuda.is_available() else ""):
        (tmp_path / "config.json").write_text(config)
        from_pretrained(tmp_path, device="cuda")
        raise UserError("")


def test_a_full_share_of_the_way_back_is_the_mean_of_the_window(window):
    """Palm and fingers of the forecast are then those of the window's mean, at every step."""
    made = SmallForecaster(CONFIG)
    torch.nn.init.ones_(made.network.usual.bias)
    forecast, observed = made.forecast(window), Observed.from_window(window)
    articulation, known = observed.articulation()
    mean = (articulation * known[..., None]).sum(1) / np.maximum(known.sum(1), 1)[..., None]
    rotation, keypoints = forecast.wrist_rotation[:, 0].numpy(), forecast.keypoints[:, 0].numpy()
    told = (keypoints - keypoints[..., :1, :]) @ rotation
    shown = forecast.valid.numpy()[:, None, ..., None]
    assert np.allclose(told * shown, mean[:, None] * shown, atol=2e-5)
    # The mean of rotations is the one whose differences to them cancel out.
    apart = log_rotation(rotation[:, :1] @ observed.rotation.swapaxes(-1, -2))
    assert np.abs(apart.mean(axis=1)).max() < 0.15 * max(np.abs(apart).max(), 1e-3)


def test_there_is_no_way_back_for_a_hand_that_keeps_still(forecaster, window):
    still = replace(
        window,
        keypoints=window.keypoints[:, -1:].expand_as(window.keypoints).clone(),
        valid=window.valid[:, -1:].expand_as(window.valid).clone(),
        wrist_rotation=window.wrist_rotation[:, -1:].expand_as(window.wrist_rotation).clone(),
        rotation_valid=window.rotation_valid[:, -1:].expand_as(window.rotation_valid).clone(),
    )
    scene = forecaster.observe(still, Observed.from_window(still))
    assert np.abs(scene.usual_bend).max() < 1e-9 and np.abs(scene.usual_turn).max() < 1e-6


def test_a_hand_that_is_given_from_its_wrist_stays_there(forecaster, window):
    """As trackers and recordings give it that know no place in space."""
    wrist = window.keypoints[..., :1, :]
    centred = replace(window, keypoints=(window.keypoints - wrist) * window.valid[..., None], camera_pose=None)
    forecast = forecaster.forecast(centred, hypotheses=3)
    assert forecast.keypoints[..., 0, :].abs().max() < 1e-9
    assert (forecast.keypoints - forecast.keypoints[:, :, :1]).abs().max() > 1e-3, "the fingers move on"
