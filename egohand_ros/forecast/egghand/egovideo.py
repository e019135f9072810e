"""The EgoVideo encoder (OpenGVLab/EgoVideo, backbone; InternVideo2-1B in shape): video and text to token sequences.

EggHand uses all tokens of both: video after the last block without a final norm, and text after BERT's first 19 layers
(the public model's text mode stops where its cross-attention layers begin), projected to 512. It is frozen.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from .config import EgoVideoConfig


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain, in float32."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class VideoAttention(nn.Module):
    """Self-attention whose queries and keys are normed over all heads together."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(width)
        self.k_norm = RMSNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        parts = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_norm(query), self.k_norm(key), value)
        )
        return self.proj(scaled_dot_product_attention(*parts).transpose(1, 2).flatten(-2))


class VideoMLP(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class VideoBlock(nn.Module):
    """Pre-norm attention and MLP with a gain on each branch (LayerScale)."""

    def __init__(self, config: EgoVideoConfig):
        super().__init__()
        self.norm1 = RMSNorm(config.width)
        self.attn = VideoAttention(config.width, config.heads)
        self.ls1 = nn.Parameter(torch.full((config.width,), 1e-5))
        self.norm2 = RMSNorm(config.width)
        self.mlp = VideoMLP(config.width, config.feed_forward)
        self.ls2 = nn.Parameter(torch.full((config.width,), 1e-5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp(self.norm2(x))


class VideoTransformer(nn.Module):
    """Frames (B, V, 3, H, W) -> tokens (B, 1 + V (H / patch) (W / patch), width); the first is the class token."""

    def __init__(self, config: EgoVideoConfig):
        super().__init__()
        self.patch = nn.Conv3d(3, config.width, (1, config.patch, config.patch), (1, config.patch, config.patch))
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, config.width))
        grid = config.image_size // config.patch
        self.pos_embed = nn.Parameter(position_waves(config.width, grid, config.frames))
        self.blocks = nn.ModuleList(VideoBlock(config) for _ in range(config.depth))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        patches = self.patch(frames.transpose(1, 2)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x


class EgoVideoEncoder(nn.Module):
    """Video tokens (width) and text tokens (text_output), each its own sequence."""

    def __init__(self, config: EgoVideoConfig):
        super().__init__()
        from transformers import (  # slow to import, and only this encoder wants it
            BertConfig,
            BertModel,
        )

        self.config = config
        self.vision = VideoTransformer(config)
        self.text = BertModel(
            BertConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.text_width,
                num_hidden_layers=config.text_layers,
                num_attention_heads=config.text_heads,
                intermediate_size=config.text_feed_forward,
            ),
            add_pooling_layer=False,
        )
        self.text_head = nn.Parameter(torch.randn(config.text_width, config.text_output) * config.text_width**-0.5)

    @property
    def video_width(self) -> int:
        return self.config.width

    @property
    def text_width(self) -> int:
        return self.config.text_output

    def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, V, 3, H, W) float -> (B, L, width)."""
        return self.vision(frames)

    def encode_text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token ids (B, L) and mask (B, L) -> (B, L, text_output)."""
        return self.text(tokens, attention_mask=mask).last_hidden_state @ self.text_head


def position_waves(width: int, grid: int, frames: int) -> torch.Tensor:
    """Sine-cosine positions (1, 1 + frames grid^2, width): a quarter for time, three for the row and column; class
    zero.

    As in MAE-ST, where the column comes before the row.
    """

    def waves(channels: int, position: np.ndarray) -> np.ndarray:
        rate = 10000.0 ** -(np.arange(channels // 2) / (channels / 2))
        angle = position[:, None] * rate
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    rows, columns = (index.ravel() for index in np.mgrid[:grid, :grid])
    spatial = width // 4 * 3
    image = np.concatenate([waves(spatial // 2, columns), waves(spatial // 2, rows)], axis=1)
    time = waves(width // 4, np.arange(frames))
    tokens = np.concatenate([np.repeat(time, grid * grid, axis=0), np.tile(image, (frames, 1))], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), tokens])).float()[None]
