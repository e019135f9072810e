"""EgoH4 as a forecaster: what it needs and gives, its samples, its training, and the authors' file as a checkpoint."""

from dataclasses import replace

import fixtures
import numpy as np
import parity_egoh4 as parity
import pytest
import torch

from egohand_ros.data.synthetic import generate_scene
from egohand_ros.data.windows import cut_windows, window_ends
from egohand_ros.forecast.common.protocol import BODY, FINGERS, MissingInput
from egohand_ros.forecast.egoh4.config import EgoH4Config
from egohand_ros.forecast.egoh4.forecaster import EgoH4Forecaster
from egohand_ros.forecast.egoh4.network import EgoH4Network
from egohand_ros.forecast.registry import from_pretrained, make_forecaster, presets
from egohand_ros.forecast.system import Preset
from egohand_ros.training.objectives.egoh4 import EgoH4Objective

TINY = EgoH4Config(width=32, heads=2, layers=1, dropout=0.0, low=-2.0, high=2.0, sampling_steps=4, body=False)


@pytest.fixture(scope="module")
def cut():
    episode = generate_scene(3, 8.0).episode
    return cut_windows(episode, window_ends(episode.stamp, 0.1, 20, 10, stride=6), 0.1, 20, 10)


@pytest.fixture(scope="module")
def forecaster():
    torch.manual_seed(0)
    return EgoH4Forecaster(TINY)


def test_it_needs_camera_poses_and_says_so(forecaster, cut):
    assert presets()["egoh4"].spec().needs == forecaster.spec.needs
    with pytest.raises(MissingInput, match="^EgoH4 needs camera poses$"):
        forecaster.forecast(replace(cut.window, camera_pose=None))


def test_samples_are_those_of_their_seed_whatever_else_is_in_the_batch(forecaster, cut):
    many = forecaster.forecast(cut.window, hypotheses=3, seed=1)
    assert many.keypoints.shape[1:3] == (3, 10) and many.gives == forecaster.spec.gives and BODY not in many.gives
    assert not torch.allclose(many.keypoints[:, 0], many.keypoints[:, 1], atol=1e-3)
    tensors = {name: value[1:2] for name, value in vars(cut.window).items() if isinstance(value, torch.Tensor)}
    one = forecaster.forecast(replace(cut.window, **tensors, prompt=None), hypotheses=3, seed=1)
    assert torch.allclose(many.keypoints[1], one.keypoints[0], atol=1e-5)
    assert not torch.allclose(forecaster.forecast(cut.window, seed=2).keypoints[:, 0], many.keypoints[:, 0], atol=1e-3)


def test_it_knows_hands_by_where_they_are_in_the_picture_alone(forecaster, cut):
    """Twice as far along its ray, a wrist is the same to it; fingers are not looked at."""
    camera = cut.window.camera_pose[:, :, None, None, :3, 3]
    moved = replace(cut.window, keypoints=camera + 2.0 * (cut.window.keypoints - camera))
    told, again = forecaster.forecast(cut.window), forecaster.forecast(moved)
    assert torch.allclose(told.keypoints, again.keypoints, atol=1e-4)


def test_with_a_body_it_is_given_in_the_frame_of_the_hands(cut):
    torch.manual_seed(0)
    forecaster = EgoH4Forecaster(replace(TINY, body=True))
    given = forecaster.forecast(cut.window)
    assert BODY in given.gives and given.body.shape == (len(cut.window.stamp), 1, 10, 15, 3)
    assert len(given.body_names) == 15 and given.body.isfinite().all() and not given.held.any()


def test_a_few_steps_of_training_bring_the_loss_down(cut):
    torch.manual_seed(0)
    forecaster = EgoH4Forecaster(TINY)
    objective = EgoH4Objective(forecaster, EgoH4Objective.Weights(body=0.0))
    batch, optimizer = objective.prepare([cut]), torch.optim.Adam(forecaster.network.parameters(), 3e-3)
    assert batch["wrists_known"].any() and not batch["known"][..., :15].any(), "no body is known"
    losses = []
    for step in range(40):
        loss, parts = objective(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert float(parts["visibility"].detach()) > 0 and float(parts["body_future"]) == 0.0
    with pytest.raises(MissingInput):
        objective.prepare([replace(cut, window=replace(cut.window, camera_pose=None))])


def test_a_saved_forecaster_forecasts_the_same(forecaster, cut, tmp_path):
    forecaster.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert again.spec.checkpoint_hash and FINGERS in again.spec.gives
    assert torch.equal(again.forecast(cut.window).keypoints, forecaster.forecast(cut.window).keypoints)


def test_the_authors_file_is_a_checkpoint(cut, tmp_path, monkeypatch):
    """Made of their names: every tensor has its place, and the forecast is that of the network filled with it."""
    name = next(iter(parity.SIZES))
    size = parity.SIZES[name]
    file = tmp_path / "mp_rank_00_model_states.pt"
    torch.save(parity.checkpoint_of(parity.stored_state(fixtures.stored("egoh4"), name)), file)
    settings = {key: getattr(size.config, key) for key in ("width", "heads", "layers", "steps", "low", "high")}
    settings |= {key: getattr(size.config, key) for key in ("observed", "future", "image_width")}
    monkeypatch.setattr(Preset, "values", lambda self: {"forecaster": "egoh4", "model": settings})
    forecaster = make_forecaster("egoh4", checkpoint=str(file), device="cpu")
    assert isinstance(forecaster.network, EgoH4Network) and forecaster.config.sampling_steps == 0
    x, t, condition, images = (parity.inputs(size)[key] for key in ("x", "t", "condition", "images"))
    with torch.no_grad():
        joints, _ = forecaster.network(x, t, condition, images)
    fixtures.assert_equal(joints[:, ::5, ::7], fixtures.stored("egoh4")[f"{name}.joints"])
