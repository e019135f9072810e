"""Public weights into our modules: key maps for the GR00T N1.5 action head, EgoVideo, and EggHand's own checkpoints.

Each map is a list of (pattern, replacement); the first pattern that matches a key renames it, and a replacement of None
leaves that tensor out on purpose. A key that no pattern matches, and a parameter of ours that stays empty, are errors.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...errors import UserError
from ..common.checkpoints import KeyMap, below, fill, rename
from .config import EggHandConfig
from .egovideo import EgoVideoEncoder
from .model import ACTION_WIDTH, EggHandNetwork

_logger = logging.getLogger(__name__)

# What marks a folder as a checkpoint that EggHand's own training wrote; in it are the ranges of its training data.
METADATA = "experiment_cfg/metadata.json"
_EMBODIMENT = "new_embodiment"
# Linear maps that its training saves once more beside the model, and reads last.
_PROJECTIONS = {"projection_weights.pth": "backbone.", "action_projection_weights.pth": "action_head."}
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
# In the order of state and action.
MODEL_JOINTS = tuple(
    f"{side}_{name}"
    for side in ("right", "left")
    for name in ("wrist", *(f"{finger}_{i}" for finger in _FINGERS for i in range(1, 5)))
)

_BLOCK: KeyMap = (
    (r"norm1\.linear\.", "modulation."),
    (r"norm1\.", "norm_attention."),
    (r"norm3\.", "norm_feed_forward."),
    (r"attn1\.to_q\.", "attention.query."),
    (r"attn1\.to_k\.", "attention.key."),
    (r"attn1\.to_v\.", "attention.value."),
    (r"attn1\.to_out\.0\.", "attention.out."),
    (r"ff\.net\.0\.proj\.", "feed_forward.inner."),
    (r"ff\.net\.2\.", "feed_forward.outer."),
)

# nvidia/GR00T-N1.5-3B: every key that starts with "action_head."; EggHand adds three linear maps (*_proj_*).
N15_ACTION_HEAD: KeyMap = (
    *((rf"^model\.transformer_blocks\.(\d+)\.{k}", rf"transformer.blocks.\1.{v}") for k, v in _BLOCK),
    *((rf"^vl_self_attention\.transformer_blocks\.(\d+)\.{k}", rf"fusion.blocks.\1.{v}") for k, v in _BLOCK),
    (r"^model\.timestep_encoder\.timestep_embedder\.linear_1\.", "transformer.time.inner."),
    (r"^model\.timestep_encoder\.timestep_embedder\.linear_2\.", "transformer.time.outer."),
    (r"^model\.proj_out_1\.", "transformer.modulation."),
    (r"^model\.proj_out_2\.", "transformer.project."),
    (r"^(state_encoder|action_decoder)\.layer1\.W$", r"\1.inner.weight"),
    (r"^(state_encoder|action_decoder)\.layer1\.b$", r"\1.inner.bias"),
    (r"^(state_encoder|action_decoder)\.layer2\.W$", r"\1.outer.weight"),
    (r"^(state_encoder|action_decoder)\.layer2\.b$", r"\1.outer.bias"),
    *(
        (rf"^action_encoder\.W{i}\.{k}$", f"action_encoder.{part}.{ours}")
        for i, part in ((1, "action"), (2, "join"), (3, "out"))
        for k, ours in (("W", "weight"), ("b", "bias"))
    ),
    (r"^future_tokens\.weight$", "future"),
    (r"^position_embedding\.weight$", "action_position"),
    (r"^vlln\.", "context_norm."),
    (r"^state_proj_in\.", "state_in."),
    (r"^action_proj_in\.", "action_in."),
    (r"^action_proj_out\.", "action_out."),
)

# OpenGVLab/EgoVideo, backbone: keys of `ckpt_4frames.pth` after an optional "module.".
EGOVIDEO: KeyMap = (
    (r"^visual\.(cls_token|pos_embed)$", r"vision.\1"),
    (r"^visual\.patch_embed\.proj\.", "vision.patch."),
    (
        r"^visual\.blocks\.(\d+)\.(norm1|norm2|attn\.qkv|attn\.proj|attn\.q_norm|attn\.k_norm|mlp\.fc1|mlp\.fc2)\.",
        r"vision.blocks.\1.\2.",
    ),
    (r"^visual\.blocks\.(\d+)\.(ls1|ls2)\.gamma$", r"vision.blocks.\1.\2"),
    (r"^visual\.clip_", None),  # heads for distillation and retrieval
    (r"^visual\.final_clip_decoder\.", None),
    (r"^image_projection$", None),
    (r"^text_projection$", "text_head"),
    (r"^textual\.(embeddings\.(?:word_embeddings|position_embeddings|token_type_embeddings|LayerNorm)\.)", r"text.\1"),
    (r"^textual\.embeddings\.position_ids$", None),
    (r"^textual\.encoder\.layer\.(19|2\d)\.", None),  # text mode stops before layer 19, the first fusion layer
    (r"^textual\.encoder\.", "text.encoder."),
    (r"^textual\.pooler\.", None),
)


def load_action_head(head: nn.Module, path: Path | str) -> None:
    """Fill an `ActionHead` from a GR00T N1.5 or EggHand checkpoint (file or folder).

    N1.5 has no linear maps around its state and action spaces, so those keep their values when the file lacks them. Its
    future tokens are left out where the head has none, as EggHand does.
    """
    state = {key.removeprefix("action_head."): t for key, t in read_tensors(path, "action_head.")}
    if not state:
        raise UserError(f"{path} has no 'action_head.' weights; expected a GR00T N1.5 or EggHand checkpoint")
    _fill_head(head, state)
    if "state_proj_in.weight" not in state and head.config.latent_state_width:
        _logger.warning(
            "%s has no linear maps around the head's state and action (GR00T N1.5 has none): they start new", path
        )


def _fill_head(head: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    renamed = rename(state, N15_ACTION_HEAD)
    if not head.config.future_tokens:
        renamed.pop("future", None)
    fill(head, renamed, ("state_in.", "action_in.", "action_out.", "future"))


def load_egovideo(encoder: nn.Module, path: Path | str) -> None:
    """Fill an `EgoVideoEncoder` from OpenGVLab's checkpoint file."""
    if not isinstance(encoder, EgoVideoEncoder):
        raise UserError("this model has no EgoVideo encoder; leave out egovideo=")
    state = {key.removeprefix("module."): tensor for key, tensor in read_tensors(path)}
    fill(encoder, rename(state, EGOVIDEO))


