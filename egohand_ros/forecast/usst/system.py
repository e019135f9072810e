"""The record of USST: the published size, and one that trains on two CPU cores."""

from ..registry import register_system
from ..system import CHECKPOINT, Preset, PublicWeights, Stage, System
from .config import KIND

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:USSTConfig",
        network=f"{__package__}.network:USSTNetwork",
        forecaster=f"{__package__}.forecaster:USSTForecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "usst",
                "USST at its published size: wrists alone, from images, camera poses and their path; give a checkpoint",
                device="auto",
            ),
            Preset("usst-small", "USST small enough to train on two CPU cores; without images; give a checkpoint"),
        ),
        stages=(Stage("all", "where each wrist goes", "egohand_ros.training.objectives.usst:USSTObjective"),),
        public=(
            PublicWeights(
                CHECKPOINT, "oppo-us-research/USST, a .pth file; Apache-2.0", f"{__package__}.weights:load_usst"
            ),
        ),
    )
)
