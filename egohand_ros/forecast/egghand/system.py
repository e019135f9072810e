"""The record of EggHand: the published size, and one around a Hugging Face encoder."""

from ..registry import register_system
from ..system import CHECKPOINT, Preset, PublicWeights, Stage, System
from .config import KIND, TOKENIZER

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:EggHandConfig",
        network=f"{__package__}.model:new_network",
        forecaster=f"{__package__}.forecaster:EggHandForecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "egghand",
                "EggHand at full size: EgoVideo encoder and GR00T-N1.5-style head; give a checkpoint",
                device="auto",
            ),
            Preset(
                "egghand-hf",
                "EggHand around a Hugging Face vision and text encoder (SigLIP 2); give a checkpoint",
                device="auto",
            ),
        ),
        stages=(Stage("all", "forecasts, end to end", "egohand_ros.training.objectives.egghand:EggHandObjective"),),
        options=("precision", "compile", "tokenizer"),
        public=(
            PublicWeights(
                CHECKPOINT,
                "EggHand's own, the folder that its training writes; derived from GR00T N1.5, non-commercial",
                f"{__package__}.weights:load_published",
                recognized=f"{__package__}.weights:is_published",
                config=f"{__package__}.weights:as_published",
            ),
            PublicWeights(
                "action_head",
                "nvidia/GR00T-N1.5-3B, or EggHand's own; non-commercial",
                f"{__package__}.weights:load_action_head",
                part="head",
            ),
            PublicWeights(
                "egovideo",
                "OpenGVLab/EgoVideo, ckpt_4frames.pth",
                f"{__package__}.weights:load_egovideo",
                part="encoder",
            ),
        ),
        saves=(TOKENIZER,),
    )
)
