"""The record of ForeHand4D: the published size, and a small one. Neither is trained here."""

from ..registry import register_system
from ..system import CHECKPOINT, Preset, PublicWeights, System
from .config import KIND

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:ForeHand4DSettings",
        network=f"{__package__}.config:make_network",
        forecaster=f"{__package__}.forecaster:ForeHand4DForecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "forehand4d",
                "ForeHand4D at its published size: MANO motion of both hands from one image; give checkpoint and MANO",
                device="auto",
            ),
            Preset("forehand4d-small", "ForeHand4D at a hundredth of its size, for two CPU cores; give MANO"),
        ),
        stages=(),
        options=("mano", "sampling_steps"),
        public=(
            PublicWeights(
                CHECKPOINT, "ap229997/forehand4d, a .ckpt file; CC-BY-NC", f"{__package__}.weights:load_forehand4d"
            ),
        ),
    )
)
