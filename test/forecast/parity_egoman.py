"""EgoMAN for the comparison with the authors' code (see fixtures.py). EGOMAN_SOURCE is a clone of
facebookresearch/egoman. Its modules are plain torch; the assembled model wants transformers 4.50."""

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import fixtures
import torch
from fixtures import numbers, uniform

from egohand_ros.forecast.egoman.config import EgoMANConfig, ExpertSizes
from egohand_ros.forecast.egoman.prompt import ANSWER, SPECIAL, tokens_of
from egohand_ros.forecast.vlm.sizes import QwenSizes
from egohand_ros.forecast.vlm.tokens import PICTURE, PICTURE_START

WIDTH = 64
TOKEN = 32  # width of the states that heads read, where they are compared by themselves


@dataclass(frozen=True)
class Size:
    seed: int
    width: int
    heads: int
    encoder: int
    decoder: int
    batch: int = 2
    steps: int = 7

    @property
    def sizes(self) -> ExpertSizes:
        return ExpertSizes(self.width, self.encoder, 2, self.decoder, self.heads, dropout=0.1, time_width=self.time)

    @property
    def time(self) -> int:
        return 256 if self.width == 768 else 32


SIZES = {"small": Size(1, 32, 4, 1, 2), "other": Size(2, 48, 2, 2, 1, batch=3, steps=3)}
PUBLISHED = Size(3, 768, 8, 6, 6)
CONFIG = EgoMANConfig(
    vlm=QwenSizes(WIDTH, 2, 4, 2, 128, 300, (2, 2, 4), 32, 2, 2, 64, (1,), 112),
    expert=SIZES["small"].sizes,
    scene="vlm" if SIZES["small"].sizes.scene == WIDTH else "dinov3",
    words=("cup", "red", "with", "left", "hand"),
    head_width=512,
    picture=(56, 84),
)
QUESTION = "take the red cup with left hand"


def inputs(size: Size) -> dict[str, torch.Tensor]:
    """A noisy motion, its time, and what the expert goes by; one future step and one waypoint are padding."""
    b, seed = size.batch, 20 * size.seed
    bias = torch.zeros(b, 59)
    bias[0, [8, -1]] = 1.0
    return {
        "noisy": numbers(b, 50, 18, seed=seed),
        "time": uniform(b, seed=seed),
        "scene": numbers(b, 1024, seed=seed + 1),
        "act": numbers(b, 768, seed=seed + 2),
        "past": numbers(b, 5, 18, seed=seed + 3),
        "waypoints": numbers(b, 3, 18, seed=seed + 4),
        "steps": (uniform(b, 3, seed=seed + 5) * 45).long(),
        "bias": bias,
        "target": numbers(b, 50, 18, seed=seed + 6),
    }


def states() -> torch.Tensor:
    """What heads read."""
    return numbers(4, TOKEN, seed=71)


def known() -> torch.Tensor:
    """Waypoints (4, 23) as the authors have them: time, positions, pixels, rotations, -1000 where not known."""
    told = torch.cat([uniform(4, 1, seed=72), 0.3 * numbers(4, 6, seed=73), 1408 * uniform(4, 4, seed=74)], dim=1)
    told = torch.cat([told, numbers(4, 12, seed=75)], dim=1)
    told[0, 4:7], told[0, 9:11], told[0, 17:], told[1, 0], told[2] = -1000, -1000, -1000, -1000, -1000
    return told


