"""A checkpoint as EggHand's own training writes it: its keys are those of the public modules, as stored for parity."""

import json
from dataclasses import replace

import numpy as np
import parity
import pytest
import torch
from safetensors.torch import save_file
from tiny_egghand import PARITY_EGOVIDEO as ENCODER
from tiny_egghand import PARITY_HEAD as HEAD

from egohand_ros.errors import UserError
from egohand_ros.forecast.egghand.config import ACTION_WIDTH, CAMERA_WIDTH, STATE_WIDTH, EggHandConfig
from egohand_ros.forecast.egghand.forecaster import EggHandForecaster
from egohand_ros.forecast.egghand.model import EggHandNetwork
from egohand_ros.forecast.egghand.weights import MODEL_JOINTS, as_published, is_published, load_published
from egohand_ros.forecast.registry import find_system

# The widths of the parity fixture's head become its latent ones: EggHand has linear maps around them.
SIZES = replace(
    HEAD,
    state_width=STATE_WIDTH,
    action_width=ACTION_WIDTH,
    latent_state_width=16,
    latent_action_width=8,
    future_tokens=0,
)
CONFIG = EggHandConfig(image_size=56, text_length=8, category=1, egovideo=ENCODER, head=SIZES)
PROJECTIONS = {
    "state_proj_in": (16, STATE_WIDTH),
    "action_proj_in": (8, ACTION_WIDTH),
    "action_proj_out": (ACTION_WIDTH, 8),
}


@pytest.fixture
def checkpoint(tmp_path):
    """The folder, and its tensors."""
    rng = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=rng)  # noqa: E731
    stored = parity.stored()
    head = {
        k: v for k, v in parity.stored_state(stored["head_shapes"], 0.1).items() if not k.startswith("future_tokens")
    }
    for name, shape in PROJECTIONS.items():
        head |= {f"{name}.weight": normal(*shape), f"{name}.bias": normal(shape[0])}
    state = {f"action_head.{key}": tensor for key, tensor in head.items()}
    state |= {f"backbone.model.{k}": v for k, v in parity.stored_state(stored["egovideo_shapes"], 0.2).items()}
    for name, width in (("vision_projection", ENCODER.width), ("text_projection", ENCODER.text_output)):
        state |= {
            f"backbone.{name}.weight": normal(HEAD.context_width, width),
            f"backbone.{name}.bias": normal(HEAD.context_width),
        }
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "model.safetensors")
    # Its training saves the linear maps once more, and these count.
    later = {f"{n}.{p}": state[f"action_head.{n}.{p}"] + 1.0 for n in PROJECTIONS for p in ("weight", "bias")}
    torch.save(later, tmp_path / "action_projection_weights.pth")
    state |= {f"action_head.{key}": tensor for key, tensor in later.items()}
    (tmp_path / "experiment_cfg").mkdir()
    rows = np.random.default_rng(0)
    ranges = {}
    for kind in ("state", "action"):
        low = rows.uniform(-2.0, -1.0, (len(MODEL_JOINTS), 3))
        high = rows.uniform(1.0, 2.0, low.shape)
        ranges[kind] = {j: {"min": a.tolist(), "max": b.tolist()} for j, a, b in zip(MODEL_JOINTS, low, high)}
    ranges["state"]["extrinsics"] = {"min": [0.0] * CAMERA_WIDTH, "max": [1.0] * CAMERA_WIDTH}
    (tmp_path / "experiment_cfg" / "metadata.json").write_text(json.dumps({"new_embodiment": {"statistics": ranges}}))
    return tmp_path, state, ranges


def loaded(folder) -> EggHandForecaster:
    values = {"model": {"egovideo": vars(ENCODER), "head": {k: v for k, v in vars(SIZES).items() if k != "flow"}}}
    values["model"] |= {"image_size": 56, "text_length": 8, "category": 1}
    system = find_system("egghand", "test")
    assert system.reads(folder)
    return system.new("egghand", values, checkpoint=folder, device="cpu")


def test_every_key_is_used_and_the_forecast_begins_after_now(checkpoint):
    folder, _, _ = checkpoint
    forecaster = loaded(folder)
    assert forecaster.spec.horizon_steps == 9 and forecaster.config.includes_now and forecaster.config.padding_is_seen


def test_state_and_action_are_in_the_ranges_of_their_training(checkpoint):
    """Numbers worked out as their training does: each by its own range, then their linear map."""
    folder, state, ranges = checkpoint
    network = loaded(folder).network
    edge = lambda kind, end: torch.tensor([v for j in MODEL_JOINTS for v in ranges[kind][j][end]])  # noqa: E731
    points = torch.randn(4, ACTION_WIDTH, generator=torch.Generator().manual_seed(1)).double()
    camera = torch.randn(4, CAMERA_WIDTH, generator=torch.Generator().manual_seed(2))
    low, high = edge("state", "min"), edge("state", "max")
    theirs = torch.cat([((points - low) / (high - low) * 2.0 - 1.0).float(), camera], dim=-1)
    expected = theirs @ state["action_head.state_proj_in.weight"].T + state["action_head.state_proj_in.bias"]
    ours = network.head.state_in(torch.cat([network.normalize(points.float()), camera], dim=-1))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    low, high = edge("action", "min"), edge("action", "max")
    action = torch.linspace(-1.0, 1.0, ACTION_WIDTH)
    torch.testing.assert_close(network.denormalize(action), ((action.double() + 1) / 2 * (high - low) + low).float())
    torch.testing.assert_close(network.head.action_out.weight, state["action_head.action_proj_out.weight"])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda state: state.pop("action_head.vlln.weight"), "lack"),
        (lambda state: state.pop("backbone.text_projection.bias"), "lack"),
        (lambda state: state.update({"backbone.mystery": torch.zeros(1)}), "backbone.mystery"),
    ],
)
def test_what_does_not_fit_is_named(checkpoint, spoil, message):
    folder, state, _ = checkpoint
    (folder / "action_projection_weights.pth").unlink()
    spoil(state)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_published(EggHandNetwork(as_published(CONFIG)), folder)


def test_ranges_that_are_missing_are_named(checkpoint):
    folder, _, _ = checkpoint
    (folder / "experiment_cfg" / "metadata.json").write_text("{}")
    assert is_published(folder)
    with pytest.raises(UserError, match="ranges of the training data"):
        load_published(EggHandNetwork(as_published(CONFIG)), folder)
