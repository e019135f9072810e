"""Sizes of the EgoMotion-style forecaster, and what it says of itself before its network is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..common.protocol import ForecasterSpec, Need
from ..vlm.sizes import EyeAndTextSizes

KIND = "egomotion"
MAX_HYPOTHESES = 16
SIDE_CHANNELS = 69  # of one hand at one step: wrist's way 3, palm's turn 6, change of 20 keypoints in the palm 60
CHANNELS = 2 * SIDE_CHANNELS
PAST_FEATURES = 160  # of one observation of both hands, see inputs.py
NEEDS_IMAGES = Need("images", "EgoMotion needs images")


@dataclass(frozen=True)
class TokenizerSizes:
    """Of the motion tokenizer and of the autoencoder beside it. `codebooks` x `codes` x `code_width` is LatentAct's
    6 x 512 x 512; EgoMotion's own are not public.

    halvings   how often time is halved: a primitive lasts 2 ** halvings steps
    depth      residual convolutions at each of these rates
    latent     numbers a primitive's time has in the continuous latent space
    """

    width: int = 512
    code_width: int = 512
    codes: int = 512
    codebooks: int = 6
    halvings: int = 2
    depth: int = 3
    latent: int = 64


@dataclass(frozen=True)
class DenoiserSizes:
    """Of the network that takes noise out of latents; ours."""

    width: int = 512
    layers: int = 8
    heads: int = 8
    feed_forward: int = 2048
    dropout: float = 0.1


@dataclass(frozen=True)
class EgoMotionConfig:
    """Sizes; the defaults are those of `egomotion`: 5 s at 30 Hz and PaliGemma 2 3B are the paper's, others are ours.

    observed         observations, the last one at the image's time; the paper generates without any
    words            of a small language model's vocabulary; empty: a published tokenizer, from `tokenizer`
    picture          (height, width) px of the image that is asked for; it is squeezed to what the eye takes
    head_width       inside what reads primitives from states
    diffusion_steps  of the noising process
    sampling_steps   evaluations of the denoiser; as many as diffusion_steps is the full ancestral loop
    """

    vlm: EyeAndTextSizes = field(default_factory=EyeAndTextSizes)
    tokenizer_sizes: TokenizerSizes = field(default_factory=TokenizerSizes)
    denoiser: DenoiserSizes = field(default_factory=DenoiserSizes)
    step: float = 1.0 / 30.0
    observed: int = 6
    horizon_steps: int = 150
    words: tuple[str, ...] = ()
    tokenizer: str = "google/paligemma2-3b-pt-224"
    picture: tuple[int, ...] = (224, 224)
    head_width: int = 512
    diffusion_steps: int = 1000
    sampling_steps: int = 50

    def __post_init__(self) -> None:
        if len(self.picture) != 2 or min(self.picture) < 14:
            raise ValueError(f"picture is {self.picture}; expected height and width of at least 14 px")
        if not 1 <= self.sampling_steps <= self.diffusion_steps:
            raise ValueError(f"sampling_steps is {self.sampling_steps}; expected 1 to {self.diffusion_steps}")
        if self.observed < 1 or self.horizon_steps < 1:
            raise ValueError("observed and horizon_steps have to be at least 1")

    @property
    def stride(self) -> int:
        """Steps of one primitive."""
        return 2**self.tokenizer_sizes.halvings

    @property
    def primitives(self) -> int:
        """How many make up a forecast; the last one may reach beyond it."""
        return -(-self.horizon_steps // self.stride)


def spec_of(
    config: EgoMotionConfig, preset: str, calibrated: bool = False, checkpoint_hash: str = ""
) -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    return ForecasterSpec(
        preset,
        config.step,
        config.observed,
        config.horizon_steps,
        max_hypotheses=MAX_HYPOTHESES,
        modalities=("keypoints", "images", "camera_pose", "camera_matrix", "prompt"),
        image_offsets=(0,),
        image_size=(config.picture[0], config.picture[1]),
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
        needs=(NEEDS_IMAGES,),
        slow=True,
    )
