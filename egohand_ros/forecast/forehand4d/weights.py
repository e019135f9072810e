"""The authors' Lightning checkpoints of ForeHand4D -> our forecaster, lifter or regressor.

Such a file holds the network twice (`model.model.` and `model.ddp_model.`), MANO's arrays, and a map of a condition
that these networks do not have (`model.conditioner.`); all else is used.
"""

import re
from pathlib import Path

import torch
from torch import nn

from ...errors import UserError
from ..common.checkpoints import KeyMap, check_constants, fill, read_checkpoint, rename
from .network import ForeHand4DForecaster, ForeHand4DLifter

_MDM = r"^model\."
_KEYS: KeyMap = (
    (_MDM + r"input_process\.poseEmbedding\.", "motion.motion_in."),
    (_MDM + r"output_process\.poseFinal\.", "motion.motion_out."),
    (_MDM + r"embed_timestep\.time_embed\.", "motion.time."),
    (_MDM + r"seqTransEncoder\.", "motion.encoder."),
    (r"^spatial_conditioner\.feat_extractor\.backbone\.", "image.backbone."),
    (r"^spatial_conditioner\.net\.", "image.net."),
    (r"^kps_conditioner\.net\.", "points."),
    (r"^cam_conditioner\.net\.", "camera."),
    (r"^plucker_conditioner\.net\.", "rays."),
    (r"^kpe_conditioner\.net\.", "angles."),
)
_NOT_NEEDED = re.compile(r"^(mano_[rl]\.|model\.mano_[rl]\.|model\.conditioner\.|model\.ddp_model\.)")
_TABLES = ("model.sequence_pos_encoder.pe", "model.embed_timestep.sequence_pos_encoder.pe")

# Angles of up to 5000 rad were worked out in float32: one unit in the last place of exp, in which processors differ,
# is 3e-4 to 6e-4 rad there.
_ULPS = 1e-3


def load_forehand4d(network: nn.Module, path: Path | str) -> None:
    """Fill a `ForeHand4DForecaster`, `ForeHand4DLifter` or `ForeHand4DRegressor` from the authors' checkpoint.

    Raises `UserError` where the file is another system's, of other sizes, or of another of these three networks.
    """
    state = read_checkpoint(path)
    state = {key: tensor for key, tensor in state.items() if not _NOT_NEEDED.match(key)}
    state = {key.removeprefix("model."): tensor for key, tensor in state.items()}
    found = _kind(state)
    if found is None:
        raise UserError(f"{path} is no checkpoint of ForeHand4D; expected keys 'model.model.seqTransEncoder. …'")
    if found is ForeHand4DLifter and not isinstance(network, ForeHand4DLifter):
        raise UserError(f"{path} is ForeHand4D's lifter; a forecaster's checkpoint has 'model.spatial_conditioner. …'")
    if found is not ForeHand4DLifter and isinstance(network, ForeHand4DLifter):
        raise UserError(f"{path} is ForeHand4D's forecaster; a lifter's checkpoint has 'model.kps_conditioner. …'")
    positions = network.motion.positions[:, None]
    check_constants(state, dict.fromkeys(_TABLES, positions), "the table of positions", _ULPS)
    fill(network, rename(state, _KEYS))


def _kind(state: dict[str, torch.Tensor]) -> type | None:
    if not any(key.startswith("model.seqTransEncoder.") for key in state):
        return None
    return ForeHand4DLifter if any(key.startswith("kps_conditioner.") for key in state) else ForeHand4DForecaster
