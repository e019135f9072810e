"""A vision transformer with timm's parameter names, so that three published encoders load without a key map.

`ViT-S/16` is EgoH4's image encoder, `ViT-B/16` USST's alternative (timm vit_*_patch16_224; Dosovitskiy et al. 2021),
and `ViT-H` that of HaMeR and ForeHand4D (ViTPose: overlapping patches, no class token). transformers has all three
under three sets of other names, and without stochastic depth.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from .transformer import drop_path

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViTConfig:
    """Sizes. Without a class token the position of one is kept and added to every patch (ViTPose)."""

    width: int = 384
    depth: int = 12
    heads: int = 6
    feed_forward: int = 1536
    image_size: tuple[int, int] = (224, 224)  # height, width
    patch: int = 16
    padding: int = 0
    class_token: bool = True
    drop_path: float = 0.0  # of the last block; rises linearly from 0 in the first one

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch, self.image_size[1] // self.patch


VIT_S16 = ViTConfig()
VIT_B16 = ViTConfig(width=768, heads=12, feed_forward=3072)
VIT_H = ViTConfig(1280, 32, 16, 5120, (256, 192), padding=2, class_token=False, drop_path=0.55)


class ViT(nn.Module):
    """Images (B, 3, H, W), normalised -> tokens (B, [1 +] patches, width), row by row, after the last norm."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        width, patches = config.width, config.grid[0] * config.grid[1]
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, config.patch, config.patch, config.padding)
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + 1, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(_Block(width, config.heads, config.feed_forward, rate) for rate in rates)
        # The published names: timm's ends with `norm`, ViTPose's with `last_norm`.
        self._norm = "norm" if config.class_token else "last_norm"
        setattr(self, self._norm, nn.LayerNorm(width, eps=1e-6))

    def forward(self, images: torch.Tensor, prompt: torch.Tensor | None = None) -> torch.Tensor:
        """`prompt` (1 or B, P, width) are tokens put in behind the class token (visual prompt tuning)."""
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        if self.config.class_token:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        else:
            x = x + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        if prompt is not None:
            x = torch.cat([x[:, :1], prompt.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x)
        return getattr(self, self._norm)(x)


class _Block(nn.Module):
    """Pre-norm attention and feed-forward, both residual, each left out in training with the chance `drop_path`."""

    def __init__(self, width: int, heads: int, feed_forward: int, drop_path: float):
        super().__init__()
        self.drop_path = drop_path
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = _Attention(width, heads), nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(self.attn(self.norm1(x)), self.drop_path, self.training)
        hidden = nn.functional.gelu(self.mlp.fc1(self.norm2(x)))
        return x + drop_path(self.mlp.fc2(hidden), self.drop_path, self.training)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(-2))


def normalised(images: torch.Tensor, mean: tuple = IMAGENET_MEAN, std: tuple = IMAGENET_STD) -> torch.Tensor:
    """uint8 RGB (..., H, W, 3) -> float32 (..., 3, H, W), the mean removed and divided by the deviation of each
    channel."""
    scaled = (images.float() / 255.0 - torch.tensor(mean, device=images.device)) / torch.tensor(
        std, device=images.device
    )
    return scaled.movedim(-1, -3)
