"""USST's training loss (ICCV 2023, section 3.4, and its code): points with uncertainty, velocity, and points by
velocity.

Each sample's mean over its frames, then the mean over samples, times 1000. The Huber loss has its bend at 1e-5, so it
is an absolute error times 1e-5; with log-variances that are never negative, the uncertainty can only take weight away.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import huber_loss

from .network import USSTOutput


@dataclass(frozen=True)
class USSTWeights:
    """Published numbers: bend of the Huber loss, weights of velocity and warp, temperature of the depth's weights,
    scale.

    Two are ours, for ablations: without `likelihood` no error is weighed by the uncertainty; and Huber losses are
    divided by `unit`, which makes what is as large as that worth 1 beside the log-variance.
    """

    bend: float = 1e-5
    velocity: float = 10.0
    warp: float = 1.0
    depth_temperature: float = 0.1
    scale: float = 1000.0
    likelihood: bool = True
    unit: float = 1.0


def usst_loss(
    output: USSTOutput,
    points: torch.Tensor,
    observed: torch.Tensor,
    frames: torch.Tensor,
    weights: USSTWeights = USSTWeights(),
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a pass, and its parts by name, all times the scale.

    points (B, T, 3) in the network's units; observed (B,) of `frames` (B,) frames are seen, at least one of either
    kind.
    """
    index = torch.arange(points.shape[1], device=points.device)
    seen = index < observed[:, None]
    ahead = (index >= observed[:, None]) & (index < frames[:, None])

    def huber(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return huber_loss(value, target, reduction="none", delta=weights.bend) / weights.unit

    step = points.diff(
        dim=1, prepend=torch.zeros_like(points[:, :1])
    )  # the first one counts from the middle of the picture
    error = huber(output.points, points)
    if weights.likelihood:
        error = _uncertain(error, output.log_variance)
    error = torch.cat(
        [error[..., :2], error[..., 2:] * _depth_weights(points[..., 2], frames, weights)[..., None]], dim=-1
    )
    speed = weights.velocity * huber(output.velocity, step)
    last = points.gather(1, (observed - 1)[:, None, None].expand(-1, 1, 3))
    warped = last + torch.where(ahead[..., None], output.velocity, 0.0).cumsum(dim=1)
    warp = weights.warp * huber(warped, output.points)
    parts = {
        "future": _mean(error, ahead),
        "observed": _mean(error, seen),
        "future_velocity": _mean(speed, ahead),
        "observed_velocity": _mean(speed, seen),
        "warp": _mean(warp, ahead),
    }
    parts = {name: part * weights.scale for name, part in parts.items()}
    return sum(parts.values()), parts


def _uncertain(error: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """exp(-s) error + s; x and y have one s, depth has another."""
    s = log_variance[..., [0, 0, 1]]
    return torch.exp(-s) * error + s


def _depth_weights(depth: torch.Tensor, frames: torch.Tensor, weights: USSTWeights) -> torch.Tensor:
    """(B, T): frames at which the depth (B, T) jumps count less; they add up to the number of frames."""
    jump = depth.diff(dim=1, prepend=depth[:, :1]).abs()
    valid = torch.arange(depth.shape[1], device=depth.device) < frames[:, None]
    logits = torch.where(valid, -jump / weights.depth_temperature, -torch.inf)
    return frames[:, None] * torch.softmax(logits, dim=-1)


def _mean(error: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The sum over axes, the mean over each sample's frames in the mask, the mean over samples."""
    total = torch.where(mask, error.sum(-1), 0.0).sum(-1) / mask.sum(-1).clamp(min=1)
    return total.mean()
