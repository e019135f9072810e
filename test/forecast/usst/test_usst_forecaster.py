"""USST as a forecaster: wrists alone, what is held, its training, and the authors' file as a checkpoint."""

from dataclasses import replace

import fixtures
import numpy as np
import parity_usst as parity
import pytest
import torch

from egohand_ros.data.episode_images import EpisodeImages
from egohand_ros.data.image_sources import ArrayImages
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.data.windows import cut_windows, window_ends
from egohand_ros.errors import UserError
from egohand_ros.evaluation.protocol import evaluate, get_protocol
from egohand_ros.forecast.common.calibration import Calibration
from egohand_ros.forecast.common.protocol import WRIST_POSITION, MissingInput
from egohand_ros.forecast.registry import from_pretrained, make_forecaster, presets
from egohand_ros.forecast.system import Preset
from egohand_ros.forecast.usst.config import USSTConfig
from egohand_ros.forecast.usst.forecaster import USSTForecaster
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.training.objectives.usst import USSTObjective
from egohand_ros.training.session import calibration_on
from egohand_ros.training.windows.batches import WindowSampler

TINY = USSTConfig(
    width=32, hidden=32, latent=4, layers=1, heads=4, backbone="none", dropout=0.0, drop_path=0.0, focal_scale=0.4
)


@pytest.fixture(scope="module")
def episode():
    return generate_scene(3, 6.0).episode


@pytest.fixture(scope="module")
def cut(episode):
    return cut_windows(episode, window_ends(episode.stamp, 1 / 30, 24, 16, stride=12), 1 / 30, 24, 16)


@pytest.fixture(scope="module")
def forecaster():
    torch.manual_seed(0)
    return USSTForecaster(TINY)


def test_it_forecasts_wrists_and_says_that_the_rest_is_held(forecaster, cut):
    given = forecaster.forecast(cut.window)
    assert given.gives == (WRIST_POSITION,) and given.keypoints.shape[1:3] == (1, 16)
    assert torch.equal(given.held[..., 1:], given.valid[..., 1:]) and not given.held[..., WRIST].any()
    assert given.keypoint_std[..., WRIST].isfinite().all() and given.keypoint_std[..., 1:].isnan().all()
    last = cut.window.keypoints[:, -1] - cut.window.keypoints[:, -1, :, :1]
    shown = (given.keypoints - given.keypoints[..., :1, :])[:, 0]
    seen = cut.window.valid[:, -1].all(-1)
    assert seen.any()
    for b, side in zip(*np.nonzero(seen.numpy()), strict=True):
        assert torch.allclose(shown[b, :, side], last[b, side].expand(16, 21, 3), atol=1e-6)


def test_it_needs_camera_poses_and_its_published_size_images(forecaster, cut):
    with pytest.raises(MissingInput, match="^USST needs camera poses$"):
        forecaster.forecast(replace(cut.window, camera_pose=None))
    published = presets()["usst"].spec()
    assert published.lacks(cut.window) == "USST needs images" and len(published.image_offsets) == 24


def test_images_reach_the_network_that_looks_at_them(cut):
    torch.manual_seed(0)
    seeing = USSTForecaster(replace(TINY, backbone="resnet18", frames=10, width=16, hidden=16))
    one = cut_windows(generate_scene(3, 6.0).episode, np.array([60]), 1 / 30, 6, 0).window
    grey = torch.full((1, 6, 64, 64, 3), 128, dtype=torch.uint8)
    noise = torch.randint(0, 255, grey.shape, dtype=torch.uint8)
    told, again = (seeing.forecast(replace(one, images=images)) for images in (grey, noise))
    assert told.keypoints.isfinite().all() and not torch.equal(told.keypoints, again.keypoints)


def test_a_few_steps_of_training_bring_the_points_nearer(cut):
    torch.manual_seed(0)
    forecaster = USSTForecaster(TINY)
    objective = USSTObjective(forecaster, USSTObjective.Weights())
    batch, optimizer = objective.prepare([cut]), torch.optim.Adam(forecaster.network.parameters(), 3e-3)
    losses = []
    for step in range(30):
        loss, _ = objective(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_it_trains_and_is_scored_on_recordings_with_images(episode):
    torch.manual_seed(0)
    forecaster = USSTForecaster(replace(TINY, backbone="resnet18", layers=1, image_size=32))
    pictures = np.random.default_rng(0).integers(0, 255, (len(episode), 32, 32, 3), dtype=np.uint8)
    seen = replace(episode, images=EpisodeImages(episode.stamp, ArrayImages(pictures)))
    objective = USSTObjective(forecaster, USSTObjective.Weights())
    (cut,) = WindowSampler([seen], forecaster.spec, 4, group=4).cuts(0)
    batch = objective.prepare([cut])
    assert batch["images"].shape == (len(batch["points"]), forecaster.config.observed, 32, 32, 3)
    loss, _ = objective(batch, torch.Generator())
    loss.backward()
    assert all(p.grad is not None for n, p in forecaster.network.named_parameters() if n.startswith("frames.out"))
    protocol = replace(get_protocol("usst"), stride=40)
    assert evaluate([seen], {"usst": forecaster}, protocol).scores["usst"].metrics["ADE"].weight
    with pytest.raises(UserError, match="^USST needs images, and 'episode 0' has none"):
        evaluate([episode], {"usst": forecaster}, protocol)


def test_calibrated_deviations_hold_what_they_promise(forecaster, episode, tmp_path):
    """On the data that they were calibrated on, and whatever the network says."""
    calibrated = USSTForecaster(TINY, forecaster.network, calibration_on(forecaster, [episode]))
    found = evaluate([episode], {"bare": forecaster, "calibrated": calibrated}, "usst").scores
    assert found["calibrated"].metrics["wrist coverage of 90 %"].value == pytest.approx(0.9, abs=0.05)
    assert found["bare"].metrics["wrist coverage of 90 %"].value > 0.97, "metres of deviation: not a length yet"
    calibrated.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert again.spec.calibrated and isinstance(again.calibration, Calibration)
    window = cut_windows(episode, np.array([100]), 1 / 30, 24, 0).window
    std = calibrated.forecast(window).keypoint_std[..., WRIST]
    assert torch.allclose(again.forecast(window).keypoint_std[..., WRIST], std, rtol=1e-4)


def test_the_authors_file_is_a_checkpoint(tmp_path, monkeypatch):
    """Made of their names: every tensor has its place, and the points are those of the authors' network."""
    name, kept = "small", fixtures.stored("usst")
    size = parity.SIZES[name]
    torch.save(parity.checkpoint_of(parity.stored_state(kept, name)), tmp_path / "usst.pth")
    settings = {key: getattr(size.config, key) for key in ("frames", "width", "hidden", "latent", "layers", "backbone")}
    monkeypatch.setattr(Preset, "values", lambda self: {"forecaster": "usst", "model": settings})
    forecaster = make_forecaster("usst", checkpoint=str(tmp_path / "usst.pth"), device="cpu")
    given = parity.inputs(size)
    with torch.no_grad():
        points = forecaster.network(given["images"], given["points"], given["observed"]).points
    there = torch.arange(size.frames) < given["frames"][:, None]
    fixtures.assert_equal(points[there], kept[f"{name}.points"])
