"""The record of EgoH4: the published size, and one that trains on two CPU cores."""

from ..registry import register_system
from ..system import Preset, Stage, system_of_authors
from .config import KIND

register_system(
    system_of_authors(
        __package__,
        KIND,
        config="EgoH4Config",
        network="EgoH4Network",
        forecaster="EgoH4Forecaster",
        load="load_egoh4",
        what="masashi-hatano/EgoH4, DeepSpeed's file or folder; MIT",
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
    )
)
