"""EgoH4's denoiser and its sampler (arXiv 2504.08654, section 3; code: masashi-hatano/EgoH4, MIT).

All 30 frames, observed and future, are generated from noise; the observed ones carry the condition.
"""

import torch
from torch import nn

from ..common.diffusion import Diffusion, Draw
from ..common.transformer import post_norm_encoder, sinusoids, sinusoids_of
from .config import EgoH4Config

CONDITION = 13  # head position 3, head rotation 6, wrists in the image 4
BODY_JOINTS, HAND_JOINTS = 15, 42
JOINTS = BODY_JOINTS + HAND_JOINTS
_TIME_CHANNELS = 64


class EgoH4Network(nn.Module):
    """Noised joints -> clean joints and who is out of view. F = observed + future frames at 10 Hz, T = observed.

    Joints (B, F, 171) are 57 x 3 coordinates: 15 of the body (COCO's 17 without the wrists), 21 of the right hand, 21
    of the left one (wrist, then thumb to little finger), in the canonical frame, mapped from [low, high] m to [-1, 1].
    See `inputs.py` for the way from a window and back.
    """

    def __init__(self, config: EgoH4Config = EgoH4Config()):
        super().__init__()
        self.config = config
        width, coordinates = config.width, 3 * JOINTS
        self.diffusion = Diffusion(config.steps, "cosine", "x0", clip=1.0)
        self.observed_in = nn.Linear(coordinates + CONDITION, width)
        self.future_in = nn.Linear(coordinates, width)
        self.image_in = nn.Sequential(
            nn.Linear(config.image_width, width // 4), nn.GELU(), nn.Linear(width // 4, width // 4)
        )
        self.fuse = nn.Sequential(nn.Linear(width + width // 4, width), nn.ReLU(), nn.Linear(width, width))
        self.time = nn.Sequential(nn.Linear(_TIME_CHANNELS, 256), nn.GELU(), nn.Linear(256, width))
        self.encoder = post_norm_encoder(
            width, config.heads, config.layers, width, "relu", config.dropout, inner_dropout=False
        )
        self.joints_out = nn.Linear(width, coordinates)
        self.out_of_view_out = nn.Linear(width, 2)
        # The time's token is at position 1, the frames follow.
        self.register_buffer("positions", sinusoids(config.frames + 2, width)[1:], persistent=False)

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor, images: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Clean joints (B, F, 171) and logits (B, F, 2) of [right, left] wrist being out of view.

        x (B, F, 171) noised joints; t (B,) int64 diffusion times; condition (B, T, 13) as `inputs.condition` makes it;
        images (B, T, 384) features of a ViT-S/16 a frame, or None: then the layers that fuse them are passed by.
        """
        observed, future = x[:, : self.config.observed], x[:, self.config.observed :]
        observed = self.observed_in(torch.cat([observed, condition], dim=-1))
        if images is not None:
            observed = self.fuse(torch.cat([observed, self.image_in(images)], dim=-1))
        time = self.time(sinusoids_of(t, _TIME_CHANNELS))
        tokens = torch.cat([time[:, None], observed, self.future_in(future)], dim=1)
        tokens = self.encoder(tokens + self.positions)[:, 1:]
        return self.joints_out(tokens), self.out_of_view_out(tokens)

    @torch.no_grad()
    def sample(
        self, condition: torch.Tensor, images: torch.Tensor | None, noise: torch.Tensor, draw: Draw | None = None
    ) -> torch.Tensor:
        """Joints (B, F, 171) by the full ancestral loop from noise (B, F, 171); `draw` as in `Diffusion.sample`."""
        return self.diffusion.sample(lambda x, t: self(x, t, condition, images)[0], noise, draw)

    @torch.no_grad()
    def sample_ddim(
        self, condition: torch.Tensor, images: torch.Tensor | None, noise: torch.Tensor, steps: int = 50
    ) -> torch.Tensor:
        """Joints (B, F, 171) in fewer steps, without further noise: our addition, not the authors'."""
        return self.diffusion.sample_ddim(lambda x, t: self(x, t, condition, images)[0], noise, steps)

    def normalise(self, joints: torch.Tensor) -> torch.Tensor:
        """m -> the network's units."""
        return (joints - self.config.low) / (self.config.high - self.config.low) * 2.0 - 1.0

    def metres(self, joints: torch.Tensor) -> torch.Tensor:
        """The way back of `normalise`."""
        return (joints + 1.0) * 0.5 * (self.config.high - self.config.low) + self.config.low
