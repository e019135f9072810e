"""The record of EgoMAN: the published size, and one that trains on two CPU cores."""

from pathlib import Path

from ..registry import register_system
from ..system import CHECKPOINT, Preset, PublicWeights, Stage, System
from .config import KIND

_WEIGHTS = Path(__file__).parents[1] / "weights"
_OBJECTIVES = "egohand_ros.training.objectives.egoman"

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:EgoMANConfig",
        network=f"{__package__}.network:EgoMANNetwork",
        forecaster=f"{__package__}.forecaster:EgoMANForecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "egoman",
                "EgoMAN at its published size: wrists for 5 s, waypoints, from one image and words; give a checkpoint",
                device="auto",
            ),
            Preset(
                "egoman-small",
                "EgoMAN for two CPU cores: wrists for 5 s, waypoints; shipped weights; knows painted scenes",
                weights=_WEIGHTS / "egoman-small",
            ),
        ),
        stages=(
            Stage(
                "reason",
                "questions and answers: words, waypoints",
                f"{_OBJECTIVES}:ReasonObjective",
                settings="reason",
                trains_on="goals",
                whole=False,
            ),
            Stage(
                "motion",
                "the motion expert, told the true waypoints",
                f"{_OBJECTIVES}:MotionObjective",
                settings="motion",
                trains_on="goals",
                whole=False,
            ),
            Stage(
                "joint",
                "the motion expert goes by what the language model thinks",
                f"{_OBJECTIVES}:JointObjective",
                settings="joint",
                trains_on="goals",
            ),
        ),
        options=("precision", "tokenizer", "reasoning", "sampling_steps", "renew"),
        public=(
            PublicWeights(
                "dinov3",
                "facebook/dinov3-vitl16-pretrain-lvd1689m, model.safetensors; DINOv3 licence",
                f"{__package__}.weights:load_dinov3",
            ),
            PublicWeights(
                "grounding",
                "model.safetensors of an egohand-small with a grounding, for egoman-small in place of the shipped one",
                f"{__package__}.pointing:load_grounding",
                shipped=f"{__package__}.pointing:shipped_grounding",
            ),
            PublicWeights(
                CHECKPOINT,
                "EgoMAN-7B (none is public), model.safetensors or its index; CC-BY-NC",
                f"{__package__}.weights:load_egoman",
            ),
        ),
        saves=("tokenizer",),
    )
)
