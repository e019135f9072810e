"""Depth: read by a residual network, supervised, and where no sensor gives it estimated from the image.

The encoder is the paper's (arXiv 2505.16602, section 3.2): ResNet-50 on the depth stacked three times, added to what is
seen of the image. How what is added is brought to the eye's patches, and what the supervision is of, is not said: a
linear map, stretched to the patches, and a linear read-out of each patch's mean depth from the sum.
"""

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ..common.vit import normalised
from .config import FARTHEST, DepthSizes


class DepthEncoder(nn.Module):
    """Depth (B, H, W) m, 0 where unknown -> what is added to the eye's patches (B, side^2, width), row by row."""

    def __init__(self, sizes: DepthSizes, width: int):
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        self.network = ResNetModel(
            ResNetConfig(
                embedding_size=sizes.stem,
                hidden_sizes=list(sizes.widths),
                depths=list(sizes.layers),
                layer_type="bottleneck" if sizes.bottleneck else "basic",
            )
        )
        self.out = nn.Linear(sizes.widths[-1], width)
        nn.init.zeros_(self.out.weight)  # nothing is added before it is learned what
        nn.init.zeros_(self.out.bias)

    def forward(self, depth: torch.Tensor, side: int) -> torch.Tensor:
        stacked = share_of(depth)[:, None].expand(-1, 3, -1, -1)
        seen = self.out(self.network(stacked).last_hidden_state.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return interpolate(seen, (side, side), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)


class DepthEstimator(nn.Module):
    """Depth Anything V2 (arXiv 2406.09414), metric: images (B, H, W, 3) uint8 RGB -> depth (B, H, W) float32 m. The
    paper's is UniDepthV2; it reports both."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

        eye = Dinov2Config(
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=6,
            image_size=518,
            patch_size=14,
            out_indices=[3, 6, 9, 12],
            apply_layernorm=True,
            reshape_hidden_states=False,
        )
        self.model = DepthAnythingForDepthEstimation(
            DepthAnythingConfig(
                backbone_config=eye,
                reassemble_hidden_size=384,
                neck_hidden_sizes=[48, 96, 192, 384],
                fusion_hidden_size=64,
                depth_estimation_type="metric",
                max_depth=20,
            )
        )

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        depth = self.model(pixel_values=normalised(images)).predicted_depth
        return interpolate(depth[:, None].float(), images.shape[1:3], mode="bilinear", align_corners=True)[:, 0]


def share_of(depth: torch.Tensor) -> torch.Tensor:
    """Depth m as a share of FARTHEST, 0 to 1; unknown stays 0."""
    return (torch.nan_to_num(depth.float(), nan=0.0, posinf=0.0, neginf=0.0) / FARTHEST).clamp(0.0, 1.0)


def patch_depth(depth: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean share (B, side^2) of what is known of each patch of depth (B, H, W) m, and whether anything is."""
    share, known = share_of(depth)[:, None], (torch.nan_to_num(depth) > 0.0).float()[:, None]
    weight = adaptive_avg_pool2d(known, side)
    mean = adaptive_avg_pool2d(share * known, side) / weight.clamp(min=1e-6)
    return mean.flatten(1), (weight > 0.0).flatten(1)
