"""Chat models as functions from tokens to states: kept beginnings, inserted embeddings, other families, tokenizers."""

from dataclasses import replace

import pytest
import torch

from egohand_ros.errors import UserError
from egohand_ros.forecast.vlm.chat import ChatVLM, Pictures
from egohand_ros.forecast.vlm.precision import cast_weights
from egohand_ros.forecast.vlm.qwen import new_qwen, picture_tokens, pictures_of
from egohand_ros.forecast.vlm.sizes import QwenSizes
from egohand_ros.forecast.vlm.tokens import PICTURE, small_tokens

SIZES = QwenSizes(64, 2, 4, 2, 128, 200, (2, 2, 4), 32, 2, 2, 64, (1,), 112, 6272)
TOKENS = small_tokens(("red", "cup"), ("<POSE>",))


def smolvlm(tokens):
    """SmolVLM's architecture at the size of a thumb."""
    from transformers import SmolVLMConfig

    config = SmolVLMConfig(
        text_config={
            "model_type": "llama", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200, "pad_token_id": 0,
            "bos_token_id": None, "eos_token_id": None,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 7,
        },
        scale_factor=2, image_token_id=tokens.number(PICTURE), pad_token_id=0,
    )  # fmt: skip
    return ChatVLM.of_config(config, tokens.number(PICTURE))


@pytest.fixture(scope="module", params=["qwen", "smolvlm"])
def seen(request):
    """A model, a picture, and how many tokens it has."""
    torch.manual_seed(0)
    if request.param == "qwen":
        model = new_qwen(SIZES, TOKENS.number(PICTURE)).eval()
        pictures = pictures_of(torch.randint(0, 255, (1, 56, 84, 3), dtype=torch.uint8), SIZES.pixels)
        return model, pictures, picture_tokens(pictures.grid[0])
    return smolvlm(TOKENS).eval(), Pictures(torch.randn(1, 1, 3, 28, 28)), 4


@torch.no_grad()
def test_a_kept_beginning_gives_the_states_of_the_whole(seen):
    model, pictures, count = seen
    begin = torch.tensor(TOKENS.encode(f"the red {PICTURE * count} cup"))
    eyes = model.see(pictures)
    assert eyes.shape == (count, model.width)
    kept = model.begin(begin, eyes, pictures.grid)
    pose = torch.randn(2, model.width)
    for words in ("take <POSE><POSE> now", "where is <POSE> the cup <POSE>?"):
        rest, inserted = torch.tensor(TOKENS.encode(words)), {TOKENS.number("<POSE>"): pose}
        whole = model(torch.cat([begin, rest])[None], eyes, pictures.grid, inserted)[0, len(begin) :]
        assert torch.allclose(model.go_on(kept, rest, inserted), whole, atol=1e-5)


@torch.no_grad()
def test_bfloat16_leaves_places_as_they_are():
    """Attention turns by place times frequency: in bfloat16 those of far tokens would be elsewhere."""
    torch.manual_seed(0)
    made = new_qwen(replace(SIZES, dtype="bfloat16"), TOKENS.number(PICTURE)).eval()
    assert {weight.dtype for weight in made.parameters()} == {torch.bfloat16}
    torch.manual_seed(0)
    model = new_qwen(SIZES, TOKENS.number(PICTURE)).eval()
    exact = {name: buffer.clone() for name, buffer in model.named_buffers() if "inv_freq" in name}
    cast_weights(model, torch.bfloat16)
    for found in (made, model):
        told = dict(found.named_buffers())
        assert exact and all(torch.equal(told[name], value) for name, value in exact.items())


@torch.no_grad()
def test_rows_filled_up_at_their_ends_do_not_mix(seen):
    model, pictures, count = seen
    long = TOKENS.encode(f"{PICTURE * count} take the red cup now")
    short = TOKENS.encode(f"{PICTURE * count} take")
    rows = torch.zeros(2, len(long), dtype=torch.long)
    rows[0], rows[1, : len(short)] = torch.tensor(long), torch.tensor(short)
    eyes = model.see(pictures)
    grid = None if pictures.grid is None else pictures.grid.repeat(2, 1)
    both = model(rows, eyes.repeat(2, 1), grid)
    alone = model(rows[1:, : len(short)], eyes, pictures.grid)
    assert torch.allclose(both[1, : len(short)], alone[0], atol=1e-5)
    sure = model.likelihood(alone[0, -1], torch.arange(TOKENS.vocabulary))
    assert 0.0 < float(sure.sum()) <= 1.0


def test_the_number_of_embeddings_has_to_fit(seen):
    model, pictures, count = seen
    with pytest.raises(ValueError, match=rf"{count} embeddings are given for {count + 1} places"):
        model(torch.tensor([TOKENS.encode(PICTURE * (count + 1))]), model.see(pictures), pictures.grid)


def test_a_model_that_is_no_chat_model_is_refused():
    with pytest.raises(UserError, match="Linear has no language model inside"):
        ChatVLM(torch.nn.Linear(2, 2), 0)


def test_small_tokens_know_words_spell_others_and_keep_special_ones_whole():
    assert TOKENS.encode("Red CUP") == TOKENS.encode("red cup") and len(TOKENS.encode("red cup")) == 2
    assert len(TOKENS.encode("cur")) == 3, "spelt"
    assert TOKENS.encode("<POSE>red<POSE>")[::2] == [TOKENS.number("<POSE>")] * 2
    assert (
        TOKENS.encode("red ☂") != TOKENS.encode("red") and max(TOKENS.encode("anything, at all!")) < TOKENS.vocabulary
    )


def test_sizes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="does not sum up"):
        QwenSizes(rope=(1, 2, 3)).config(5)
