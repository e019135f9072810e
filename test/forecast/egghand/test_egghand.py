"""EggHand with random weights, small: masks, determinism, frames, saving, and the mistakes a user can make."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_egghand import EGOVIDEO, HEAD

from egohand_ros.config import from_mapping, read_preset
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.data.windows import cut_windows, window_ends
from egohand_ros.errors import UserError
from egohand_ros.forecast.egghand.action_head import ActionHead
from egohand_ros.forecast.egghand.encoders import HuggingFaceConfig
from egohand_ros.forecast.egghand.forecaster import EggHandForecaster, actions_of, keypoints_of
from egohand_ros.forecast.egghand.model import EggHandConfig, EggHandNetwork
from egohand_ros.forecast.egghand.transformer import Block
from egohand_ros.forecast.registry import from_pretrained, make_forecaster, system_of
from egohand_ros.stream.window import Window
from egohand_ros.training.session import read_settings
from egohand_ros.training.windows.augment import NONE
from egohand_ros.training.windows.image_augment import NONE as IMAGES_AS_THEY_ARE

CONFIG = EggHandConfig(image_size=28, text_length=8, egovideo=EGOVIDEO, head=HEAD)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "take", "the", "red", "blue", "cup"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    """A BERT tokenizer of ten words, in a folder."""
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def forecaster(tokenizer) -> EggHandForecaster:
    torch.manual_seed(0)
    network = EggHandNetwork(CONFIG)
    for parameter in network.parameters():  # the zero-initialised ones would hide what they let through
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    return EggHandForecaster(CONFIG, network, device="cpu", tokenizer=tokenizer)


@pytest.fixture(scope="module")
def window() -> Window:
    episode = generate_scene(3, 6.0).episode
    ends = window_ends(episode.stamp, 0.1, 20, 10)
    cut = cut_windows(episode, ends[[0, 9, 18]], 0.1, 20, 10).window
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 4, 28, 28, 3), dtype=np.uint8))
    return replace(cut, images=images, prompt=("take the red cup",) * 3)


def difference(a, b) -> float:
    return (a.keypoints - b.keypoints).abs().max().item()


def test_same_window_and_seed_give_the_same_futures(forecaster, window):
    first, again = (forecaster.forecast(window, 4, seed=5) for _ in range(2))
    assert first.keypoints.shape == (3, 4, 10, 2, 21, 3) and difference(first, again) == 0.0
    assert difference(first, forecaster.forecast(window, 4, seed=6)) > 1e-4
    alone = forecaster.forecast(window)
    assert torch.allclose(alone.keypoints[:, 0], first.keypoints[:, 0], atol=1e-6), (
        "the first hypothesis is the deterministic one"
    )


def test_every_modality_is_looked_at(forecaster, window):
    full = forecaster.forecast(window)
    assert difference(full, forecaster.forecast(replace(window, images=255 - window.images))) > 1e-5
    assert difference(full, forecaster.forecast(replace(window, prompt=("take the blue cup",) * 3))) > 1e-6
    assert difference(full, forecaster.forecast(replace(window, images=None))) > 1e-5
    assert difference(full, forecaster.forecast(replace(window, prompt=None))) > 1e-5


def test_any_modality_may_be_missing(forecaster, window):
    bare = replace(window, images=None, prompt=None, camera_pose=None)
    assert forecaster.forecast(bare, 2, seed=0).keypoints.isfinite().all()
    assert forecaster.forecast(replace(window, prompt=("", "take the cup", ""))).keypoints.isfinite().all()


def test_a_missing_prompt_is_masked_not_a_text_of_its_own(forecaster, window):
    """In one batch, rows without a prompt forecast what they would if nobody had one."""
    mixed = forecaster.forecast(replace(window, prompt=("", "take the cup", "")))
    none = forecaster.forecast(replace(window, prompt=("", "", "")))
    assert torch.allclose(mixed.keypoints[[0, 2]], none.keypoints[[0, 2]], atol=1e-6)
    assert not torch.allclose(mixed.keypoints[1], none.keypoints[1], atol=1e-6)


def test_what_lies_behind_a_mask_does_not_matter(forecaster, window):
    valid = window.valid.clone()
    valid[:, :5] = False
    valid[:, :, 0, 4] = False
    hidden = replace(window, valid=valid)
    other = replace(
        hidden, keypoints=torch.where(valid[..., None], window.keypoints, torch.full_like(window.keypoints, 7.0))
    )
    assert difference(forecaster.forecast(hidden), forecaster.forecast(other)) == 0.0
    assert difference(forecaster.forecast(hidden), forecaster.forecast(window)) > 1e-5


def test_a_hand_never_seen_is_not_forecast(forecaster, window):
    valid = window.valid.clone()
    valid[0, :, 0] = False
    forecast = forecaster.forecast(replace(window, valid=valid))
    assert not forecast.valid[0, 0].any() and forecast.valid[0, 1].all() and forecast.valid[1].all()
    assert (forecast.keypoints[0, :, :, 0] == 0).all()


def test_the_forecast_turns_and_moves_with_the_world(tokenizer, window):
    """In the canonical frame, where the world's origin is and where its X points to make no difference."""
    torch.manual_seed(1)
    forecaster = EggHandForecaster(CONFIG, EggHandNetwork(CONFIG), device="cpu", tokenizer=tokenizer)
    turn = torch.from_numpy(Rotation.from_euler("z", 1.1).as_matrix())
    shift = torch.tensor([3.0, -2.0, 0.7], dtype=torch.float64)
    camera = window.camera_pose.clone()
    camera[..., :3, :] = turn @ camera[..., :3, :]
    camera[..., :3, 3] += shift
    moved = replace(
        window,
        keypoints=(window.keypoints @ turn.T + shift) * window.valid[..., None],
        wrist_rotation=turn @ window.wrist_rotation,
        camera_pose=camera,
    )
    expected = forecaster.forecast(window).keypoints @ turn.T + shift
    assert torch.allclose(forecaster.forecast(moved).keypoints, expected, atol=1e-4)


