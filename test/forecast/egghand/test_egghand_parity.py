"""Our action head and video-text encoder against the public ones, live where they are importable, else as stored."""

import json

import numpy as np
import parity
import pytest
import torch
from safetensors.torch import save_file
from tiny_egghand import PARITY_EGOVIDEO as ENCODER
from tiny_egghand import PARITY_HEAD as HEAD

from egohand_ros.config import from_mapping, read_preset
from egohand_ros.errors import UserError
from egohand_ros.forecast.egghand.action_head import ActionHead
from egohand_ros.forecast.egghand.egovideo import EgoVideoEncoder, position_waves
from egohand_ros.forecast.egghand.model import EggHandConfig, EggHandNetwork
from egohand_ros.forecast.egghand.weights import load_action_head, load_egovideo


def our_actions(head: ActionHead) -> torch.Tensor:
    given = parity.head_inputs()
    with torch.no_grad():
        conditioning = head.condition(given["state"], None, given["context"], None, given["category"])
        return head.sample(conditioning, given["noise"])


@pytest.fixture
def head(tmp_path) -> ActionHead:
    """Ours, from a checkpoint file with the public names, as nvidia/GR00T-N1.5-3B has them."""
    state = parity.stored_state(parity.stored()["head_shapes"], 0.1)
    backbone = {"backbone.eagle_linear.weight": torch.zeros(2, 2)}
    save_file({f"action_head.{k}": v for k, v in state.items()} | backbone, tmp_path / "model.safetensors")
    head = ActionHead(HEAD).eval()
    load_action_head(head, tmp_path)
    return head


@pytest.fixture
def encoder(tmp_path) -> EgoVideoEncoder:
    """Ours, from a checkpoint file with the public names, as OpenGVLab's ckpt_4frames.pth has them."""
    state = parity.stored_state(parity.stored()["egovideo_shapes"], 0.2)
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "ckpt_4frames.pth")
    encoder = EgoVideoEncoder(ENCODER).eval()
    load_egovideo(encoder, tmp_path / "ckpt_4frames.pth")
    return encoder


def test_action_head_gives_the_stored_actions_of_the_public_one(head):
    expected = torch.from_numpy(parity.stored()["head_actions"])
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(our_actions(head), expected, rtol=0, atol=1e-5)


def test_action_head_gives_the_actions_of_the_public_one(head):
    public, shapes = parity.public_head()
    torch.testing.assert_close(our_actions(head), parity.public_head_actions(public), rtol=0, atol=1e-5)
    assert {k: list(v) for k, v in shapes.items()} == json.loads(str(parity.stored()["head_shapes"]))


def test_encoder_gives_the_stored_tokens_of_the_public_one(encoder):
    given, expected = parity.video_inputs(), parity.stored()
    with torch.no_grad():
        frames = encoder.encode_video(given["frames"])
        words = encoder.encode_text(given["tokens"], given["mask"])
    torch.testing.assert_close(frames, torch.from_numpy(expected["egovideo_frames"]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(words, torch.from_numpy(expected["egovideo_words"]), rtol=1e-5, atol=1e-5)


def test_encoder_gives_the_tokens_of_the_public_one(encoder):
    video, text, projection, _ = parity.public_egovideo()
    frames, words = parity.public_egovideo_tokens(video, text, projection)
    given = parity.video_inputs()
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_video(given["frames"]), frames, rtol=1e-5, atol=1e-5)
        ours = encoder.encode_text(given["tokens"], given["mask"])
    torch.testing.assert_close(ours, words, rtol=1e-5, atol=1e-5)


def test_full_size_is_the_published_size():
    """The public code prints 550386688 and 201433088 for these two; EgoVideo's vision tower has a billion."""
    with torch.device("meta"):
        network = EggHandNetwork(from_mapping(EggHandConfig, read_preset("egghand")["model"], "egghand"))
    count = lambda module: sum(parameter.numel() for parameter in module.parameters())  # noqa: E731
    assert count(network.head.transformer) == 550_386_688 and count(network.head.fusion) == 201_433_088
    assert count(network.encoder.vision) == 1_012_224_640


def test_position_waves_are_the_public_ones():
    """Spot values of the sine-cosine table: class token, first patch of the second frame, and a column step."""
    waves = position_waves(64, 4, 4)[0].numpy()
    assert np.allclose(waves[0], 0.0)
    assert waves[17, 0] == pytest.approx(np.sin(1.0)) and waves[1, 0] == 0.0
    assert waves[2, 16] == pytest.approx(np.sin(1.0)) and waves[5, 16] == pytest.approx(0.0)


def test_checkpoint_mistakes_are_named(tmp_path, head):
    with pytest.raises(UserError, match="no weights at"):
        load_action_head(head, tmp_path / "nothing.safetensors")
    save_file({"action_head.vlln.weight": torch.zeros(64)}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match="lack .* tensors"):
        load_action_head(head, tmp_path / "part.safetensors")
    save_file({"action_head.vlln.weight": torch.zeros(65)}, tmp_path / "wide.safetensors")
    with pytest.raises(UserError, match=r"shape \(65,\); this model expects \(64,\)"):
        load_action_head(head, tmp_path / "wide.safetensors")
    save_file({"action_head.mystery": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match="no place"):
        load_action_head(head, tmp_path / "odd.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="expected a GR00T N1.5"):
        load_action_head(head, tmp_path / "other.safetensors")
