"""Sizes of ForeHand4D, and what it says of itself before its network is loaded."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from ..common.protocol import HANDS, MESH, ForecasterSpec, Need
from .sizes import MotionSizes

if TYPE_CHECKING:
    from .network import ForeHand4DConfig

KIND = "forehand4d"
MAX_HYPOTHESES = 16
STEP = 1.0 / 30.0  # s
IMAGE = 224  # px
NEEDS_IMAGES = Need("images", "ForeHand4D needs images")


@dataclass(frozen=True)
class ForeHand4DSettings(MotionSizes):
    """The network, and what is asked of it. `encoder` is vit_h (HaMeR's ViT-H) or small, which is ours.

    The network gives a motion of `frames`, the first of which is the image's own time; the `horizon_steps` after it are
    the forecast. It takes `sampling_steps` of DDIM, which are ours; 0 is the authors' loop through all `steps`.
    """

    encoder: Literal["vit_h", "small"] = "vit_h"
    horizon_steps: int = 60
    sampling_steps: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.horizon_steps < self.frames:
            raise ValueError(f"horizon_steps is {self.horizon_steps}; expected 1 to {self.frames - 1}, frames less one")
        if not 0 <= self.sampling_steps <= self.steps:
            raise ValueError(f"sampling_steps is {self.sampling_steps}; expected 0 (all of them) to {self.steps}")

    def network(self) -> ForeHand4DConfig:
        """The sizes as the network takes them."""
        from ..common.vit import VIT_H, ViTConfig
        from .network import ForeHand4DConfig

        small = ViTConfig(96, 4, 4, 192, VIT_H.image_size, patch=32, class_token=False)
        sizes = {size.name: getattr(self, size.name) for size in fields(MotionSizes)}
        return ForeHand4DConfig(**sizes, vit=VIT_H if self.encoder == "vit_h" else small)


def spec_of(
    config: ForeHand4DSettings, preset: str, calibrated: bool = False, checkpoint_hash: str = ""
) -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    return ForecasterSpec(
        preset,
        STEP,
        1,
        config.horizon_steps,
        max_hypotheses=MAX_HYPOTHESES,
        modalities=("keypoints", "images", "camera_pose", "betas"),
        image_offsets=(0,),
        image_size=(IMAGE, IMAGE),
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
        needs=(NEEDS_IMAGES,),
        gives=(*HANDS, MESH),
        slow=True,
    )


def make_network(config: ForeHand4DSettings):
    """The forecaster's network, its weights new."""
    from .network import ForeHand4DForecaster

    return ForeHand4DForecaster(config.network())
