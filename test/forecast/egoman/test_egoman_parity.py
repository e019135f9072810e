"""Our EgoMAN against the authors': as stored, everywhere; live, where EGOMAN_SOURCE is set (docs/systems.md)."""

import fixtures
import parity_egoman as parity
import pytest
import torch
from fixtures import assert_equal

from egohand_ros.errors import UserError
from egohand_ros.forecast.egoman import network as network_module
from egohand_ros.forecast.egoman.config import EgoMANConfig
from egohand_ros.forecast.egoman.expert import MotionExpert
from egohand_ros.forecast.egoman.heads import Moment, SemanticAligner, WaypointHead
from egohand_ros.forecast.egoman.network import EgoMANNetwork
from egohand_ros.forecast.egoman.objective import act_loss, eased, motion_loss, waypoint_loss
from egohand_ros.forecast.egoman.prompt import ANSWER, ask, question_of, tokens_of
from egohand_ros.forecast.egoman.weights import load_egoman, renamed
from egohand_ros.forecast.vlm.qwen import beginning_of_chat, pictures_of, rest_of_chat

UNKNOWN = -1000


@pytest.fixture(scope="module")
def kept():
    return fixtures.stored("egoman")


def our_expert(size: parity.Size, shapes) -> MotionExpert:
    expert = MotionExpert(size.sizes)
    state = {f"fm_model.{key}": value for key, value in fixtures.formula_state(shapes, size.seed).items()}
    expert.load_state_dict({key.removeprefix("expert."): value for key, value in renamed(state).items()})
    return expert.eval()


def our_outputs(expert: MotionExpert, size: parity.Size) -> dict[str, torch.Tensor]:
    given = parity.inputs(size)
    condition = expert.condition(given["scene"], given["act"])
    told = (condition, given["past"], given["waypoints"], given["steps"])
    biased, bias = expert.context(*told, given["bias"][:, :-50]), given["bias"][:, -50:]
    context, alone = expert.context(*told), expert.context(condition, given["past"])
    noise = fixtures.Noise(size.seed)(given["noisy"], size.steps)
    moving = given["noisy"], given["time"]
    plain = expert.velocity(*moving, context)
    return {
        "biased": expert.velocity(*moving, biased, bias),
        "plain": plain,
        "alone": expert.velocity(*moving, alone),
        "sample": expert.sample(context, noise, size.steps),
        "loss": motion_loss(plain, given["target"], bias == 0)[None],
    }


@pytest.mark.parametrize("name", parity.SIZES)
def test_the_motion_expert_is_the_authors(kept, name):
    size = parity.SIZES[name]
    expert = our_expert(size, fixtures.from_shapes(kept[f"{name}.shapes"]))
    for key, ours in our_outputs(expert, size).items():
        assert_equal((ours[:, ::7] if ours.dim() == 3 else ours).detach(), kept[f"{name}.{key}"])


@pytest.mark.parametrize("name", [*parity.SIZES, "published"])
def test_the_motion_expert_is_the_authors_live(name):
    size = parity.SIZES.get(name, parity.PUBLISHED)
    theirs = parity.authors_expert(size)
    expert = our_expert(size, {key: tuple(value.shape) for key, value in theirs.state_dict().items()})
    found = our_outputs(expert, size)
    for key, value in parity.expert_outputs(theirs, size).items():
        print(name, key, f"{assert_equal(found[key].detach(), value):.1e}")


def test_heads_and_their_losses_are_the_authors(kept):
    head, aligner = WaypointHead(parity.TOKEN), SemanticAligner(parity.TOKEN)
    made = fixtures.formula_state(fixtures.from_shapes(kept["heads.decoder_shapes"]), 11)
    head.load_state_dict(
        {
            k.removeprefix("moments.start."): v
            for k, v in renamed({f"start_decoder.{k}": v for k, v in made.items()}).items()
        }
    )
    made = fixtures.formula_state(fixtures.from_shapes(kept["heads.aligner_shapes"]), 12)
    aligner.load_state_dict(made)
    moment = head(parity.states())
    ours = torch.cat([moment.time, moment.motion, moment.pixel.flatten(1)], dim=1)
    assert_equal(ours.detach(), kept["heads.moment"])
    told = torch.where(parity.known() == UNKNOWN, torch.nan, parity.known())
    shapes = ((2, 3), (2, 2), (2, 6))
    parts = [p.unflatten(1, s) for p, s in zip(told[:, 1:].split((6, 4, 12), dim=1), shapes, strict=True)]
    assert_equal(waypoint_loss(moment, Moment(told[:, :1], *parts)).detach()[None], kept["heads.waypoint_loss"])
    losses = []
    for count in (5, 14):
        states, embeddings = parity.phrases(count)
        losses.append(act_loss(aligner(states), torch.where(embeddings == UNKNOWN, torch.nan, embeddings)))
    assert_equal(torch.stack(losses).detach(), kept["heads.act_losses"])
    assert_equal(aligner(parity.phrases(5)[0]).detach(), kept["heads.aligned"])


@pytest.fixture(scope="module", autouse=True)
def without_dinov3():
    """These tests do not look at the scene, and 300 million new weights take seconds to be drawn."""
    with pytest.MonkeyPatch.context() as patch:
        real = network_module._dinov3
        patch.setattr(network_module, "_dinov3", lambda: torch.nn.Identity())
        yield real


