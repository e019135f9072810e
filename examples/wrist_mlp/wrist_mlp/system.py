"""The record of `wrist-mlp`. It is imported whenever forecasters are listed, so torch is not."""

from dataclasses import dataclass
from pathlib import Path

from egohand_ros.api import ForecasterSpec, Preset, Stage, System, register_system

KIND = "wrist-mlp"


@dataclass(frozen=True)
class WristConfig:
    """`model:` of preset.yaml; what is not written there is as here. Times in s."""

    step: float = 0.1
    window_length: int = 10
    horizon_steps: int = 10
    width: int = 64


def spec_of(config: WristConfig, preset: str, calibrated: bool = False, checkpoint_hash: str = "") -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    return ForecasterSpec(
        preset,
        config.step,
        config.window_length,
        config.horizon_steps,
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
    )


register_system(
    System(
        name=KIND,
        config=WristConfig,
        network=f"{__package__}.forecaster:WristNetwork",
        forecaster=f"{__package__}.forecaster:WristForecaster",
        spec=spec_of,
        presets=(
            Preset(
                "wrist-mlp",
                "an example: the wrist's path by a small network, fingers held",
                settings=Path(__file__).with_name("preset.yaml"),
            ),
        ),
        stages=(Stage("all", "where wrists go", f"{__package__}.forecaster:WristObjective"),),
    )
)
