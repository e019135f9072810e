"""The EgoMotion-style forecaster: motions, primitives, both language models, thoughts beside a stream, its stages."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_egomotion import PALIGEMMA, TINY

from egohand_ros.errors import UserError
from egohand_ros.forecast.common.observed import Observed
from egohand_ros.forecast.common.protocol import HANDS, MissingInput
from egohand_ros.forecast.egomotion.config import CHANNELS, EgoMotionConfig
from egohand_ros.forecast.egomotion.forecaster import EgoMotionForecaster
from egohand_ros.forecast.egomotion.inputs import known_in, motion_in, motion_out, now_of
from egohand_ros.forecast.egomotion.network import EgoMotionNetwork
from egohand_ros.forecast.egomotion.reasoning import Thought
from egohand_ros.forecast.egomotion.tokenizer import MotionTokenizer, ResidualQuantizer
from egohand_ros.forecast.egomotion.weights import load_paligemma
from egohand_ros.forecast.registry import from_pretrained, presets
from egohand_ros.forecast.vlm.sizes import EyeAndTextSizes
from egohand_ros.geometry.rotations import exp_rotation
from egohand_ros.geometry.transforms import make_transform
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.stream.warmup import example_window
from egohand_ros.training.objectives.egomotion import (
    GenerateObjective,
    JointObjective,
    ReasonObjective,
    TokenizerObjective,
)
from egohand_ros.training.windows.goal_windows import GoalWindowSampler, see_goals

BOTH = pytest.mark.parametrize("vlm", [TINY.vlm, PALIGEMMA], ids=lambda sizes: sizes.family)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EgoMotionNetwork(TINY).eval()


@pytest.fixture(scope="module")
def forecaster(network):
    return EgoMotionForecaster(TINY, network)


@pytest.fixture(scope="module")
def window(forecaster):
    """Moving hands before a camera that looks somewhere, and a picture with something in it."""
    made = example_window(forecaster.spec)
    pose = torch.from_numpy(make_transform(exp_rotation(np.array([0.3, -0.2, 0.5])), np.array([0.1, 0.2, 1.5])))
    images = torch.randint(0, 255, made.images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return replace(made, images=images, camera_pose=pose.expand(1, 4, 4, 4), prompt=("take the red cup",))


def test_it_forecasts_both_hands_with_fingers_and_hypotheses_differ(forecaster, window):
    given = forecaster.forecast(window, 5)
    assert given.keypoints.shape[:3] == (1, 5, 18) and given.keypoints.isfinite().all() and given.gives == HANDS
    assert given.valid.all() and not given.held.any()
    assert torch.equal(given.keypoints, forecaster.forecast(window, 5).keypoints)
    assert not torch.equal(given.keypoints[:, 1], given.keypoints[:, 2])
    alone = forecaster.forecast(window, 1, seed=7).keypoints
    assert torch.allclose(given.keypoints[:, :1], alone, atol=1e-5), "the first: no noise"
    assert not torch.allclose(given.keypoints[:, 1], forecaster.forecast(window, 5, seed=7).keypoints[:, 1], atol=1e-4)
    turned = given.wrist_rotation @ given.wrist_rotation.mT
    assert torch.allclose(turned, torch.eye(3, dtype=turned.dtype).expand_as(turned), atol=1e-6)
    whole = EgoMotionForecaster(replace(TINY, sampling_steps=50), forecaster.network).forecast(window, 2)
    assert whole.keypoints.isfinite().all(), "the ancestral loop"


def test_without_an_image_it_says_what_it_needs(forecaster, window):
    with pytest.raises(MissingInput, match="^EgoMotion needs images$"):
        forecaster.forecast(window.without_images())
    assert presets()["egomotion"].spec().horizon == pytest.approx(5.0)


@BOTH
def test_words_pictures_and_past_all_matter_and_windows_of_a_batch_do_not_mix(vlm, window):
    torch.manual_seed(0)
    made = EgoMotionForecaster(replace(TINY, vlm=vlm))
    plain = made.reasoner(window).states
    changed = {
        "words": replace(window, prompt=("take the blue cup now",)),
        "picture": replace(window, images=255 - window.images),
        "past": replace(window, keypoints=window.keypoints + 0.1),
    }
    for name, other in changed.items():
        assert not torch.allclose(plain, made.reasoner(other).states, atol=1e-6), name
        assert not torch.equal(made.forecast(window).keypoints, made.forecast(other).keypoints), name
    fields = (
        "stamp",
        "keypoints",
        "valid",
        "wrist_rotation",
        "rotation_valid",
        "camera_pose",
        "images",
        "camera_matrix",
    )
    both = {name: torch.cat([getattr(window, name), getattr(changed["words"], name)]) for name in fields}
    two = replace(window, **both, prompt=(*window.prompt, *changed["words"].prompt))
    assert torch.allclose(made.reasoner(two).states[:1], plain, atol=1e-5)
    assert torch.allclose(made.reasoner(two).states[1:], made.reasoner(changed["words"]).states, atol=1e-5)


def test_paligemma_sees_its_question_both_ways_and_primitives_one_way(window):
    torch.manual_seed(0)
    made = EgoMotionForecaster(replace(TINY, vlm=PALIGEMMA))
    network, tokens = made.network, torch.randint(8, 100, (1, 9))
    asked = torch.tensor([6])
    with torch.no_grad():
        plain = network.vlm(tokens, asked=asked)
        later, last = tokens.clone(), tokens.clone()
        later[0, 5], last[0, 8] = 3, 3
        assert not torch.allclose(network.vlm(later, asked=asked)[0, 0], plain[0, 0], atol=1e-6)
        assert torch.allclose(network.vlm(last, asked=asked)[0, :8], plain[0, :8], atol=1e-6)


def test_paligemma_equals_transformers_own_forward(window):
    """The masks and places here against those that PaliGemma's own class makes of token types."""
    torch.manual_seed(0)
    network = EgoMotionNetwork(replace(TINY, vlm=PALIGEMMA)).eval()
    model, tokens, asked = network.vlm.model, torch.randint(8, 100, (2, 9)), torch.tensor([6, 6])
    types = (torch.arange(9) >= 6).long().expand(2, 9)
    with torch.no_grad():
        theirs = model.model(input_ids=tokens, token_type_ids=types, attention_mask=torch.ones_like(tokens))
        assert torch.allclose(network.vlm(tokens, asked=asked), theirs.last_hidden_state, atol=1e-5)


