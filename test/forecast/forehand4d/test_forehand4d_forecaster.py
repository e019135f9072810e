"""ForeHand4D as a forecaster: what it needs and gives, its MANO parameters, episodes with images, the authors' file."""

from dataclasses import replace

import fixtures
import numpy as np
import parity_forehand4d as parity
import pytest
import torch
from synthetic_mano import write_mano_arrays

from egohand_ros.data.episode_images import EpisodeImages
from egohand_ros.data.image_sources import ArrayImages
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.data.windows import cut_windows, with_images
from egohand_ros.errors import UserError
from egohand_ros.evaluation.protocol import evaluate, get_protocol
from egohand_ros.forecast.common.protocol import FINGERS, MESH, MissingInput
from egohand_ros.forecast.forehand4d.config import ForeHand4DSettings
from egohand_ros.forecast.forehand4d.forecaster import ForeHand4DForecaster
from egohand_ros.forecast.registry import from_pretrained, make_forecaster, presets
from egohand_ros.forecast.system import resolve
from egohand_ros.hand.mano import ENVIRONMENT
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.training.loop import Trainer
from egohand_ros.training.session import read_settings
from egohand_ros.training.windows.batches import WindowSampler

TINY = ForeHand4DSettings(
    frames=16,
    width=32,
    layers=1,
    heads=2,
    feed_forward=32,
    steps=20,
    encoder="small",
    horizon_steps=12,
    sampling_steps=4,
)


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    pytest.importorskip("smplx")
    return write_mano_arrays(tmp_path_factory.mktemp("mano"))


@pytest.fixture(scope="module")
def forecaster(mano):
    torch.manual_seed(0)
    return ForeHand4DForecaster(TINY, mano=mano)


@pytest.fixture(scope="module")
def episode():
    scene = generate_scene(3, 3.0).episode
    pictures = np.random.default_rng(0).integers(0, 255, (len(scene), 24, 32, 3), dtype=np.uint8)
    return replace(scene, images=EpisodeImages(scene.stamp, ArrayImages(pictures)))


@pytest.fixture(scope="module")
def window(forecaster, episode):
    return episode.last_window(forecaster.spec)


def test_both_hands_come_with_their_mesh_in_the_windows_frame(forecaster, window):
    forecast = forecaster.forecast(window, hypotheses=2, seed=1)
    assert forecast.keypoints.shape == (1, 2, 12, 2, 21, 3) and forecast.vertices.shape == (1, 2, 12, 2, 778, 3)
    assert forecast.step_times[0] == pytest.approx(1 / 30) and {FINGERS, MESH} <= set(forecast.gives)
    assert forecast.valid[..., WRIST].tolist() == window.valid[:, -1, :, WRIST].tolist()
    assert not torch.equal(forecast.keypoints[:, 0], forecast.keypoints[:, 1])
    assert torch.equal(forecast.keypoints, forecaster.forecast(window, hypotheses=2, seed=1).keypoints)
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    elsewhere = forecaster.forecast(replace(window, camera_pose=moved @ window.camera_pose), 2, seed=1)
    torch.testing.assert_close(elsewhere.keypoints, forecast.keypoints + moved[:3, 3], rtol=0, atol=1e-5)


def test_its_mano_parameters_make_its_keypoints(forecaster, window):
    shaped = replace(window, betas=0.5 * torch.ones(1, 2, 10, dtype=torch.float64))
    forecast = forecaster.forecast(shaped, hypotheses=2)
    for i, side in enumerate(("left", "right")):
        mano, betas = forecast.mano, forecast.mano.betas[:, None, None, i].float()
        hand = forecaster.mano[side](mano.pose[..., i, :, :], betas, mano.translation[..., i, :])
        torch.testing.assert_close(hand.keypoints.double(), forecast.keypoints[..., i, :, :], rtol=0, atol=1e-4)
        torch.testing.assert_close(hand.vertices, forecast.vertices[..., i, :, :], rtol=0, atol=1e-4)


