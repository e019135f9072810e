"""The record of MEgoHand: the paper's size, and one that trains on two CPU cores."""

from ..registry import register_system
from ..system import Preset, PublicWeights, Stage, System
from .config import KIND

_OBJECTIVES = "egohand_ros.training.objectives.megohand"

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:MEgoHandConfig",
        network=f"{__package__}.network:MEgoHandNetwork",
        forecaster=f"{__package__}.forecaster:MEgoHandForecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "megohand",
                "MEgoHand at the paper's size: hands for 1.6 s from one image, depth and words; give a checkpoint",
                device="auto",
            ),
            Preset("megohand-small", "MEgoHand small enough to train on two CPU cores, no MANO; give a checkpoint"),
        ),
        stages=(
            Stage(
                "inverse",
                "keypoints to hand states",
                f"{_OBJECTIVES}:InverseObjective",
                settings="inverse",
                trains_on="goals",
                whole=False,
            ),
            Stage(
                "motion",
                "everything else, on generated scenes with depth",
                f"{_OBJECTIVES}:MotionObjective",
                settings="motion",
                trains_on="goals",
                whole=False,
            ),
            Stage(
                "recordings",
                "everything else, on recordings with images",
                f"{_OBJECTIVES}:MotionObjective",
                settings="recordings",
            ),
        ),
        options=("precision", "tokenizer", "reasoning", "mano"),
        public=(
            PublicWeights(
                "siglip2",
                "google/siglip2-so400m-patch14-224, model.safetensors; Apache-2.0",
                f"{__package__}.weights:load_siglip2",
            ),
            PublicWeights(
                "smollm2",
                "HuggingFaceTB/SmolLM2-1.7B-Instruct, model.safetensors; Apache-2.0",
                f"{__package__}.weights:load_smollm2",
            ),
            PublicWeights(
                "resnet", "microsoft/resnet-50, model.safetensors; Apache-2.0", f"{__package__}.weights:load_resnet"
            ),
            PublicWeights(
                "depth_anything",
                "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf, model.safetensors; Apache-2.0",
                f"{__package__}.weights:load_depth_anything",
            ),
        ),
        saves=("tokenizer",),
    )
)
