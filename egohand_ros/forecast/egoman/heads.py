"""What stands between EgoMAN's language model and wrists: past motion into tokens, and states of tokens into waypoints
and an act (arXiv 2512.16907, section 4.2). Equal to the authors' modules, number by number."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import normalize

from .config import CHANNELS, SPAN, STEP
from .expert import join


class PastEncoder(nn.Module):
    """One past pose of both wrists (..., 18), positions of both hands and then rotations of both, as a token
    (..., width) of the language model."""

    def __init__(self, width: int, inside: tuple[int, ...] = (256, 512)):
        super().__init__()
        first, second = inside
        self.proj = nn.Sequential(
            nn.Linear(CHANNELS, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, width),
            nn.ReLU(),
            nn.Linear(width, width),
        )
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        return self.layer_norm(self.proj(past))


@dataclass(frozen=True)
class Moment:
    """One moment of both hands, as the network has it, sides [left, right].

    time (..., 1), 1 is 4.5 s; position (..., 2, 3) m; pixel (..., 2, 2) px of Aria's 1408 px image; rotation
    (..., 2, 6), rows
    """

    time: torch.Tensor
    position: torch.Tensor
    pixel: torch.Tensor
    rotation: torch.Tensor

    @property
    def motion(self) -> torch.Tensor:
        """(..., 18) as the motion expert has it."""
        return join(self.position, self.rotation)

    @property
    def step(self) -> torch.Tensor:
        """(...) int64, the step of the future at which it is."""
        return (self.time[..., 0].clamp(0.0, 1.0) * SPAN / STEP).round().long()


def without_contact(moments: tuple[Moment, ...], absent: torch.Tensor) -> tuple[Moment, ...]:
    """Start, contact, end with the end in place of the contact, in rows (B,) where no contact is to come."""
    start, contact, end = moments
    return start, either(absent, end, contact), end


def either(which: torch.Tensor, one: Moment, other: Moment) -> Moment:
    """Of one in rows (B,) that are true, of the other elsewhere."""
    mask = lambda value: which.reshape(-1, *(1,) * (value.dim() - 1))  # noqa: E731
    return Moment(**{name: torch.where(mask(value), getattr(one, name), value) for name, value in vars(other).items()})


class WaypointHead(nn.Module):
    """The state of a token (..., width) -> a `Moment`."""

    def __init__(self, width: int, inside: int = 512):
        super().__init__()
        self.time, self.position = _perceptron(width, inside, 1), _perceptron(width, inside, 6)
        self.pixel, self.rotation = _perceptron(width, inside, 4), _perceptron(width, inside, 12)

    def forward(self, state: torch.Tensor) -> Moment:
        return Moment(
            self.time(state),
            self.position(state).unflatten(-1, (2, 3)),
            self.pixel(state).unflatten(-1, (2, 2)),
            self.rotation(state).unflatten(-1, (2, 6)),
        )


class SemanticAligner(nn.Module):
    """The state of the act's token (..., width) -> a unit vector (..., act) among embeddings of phrases."""

    temperature = 0.07

    def __init__(self, width: int, act: int = 768):
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(width, act), nn.LayerNorm(act))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return normalize(self.proj(state), dim=-1)


def _perceptron(width: int, inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, inside), nn.ReLU(), nn.Linear(inside, inside), nn.ReLU(), nn.Linear(inside, out)
    )
