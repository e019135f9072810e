"""Sizes of USST, and what it says of itself before its network is loaded."""

from dataclasses import dataclass

from ..common.protocol import WRIST_POSITION, ForecasterSpec, Need

KIND = "usst"
STEP = 1.0 / 30.0  # s
NO_PICTURES = "none"
NEEDS_POSES = Need("camera_pose", "USST needs camera poses")
NEEDS_IMAGES = Need("images", "USST needs images")
_OBSERVED = 0.6  # share of all frames


@dataclass(frozen=True)
class USSTConfig:
    """Sizes; the defaults are those for EgoPAT3D (40 frames; H2O: 64). `backbone` is resnet18, vit (ViT-B/16), or none,
    which is ours: it goes by the wrist's path alone.

    `focal_scale` is ours too: below 1 the picture in which points are told is wider than EgoPAT3D's, for cameras that
    see hands beside it.
    """

    frames: int = 40
    width: int = 256
    hidden: int = 128
    latent: int = 16
    layers: int = 6
    heads: int = 8
    image_size: int = 64
    backbone: str = "resnet18"
    dropout: float = 0.1  # of attention weights
    drop_path: float = 0.1
    focal_scale: float = 1.0

    @property
    def observed(self) -> int:
        """Frames that are seen: 24 of 40."""
        return int(_OBSERVED * self.frames + 1e-6)

    @property
    def sees(self) -> bool:
        return self.backbone != NO_PICTURES


def spec_of(config: USSTConfig, preset: str, calibrated: bool = False, checkpoint_hash: str = "") -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    looks = dict(
        modalities=("keypoints", "images", "camera_pose"),
        image_offsets=tuple(range(1 - config.observed, 1)),
        image_size=(config.image_size, config.image_size),
        needs=(NEEDS_POSES, NEEDS_IMAGES),
    )
    blind = dict(modalities=("keypoints", "camera_pose"), needs=(NEEDS_POSES,))
    return ForecasterSpec(
        preset,
        STEP,
        config.observed,
        config.frames - config.observed,
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
        gives=(WRIST_POSITION,),
        **(looks if config.sees else blind),
        slow=True,
    )
