"""Where the task wants the hands: the words of an instruction, found in the picture, as points in space.

Two goals are looked for, the object that is meant and where it has to go, each as a map over the cells of the image and
one further place, "nowhere". A cell's point lies along its ray at a distance that the network tells from how the cell
looks, its direction, and where the wrists are. Cells, words and goals are trained with the labels of generated scenes;
the hands' expected correction is then moved by what the goals are in each hand's own frame, as far as they are found.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .config import GroundingConfig
from .sight import MAX_WORDS, WRISTS

GOALS = 2  # the object, its destination
# Of each goal in a hand's frame: direction and distance, how sure it is found, how spread its map is.
_GOAL_FEATURES = 3 + 3 + 1 + 1 + 1
_NEAR, _FAR = 0.1, 0.4  # m


@dataclass(frozen=True)
class Goals:
    """B windows. logits (B, GOALS, cells + 1), the last for "nowhere"; points (B, GOALS, 3) m in the sight's frame;
    found (B, GOALS) probability; spread (B, GOALS) m; told (B, words' summary)."""

    logits: torch.Tensor
    points: torch.Tensor
    found: torch.Tensor
    spread: torch.Tensor
    told: torch.Tensor


class Pointing(nn.Module):
    """Pictures and words to goals."""

    def __init__(self, config: GroundingConfig):
        super().__init__()
        self.config = config
        self.picture = _Picture(config.channels)
        self.words = _Words(len(config.words), config.word_width)
        told, inside = 2 * config.word_width, config.map_width
        self.cell = nn.Conv2d(config.channels[-1] + 3 + WRISTS, inside, 1)
        self.scale = nn.Linear(told, 2 * inside)
        self.mix = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(inside, inside, 3, padding=1),
            _norm(inside),
            nn.SiLU(),
            nn.Conv2d(inside, inside, 3, padding=1),
        )
        self.out = nn.Conv2d(inside, 2, 1)  # score, logarithm of the distance
        self.nowhere = nn.Linear(told, 1)
        self.away = nn.Sequential(nn.Linear(told, 64), nn.SiLU(), nn.Linear(64, 3))

    def find(self, images: torch.Tensor, rays: torch.Tensor, words: torch.Tensor, wrists: torch.Tensor) -> Goals:
        """images (B, H, W, 3) uint8, rays (B, h, w, 3), words (B, MAX_WORDS), wrists (B, WRISTS): see `Sight`."""
        batch = len(images)
        seen = self.picture(images.permute(0, 3, 1, 2).float() / 127.5 - 1.0)
        rays = rays.permute(0, 3, 1, 2)
        around = wrists[:, :, None, None].expand(-1, -1, *seen.shape[-2:])
        cells = self.cell(torch.cat([seen, rays, around], dim=1))
        told = self.words(words)  # (B, GOALS, told)
        gain, shift = self.scale(told)[..., None, None].chunk(2, dim=2)
        asked = (cells[:, None] * (1.0 + gain) + shift).flatten(0, 1)
        score, far = self.out(asked + self.mix(asked)).float().unflatten(0, (batch, GOALS)).flatten(-2).unbind(2)
        logits = torch.cat([score, self.nowhere(told).float()], dim=-1)
        share = logits.softmax(-1)
        found = 1.0 - share[..., -1]
        inside = share[..., :-1] / found[..., None].clamp(min=1e-4)
        reach = (far.clamp(-2.0, 2.0).exp() * 0.7)[..., None] * rays.float().flatten(-2).transpose(1, 2)[:, None]
        points = (inside[..., None] * reach).sum(-2)
        spread = (inside * (reach - points[..., None, :].detach()).square().sum(-1)).sum(-1).add(1e-6).sqrt()
        # An object is where it is seen; a destination is told from another thing, as "to the left of the cup".
        offset = torch.stack([torch.zeros_like(points[:, 0]), 0.2 * self.away(told[:, 1]).float()], dim=1)
        return Goals(logits, points + offset, found, spread, told)


class Grounding(Pointing):
    """As `Pointing`, and goals to a change of what was understood of the hands (`move`)."""

    def __init__(self, config: GroundingConfig, width: int):
        super().__init__(config)
        told = 2 * config.word_width
        self.move_in = nn.Linear(width + GOALS * _GOAL_FEATURES + GOALS * told, config.goal_width)
        self.move_inner = nn.Linear(config.goal_width, config.goal_width)
        self.move_out = nn.Linear(config.goal_width, width)
        nn.init.zeros_(self.move_out.weight)
        nn.init.zeros_(self.move_out.bias)

    def move(self, given: torch.Tensor, goals: Goals, rotation: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Change (N, width) of what was understood (N, width) of the hands; maps to their frames as of
        `Sight.hand_maps`. Nothing changes where no object is found."""
        points = goals.points.repeat_interleave(2, dim=0) @ rotation + offset[:, None]  # (N, GOALS, 3)
        found, spread = (part.repeat_interleave(2, dim=0)[..., None] for part in (goals.found, goals.spread))
        distance = points.square().sum(-1, keepdim=True).add(1e-6).sqrt()
        features = torch.cat(
            [points / _FAR, points / (distance + _NEAR), distance.log(), found, spread / _NEAR], dim=-1
        )
        features = torch.cat(
            [given, (features * found).flatten(1), goals.told.repeat_interleave(2, dim=0).flatten(1)], dim=-1
        )
        inner = nn.functional.silu(self.move_in(features))
        inner = inner + nn.functional.silu(self.move_inner(inner))
        return self.move_out(inner) * found[:, 0]


class _Picture(nn.Module):
    """(B, 3, H, W) to a map (B, C, H / CELL, W / CELL)."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        first, second, third = channels
        self.stem = nn.Sequential(_halve(3, first), _halve(first, second), _halve(second, third))
        self.blocks = nn.ModuleList(
            nn.Sequential(_norm(third), nn.SiLU(), nn.Conv2d(third, third, 3, padding=1)) for _ in range(3)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = x + block(x)
        return x


class _Words(nn.Module):
    """Words (B, L) to one summary (B, GOALS, 2 word width) for each goal: what of the sentence speaks of it."""

    def __init__(self, count: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(count + 1, width, padding_idx=0)
        self.position = nn.Parameter(0.02 * torch.randn(MAX_WORDS, width))
        self.around = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(2 * width, GOALS)
        self.out = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in range(GOALS))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        there = words > 0
        read, _ = self.around(self.embedding(words) + self.position * there[..., None])
        weight = self.attend(read).masked_fill(~there[..., None], -1e4).softmax(dim=1)  # (B, L, GOALS)
        summary = torch.einsum("blg,blc->bgc", weight, read)
        return torch.stack([nn.functional.silu(layer(summary[:, i])) for i, layer in enumerate(self.out)], dim=1)


def _halve(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), _norm(after), nn.SiLU())


def _norm(channels: int) -> nn.GroupNorm:
    # Not over the batch: a window's forecast must not depend on its neighbours, nor on statistics of the training run.
    return nn.GroupNorm(8, channels)
