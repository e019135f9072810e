"""EgoMAN's motion expert: 5 s of both wrists from noise, by flow matching (arXiv 2512.16907, section 4.3).

It is told where the wrists were, where they will be at three moments (waypoints, put at the step of their time), what
will be done (an embedding of words), and what the scene looks like. Equal to the authors' module, number by number.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import layer_norm

from ...geometry.minimum_jerk import minimum_jerk
from ..common.transformer import post_norm_encoder, sinusoids_of
from .config import CHANNELS, FUTURE, PAST, ExpertSizes

_CONDITION = 1  # the kind of the token of scene and act; all others are of kind 0
_LIMIT = 3.0  # of what the time does to a token
_LEAST = 3  # steps of a way to a waypoint
_OFF_PATH = (0.1,) * 3 + (0.3,) * 6  # m, and of rows of rotations: what a motion is off its path


@dataclass(frozen=True)
class Context:
    """What the expert goes by: tokens (B, L, width), and what is added to attention to each (B, L), or None."""

    tokens: torch.Tensor
    bias: torch.Tensor | None = None

    def repeat(self, count: int) -> "Context":
        """The same for `count` hypotheses of each, one after the other."""
        bias = None if self.bias is None else self.bias.repeat_interleave(count, 0)
        return Context(self.tokens.repeat_interleave(count, 0), bias)


class MotionExpert(nn.Module):
    """The velocity of flow matching. Motions are (B, S, 18), m and rows of rotations: left position and rotation, then
    right."""

    def __init__(self, sizes: ExpertSizes):
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.scene_in, self.act_in = nn.Linear(sizes.scene, sizes.told), nn.Linear(sizes.act, sizes.told)
        self.condition_in = nn.Linear(sizes.told, width)
        self.past_in, self.noisy_in = nn.Linear(CHANNELS, width), nn.Linear(CHANNELS, width)
        self.time_in = nn.Sequential(nn.Linear(sizes.time_width, width), nn.SiLU(), nn.Linear(width, 2 * width))
        nn.init.zeros_(self.time_in[-1].weight)
        nn.init.zeros_(self.time_in[-1].bias)
        self.position = nn.Embedding(PAST + FUTURE + 1, width)
        self.kind = nn.Embedding(3, width)
        shape = (width, sizes.heads)
        self.encoder = post_norm_encoder(*shape, sizes.encoder_layers, sizes.feed_forward, dropout=sizes.dropout)
        self.mixer = post_norm_encoder(*shape, sizes.mixer_layers, sizes.feed_forward, dropout=sizes.dropout)
        layer = nn.TransformerDecoderLayer(*shape, sizes.feed_forward, sizes.dropout, "gelu", batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, sizes.decoder_layers)
        self.context_norm, self.noisy_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.position_out, self.rotation_out = nn.Linear(width, 6), nn.Linear(width, 12)

    def condition(self, scene: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        """The token (B, width) of what is seen (B, scene) and what will be done (B, act)."""
        return self.condition_in(self.scene_in(scene) + self.act_in(act))

    def context(
        self,
        condition: torch.Tensor,
        past: torch.Tensor,
        waypoints: torch.Tensor | None = None,
        steps: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> Context:
        """condition (B, width); past (B, 5, 18), oldest first; waypoints (B, 3, 18) at `steps` (B, 3) of the future,
        or None for the expert alone. bias (B, L) as of `Context`."""
        batch, device = len(past), past.device
        places = torch.arange(PAST, device=device).expand(batch, PAST)
        if waypoints is not None and steps is not None:
            past = torch.cat([past, waypoints], dim=1)
            places = torch.cat([places, steps.long() + PAST], dim=1)
        told = self.past_in(past) + self.position(places) + self.kind.weight[0]
        tokens = torch.cat([(condition + self.kind.weight[_CONDITION])[:, None], told], dim=1)
        return Context(self.encoder(self.context_norm(tokens), src_key_padding_mask=bias), bias)

    def velocity(
        self, noisy: torch.Tensor, time: torch.Tensor, context: Context, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """data - noise (B, S, 18) of a noisy motion (B, S, 18) at times (B,), 0 noise to 1 data."""
        table = sinusoids_of(time, self.sizes.time_width)
        scale, shift = self.time_in(table)[:, None].clamp(-_LIMIT, _LIMIT).chunk(2, dim=-1)
        tokens = self.noisy_in(noisy)
        tokens = layer_norm(tokens, tokens.shape[-1:]) * (1.0 + scale) + shift
        places = torch.arange(noisy.shape[1], device=noisy.device) + PAST
        tokens = self.noisy_norm(tokens + self.position(places) + self.kind.weight[0])
        tokens = tokens + self.mixer(tokens, src_key_padding_mask=bias)
        told = self.decoder(tokens, context.tokens, tgt_key_padding_mask=bias, memory_key_padding_mask=context.bias)
        return join(self.position_out(told).unflatten(-1, (2, 3)), self.rotation_out(told).unflatten(-1, (2, 6)))

    def sample(self, context: Context, noise: torch.Tensor, steps: int) -> torch.Tensor:
        """Motions (B, S, 18) from noise of that shape, by `steps` Euler steps whose velocity is that at their
        middle's time."""
        motion = noise
        for i in range(steps):
            time = torch.full((len(noise),), (i + 0.5) / steps, device=noise.device)
            motion = motion + self.velocity(motion, time, context) / steps
        return motion


def path_through(now: torch.Tensor, waypoints: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """The motion (B, 50, 18) from `now` (B, 18) through contact to end of waypoints (B, 3, 18) at their steps (B, 3),
    each way as smooth as can be (minimum jerk; Flash and Hogan 1985) and from rest to rest; then it stays. A way takes
    0.3 s at least: waypoints may be told at the same step, and apart."""
    times = torch.arange(FUTURE, device=now.device).to(now)
    touch, end = (steps[:, i, None].to(now) for i in (1, 2))
    share = lambda begun, lasts: minimum_jerk((times - begun) / lasts.clamp(min=_LEAST))[..., None]  # noqa: E731
    contact = waypoints[:, 1]
    there = (contact - now)[:, None] * share(torch.zeros_like(touch), touch)
    return now[:, None] + there + (waypoints[:, 2] - contact)[:, None] * share(touch, end - touch)


def off_path(motion: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    """How far a motion (..., 18) is off a path, in its typical size, which is ours."""
    return (motion - path) / _typical(motion)


def on_path(away: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    """The way back of `off_path`."""
    return path + away * _typical(away)


def _typical(motion: torch.Tensor) -> torch.Tensor:
    return motion.new_tensor(_OFF_PATH).repeat(2)


def join(position: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Positions (..., 2, 3) m and rotations (..., 2, 6) of both hands as the expert has them, (..., 18)."""
    return torch.cat([position, rotation], dim=-1).flatten(-2)


def part(motion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The way back of `join`: positions (..., 2, 3) and rotations (..., 2, 6), sides [left, right]."""
    hands = motion.unflatten(-1, (2, CHANNELS // 2))
    return hands[..., :3], hands[..., 3:]
