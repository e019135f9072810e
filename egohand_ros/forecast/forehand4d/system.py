"""The record of ForeHand4D: the published size, and a small one."""

from ..registry import register_system
from ..system import Preset, Stage, system_of_authors
from .config import KIND

register_system(
    system_of_authors(
        __package__,
        KIND,
        config="ForeHand4DSettings",
        network="config:make_network",
        forecaster="ForeHand4DForecaster",
        load="load_forehand4d",
        what="ap229997/forehand4d, a .ckpt file; CC-BY-NC",
        presets=(
            Preset(
                "forehand4d",
                "ForeHand4D at its published size: MANO motion of both hands from one image; give checkpoint and MANO",
                device="auto",
            ),
            Preset("forehand4d-small", "ForeHand4D at a hundredth of its size, for two CPU cores; give MANO"),
        ),
        stages=(
            Stage(
                "all",
                "denoising of MANO motion, told by an image",
                "egohand_ros.training.objectives.forehand4d:ForeHand4DObjective",
                whole=False,  # calibrating by every window of what is held back would take longer than training
            ),
        ),
        options=("mano", "sampling_steps"),
    )
)
