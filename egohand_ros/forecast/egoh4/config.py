"""Sizes of EgoH4, and what it says of itself before its network is loaded."""

from dataclasses import dataclass

from ..common.protocol import BODY, HANDS, ForecasterSpec, Need

KIND = "egoh4"
MAX_HYPOTHESES = 16
STEP = 0.1  # s
NEEDS_POSES = Need("camera_pose", "EgoH4 needs camera poses")


@dataclass(frozen=True)
class EgoH4Config:
    """Sizes; the defaults are the published ones. `low` and `high` (m) are what -1 and 1 of a coordinate stand for.

    A forecast takes `sampling_steps` of DDIM, which are ours; 0 is the authors' loop through all `steps`. `body` says
    whether it was trained with the body's joints, and forecasts them.
    """

    observed: int = 20
    future: int = 10
    image_width: int = 384
    width: int = 512
    heads: int = 8
    layers: int = 4
    dropout: float = 0.1
    steps: int = 1000
    low: float = -7.81
    high: float = 9.85
    sampling_steps: int = 0
    body: bool = True

    @property
    def frames(self) -> int:
        return self.observed + self.future


def spec_of(config: EgoH4Config, preset: str, calibrated: bool = False, checkpoint_hash: str = "") -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    return ForecasterSpec(
        preset,
        STEP,
        config.observed,
        config.future,
        max_hypotheses=MAX_HYPOTHESES,
        modalities=("keypoints", "camera_pose"),
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
        needs=(NEEDS_POSES,),
        gives=(*HANDS, BODY) if config.body else HANDS,
        slow=True,
    )
