"""The record of EgoH4: the published size, and one that trains on two CPU cores."""

from ..registry import register_system
from ..system import CHECKPOINT, Preset, PublicWeights, Stage, System
from .config import KIND

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:EgoH4Config",
        network=f"{__package__}.network:EgoH4Network",
        forecaster=f"{__package__}.forecaster:EgoH4Forecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "egoh4",
                "EgoH4 at its published size: hands and body from camera poses and wrists; give a checkpoint",
                device="auto",
            ),
            Preset("egoh4-small", "EgoH4 small enough to train on two CPU cores; hands alone; give a checkpoint"),
        ),
        stages=(Stage("all", "denoising of all frames", "egohand_ros.training.objectives.egoh4:EgoH4Objective"),),
        options=("sampling_steps",),
        public=(
            PublicWeights(
                CHECKPOINT, "masashi-hatano/EgoH4, DeepSpeed's file or folder; MIT", f"{__package__}.weights:load_egoh4"
            ),
        ),
    )
)
