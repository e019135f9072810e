"""Transformer blocks as GR00T N1.5 has them (wheel lerobot 0.4.4, policies/groot/action_head), with optional key masks.

Without masks they compute what the public ones do; `weights.py` maps the names of the public parameters.
"""

import math

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

_TIME_CHANNELS = 256


KeysValues = tuple[torch.Tensor, torch.Tensor]


class Attention(nn.Module):
    """Multi-head attention of queries (B, Q, width) to keys and values made from tokens of `context_width`."""

    def __init__(self, width: int, heads: int, context_width: int | None = None):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width or width, width)
        self.value = nn.Linear(context_width or width, width)
        self.out = nn.Linear(width, width)

    def keys_values(self, tokens: torch.Tensor) -> KeysValues:
        """Keys and values (B, heads, L, width / heads) of tokens (B, L, context_width)."""
        return self._split(self.key(tokens)), self._split(self.value(tokens))

    def forward(self, x: torch.Tensor, seen: KeysValues, key_mask: torch.Tensor | None = None) -> torch.Tensor:
        """`key_mask` (B, L) is True where a key may be seen; a row without any key attends to nothing and gives `out`'s
        bias."""
        query = self._split(self.query(x))
        if key_mask is None:
            attended = scaled_dot_product_attention(query, *seen)
        else:
            some = key_mask.any(-1, keepdim=True)
            # A softmax over no key is NaN, so a row without keys looks at all of them and is then set to zero.
            attended = scaled_dot_product_attention(query, *seen, attn_mask=(key_mask | ~some)[:, None, None])
            attended = attended * some[:, None, None]
        return self.out(attended.transpose(1, 2).flatten(-2))

    def _split(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), linear; four times as wide inside."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.gelu(self.inner(x), approximate="tanh")
        return self.dropout(self.outer(self.dropout(hidden)))


class Block(nn.Module):
    """Pre-norm attention and feed-forward, both residual.

    With `time_width` the first norm is scaled and shifted by an embedding of t (AdaLN) and neither norm has weights.
    With `context_width` the block attends to the keys and values of a context, otherwise to its own tokens.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        context_width: int | None = None,
        time_width: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        affine = time_width is None
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=affine)
        self.modulation = None if affine else nn.Linear(time_width, 2 * width)
        self.attention = Attention(width, heads, context_width)
        self.norm_feed_forward = nn.LayerNorm(width, elementwise_affine=affine)
        self.feed_forward = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        context: KeysValues | None = None,
        key_mask: torch.Tensor | None = None,
        time: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x (B, N, width); `time` (B or 1, time_width) is the embedding of t before its last SiLU."""
        normed = self.norm_attention(x)
        if self.modulation is not None:
            scale, shift = self.modulation(nn.functional.silu(time)).chunk(2, dim=-1)
            normed = normed * (1 + scale[:, None]) + shift[:, None]
        seen = self.attention.keys_values(normed) if context is None else context
        # N1.5 has two in series here: of its attention, and `final_dropout`.
        x = x + self.dropout(self.dropout(self.attention(normed, seen, key_mask)))
        return x + self.feed_forward(self.norm_feed_forward(x))


class SelfAttention(nn.Module):
    """A stack of self-attention blocks over (B, N, width)."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float = 0.0):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(layers))

    def forward(self, x: torch.Tensor, key_mask: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, key_mask=key_mask)
        return x


class TimeEmbedding(nn.Module):
    """Flow time as a whole number (B,) -> (B, width): 256 cosines and sines, linear, SiLU, linear."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Linear(_TIME_CHANNELS, width)
        self.outer = nn.Linear(width, width)

    def forward(self, bucket: torch.Tensor) -> torch.Tensor:
        half = _TIME_CHANNELS // 2
        rate = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half, device=bucket.device))
        angle = bucket[:, None].float() * rate
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.inner.weight.dtype)
        return self.outer(nn.functional.silu(self.inner(waves)))


class DiffusionTransformer(nn.Module):
    """The N1.5 DiT: AdaLN blocks, even ones attend to the context and odd ones to their own tokens."""

    def __init__(self, width: int, heads: int, layers: int, context_width: int, output_width: int, dropout: float):
        super().__init__()
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(
            Block(width, heads, context_width if i % 2 == 0 else None, width, dropout) for i in range(layers)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, output_width)

    def context_keys(self, context: torch.Tensor) -> list[KeysValues]:
        """Keys and values of a context (B, L, context_width) for every block that attends to it; they hold for every
        t."""
        return [block.attention.keys_values(context) for block in self.blocks[::2]]

    def forward(
        self,
        tokens: torch.Tensor,
        bucket: torch.Tensor,
        context: list[KeysValues],
        token_mask: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """tokens (B, N, width), bucket (B or 1,), `context_keys`, masks True where seen -> (B, N, output_width)."""
        time = self.time(bucket)
        for i, block in enumerate(self.blocks):
            if i % 2 == 0:
                tokens = block(tokens, context[i // 2], context_mask, time)
            else:
                tokens = block(tokens, None, token_mask, time)
        shift, scale = self.modulation(nn.functional.silu(time)).chunk(2, dim=-1)
        return self.project(self.norm(tokens) * (1 + scale[:, None]) + shift[:, None])
