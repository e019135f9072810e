"""The authors' checkpoint of EgoMAN, and DINOv3's -> `EgoMANNetwork`.

EgoMAN's own is what transformers wrote: model.safetensors, or parts of it with model.safetensors.index.json, which is
the file to give then.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from ...errors import UserError
from ..common.checkpoints import KeyMap, fill, read_checkpoint, read_parts, rename
from .network import EgoMANNetwork

_QWEN = "vlm.model.model."
_HEAD = r"^(start|contact|end)_decoder\."
_EXPERT = r"^(?:fm_model\.)?"
_KEYS: KeyMap = (
    (r"^traj_encoder\.traj_block\.", "past."),
    (_HEAD + r"time_mlp\.", r"moments.\1.time."),
    (_HEAD + r"coord_mlp\.", r"moments.\1.position."),
    (_HEAD + r"coord2d_mlp\.", r"moments.\1.pixel."),
    (_HEAD + r"quat_mlp\.", r"moments.\1.rotation."),
    (r"^act_semantic_decoder\.", "act."),
    (r"^lm_head\.", "vlm.model.lm_head."),
    (r"^(?:model\.)?visual\.", _QWEN + "visual."),
    (r"^model\.language_model\.", _QWEN + "language_model."),
    (r"^model\.", _QWEN + "language_model."),
)
_EXPERT_KEYS: KeyMap = (
    (_EXPERT + r"vis_proj\.", "scene_in."),
    (_EXPERT + r"text_proj\.", "act_in."),
    (_EXPERT + r"cond_proj\.", "condition_in."),
    (_EXPERT + r"input_proj\.", "past_in."),
    (_EXPERT + r"noisy_proj\.", "noisy_in."),
    (_EXPERT + r"time_proj\.", "time_in."),
    (_EXPERT + r"query_pos_emb\.", "position."),
    (_EXPERT + r"modal_emb\.", "kind."),
    (_EXPERT + r"self_attention\.", "mixer."),
    (_EXPERT + r"output_proj\.", "position_out."),
    (_EXPERT + r"rot_output_proj\.", "rotation_out."),
    (_EXPERT + r"encoder_norm\.", "context_norm."),
    (_EXPERT + r"decoder_norm\.", "noisy_norm."),
    (_EXPERT + r"(encoder|decoder)\.", r"\1."),
)


def load_egoman(network: EgoMANNetwork, path: Path | str) -> None:
    """Fill `network` from the authors' checkpoint: every tensor of it is used. DINOv3 is not in it, and comes first.

    Raises `UserError` where the file is not EgoMAN's, or of other sizes than `network`.
    """
    if not network.scene_is_known:
        raise UserError(
            "EgoMAN's checkpoint lacks the eye of its motion expert; give dinov3=FILE too, the weights of "
            "facebook/dinov3-vitl16-pretrain-lvd1689m"
        )
    state = read_parts(path)
    if not any(key.startswith("fm_model.") for key in state):
        raise UserError(f"{path} is no checkpoint of EgoMAN; expected keys 'fm_model. …'")
    fill(network, renamed(state), optional=("scene.",))


def load_dinov3(network: EgoMANNetwork, path: Path | str) -> None:
    """The weights of DINOv3's ViT-L/16 as transformers has them (model.safetensors)."""
    if network.scene is None:
        raise UserError("this EgoMAN sees by its language model's eye, and has no place for DINOv3; leave dinov3 out")
    fill(network.scene, read_checkpoint(path))
    network.scene_is_known = True


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' tensors under our names."""
    expert = {key: tensor for key, tensor in state.items() if key.startswith("fm_model.")}
    others = {key: tensor for key, tensor in state.items() if key not in expert}
    ours = {f"expert.{key}": tensor for key, tensor in rename(expert, _EXPERT_KEYS).items()}
    return rename(others, _KEYS) | ours
