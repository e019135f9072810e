"""Public weights into our modules: key maps for the GR00T N1.5 action head, EggHand's own parts and EgoVideo.

Each map is a list of (pattern, replacement); the first pattern that matches a key renames it, and a replacement of None
leaves that tensor out on purpose. A key that no pattern matches, and a parameter of ours that stays empty, are errors.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ...errors import UserError
from ..common.checkpoints import KeyMap, fill, rename
from .egovideo import EgoVideoEncoder

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