def test_a_motion_comes_back_as_it_was_and_none_is_a_hand_that_stays(forecaster, window):
    observed = Observed.from_window(window)
    now = now_of(window, observed)
    rng = np.random.default_rng(0)
    rotation = exp_rotation(rng.normal(0.0, 0.5, (1, 18, 2, 3)))
    keypoints = window.keypoints.numpy()[:, -1:] + rng.normal(0.0, 0.05, (1, 18, 2, 21, 3))
    motion = motion_in(now, keypoints, rotation)
    back, turned = motion_out(now, motion[:, None])
    assert np.allclose(back[:, 0], keypoints, atol=1e-5) and np.allclose(turned[:, 0], rotation, atol=1e-5)
    still, palm = motion_out(now, torch.zeros(1, 1, 1, CHANNELS))
    assert np.allclose(still[0, 0, 0], window.keypoints[0, -1], atol=1e-9)
    assert np.allclose(palm[0, 0, 0], window.wrist_rotation[0, -1], atol=1e-9)
    valid = np.ones((1, 18, 2, 21), dtype=bool)
    valid[0, 3, 1, WRIST] = False
    known = known_in(valid, np.ones((1, 18, 2), dtype=bool), np.array([[True, True]])).unflatten(-1, (2, -1))
    assert not known[0, 3, 1, :3].any() and not known[0, 3, 1, 9:].any() and known[0, 3, 0].all() and known[0, 4].all()


# ---------------------------------------------------------------- primitives


def test_each_book_codes_what_those_before_left_over_and_no_code_stays_dead():
    torch.manual_seed(0)
    quantizer, data = ResidualQuantizer(3, 16, 4).train(), torch.randn(64, 8, 4) * torch.tensor([3.0, 1.0, 0.3, 0.1])
    for _ in range(150):
        quantizer(data)
    quantizer.eval()
    with torch.no_grad():
        coded = quantizer(data)
        parts = [quantizer.look_up(coded.codes[..., :depth]) for depth in (1, 2, 3)]
    errors = [float((data - part).square().mean()) for part in parts]
    assert errors[0] < 0.4 * float(data.square().mean())
    assert errors[1] < 0.6 * errors[0] and errors[2] < 0.8 * errors[1]
    assert torch.allclose(coded.quantised, parts[-1], atol=1e-5)
    perplexity, usage = quantizer.usage()
    assert (perplexity > 8).all() and (usage > 0.9).all() and (perplexity <= 16.001).all()


