"""The authors' checkpoint of USST -> `USSTNetwork`: a file with the network under `model`."""

from pathlib import Path

from ...errors import UserError
from ..common.checkpoints import KeyMap, check_constants, fill, read_checkpoint, rename
from .network import USSTNetwork

_FEATURE = r"^global_feature\."
_BACKBONE = _FEATURE + r"backbone\."
_RESNET: KeyMap = (
    (_BACKBONE + r"fc\.", None),  # the classifier of ImageNet
    (_BACKBONE + r"conv1\.", "frames.backbone.embedder.embedder.convolution."),
    (_BACKBONE + r"bn1\.", "frames.backbone.embedder.embedder.normalization."),
    *(
        (_BACKBONE + rf"layer{i + 1}\.(\d)\.{theirs}\.", rf"frames.backbone.encoder.stages.{i}.layers.\1.{ours}.")
        for i in range(4)
        for theirs, ours in (
            ("conv1", "layer.0.convolution"),
            ("bn1", "layer.0.normalization"),
            ("conv2", "layer.1.convolution"),
            ("bn2", "layer.1.normalization"),
            (r"downsample\.0", "shortcut.convolution"),
            (r"downsample\.1", "shortcut.normalization"),
        )
    ),
)
_ATTENTION = (("proj_q", "query"), ("proj_k", "key"), ("proj_v", "value"), ("proj", "out"))
_KEYS: KeyMap = (
    *_RESNET,
    (_BACKBONE, "frames.backbone."),  # the ViT has timm's names here too
    (_FEATURE + r"prompt_embeddings_tb$", "frames.border_rows"),
    (_FEATURE + r"prompt_embeddings_lr$", "frames.border_columns"),
    (_FEATURE + r"prompt_embeddings$", "frames.prompt"),
    (_FEATURE + r"mlp\.fc1\.", "frames.out.0."),
    (_FEATURE + r"mlp\.fc2\.", "frames.out.2."),
    (r"^location_feature\.fc1\.", "point_in.0."),
    (r"^location_feature\.fc2\.", "point_in.2."),
    *(
        (rf"^encoder_{theirs}\.{part}", rf"{ours}_encoder.{place}")
        for theirs, ours in (("vis", "image"), ("traj", "point"))
        for part, place in (
            *((rf"encoder_blocks\.(\d+)\.attn\.{a}\.", rf"blocks.\1.attention.{b}.") for a, b in _ATTENTION),
            (r"encoder_blocks\.(\d+)\.mlp\.fc1\.", r"blocks.\1.feed_forward.0."),
            (r"encoder_blocks\.(\d+)\.mlp\.fc2\.", r"blocks.\1.feed_forward.2."),
            (r"encoder_blocks\.(\d+)\.(norm[12])\.", r"blocks.\1.\2."),
            (r"norm\.", "norm."),
        )
    ),
    (r"^transition\.phi_x\.", "transition.observe."),
    (r"^transition\.layer_norm_h\.", "transition.observe_norm."),
    *((rf"^transition\.attn_w\.{a}\.", f"transition.to_states.{b}.") for a, b in _ATTENTION),
    *((rf"^transition\.attn_h\.{a}\.", f"transition.to_observed.{b}.") for a, b in _ATTENTION),
    (r"^transition\.layer_norm_wb\.", "transition.to_states_norm."),
    (r"^transition\.layer_norm_wh\.", "transition.to_observed_norm."),
    (r"^transition\.prior_mlp\.", "transition.prior."),
    (r"^transition\.prior_mean\.0\.", "transition.prior_mean."),
    (r"^transition\.phi_z\.", "transition.state."),
    (r"^transition\.layer_norm_w\.", "transition.state_norm."),
    (r"^transition\.phi_w\.", "transition.emit."),
    (r"^predict\.fc1\.", "point_out.0."),
    (r"^predict\.fc2\.", "point_out.2."),
    (r"^predict_uncertainty\.fc1\.", "variance_out.0."),
    (r"^predict_uncertainty\.fc2\.", "variance_out.2."),
    (r"^predict_velo\.fc1\.", "velocity_out.0."),
    (r"^predict_velo\.bn1\.", "velocity_out.1."),
    (r"^predict_velo\.fc2\.", "velocity_out.3."),
    (r"^predict_velo\.bn2\.", "velocity_out.4."),
)


def load_usst(network: USSTNetwork, path: Path | str) -> None:
    """Fill `network` from the authors' checkpoint; every tensor is used, ImageNet's classifier apart.

    Raises `UserError` where the file is another system's, or of other sizes, frames or backbone than `network`.
    """
    state = read_checkpoint(path)
    if not any(key.startswith("transition.prior_mean.") for key in state):
        raise UserError(f"{path} is no checkpoint of USST; expected keys 'transition.prior_mean. …' under 'model'")
    tables = {
        "encoder_vis.time_embed.pe": network.image_encoder.positions,
        "encoder_traj.time_embed.pe": network.point_encoder.positions,
        "transition.time_embed_h.pe": network.transition.observe_positions,
        "transition.time_embed_w.pe": network.transition.state_positions,
    }
    check_constants(state, {key: table[None] for key, table in tables.items()}, "the table of positions")
    fill(network, rename(state, _KEYS))
