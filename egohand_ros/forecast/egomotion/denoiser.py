"""Latents of a motion out of noise, told what the language model thinks of each primitive, and where hands were."""

import torch
from torch import nn

from ..common.transformer import sinusoids_of
from .config import DenoiserSizes


class Denoiser(nn.Module):
    """A transformer that attends to its condition in every layer (pre-norm). Latents are (B, N, L); a condition is
    tokens (B, C, width), made by `told`."""

    def __init__(self, sizes: DenoiserSizes, latent: int, primitives: int, state: int, past: int, observed: int):
        super().__init__()
        width = sizes.width
        self.width = width
        self.latent_in, self.latent_out = nn.Linear(latent, width), nn.Linear(width, latent)
        self.state_in = nn.Sequential(nn.LayerNorm(state), nn.Linear(state, width))
        self.past_in = nn.Sequential(nn.Linear(past, width), nn.GELU(), nn.Linear(width, width))
        self.time_in = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.place = nn.Parameter(0.02 * torch.randn(primitives, width))
        self.told_place = nn.Parameter(0.02 * torch.randn(primitives + observed, width))
        layer = nn.TransformerDecoderLayer(
            width, sizes.heads, sizes.feed_forward, sizes.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, sizes.layers, nn.LayerNorm(width))

    def told(self, states: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """The condition of states (B, N, state) of primitives and past observations (B, T, features)."""
        return torch.cat([self.state_in(states), self.past_in(past)], dim=1) + self.told_place

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Clean latents (B, N, L) as they are thought to be, of noisy ones at times (B,)."""
        moment = self.time_in(sinusoids_of(time, self.width).to(noisy))[:, None]
        rows = self.latent_in(noisy) + self.place + moment
        return self.latent_out(self.layers(rows, torch.cat([condition, moment], dim=1)))
