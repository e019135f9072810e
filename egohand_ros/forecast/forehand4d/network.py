"""ForeHand4D's three networks (arXiv 2510.06145; code: ap229997/forehand4d): forecaster, lifter, regressor baseline.

All are one post-norm transformer (that of MDM, Tevet et al. 2023) over [diffusion time, condition, motion]. Motion is
(B, T, 198), see `state.py`; T up to 256 frames at about 30 Hz.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..common.diffusion import Diffusion, Draw
from ..common.transformer import post_norm_encoder, sinusoids
from ..common.vit import VIT_H, ViTConfig
from .conditioning import ANGLES, CAMERA, POINTS, RAYS, ImageTokens, Lifting, token_map
from .sizes import MotionSizes
from .state import CHANNELS

_POSITIONS = 5000


@dataclass(frozen=True)
class ForeHand4DConfig(MotionSizes):
    """Sizes of a network, with those of what looks at the image."""

    vit: ViTConfig = VIT_H

    @property
    def diffusion(self) -> Diffusion:
        """Cosine, predicting the clean motion, which is not clipped."""
        return Diffusion(self.steps, "cosine", "x0", clip=None)


class MotionTransformer(nn.Module):
    """Noised motion, time and condition tokens -> clean motion. There is no mask: padded frames are attended to as
    well."""

    def __init__(self, config: ForeHand4DConfig):
        super().__init__()
        width = config.width
        self.condition_drop, self.dropout = config.condition_drop, nn.Dropout(config.dropout)
        self.motion_in, self.motion_out = nn.Linear(CHANNELS, width), nn.Linear(width, CHANNELS)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.encoder = post_norm_encoder(
            width, config.heads, config.layers, config.feed_forward, "gelu", config.dropout
        )
        self.register_buffer("positions", sinusoids(_POSITIONS, width, torch.float32), persistent=False)

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x (B, T, 198), t (B,) int64, condition (B, N, width) -> (B, T, 198)."""
        time = self.time(self.positions[t])[:, None]
        tokens = torch.cat([time, self.some_dropped(condition), self.motion_in(x)], dim=1)
        tokens = self.encoder(self.dropout(tokens + self.positions[: tokens.shape[1]]))
        return self.motion_out(tokens[:, -x.shape[1] :])

    def some_dropped(self, condition: torch.Tensor) -> torch.Tensor:
        """In training, condition tokens (B, N, width) of which each is zero with its chance."""
        if not self.training or self.condition_drop == 0.0:
            return condition
        drop = torch.rand(condition.shape[:2], device=condition.device) < self.condition_drop
        return condition * ~drop[..., None]


class _Diffused(nn.Module):
    """What forecaster and lifter share: a motion transformer, its diffusion, and sampling."""

    def __init__(self, config: ForeHand4DConfig):
        super().__init__()
        self.config, self.diffusion = config, config.diffusion
        self.motion = MotionTransformer(config)

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Clean motion (B, T, 198) from noised x (B, T, 198) at times t (B,), given `tokens(…)`."""
        return self.motion(x, t, condition)

    @torch.no_grad()
    def sample(self, condition: torch.Tensor, noise: torch.Tensor, draw: Draw | None = None) -> torch.Tensor:
        """Motion (B, T, 198) by the full ancestral loop from noise (B, T, 198); `draw` as in `Diffusion.sample`."""
        return self.diffusion.sample(lambda x, t: self.motion(x, t, condition), noise, draw)

    @torch.no_grad()
    def sample_ddim(self, condition: torch.Tensor, noise: torch.Tensor, steps: int = 50) -> torch.Tensor:
        """Motion (B, T, 198) in fewer steps, without further noise: our addition, the authors take all 1000."""
        return self.diffusion.sample_ddim(lambda x, t: self.motion(x, t, condition), noise, steps)


class ForeHand4DForecaster(_Diffused):
    """One image -> the motion of both hands, in the frame of the camera that took it."""

    def __init__(self, config: ForeHand4DConfig = ForeHand4DConfig()):
        super().__init__(config)
        self.image = ImageTokens(config.width, config.vit)

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Condition (B, 192, width) of images (B, 3, 224, 224), normalised (`common.vit.normalised`)."""
        return self.image(images)


class ForeHand4DLifter(_Diffused):
    """2D keypoints and camera poses of T frames -> MANO motion of the same frames, in the current camera's frame."""

    def __init__(self, config: ForeHand4DConfig = ForeHand4DConfig()):
        super().__init__(config)
        self.points, self.camera, self.rays, self.angles = (
            token_map(inputs, config.width) for inputs in (POINTS, CAMERA, RAYS, ANGLES)
        )

    def tokens(self, seen: Lifting) -> torch.Tensor:
        """Condition (B, 4 T, width): T tokens each of points, cameras, rays and viewing angles."""
        maps = (self.points, self.camera, self.rays, self.angles)
        given = (seen.points, seen.camera, seen.rays, seen.angles)
        return torch.cat([net(array) for net, array in zip(maps, given)], dim=1)


class ForeHand4DRegressor(nn.Module):
    """The authors' baseline: one image -> one motion, without diffusion, by the same transformer.

    Kept as their code has it: empty queries come first, the image's tokens, without positions, behind them, and the
    motion is read from the *last* `frames` outputs: at the published size 64 of the queries', then the 192 of the
    image's tokens.
    """

    def __init__(self, config: ForeHand4DConfig = ForeHand4DConfig()):
        super().__init__()
        self.config = config
        self.motion = MotionTransformer(config)  # its maps of time and motion into tokens are not used
        self.image = ImageTokens(config.width, config.vit)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Motion (B, frames, 198) of images (B, 3, 224, 224), normalised."""
        condition = self.motion.some_dropped(self.image(images))
        queries = self.motion.dropout(self.motion.positions[: self.config.frames].expand(len(images), -1, -1))
        tokens = self.motion.encoder(torch.cat([queries, condition], dim=1))
        return self.motion.motion_out(tokens[:, condition.shape[1] :])


def frame_times(frames: int, rate: float = 30.0) -> Sequence[float]:
    """s of a motion's frames from the image's time; the first one is the image's own."""
    return [i / rate for i in range(frames)]