def test_a_motion_tokenizer_learns_and_what_is_longer_than_whole_primitives_keeps_its_length():
    torch.manual_seed(0)
    motion = MotionTokenizer(TINY.tokenizer_sizes).train()
    wave = torch.sin(torch.arange(18)[:, None] * 0.3 + torch.randn(32, 1, CHANNELS))
    optimizer, losses = torch.optim.Adam(motion.parameters(), 3e-3), []
    for _ in range(60):
        rebuilt, coded = motion.rebuild(wave)
        resampled, divergence = motion.resample(wave)
        loss = (rebuilt - wave).abs().mean() + (resampled - wave).abs().mean() + 0.02 * coded.commitment
        loss = loss + 1e-4 * divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert rebuilt.shape == wave.shape and losses[-1] < 0.85 * losses[0]
    motion.eval()
    with torch.no_grad():
        codes, latent = motion.codes(wave), motion.latent(wave)
        assert codes.shape == (32, 5, 3) and latent.shape == (32, 5, 8)
        assert torch.allclose(motion.motion_of_codes(codes, 18), motion.rebuild(wave)[0], atol=1e-4)


# ---------------------------------------------------------------- beside a stream


def wait_for(condition, timeout=60.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "nothing came of it"
        time.sleep(0.01)


def test_beside_a_stream_it_thinks_when_words_or_scene_change_and_forecasts_all_the_time(network, window):
    live = EgoMotionForecaster(TINY, network, reasoning="background", renew=0.5)
    reasoner = live.reasoner
    later = lambda seconds, **changes: replace(window, stamp=window.stamp + seconds, **changes)  # noqa: E731
    assert live.forecast(window).valid.any() and reasoner.thoughts == 1
    live.forecast(later(0.2))
    wait_for(lambda: not reasoner._busy)
    assert reasoner.thoughts == 1, "nothing has changed"
    looked, blue = reasoner._glance, ("take the blue cup",)
    assert not live.forecast(later(0.3, prompt=blue)).valid.any(), "not thought about yet"
    wait_for(lambda: reasoner.thoughts == 2 and not reasoner._busy)
    assert live.forecast(later(0.4, prompt=blue)).valid.any() and reasoner._glance is looked
    live.forecast(later(0.9, prompt=blue, images=255 - window.images))
    wait_for(lambda: reasoner.thoughts == 3 and not reasoner._busy)
    assert reasoner._glance is not looked
    live.reset()
    assert not live.forecast(later(1.0, prompt=blue)).valid.any()
    wait_for(lambda: not reasoner._busy)


def test_a_thought_that_grows_older_moves_ahead_in_time():
    states = torch.arange(4.0)[None, :, None].expand(1, 4, 2)
    thought = Thought(states, torch.zeros(1, 4, 3), np.array([10.0]), ("",))
    assert torch.equal(thought.at(np.array([10.0]), 0.4), states)
    assert torch.allclose(thought.at(np.array([10.6]), 0.4)[0, :, 0], torch.tensor([1.5, 2.5, 3.0, 3.0]), atol=1e-5)


# ---------------------------------------------------------------- weights


def test_it_is_saved_and_read_again_and_refuses_what_it_does_not_know(forecaster, window, tmp_path):
    forecaster.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert torch.equal(again.forecast(window).keypoints, forecaster.forecast(window).keypoints)
    with pytest.raises(UserError, match="expected wait or background"):
        EgoMotionForecaster(TINY, reasoning="never")
    with pytest.raises(ValueError, match="expected 1 to 50"):
        replace(TINY, sampling_steps=51)
    with pytest.raises(ValueError, match="no multiple of 28"):
        replace(TINY.vlm, picture=60)
    with pytest.raises(UserError, match="of another family than PaliGemma"):
        load_paligemma(forecaster.network, tmp_path)


def test_the_published_size_has_a_place_for_every_tensor_of_paligemma_2_3b():
    """Keys and shapes as google/paligemma2-3b-pt-224 publishes them; nothing is allocated."""
    from egohand_ros.forecast.egomotion.weights import renamed

    with torch.device("meta"):
        network = EgoMotionNetwork(EgoMotionConfig())
    published = {key: torch.empty(shape, device="meta") for key, shape in paligemma_shapes().items()}
    own = {key: tuple(value.shape) for key, value in network.vlm.model.state_dict().items()}
    ours = {key: tuple(value.shape) for key, value in renamed(published, network.vlm.model).items()}
    assert {key: own.get(key) for key in ours} == ours
    assert set(own) - set(ours) <= {"lm_head.weight"}
    assert network.vlm.model.lm_head.weight is network.vlm.model.get_input_embeddings().weight, "tied"
    assert sum(p.numel() for p in network.vlm.parameters()) == sum(value.numel() for value in published.values())
    assert network.motion.quantizer.books.shape == (6, 512, 512) and EgoMotionConfig().primitives == 38


def paligemma_shapes() -> dict[str, tuple[int, ...]]:
    sizes = EyeAndTextSizes()
    width, head, eye = sizes.width, sizes.head_width, sizes.vision_width
    shapes = {
        "language_model.model.embed_tokens.weight": (sizes.vocabulary, width),
        "language_model.model.norm.weight": (width,),
        "multi_modal_projector.linear.weight": (width, eye),
        "multi_modal_projector.linear.bias": (width,),
        "vision_tower.vision_model.embeddings.patch_embedding.weight": (eye, 3, 14, 14),
        "vision_tower.vision_model.embeddings.patch_embedding.bias": (eye,),
        "vision_tower.vision_model.embeddings.position_embedding.weight": (256, eye),
        "vision_tower.vision_model.post_layernorm.weight": (eye,),
        "vision_tower.vision_model.post_layernorm.bias": (eye,),
    }
    for i in range(26):
        layer = f"language_model.model.layers.{i}."
        shapes |= {
            layer + "self_attn.q_proj.weight": (8 * head, width),
            layer + "self_attn.k_proj.weight": (4 * head, width),
            layer + "self_attn.v_proj.weight": (4 * head, width),
            layer + "self_attn.o_proj.weight": (width, 8 * head),
            layer + "mlp.gate_proj.weight": (9216, width),
            layer + "mlp.up_proj.weight": (9216, width),
            layer + "mlp.down_proj.weight": (width, 9216),
        }
        norms = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        shapes |= {f"{layer}{norm}_layernorm.weight": (width,) for norm in norms}
    for i in range(27):
        layer = f"vision_tower.vision_model.encoder.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {f"{layer}self_attn.{name}.weight": (eye, eye), f"{layer}self_attn.{name}.bias": (eye,)}
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}{name}.weight": (eye,), f"{layer}{name}.bias": (eye,)}
        shapes |= {f"{layer}mlp.fc1.weight": (4304, eye), f"{layer}mlp.fc1.bias": (4304,)}
        shapes |= {f"{layer}mlp.fc2.weight": (eye, 4304), f"{layer}mlp.fc2.bias": (eye,)}
    return shapes


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def sampler(forecaster):
    spec = forecaster.spec
    seen = [see_goals(seed, spec.image_size, spec.step, spec.window_length, spec.horizon_steps) for seed in (1, 2)]
    return GoalWindowSampler(seen, spec, 8, 4, blind=0.0, deaf=0.0)


@pytest.mark.parametrize(
    "objective, learns, stays",
    [
        (TokenizerObjective, ("motion.encoder", "motion.latent_decoder"), ("vlm", "denoiser", "reader", "queries")),
        (ReasonObjective, ("vlm", "reader", "queries", "past"), ("motion", "denoiser")),
        (GenerateObjective, ("denoiser",), ("motion", "vlm", "reader", "queries", "past")),
        (JointObjective, ("vlm", "reader", "denoiser"), ("motion",)),
    ],
)
def test_a_few_steps_of_each_stage_bring_the_loss_down_and_change_its_part_alone(sampler, objective, learns, stays):
    torch.manual_seed(0)
    forecaster = EgoMotionForecaster(TINY)
    network, training = forecaster.network, objective(forecaster, objective.Weights())
    cuts = sampler.cuts(0)
    training.fit(cuts)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch, losses = training.prepare(cuts), []
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    training.train()
    for _ in range(25):
        loss, _ = training(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.85 * losses[0]
    changed = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert all(any(name.startswith(part) for name in changed) for part in learns)
    assert not any(name.startswith(part) for name in changed for part in stays)
