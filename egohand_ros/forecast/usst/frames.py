"""USST's image features: a frozen backbone that sees a learned frame (or learned tokens) around each small picture.

Visual prompt tuning (Jia et al. 2022): the backbone keeps its ImageNet weights, the prompt is what is trained.
"""

from dataclasses import replace

import torch
from torch import nn

from ..common.vit import VIT_B16, ViT

_BORDER = 5  # px on each side of the picture
_PROMPT = 10  # tokens
_HIDDEN = 512


class FrameEmbedding(nn.Module):
    """Pictures (B, 3, H, H), of size `image_size` -> features (B, width); zeros with backbone "none", which is ours and
    does not look."""

    def __init__(self, width: int, image_size: int, backbone: str):
        super().__init__()
        if backbone == "resnet18":
            side = image_size + 2 * _BORDER
            self.border_rows = nn.Parameter(torch.randn(1, 3, 2 * _BORDER, side))
            self.border_columns = nn.Parameter(torch.randn(1, 3, image_size, 2 * _BORDER))
            self.backbone, features = _resnet18(), 512 * (-(-side // 32)) ** 2
        elif backbone == "vit":
            config = replace(VIT_B16, image_size=(image_size, image_size))
            limit = (6.0 / (3 * config.patch**2 + config.width)) ** 0.5
            self.prompt = nn.Parameter(torch.empty(1, _PROMPT, config.width).uniform_(-limit, limit))
            self.backbone, features = ViT(config), config.width
        elif backbone != "none":
            raise ValueError(f"backbone {backbone!r} is unknown; known: resnet18, vit, none")
        self.name, self.width = backbone, width
        if backbone == "none":
            return
        self.backbone.requires_grad_(False)
        self.out = nn.Sequential(nn.Linear(features, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, width))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.name == "none":
            return pictures.new_zeros(len(pictures), self.width)
        if self.name == "vit":
            return self.out(self.backbone(pictures, self.prompt)[:, 0])
        rows, columns = (edge.expand(len(pictures), -1, -1, -1) for edge in (self.border_rows, self.border_columns))
        framed = torch.cat([columns[..., :_BORDER], pictures, columns[..., _BORDER:]], dim=-1)
        framed = torch.cat([rows[..., :_BORDER, :], framed, rows[..., _BORDER:, :]], dim=-2)
        return self.out(self.backbone(framed).last_hidden_state.flatten(1))


def _resnet18() -> nn.Module:
    """transformers' ResNet-18 (He et al. 2016), without weights; a checkpoint brings them."""
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(
        ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    )