@pytest.fixture(scope="module")
def assembled(kept, tmp_path_factory):
    """Our network with the weights of their tiny model, read from a file as they write it."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("authors")
    state = fixtures.formula_state(fixtures.from_shapes(kept["model.shapes"]), 13)
    save_file(state, folder / "model.safetensors")
    network = EgoMANNetwork(parity.CONFIG)
    network.scene_is_known = True
    load_egoman(network, folder / "model.safetensors")
    return network.eval()


def our_model_outputs(network: EgoMANNetwork) -> dict[str, torch.Tensor]:
    pictures = pictures_of(parity.image(), parity.CONFIG.vlm.pixels)
    asked = ask(network.tokens, question_of(parity.QUESTION, True), network.picture_tokens(pictures))
    with torch.no_grad():
        thought, _ = network.think([asked], pictures, parity.past())
        kept = network.go_on(network.begin(asked, pictures)[0], asked, parity.past())
    assert torch.allclose(thought.waypoints, kept.waypoints, atol=1e-5), "a kept beginning changes nothing"
    moments = [torch.cat([m.time, m.position.flatten(1), m.rotation.flatten(1)], dim=1) for m in thought.moments]
    places, steps = eased(thought.moments, parity.real_motion())
    return {"moments": torch.cat(moments), "act": thought.act, "eased": places, "steps": steps.float()}


def test_the_assembled_model_reads_and_places_waypoints_as_the_authors_class_does(kept, assembled):
    for key, ours in our_model_outputs(assembled).items():
        assert_equal(ours, kept[f"model.{key}"])
    assert (our_model_outputs(assembled)["steps"].numpy() == kept["model.steps"]).all()


def test_states_are_those_that_predict_the_answer(kept, assembled):
    pictures = pictures_of(parity.image(), parity.CONFIG.vlm.pixels)
    tokens, _ = parity.our_tokens()
    with torch.no_grad():
        seen = assembled.vlm.see(pictures)
        states = assembled.vlm(tokens, seen, pictures.grid, assembled._inserted(parity.past()))
    assert_equal(states[0, -len(ANSWER) - 1 : -1], kept["model.states"])


def test_the_prompt_is_the_authors_letter_by_letter(kept):
    question = question_of(parity.QUESTION, True)
    assert beginning_of_chat("Given the history visual: ", 6) + rest_of_chat(f"\n {question}") == str(kept["prompt"])
    tokens = tokens_of(parity.CONFIG)
    asked, whole = ask(tokens, question, 6), tokens.encode(str(kept["prompt"]))
    assert torch.cat([asked.beginning, asked.rest]).tolist() == whole, "in two parts it is the same tokens"
    assert "<ACT>" not in question_of("take <ACT> the cup", True), "a user cannot write special tokens"


def test_the_prompt_and_the_model_are_the_authors_live(assembled):
    assert parity.authors_prompt() == str(fixtures.stored("egoman")["prompt"])
    transformers = pytest.importorskip("transformers")
    if not transformers.__version__.startswith("4.50"):
        pytest.skip(
            "their class wants transformers 4.50: `python test/forecast/parity_egoman.py` under it writes it anew"
        )


def test_every_published_tensor_has_its_place_at_full_size(without_dinov3, monkeypatch):
    """On the meta device: shapes of all 7B, no numbers."""
    published = EgoMANConfig()
    monkeypatch.setattr(network_module, "_dinov3", without_dinov3)
    with torch.device("meta"):
        network = EgoMANNetwork(published)
    state = network.state_dict()
    count = sum(t.numel() for k, t in state.items() if not k.startswith("scene."))
    assert 8.3e9 < count < 8.6e9 and state["vlm.model.lm_head.weight"].shape == (151674, 3584)
    theirs = {
        "visual.blocks.31.attn.qkv.weight": (3840, 1280),
        "visual.merger.mlp.2.weight": (3584, 5120),
        "model.embed_tokens.weight": (151674, 3584),
        "model.layers.27.self_attn.k_proj.bias": (512,),
        "model.layers.27.mlp.down_proj.weight": (3584, 18944),
        "model.norm.weight": (3584,),
        "traj_encoder.traj_block.proj.6.weight": (3584, 3584),
        "start_decoder.coord2d_mlp.4.weight": (4, 512),
        "end_decoder.quat_mlp.0.weight": (512, 3584),
        "act_semantic_decoder.proj.0.weight": (768, 3584),
        "fm_model.vis_proj.weight": (768, 1024),
        "fm_model.query_pos_emb.weight": (56, 768),
        "fm_model.time_proj.2.weight": (1536, 768),
        "fm_model.decoder.layers.5.multihead_attn.in_proj_weight": (2304, 768),
        "fm_model.rot_output_proj.weight": (12, 768),
    }
    for key, shape in theirs.items():
        (name,) = renamed({key: torch.empty(shape, device="meta")})
        assert state[name].shape == shape, key


def test_other_files_are_refused(tmp_path):
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    network = EgoMANNetwork(parity.CONFIG)
    with pytest.raises(UserError, match="give dinov3=FILE too"):
        load_egoman(network, tmp_path / "other.pt")
    network.scene_is_known = True
    with pytest.raises(UserError, match="no checkpoint of EgoMAN"):
        load_egoman(network, tmp_path / "other.pt")