def test_actions_are_keypoints_with_the_right_hand_first():
    keypoints = np.random.default_rng(0).normal(size=(2, 5, 2, 21, 3))
    actions = actions_of(keypoints)
    assert actions.shape == (2, 5, 126)
    assert np.array_equal(actions[..., :3], keypoints[..., 1, 0, :])
    assert np.array_equal(keypoints_of(actions), keypoints)


def test_a_saved_forecaster_forecasts_the_same(forecaster, window, tmp_path):
    expected = forecaster.forecast(window, 2, seed=1)
    forecaster.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model", device="cpu")
    assert difference(expected, again.forecast(window, 2, seed=1)) == 0.0
    assert again.spec.checkpoint_hash and again.spec.model_id == f"egghand@{again.spec.checkpoint_hash}"


def test_a_hugging_face_encoder(tokenizer, window, tmp_path):
    """SigLIP's architecture, tiny and random, from a local folder; saved and loaded without that folder."""
    from transformers import SiglipConfig, SiglipModel

    towers = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
    config = SiglipConfig(
        text_config=dict(towers, vocab_size=30, max_position_embeddings=8, projection_size=32),
        vision_config=dict(towers, image_size=28, patch_size=14),
    )
    folder = tmp_path / "siglip"
    SiglipModel(config).save_pretrained(folder)
    settings = replace(CONFIG, egovideo=None, huggingface=HuggingFaceConfig(str(folder), str(folder)))
    forecaster = EggHandForecaster(
        settings, EggHandNetwork(settings, pretrained_encoder=True), device="cpu", tokenizer=tokenizer
    )
    expected = forecaster.forecast(window)
    assert difference(expected, forecaster.forecast(replace(window, images=255 - window.images))) > 1e-5
    forecaster.save_pretrained(tmp_path / "model")
    folder.rename(tmp_path / "gone")
    assert difference(expected, from_pretrained(tmp_path / "model", device="cpu").forecast(window)) == 0.0


