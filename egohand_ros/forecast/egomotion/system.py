"""The record of the EgoMotion-style system: the paper's size as far as it is known, and one for two CPU cores."""

from ..registry import register_system
from ..system import Preset, PublicWeights, Stage, System
from .config import KIND

_OBJECTIVES = "egohand_ros.training.objectives.egomotion"

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:EgoMotionConfig",
        network=f"{__package__}.network:EgoMotionNetwork",
        forecaster=f"{__package__}.forecaster:EgoMotionForecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "egomotion",
                "EgoMotion-style hands with PaliGemma 2 3B: both hands for 5 s from one image and words; give a "
                "checkpoint",
                device="auto",
            ),
            Preset(
                "egomotion-small", "EgoMotion-style hands small enough to train on two CPU cores; give a checkpoint"
            ),
        ),
        stages=(
            Stage(
                "tokenizer",
                "motions as primitives and as latents",
                f"{_OBJECTIVES}:TokenizerObjective",
                settings="tokenizer",
                trains_on="goals",
                whole=False,
            ),
            Stage(
                "reason",
                "the language model says primitives",
                f"{_OBJECTIVES}:ReasonObjective",
                settings="reason",
                trains_on="goals",
                whole=False,
            ),
            Stage(
                "generate",
                "the denoiser goes by what the frozen language model thinks",
                f"{_OBJECTIVES}:GenerateObjective",
                settings="generate",
                trains_on="goals",
            ),
            Stage(
                "joint",
                "in place of reason and generate: both at once",
                f"{_OBJECTIVES}:JointObjective",
                settings="joint",
                trains_on="goals",
            ),
        ),
        options=("precision", "tokenizer", "reasoning", "sampling_steps", "renew"),
        public=(
            PublicWeights(
                "paligemma",
                "google/paligemma2-3b-pt-224, model.safetensors.index.json; Gemma licence",
                f"{__package__}.weights:load_paligemma",
            ),
        ),
        saves=("tokenizer",),
    )
)