def read_tensors(path: Path | str, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of a .safetensors or .pth/.pt/.bin file, or of a folder of them, whose key starts with `prefix`."""
    path = Path(path).expanduser()
    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise UserError(f"no weights at {path}; expected a .safetensors or .pth file or a folder that has one")
    for file in files:
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as opened:
                for key in opened.keys():  # noqa: SIM118, not a dict
                    if key.startswith(prefix):
                        yield key, opened.get_tensor(key)
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            for key, tensor in loaded.get("state_dict", loaded.get("module", loaded)).items():
                if key.startswith(prefix):
                    yield key, tensor


def is_published(path: Path | str) -> bool:
    """Whether a folder is what EggHand's own training wrote."""
    return (Path(path).expanduser() / METADATA).is_file()


def as_published(config: EggHandConfig) -> EggHandConfig:
    """The configuration with which EggHand's own weights were trained: its first step is the last observation."""
    return replace(config, horizon_steps=config.horizon_steps - 1, includes_now=True, padding_is_seen=True)


def load_published(network: EggHandNetwork, path: Path | str) -> None:
    """Fill a network from a checkpoint folder of EggHand's own training: the whole model under its keys
    (`backbone.model`, `backbone.*_projection`, `action_head`), its linear maps, and the ranges of its training data.

    State and action have ranges of their own there, and one here: what differs goes into the map of the state. Raises
    `UserError` where a tensor is left over, missing or misshapen.
    """
    folder = Path(path).expanduser()
    state = dict(read_tensors(folder))
    for file, prefix in _PROJECTIONS.items():
        if (folder / file).is_file():
            told = {key.removeprefix("module.").removeprefix(prefix): t for key, t in read_tensors(folder / file)}
            state |= {f"{prefix}{key}": tensor for key, tensor in told.items()}
    if not isinstance(network.encoder, EgoVideoEncoder):
        raise UserError(f"{path} has an EgoVideo encoder, and this model another one; take preset egghand")
    parts = {
        "backbone.model.": lambda told: fill(network.encoder, rename(told, EGOVIDEO)),
        "backbone.vision_projection.": lambda told: fill(network.video_projection, told),
        "backbone.text_projection.": lambda told: fill(network.text_projection, told),
        "action_head.": lambda told: _fill_head(network.head, told),
    }
    for prefix, put in parts.items():
        told = below(state, prefix)
        if not told:
            raise UserError(f"{path} has no {prefix!r} weights; expected a checkpoint of EggHand's own training")
        put(told)
    if left := sorted(key for key in state if not key.startswith(tuple(parts))):
        raise UserError(f"{path} contains {left[0]!r}, which this model has no place for")
    _set_ranges(network, _ranges(folder))


def _ranges(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Smallest and largest value (126,) m of every coordinate of state and action."""
    try:
        told = json.loads((folder / METADATA).read_text())[_EMBODIMENT]["statistics"]
        found = {
            kind: tuple(
                torch.from_numpy(np.concatenate([told[kind][joint][end] for joint in MODEL_JOINTS]))
                for end in ("min", "max")
            )
            for kind in ("state", "action")
        }
        if any(len(end) != ACTION_WIDTH for ends in found.values() for end in ends):
            raise ValueError("coordinates are not three each")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / METADATA} does not tell the ranges of the training data: {error!r}") from None
    return found


def _set_ranges(network: EggHandNetwork, ranges: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    (low, high), (lowest, highest) = ranges["action"], ranges["state"]
    span = torch.where(high > low, high - low, 1.0)  # a coordinate that never changes, as in their normalisation
    width = torch.where(highest > lowest, highest - lowest, 1.0)
    network.minimum.copy_(low)
    network.maximum.copy_(low + span)
    # Theirs of the state is scale * ours + shift.
    scale, shift = span / width, (span + 2.0 * (low - lowest)) / width - 1.0
    layer = network.head.state_in
    with torch.no_grad():
        weight = layer.weight[:, :ACTION_WIDTH].double()
        layer.bias += (weight @ shift.double()).to(layer.bias)
        layer.weight[:, :ACTION_WIDTH] = (weight * scale).to(layer.weight)
