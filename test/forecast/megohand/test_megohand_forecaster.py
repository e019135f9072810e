"""MEgoHand as a forecaster: both hands by mirroring, where forecasts begin, what matters, beside a stream, its
training; at tiny sizes."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_mano import write_mano_arrays
from tiny_megohand import TINY

from egohand_ros.data.synthetic.goals import generate_goal_scene
from egohand_ros.data.synthetic.scene_images import with_pictures
from egohand_ros.errors import UserError
from egohand_ros.evaluation.protocol import evaluate, get_protocol
from egohand_ros.forecast.common.protocol import FINGERS, MESH, MissingInput
from egohand_ros.forecast.megohand.forecaster import MEgoHandForecaster
from egohand_ros.forecast.megohand.network import MEgoHandNetwork
from egohand_ros.forecast.registry import from_pretrained
from egohand_ros.hand.mano_layer import load_mano_layers
from egohand_ros.hand.skeleton import SIDES
from egohand_ros.stream.warmup import example_window
from egohand_ros.training.objectives.megohand import InverseObjective, MotionObjective
from egohand_ros.training.windows.augment import mirror
from egohand_ros.training.windows.goal_windows import GoalWindowSampler, see_goals


def new_network(config=TINY):
    """With weights large enough that everything matters."""
    torch.manual_seed(0)
    network = MEgoHandNetwork(config).eval()
    for part in (network.depth.out, network.head.action_decoder.outer, network.head.transformer.project):
        torch.nn.init.normal_(part.weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def network():
    return new_network()


@pytest.fixture(scope="module")
def forecaster(network):
    return MEgoHandForecaster(TINY, network)


@pytest.fixture(scope="module")
def sampler(forecaster):
    spec = forecaster.spec
    seen = [
        see_goals(seed, spec.image_size, spec.step, spec.window_length, spec.horizon_steps, depth=True)
        for seed in (1, 2)
    ]
    return GoalWindowSampler(seen, spec, 8, 4, blind=0.0, deaf=0.0)


@pytest.fixture(scope="module")
def cut(sampler):
    """Windows of a rendered scene, with its picture, depth and words."""
    made = sampler.cuts(0)[0]
    return replace(made, window=replace(made.window, prompt=("put the red cup left",) * made.window.batch))


def test_it_forecasts_both_hands_from_where_they_are(forecaster, cut):
    window = cut.window
    given = forecaster.forecast(window, 4)
    assert given.keypoints.shape == (4, 4, 5, 2, 21, 3) and given.keypoints.isfinite().all() and given.valid.all()
    assert FINGERS in given.gives and MESH not in given.gives
    assert torch.equal(given.keypoints, forecaster.forecast(window, 4).keypoints)
    assert not torch.equal(given.keypoints[:, 1], given.keypoints[:, 2])
    still = new_network()
    torch.nn.init.zeros_(still.head.action_decoder.outer.weight)
    torch.nn.init.zeros_(still.head.action_decoder.outer.bias)
    held = MEgoHandForecaster(TINY, still).forecast(window).keypoints[:, 0]
    away = held - window.keypoints[:, -1:]
    assert away[..., [0, 5, 9, 13, 17], :].abs().max() < 0.05, "without a motion hands stay about where they are seen"
    assert away[..., 0, :].abs().max() < 1e-5, "and wrists exactly"


def test_a_mirrored_scene_has_the_mirrored_forecast(forecaster, cut):
    """So a left hand is a right one in a mirror, with picture, depth, words and camera."""
    seen = cut.window  # of the eye's size, as squeezing rounds to one side
    cut = replace(cut, window=replace(seen, images=seen.images[..., 8:56, :], depth=seen.depth[..., 8:56]))
    plain = forecaster.forecast(cut.window, 2)
    turned = mirror(cut)
    window = replace(turned.window, prompt=("put the red cup right",) * cut.window.batch)
    mirrored = forecaster.forecast(window, 2)
    flip = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(mirrored.keypoints, plain.keypoints.flip(3) * flip, atol=1e-5)
    one_sided = replace(cut.window, valid=cut.window.valid & (torch.arange(2) == 0)[None, None, :, None])
    left = forecaster.forecast(one_sided, 2)
    assert torch.allclose(left.keypoints[:, :, :, 0], plain.keypoints[:, :, :, 0], atol=1e-5)
    assert not left.valid[:, 1].any() and left.valid[:, 0].all()


def test_every_input_matters_and_windows_of_a_batch_do_not_mix(forecaster, cut):
    window = cut.window
    plain = forecaster.forecast(window).keypoints
    changed = {
        "words": replace(window, prompt=("take the blue cup",) * window.batch),
        "picture": replace(window, images=255 - window.images),
        "depth": replace(window, depth=0.3 * window.depth),
        "no depth": replace(window, depth=None),
        "past": replace(window, keypoints=window.keypoints + 0.05 * (torch.arange(2) == 0)[None, :, None, None, None]),
    }
    for name, other in changed.items():
        assert (forecaster.forecast(other).keypoints - plain).abs().max() > 1e-6, name
    part = replace(changed["words"], prompt=(*window.prompt[:3], "take the blue cup"))
    assert torch.allclose(forecaster.forecast(part).keypoints[:3], plain[:3], atol=1e-5)
    with pytest.raises(MissingInput, match="^MEgoHand needs images$"):
        forecaster.forecast(window.without_images())
    unseen = replace(window, valid=torch.zeros_like(window.valid))
    assert not forecaster.forecast(unseen).valid.any()


def test_with_manos_hand_it_gives_parameters_that_make_its_mesh(tmp_path, cut):
    folder = write_mano_arrays(tmp_path / "mano")
    config = replace(TINY, hand="mano")
    forecaster = MEgoHandForecaster(config, new_network(config), mano=folder)
    given = forecaster.forecast(cut.window, 2)
    assert MESH in given.gives and given.vertices.shape == (4, 2, 5, 2, 778, 3)
    # MANO's left hand is its right one in a mirror; the made-up files of the tests are not, so a mirror is held up.
    layers = load_mano_layers(folder)
    shapes = given.mano.betas[:, None, None].expand(4, 2, 5, 2, 10)
    right = layers["right"](given.mano.pose[..., 1, :, :], shapes[..., 1, :], given.mano.translation[..., 1, :])
    assert torch.allclose(right.vertices, given.vertices[..., 1, :, :], atol=1e-4)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    pose = given.mano.pose[..., 0, :, :] * -flip
    left = layers["right"](pose, shapes[..., 0, :], given.mano.translation[..., 0, :] * flip)
    assert torch.allclose(left.vertices * flip, given.vertices[..., 0, :, :], atol=1e-4), SIDES[0]


def wait_for(condition, timeout=60.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "nothing came of it"
        time.sleep(0.01)


def test_beside_a_stream_the_newest_image_wins_and_new_words_are_waited_for(network):
    live = MEgoHandForecaster(TINY, network, reasoning="background")
    window = replace(example_window(live.spec), prompt=("take the red cup",))
    watcher = live.watcher
    first = live.forecast(window)
    assert watcher.thoughts == 1 and first.valid.any()
    wait_for(lambda: not watcher._busy)
    later = lambda seconds, **changes: replace(window, stamp=window.stamp + seconds, **changes)  # noqa: E731
    looked = watcher._last
    assert live.forecast(later(0.1, images=255 - window.images)).valid.any(), "by what was seen before"
    wait_for(lambda: watcher._last is not looked and not watcher._busy)
    blue = ("take the blue cup",)
    assert not live.forecast(later(0.2, prompt=blue)).valid.any(), "not looked at yet"
    wait_for(lambda: watcher._last.prompt == blue and not watcher._busy)
    assert live.forecast(later(0.3, prompt=blue)).valid.any()
    wait_for(lambda: not watcher._busy)
    assert not live.forecast(later(9.0, prompt=blue)).valid.any(), "too old to go by"
    live.reset()
    wait_for(lambda: not watcher._busy)


def test_it_is_saved_read_again_and_evaluated(forecaster, cut, tmp_path):
    forecaster.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert torch.equal(again.forecast(cut.window).keypoints, forecaster.forecast(cut.window).keypoints)
    assert from_pretrained(tmp_path / "model", precision="bfloat16").forecast(cut.window).keypoints.isfinite().all()
    with pytest.raises(UserError, match="expected wait or background"):
        MEgoHandForecaster(TINY, reasoning="never")
    scene = generate_goal_scene(3).scene
    pictured = with_pictures(scene.episode, scene, 48)
    window = pictured.last_window(forecaster.spec)
    assert window.depth.shape == (1, 1, 48, 64) and 0.2 < float(window.depth.median()) < 3.0
    protocol = replace(get_protocol("megohand"), observed=4, predicted=4, stride=20, horizons=(0.1,), hypotheses=1)
    result = evaluate({"scene": pictured}, {"megohand": again}, protocol)
    assert result.windows > 1 and np.isfinite(result.metrics("megohand")["MPJPE"])


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(
    "objective, learns, stays", [(InverseObjective, "inverse", "head"), (MotionObjective, "vlm.eye", "inverse")]
)
def test_a_few_steps_of_each_stage_bring_the_loss_down(sampler, objective, learns, stays):
    torch.manual_seed(0)
    forecaster = MEgoHandForecaster(TINY)
    network, training = forecaster.network, objective(forecaster, objective.Weights())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch, losses = training.prepare(sampler.cuts(0)), []
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    network.train()
    for _ in range(30):
        loss, parts = training(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0], parts
    changed = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert any(name.startswith(learns) for name in changed) and not any(name.startswith(stays) for name in changed)


def test_a_frozen_language_model_learns_nothing_and_both_parts_of_the_loss_are_told(sampler):
    forecaster = MEgoHandForecaster(replace(TINY, frozen=True))
    training = MotionObjective(forecaster, MotionObjective.Weights())
    batch = training.prepare(sampler.cuts(0))
    assert 0 < len(batch["past"]) <= 16 and batch["depth_known"].any() and batch["depth_target"].max() <= 1.0
    loss, parts = training(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert set(parts) == {"flow", "depth"}
    assert all(p.grad is None for p in forecaster.network.vlm.language.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in forecaster.network.depth.parameters())
