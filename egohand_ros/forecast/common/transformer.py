"""The post-norm transformer of the public systems (Vaswani et al. 2017), their sine-cosine tables, stochastic depth.

It is torch's own encoder, so its parameters have the names of the published checkpoints of ForeHand4D and EgoMAN;
EgoH4's layers compute the same under other names, which its key map turns into these.
"""

import math

import torch
from torch import nn


def post_norm_encoder(
    width: int,
    heads: int,
    layers: int,
    feed_forward: int,
    activation: str = "gelu",
    dropout: float = 0.1,
    inner_dropout: bool = True,
) -> nn.TransformerEncoder:
    """Self-attention over (B, N, width) -> (B, N, width): `layers` of attention and feed-forward, normed after each
    sum.

    `inner_dropout` drops between the two linear maps of the feed-forward as well (torch does, EgoH4 does not).
    """
    layer = nn.TransformerEncoderLayer(
        width, heads, feed_forward, dropout, activation, batch_first=True, norm_first=False
    )
    encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    if not inner_dropout:
        for layer in encoder.layers:
            layer.dropout.p = 0.0
    return encoder


def sinusoids(positions: int, width: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """(positions, width) float32: sine in even, cosine in odd columns, wavelengths 2 pi to 20000 pi.

    `dtype` is what the angles are worked out in: MDM's and ForeHand4D's were in float32, which is 6e-5 off at position
    1000.
    """
    position = torch.arange(positions, dtype=dtype)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=dtype) * (-math.log(10000.0) / width))
    table = torch.zeros(positions, width)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate[: width // 2])
    return table


def sinusoids_of(time: torch.Tensor, width: int) -> torch.Tensor:
    """Times (B,) -> (B, width) float32: the sines of all wavelengths, then the cosines; the longest is 20000 pi."""
    half = width // 2
    rate = torch.exp(torch.arange(half, device=time.device) * (-math.log(10000.0) / (half - 1)))
    angle = time[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def drop_path(branch: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """A residual branch (B, ...) that is left out of each sample with the chance `rate` in training, and scaled up
    else."""
    if not training or rate == 0.0:
        return branch
    kept = torch.rand(len(branch), *(1,) * (branch.dim() - 1), device=branch.device) >= rate
    return branch * kept / (1.0 - rate)
