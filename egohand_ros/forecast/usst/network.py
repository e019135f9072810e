"""USST's network (Bao et al., ICCV 2023; code: oppo-us-research/USST, Apache-2.0): where a hand's point will be, and
how surely.

Observed images and points are encoded apart; a state-space transformer then goes through all frames one by one, each
with a latent of its own, of which the mean is taken (the published code does not draw it).
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, softplus

from ..common.transformer import drop_path, sinusoids
from .config import USSTConfig
from .frames import FrameEmbedding

_FEED_FORWARD = 4  # times the width


@dataclass(frozen=True)
class USSTOutput:
    """For all T frames; those from `observed` on are the forecast. Units as the input's points.

    points       (B, T, 3) in -1 to 1 (tanh)
    log_variance (B, T, 2): of x and y, of depth; never negative (softplus)
    velocity     (B, T, 3) from the frame before, learned on features that it does not change
    """

    points: torch.Tensor
    log_variance: torch.Tensor
    velocity: torch.Tensor


class USSTNetwork(nn.Module):
    """Observed images and points -> points of all frames, their uncertainty and velocity. See `inputs.py` for the
    units."""

    def __init__(self, config: USSTConfig = USSTConfig()):
        super().__init__()
        self.config = config
        width, half = config.width, config.width // 2
        self.frames = FrameEmbedding(width, config.image_size, config.backbone)
        self.point_in = nn.Sequential(nn.Linear(3, half), nn.GELU(), nn.Linear(half, width))
        self.image_encoder, self.point_encoder = _Encoder(config), _Encoder(config)
        self.transition = _Transition(config)
        self.point_out = nn.Sequential(nn.Linear(width, half), nn.GELU(), nn.Linear(half, 3), nn.Tanh())
        self.variance_out = nn.Sequential(nn.Linear(width, half, bias=False), nn.GELU(), nn.Linear(half, 2, bias=False))
        self.velocity_out = nn.Sequential(
            nn.Linear(width, half), nn.LayerNorm(half), nn.GELU(), nn.Linear(half, 3), nn.LayerNorm(3), nn.Tanh()
        )

    def forward(self, images: torch.Tensor, points: torch.Tensor, observed: torch.Tensor) -> USSTOutput:
        """images (B, T, 3, H, H) in -1 to 1, points (B, T, 3), observed (B,): how many of the frames are seen.

        What is in `images` and `points` from there on is not looked at.
        """
        seen = torch.arange(images.shape[1], device=images.device) < observed[:, None]  # (B, T)
        images = images * seen[..., None, None, None]
        pictures = self.frames(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        pictures = self.image_encoder(pictures, seen)
        path = self.point_encoder(self.point_in(points * seen[..., None]), seen)
        features = self.transition(pictures, path, seen)
        return USSTOutput(
            self.point_out(features), softplus(self.variance_out(features)), self.velocity_out(features.detach())
        )


class _Attention(nn.Module):
    """Queries (B, Q, width) to keys (B, K, width), of which those in `seen` (B, K) may be looked at."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        return self.attend(queries, self.told(keys), seen)

    def told(self, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, heads, K, width / heads), for `attend`, which may look at them many times."""
        return self._split(self.key(keys)), self._split(self.value(keys))

    def attend(
        self, queries: torch.Tensor, told: tuple[torch.Tensor, torch.Tensor], seen: torch.Tensor
    ) -> torch.Tensor:
        """As `forward`, by what `told` made of the keys."""
        dropout = self.dropout if self.training else 0.0
        queries = self._split(self.query(queries))
        attended = scaled_dot_product_attention(queries, *told, attn_mask=seen[:, None, None], dropout_p=dropout)
        return self.out(attended.transpose(1, 2).flatten(-2))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Encoder(nn.Module):
    """Pre-norm self-attention over time, only to frames that are seen."""

    def __init__(self, config: USSTConfig):
        super().__init__()
        rates = [config.drop_path * i / max(config.layers - 1, 1) for i in range(config.layers)]
        self.blocks = nn.ModuleList(_Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("positions", sinusoids(config.frames, config.width, torch.float32), persistent=False)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x)


class _Block(nn.Module):
    def __init__(self, config: USSTConfig, drop_path: float):
        super().__init__()
        width, self.drop_path = config.width, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, config.heads, config.dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, _FEED_FORWARD * width), nn.GELU(), nn.Linear(_FEED_FORWARD * width, width)
        )

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(x)
        x = x + drop_path(self.attention(normed, normed, seen), self.drop_path, self.training)
        return x + drop_path(self.feed_forward(self.norm2(x)), self.drop_path, self.training)


class _Transition(nn.Module):
    """The state-space model: state w_t from w of the frames before, and from the observations (paper, equations 3 to
    6)."""

    def __init__(self, config: USSTConfig):
        super().__init__()
        hidden, half, width = config.hidden, config.hidden // 2, config.width
        self.observe = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.observe_norm = nn.LayerNorm(hidden)
        self.to_states = _Attention(half, config.heads, config.dropout)
        self.to_states_norm = nn.LayerNorm(hidden)
        self.to_observed = _Attention(hidden, config.heads, config.dropout)
        self.to_observed_norm = nn.LayerNorm(2 * hidden)
        self.prior = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.prior_mean = nn.Linear(hidden, config.latent)
        self.state = nn.Sequential(nn.Linear(2 * hidden + config.latent, hidden), nn.ReLU(), nn.Linear(hidden, half))
        self.state_norm = nn.LayerNorm(half)
        self.emit = nn.Sequential(nn.Linear(half + width, width), nn.ReLU(), nn.Linear(width, width))
        self.register_buffer("observe_positions", sinusoids(config.frames, hidden, torch.float32), persistent=False)
        self.register_buffer("state_positions", sinusoids(config.frames, half, torch.float32), persistent=False)

    def forward(self, pictures: torch.Tensor, path: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Features (B, T, width) of all frames from those of images and points (B, T, width)."""
        batch, frames = seen.shape
        observed = self.observe(torch.cat([pictures, path], dim=-1)) + self.observe_positions[:frames]
        observed = self.observe_norm(observed)
        state = observed.new_zeros(batch, 1, self.state_positions.shape[1])
        states, past_told, observed_told = [], self.to_states.told(state), self.to_observed.told(observed)
        for t in range(frames):
            # Of the states before, those of frames that are not seen are hidden too, but for the step from one to the
            # next.
            past = self.to_states.attend(state, past_told, seen[:, : t + 1])
            own = self.to_states_norm(torch.cat([state, past], dim=-1))
            own = self.to_observed_norm(torch.cat([own, self.to_observed.attend(own, observed_told, seen)], dim=-1))
            latent = self.prior_mean(self.prior(own))
            state = self.state_norm(self.state(torch.cat([own, latent], dim=-1)) + self.state_positions[t])
            states.append(state)
            past_told = tuple(torch.cat(pair, dim=2) for pair in zip(past_told, self.to_states.told(state)))
        before = torch.cat([torch.zeros_like(path[:, :1]), path[:, :-1]], dim=1)
        return self.emit(torch.cat([torch.cat(states, dim=1), before], dim=-1))