def test_masked_context_and_observations_have_no_influence_on_the_head():
    torch.manual_seed(0)
    head = ActionHead(replace(HEAD, state_width=6, action_width=5, latent_state_width=0, latent_action_width=0)).eval()
    state, context, noise = torch.randn(2, 4, 6), torch.randn(2, 7, 48), torch.randn(2, 3, 5)
    state_mask, context_mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool)
    state_mask[:, :2], context_mask[:, 5:] = False, False
    category = torch.tensor([3])

    def sample(state, state_mask, context, context_mask):
        with torch.no_grad():
            return head.sample(head.condition(state, state_mask, context, context_mask, category), noise)

    masked = sample(state, state_mask, context, context_mask)
    assert torch.allclose(masked, sample(state[:, 2:], None, context[:, :5], None), atol=1e-5)
    assert not torch.allclose(masked, sample(state, None, context, None), atol=1e-5)
    nothing = sample(state, state_mask, context, torch.zeros_like(context_mask))
    assert torch.allclose(nothing, sample(state, state_mask, context[:, :0], None), atol=1e-5)


def test_shipped_presets_fit_their_configurations():
    for name in ("egghand", "egghand-hf"):
        config = from_mapping(EggHandConfig, read_preset(name)["model"], name)
        assert config.head.width // config.head.heads == 48 and config.window_length == 20


def test_mistakes_are_told_in_one_line(tmp_path, window, forecaster):
    with pytest.raises(UserError, match="has no shipped weights; give checkpoint=FOLDER"):
        make_forecaster("egghand")
    with pytest.raises(UserError, match="no folder"):
        make_forecaster("egghand", checkpoint=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="holds no forecaster"):
        make_forecaster("egghand", checkpoint=str(tmp_path))
    with pytest.raises(UserError, match="cannot load tokenizer"):
        lost = EggHandForecaster(CONFIG, forecaster.network, device="cpu", tokenizer=str(tmp_path))
        lost.forecast(window)
    with pytest.raises(UserError, match="precision 'int8' is unknown"):
        EggHandForecaster(CONFIG, forecaster.network, precision="int8")
    with pytest.raises(UserError, match="either `egovideo` or `huggingface`"):
        EggHandNetwork(replace(CONFIG, egovideo=None))
    with pytest.raises(ValueError, match="category 40"):
        replace(CONFIG, category=40)


@pytest.mark.parametrize("preset", ["egghand", "egghand-hf", "egghand-tiny"])
def test_training_leaves_hands_and_cameras_as_they_are(preset):
    """Paper and code augment images alone; what a preset does not name is off."""
    stage = system_of(preset).stage()
    options = read_settings(preset, stage, False, []).augmentation
    assert replace(options, images=IMAGES_AS_THEY_ARE) == NONE
    assert (options.images != IMAGES_AS_THEY_ARE) == (preset != "egghand-tiny")


def test_attention_is_dropped_twice_in_series_as_in_n15():
    """A share of (1 - p)^2 of what attention gives is left, scaled up by as much."""
    torch.manual_seed(0)
    block = Block(64, 4, dropout=0.2)
    for parameter in block.feed_forward.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(block.attention.out.bias)
    torch.nn.init.zeros_(block.attention.out.weight)
    added = (block.train()(torch.zeros(40, 50, 64))).flatten()
    assert (added != 0).float().mean().item() == pytest.approx(0.64, abs=0.01)
    assert added[added != 0].unique().tolist() == pytest.approx([1.0 / 0.64])


def test_a_network_whose_first_step_is_now_forecasts_from_the_next_one(tokenizer, window):
    config = replace(CONFIG, horizon_steps=9, includes_now=True)
    torch.manual_seed(0)
    late, early = (EggHandNetwork(c) for c in (CONFIG, config))
    early.load_state_dict(late.state_dict())
    whole = EggHandForecaster(CONFIG, late, device="cpu", tokenizer=tokenizer).forecast(window)
    ahead = EggHandForecaster(config, early, device="cpu", tokenizer=tokenizer).forecast(window)
    assert ahead.keypoints.shape[2] == 9
    torch.testing.assert_close(ahead.keypoints, whole.keypoints[:, :, 1:])


def test_words_of_the_data_become_the_tokenizer_and_are_saved(tmp_path, window):
    config = replace(CONFIG, tokenizer="synthetic")
    forecaster = EggHandForecaster(config, EggHandNetwork(config), device="cpu")
    with pytest.raises(UserError, match="made when it is trained"):
        forecaster.forecast(window)
    forecaster.learn_words(["take the red cup", "take the blue one"])
    told = forecaster.forecast(window)
    forecaster.save_pretrained(tmp_path / "model")
    assert difference(told, from_pretrained(tmp_path / "model", device="cpu").forecast(window)) < 1e-6
