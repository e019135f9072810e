"""The authors' checkpoint of EgoH4 -> `EgoH4Network`.

DeepSpeed's file holds the trained network (`_forward_module.model.`) and its running average (`_forward_module.ema.`),
from which the authors sample; the average is what is read, unless asked otherwise.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from ...errors import UserError
from ..common.checkpoints import KeyMap, below, check_constants, fill, read_checkpoint, rename
from ..common.transformer import sinusoids
from .network import EgoH4Network

_AVERAGE = ("_forward_module.ema.ema_model.", "ema.ema_model.", "_forward_module.ema.", "ema.")
_TRAINED = ("_forward_module.model.", "model.", "_forward_module.ema.online_model.")
_MOTION = r"^denoise_fn\.motion_transformer\."
_LAYER = _MOTION + r"layer_stack\.(\d+)\."
_KEYS: KeyMap = (
    (_MOTION + r"start_conv_obs\.", "observed_in."),
    (_MOTION + r"start_conv_fut\.", "future_in."),
    (_MOTION + r"mlp\.fc1\.", "image_in.0."),
    (_MOTION + r"mlp\.fc2\.", "image_in.2."),
    (_MOTION + r"fuse\.", "fuse."),
    (_LAYER + r"self_attn\.in_proj_", r"encoder.layers.\1.self_attn.in_proj_"),
    (_LAYER + r"self_attn\.fc\.", r"encoder.layers.\1.self_attn.out_proj."),
    (_LAYER + r"self_attn\.layer_norm\.", r"encoder.layers.\1.norm1."),
    (_LAYER + r"pos_ffn\.w_1\.", r"encoder.layers.\1.linear1."),
    (_LAYER + r"pos_ffn\.w_2\.", r"encoder.layers.\1.linear2."),
    (_LAYER + r"pos_ffn\.layer_norm\.", r"encoder.layers.\1.norm2."),
    (r"^denoise_fn\.linear_out\.", "joints_out."),
    (r"^denoise_fn\.vis_out\.", "out_of_view_out."),
    (r"^denoise_fn\.time_mlp\.1\.", "time.0."),
    (r"^denoise_fn\.time_mlp\.3\.", "time.2."),
)
# Worked out from `betas`, which is checked.
_DERIVED = (
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "p2_loss_weight",
)


def load_egoh4(network: EgoH4Network, path: Path | str, average: bool = True) -> None:
    """Fill `network` from the authors' checkpoint: every tensor of the file is used, or known not to be needed.

    Raises `UserError` where the file is not EgoH4's, or of other sizes, bounds or diffusion steps than `network`.
    """
    state = read_checkpoint(path)
    chosen = below(state, *(_AVERAGE if average else _TRAINED)) or below(state, *_TRAINED)
    if not any(key.startswith("denoise_fn.") for key in chosen):
        raise UserError(
            f"{path} is no checkpoint of EgoH4; expected keys '_forward_module.ema.ema_model.denoise_fn. …'"
        )
    fill(network, renamed(chosen, network))


def renamed(state: Mapping[str, torch.Tensor], network: EgoH4Network) -> dict[str, torch.Tensor]:
    """The authors' tensors under our names and in our shapes."""
    state = {key: tensor for key, tensor in state.items() if key not in _DERIVED}
    config = network.config
    positions = sinusoids(config.frames + 2, config.width)
    positions[0] = 0.0
    check_constants(state, {"betas": network.diffusion.betas}, "the noise schedule")
    check_constants(state, {"denoise_fn.motion_transformer.position_vec.weight": positions}, "the table of positions")
    state = {
        key: t[..., 0] if t.dim() == 3 else t for key, t in state.items()
    }  # convolutions of width 1 are linear maps
    for i in range(config.layers):
        prefix = f"denoise_fn.motion_transformer.layer_stack.{i}.self_attn."
        for kind in ("weight", "bias"):
            names = [f"{prefix}w_{part}.{kind}" for part in "qkv"]
            if all(name in state for name in names):
                state[f"{prefix}in_proj_{kind}"] = torch.cat([state.pop(name) for name in names])
    return rename(state, _KEYS)