def phrases(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States and embeddings of phrases, one of them not known."""
    embeddings = numbers(count, 768, seed=77)
    embeddings[1] = -1000
    return numbers(count, TOKEN, seed=76), embeddings


def past() -> torch.Tensor:
    """(1, 5, 18), positions of both hands, then rotations."""
    return numbers(1, 5, 18, seed=78)


def image() -> torch.Tensor:
    """(1, H, W, 3) uint8."""
    return (255 * uniform(1, *CONFIG.picture, 3, seed=79)).to(torch.uint8)


def real_motion() -> torch.Tensor:
    """(1, 50, 18) that passes nowhere near the waypoints of random heads."""
    return 0.1 * numbers(1, 50, 18, seed=80).cumsum(1)


# ---------------------------------------------------------------- the authors' side


def authors(name: str):
    """One of their modules."""
    root = fixtures.source("egoman") / "model" / "egoman_model"
    package = fixtures.module("egoman_model")
    package.__path__ = [str(root)]
    with fixtures.authors_modules(root, stand_ins={"egoman_model": package}):
        return importlib.import_module(f"egoman_model.{name}")


def authors_expert(size: Size):
    model = authors("flow_matching_decoder").FMTransformerDecoder6DoF(
        768, 18, size.width, size.encoder, size.decoder, size.heads, size.time
    )
    return formula(model, size.seed)


def formula(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(fixtures.formula_state(shapes, seed))
    return model.eval()


def expert_outputs(model, size: Size) -> dict[str, torch.Tensor]:
    given = inputs(size)
    told = (model.vis_proj(given["scene"]) + model.text_proj(given["act"]))[:, None]
    context = torch.cat([given["past"], given["waypoints"]], dim=1)
    # With gradients: without, torch takes any number in a mask for padding, which is not what they trained with.
    with_bias, _ = model.model_forward(told, context, given["noisy"], given["time"], given["bias"], given["steps"])
    plain, _ = model.model_forward(told, context, given["noisy"], given["time"], None, given["steps"])
    alone, _ = model.model_forward(told, given["past"], given["noisy"], given["time"])
    with fixtures.Noise(size.seed).instead_of_torch(size.steps):
        sample = model.sample_trajectory(told, context, 50, 18, "cpu", size.steps, None, given["steps"])
    loss = model.compute_loss(plain, given["target"], given["bias"][:, -50:])
    found = {"biased": with_bias, "plain": plain, "alone": alone, "sample": sample, "loss": loss[None]}
    return {name: value.detach() for name, value in found.items()}


@torch.no_grad()
def head_outputs() -> dict[str, torch.Tensor]:
    heads = authors("hand_decoder")
    decoder = formula(heads.TrajDecoder(token_dim=TOKEN), 11)
    time, motion, loss = decoder(states(), known())
    aligner = formula(heads.SemanticAligner(TOKEN), 12)
    few, many = phrases(5), phrases(14)
    found = {"moment": torch.cat([time, motion, decoder.coord2d_mlp(states())], dim=1), "waypoint_loss": loss[None]}
    return found | {
        "aligned": aligner.inference(few[0]),
        "act_losses": torch.stack([aligner(*few)[0], aligner(*many)[0]]),
    }


def authors_prompt() -> str:
    """The text of their whole prompt, of the function of their script that makes it."""
    file = fixtures.source("egoman") / "model" / "tools" / "infer_batch_aria_examples.py"
    tree = ast.parse(Path(file).read_text())
    made = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "preprocess_visual")
    made.returns, made.args.defaults, texts = None, made.args.defaults, []
    for argument in made.args.args:
        argument.annotation = None
    names: dict = {"torch": torch, "List": list, "Dict": dict}
    exec(compile(ast.Module([made], []), str(file), "exec"), names)
    tokenizer = SimpleNamespace(chat_template="x", pad_token_id=0, eos_token_id=0)

    def apply(messages, add_generation_prompt, return_tensors):
        parts = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
        texts.append("".join(parts) + "<|im_start|>assistant\n" * add_generation_prompt)
        return torch.zeros(1, 3, dtype=torch.long)

    tokenizer.apply_chat_template = apply
    template = "<image>\n Where should the left and right hands of the subject move if <action>?"
    question = (
        f"Given the past wrist motion: {'<past_motion>' * 5}. Where will the hands move to {QUESTION}?<HOI_QUERY>"
    )
    names["preprocess_visual"]([[{"from": "human", "value": template}]], tokenizer, [6], [{"question": question}])
    return texts[0]


def authors_model(heads_only: bool = False):
    """Their class on a tiny Qwen2.5-VL, with a small motion expert. Needs transformers 4.50."""
    module, sizes, size = authors("model"), CONFIG.vlm, SIZES["small"]
    expert = module.FMTransformerDecoder6DoF
    module.FMTransformerDecoder6DoF = lambda **_: expert(
        768, 18, size.width, size.encoder, size.decoder, size.heads, size.time
    )
    vision = {
        "depth": sizes.vision_layers, "hidden_size": sizes.vision_width, "num_heads": sizes.vision_heads,
        "intermediate_size": sizes.vision_feed_forward, "out_hidden_size": sizes.width,
        "fullatt_block_indexes": list(sizes.vision_full), "window_size": sizes.vision_window,
    }  # fmt: skip
    config = module.EgoMANConfig(
        hidden_size=sizes.width, num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_heads, intermediate_size=sizes.feed_forward, vocab_size=sizes.vocabulary,
        rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=False, vision_config=vision,
        rope_scaling={"type": "mrope", "mrope_section": list(sizes.rope)},
        attn_implementation="eager",
    )  # fmt: skip
    tokens = tokens_of(CONFIG)
    config.traj_config.hidden_size = sizes.width
    config.image_token_id, config.vision_start_token_id = tokens.number(PICTURE), tokens.number(PICTURE_START)
    config.video_token_id = sizes.vocabulary - 1  # there are none
    names = ("act", "start", "contact", "end", "hand_both", "hand_left", "hand_right", "pre_traj", "hoi_query")
    for name, token in zip(names, SPECIAL, strict=True):
        setattr(config, f"{name}_token_id", tokens.number(token))
    return formula(module.EgoMAN(config), 13)


@torch.no_grad()
def model_outputs(model, tokens: torch.Tensor, pixels: torch.Tensor, grid: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of tokens (1, L), the answer at their end: states, heads, and what the motion expert is given in training."""
    answer = torch.full_like(tokens, -100)
    answer[:, -len(ANSWER) :] = tokens[:, -len(ANSWER) :]
    ones = torch.ones_like(tokens)
    shown = {"pixel_values": pixels, "image_grid_thw": grid, "pre_traj": past()}
    plain = model(input_ids=tokens, attention_mask=ones, **shown, return_dict=True)
    states = plain.hidden_states[-1][0, -len(ANSWER) - 1 : -1]
    moments = [getattr(model, f"{name}_decoder").inference_stage2(states[i : i + 1]) for i, name in _HEADS]
    told, given = torch.full((1, 58, 23), -1000.0), {}
    truth = real_motion()[0].unflatten(-1, (2, 9))
    told[0, 8:, 1:7], told[0, 8:, 11:] = truth[..., :3].flatten(1), truth[..., 3:].flatten(1)

    def spy(condition, context, motion, mask=None, loss=True, timestamp=None):
        given.update(context=context, motion=motion, steps=timestamp, mask=mask)
        return motion, motion, None, motion.sum() * 0.0

    model.fm_model.forward = spy
    embeddings = torch.cat([numbers(1, 1, 768, seed=81), numbers(1, 1, 1024, seed=82)], dim=-1)
    model(input_ids=tokens, attention_mask=ones, labels=answer, gt_traj=told, future_valid=embeddings, **shown)
    del model.fm_model.forward
    return {
        "states": states,
        "moments": torch.cat(moments),
        "act": model.act_semantic_decoder.inference(states[:1]),
        "eased": given["context"][:, 5:],
        "steps": given["steps"].float(),
    }


_HEADS = ((1, "start"), (2, "contact"), (3, "end"))


def our_tokens() -> tuple[torch.Tensor, object]:
    """Tokens (1, L) of question and answer, and the picture as the eye takes it."""
    from egohand_ros.forecast.egoman.prompt import ask, question_of
    from egohand_ros.forecast.vlm.qwen import picture_tokens, pictures_of

    tokens, pictures = tokens_of(CONFIG), pictures_of(image(), CONFIG.vlm.pixels)
    asked = ask(tokens, question_of(QUESTION, True), picture_tokens(pictures.grid[0]))
    answer = torch.tensor([tokens.number(token) for token in ANSWER])
    return torch.cat([asked.beginning, asked.rest, answer])[None], pictures


def write_fixture() -> None:
    kept = {}
    for name, size in SIZES.items():
        model = authors_expert(size)
        kept[f"{name}.shapes"] = fixtures.shapes_of(model.state_dict())
        for key, value in expert_outputs(model, size).items():
            kept[f"{name}.{key}"] = value[:, ::7] if value.dim() == 3 else value
    kept |= {f"heads.{key}": value for key, value in head_outputs().items()}
    heads = authors("hand_decoder")
    kept["heads.decoder_shapes"] = fixtures.shapes_of(heads.TrajDecoder(token_dim=TOKEN).state_dict())
    kept["heads.aligner_shapes"] = fixtures.shapes_of(heads.SemanticAligner(TOKEN).state_dict())
    kept["prompt"] = authors_prompt()
    model = authors_model()
    tokens, pictures = our_tokens()
    kept["model.shapes"] = fixtures.shapes_of(model.state_dict())
    kept |= {f"model.{k}": v for k, v in model_outputs(model, tokens, pictures.pixels, pictures.grid).items()}
    fixtures.store("egoman", **kept)


if __name__ == "__main__":
    write_fixture()