def test_a_forecast_does_not_depend_on_what_else_is_in_its_batch(forecaster, episode):
    spec = forecaster.spec
    both = with_images(cut_windows(episode, np.array([40, 80]), spec.step, 1, 0).window, episode, spec)
    one = with_images(cut_windows(episode, np.array([80]), spec.step, 1, 0).window, episode, spec)
    torch.testing.assert_close(
        forecaster.forecast(both, 2).keypoints[1], forecaster.forecast(one, 2).keypoints[0], rtol=0, atol=1e-5
    )


def test_what_it_lacks_is_said_in_a_line(forecaster, window, episode, monkeypatch, tmp_path):
    with pytest.raises(MissingInput, match="^ForeHand4D needs images$"):
        forecaster.forecast(window.without_images())
    with pytest.raises(UserError, match="^ForeHand4D needs images, and 'episode 0' has none"):
        evaluate(
            [replace(episode, images=None)], {"forehand4d": forecaster}, replace(get_protocol("usst"), predicted=12)
        )
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(UserError, match="MANO_LEFT.pkl and MANO_RIGHT.pkl in a MANO folder.*EGOHAND_MANO=FOLDER"):
        make_forecaster("forehand4d-small", untrained=True)
    with pytest.raises(UserError, match="forehand4d has no shipped weights; give checkpoint=FOLDER"):
        make_forecaster("forehand4d")
    with pytest.raises(ValueError, match="horizon_steps is 16; expected 1 to 15"):
        replace(TINY, horizon_steps=16)
    assert presets()["forehand4d"].spec().single_image


@pytest.mark.usefixtures("quickly_fitted")
def test_a_few_steps_of_training_bring_the_motion_nearer(mano, episode, tmp_path):
    torch.manual_seed(0)
    learner = ForeHand4DForecaster(TINY, mano=mano)
    stage = presets()["forehand4d-small"].system.stage()
    config = read_settings("forehand4d-small", stage, False, ["steps=12", "batch=8", "save_every=12", "buffer=2"])
    sampler = WindowSampler([episode], learner.spec, config.batch, config.group, 1, config.augmentation)
    losses = []
    trainer = Trainer(
        resolve(stage.objective)(learner, config.loss),
        sampler,
        replace(config, learning_rate=3e-3),
        tmp_path,
        "cpu",
        report=lambda step, numbers: losses.append(numbers["diffusion"]),
    )
    trainer.run()
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


def test_it_is_scored_on_recordings_with_images(forecaster, episode):
    protocol = replace(get_protocol("usst"), stride=20, predicted=12, hypotheses=2)
    result = evaluate([episode], {"forehand4d": forecaster}, protocol)
    assert result.windows and np.isfinite(result.metrics("forehand4d")["ADE"])


def test_it_is_saved_without_mano_and_found_by_the_environment(forecaster, window, mano, tmp_path, monkeypatch):
    forecaster.save_pretrained(tmp_path / "model")
    assert not list((tmp_path / "model").glob("*MANO*"))
    monkeypatch.setenv(ENVIRONMENT, str(mano))
    again = from_pretrained(tmp_path / "model")
    assert torch.equal(again.forecast(window).keypoints, forecaster.forecast(window).keypoints)
    assert again.spec.checkpoint_hash


def test_the_authors_file_is_a_checkpoint(tmp_path, mano, monkeypatch):
    """Made of their names at a small size: every tensor has its place, and the motion is that of their network."""
    size, kept = parity.SIZES["small"], fixtures.stored("forehand4d")
    torch.save(parity.checkpoint_of(parity.stored_state(kept, "small", "forecaster")), tmp_path / "model.ckpt")
    monkeypatch.setattr(ForeHand4DSettings, "network", lambda self: size.config)
    settings = {"frames": size.config.frames, "steps": size.config.steps, "horizon_steps": 2, "sampling_steps": 2}
    monkeypatch.setattr("egohand_ros.forecast.system.Preset.values", lambda self: {"model": settings})
    made = make_forecaster("forehand4d", checkpoint=str(tmp_path / "model.ckpt"), mano=str(mano), device="cpu")
    given = parity.inputs(size)
    with torch.no_grad():
        motion = made.network(given["x"], given["t"], made.network.tokens(given["images"]))
    fixtures.assert_equal(motion[:, ::3, ::5], kept["small.forecaster.motion"])
