"""The record of USST: the published size, and one that trains on two CPU cores."""

from ..registry import register_system
from ..system import Preset, Stage, system_of_authors
from .config import KIND

register_system(
    system_of_authors(
        __package__,
        KIND,
        config="USSTConfig",
        network="USSTNetwork",
        forecaster="USSTForecaster",
        load="load_usst",
        what="oppo-us-research/USST, a .pth file; Apache-2.0",
        presets=(
            Preset(
                "usst",
                "USST at its published size: wrists alone, from images, camera poses and their path; give a checkpoint",
                device="auto",
            ),
            Preset("usst-small", "USST small enough to train on two CPU cores; without images; give a checkpoint"),
        ),
        stages=(Stage("all", "where each wrist goes", "egohand_ros.training.objectives.usst:USSTObjective"),),
    )
)
