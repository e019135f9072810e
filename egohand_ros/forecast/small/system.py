"""The record of `egohand-small` and `egohand-follow`: one network, two rates."""

from pathlib import Path

from ...shipped import preset_folder
from ..registry import register_system
from ..system import Preset, Stage, System
from .config import KIND

_WEIGHTS = Path(__file__).parents[1] / "weights"
_SETTINGS = preset_folder() / "egohand-small.yaml"

register_system(
    System(
        name=KIND,
        config=f"{__package__}.config:SmallConfig",
        network=f"{__package__}.network:SmallNetwork",
        forecaster=f"{__package__}.forecaster:SmallForecaster",
        spec=f"{__package__}.config:spec_of",
        presets=(
            Preset(
                "egohand-small",
                "learned correction of `kalman`; shipped weights; milliseconds on a CPU",
                weights=_WEIGHTS / "egohand-small",
            ),
            Preset(
                "egohand-goals",
                "egohand-small that looks for what a task names; knows painted scenes, so not for cameras",
                settings=_SETTINGS,
                weights=_WEIGHTS / "egohand-small",
                given=(("goals", True),),
            ),
            Preset(
                "egohand-follow",
                "as egohand-small, the next 0.4 s at 30 Hz: what a robot that follows a hand needs",
                weights=_WEIGHTS / "egohand-follow",
            ),
        ),
        options=("goals",),
        stages=(
            Stage("hands", "the correction of each hand", "egohand_ros.training.objectives.small:SmallObjective"),
            Stage(
                "grounding",
                "what looks at images and words, beside hands that are known",
                "egohand_ros.training.objectives.grounding:GroundingObjective",
                settings="goals",
                trains_on="goals",
                prepare=f"{__package__}.forecaster:with_grounding",
                whole=False,
            ),
        ),
    )
)
