"""PaliGemma 2 as its authors publish it -> the language model of `EgoMotionNetwork`. EgoMotion's own are not public."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ...errors import UserError
from ..common.checkpoints import KeyMap, fill, read_parts, rename
from .network import EgoMotionNetwork

_KEYS: KeyMap = (
    (r"^language_model\.lm_head\.", None),  # the table of tokens once more
    (r"^language_model\.model\.", "model.language_model."),
    (r"^vision_tower\.", "model.vision_tower."),
    (r"^multi_modal_projector\.", "model.multi_modal_projector."),
)


def load_paligemma(network: EgoMotionNetwork, path: Path | str) -> None:
    """model.safetensors of google/paligemma2-3b-pt-224, or model.safetensors.index.json beside its parts: every tensor
    of it is used. Raises `UserError` where it is not of this network's sizes."""
    if network.config.vlm.family != "paligemma":
        raise UserError("this EgoMotion has a language model of another family than PaliGemma; leave paligemma out")
    state = renamed(read_parts(path), network.vlm.model)
    fill(network.vlm.model, state, optional=("lm_head.",))
    network.vlm.model.tie_weights()


def renamed(state: Mapping[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The authors' tensors under the names that this transformers has for them."""
    ours, own = rename(state, _KEYS), model.state_dict()
    inner = "model.vision_tower.vision_model."
    if not any(key.startswith(inner) for key in own):
        ours = {key.replace(inner, "model.vision_tower."): tensor for key, tensor in ours.items()}
    return ours
