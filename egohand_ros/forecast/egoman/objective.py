"""EgoMAN's training losses (arXiv 2512.16907, section 4, and what its code computes). NaN in a target is not known.

answer: cross-entropy of the answer's tokens
waypoints x 0.3 each: Huber of time, position, pixel and rotation, weighed down where the time is off; geodesic angle
act x 0.1: one minus the cosine below 10 samples, else InfoNCE
motion: squared error of the velocity, positions x 1, rotations x 0.5
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize, smooth_l1_loss

from ...geometry.rotations import matrix_from_sixd
from .config import SPAN, STEP
from .expert import part
from .heads import Moment, SemanticAligner

PICTURE = 1408.0  # px, of what pixels of waypoints are told in
_ENOUGH = 10  # samples for a contrast between them
_REACH, _DELAY, _AROUND = 0.07, 5, 5  # m, steps, steps


@dataclass(frozen=True)
class EgoMANWeights:
    """Published weights of the terms; ours are `bend`, where the Huber loss of time turns into a distance, in units of
    4.5 s; of a network with a grounding, which hand acts (cross-entropy), and what is missed of the grounding's cells
    and points (m), 0: it stays as it is."""

    answer: float = 1.0
    waypoint: float = 0.3
    act: float = 0.1
    motion: float = 1.0
    rotation: float = 0.5
    bend: float = 3.0
    side: float = 0.3
    goal_cell: float = 0.0
    goal_point: float = 0.0


def waypoint_loss(found: Moment, known: Moment, bend: float = EgoMANWeights.bend) -> torch.Tensor:
    """How far moments (N, ...) are from what is known of them, NaN where nothing is.

    Time is compared in units of 4.5 s with a bend of 3, so it is a square; and what it weighs other terms by is close
    to 1. Both are as published.
    """
    apart = torch.where(known.time.isnan(), 0.0, found.time - known.time.nan_to_num()).abs()
    timed = ~known.time.isnan()
    weight = torch.exp(-0.5 * (apart / 3.0) ** 2) * timed if timed.any() else torch.ones_like(found.time)
    total = _huber(found.time, known.time, bend, torch.ones_like(weight))
    total = total + 2.0 * _huber(found.position, known.position, 0.07, weight[..., None])
    total = total + 0.5 * _huber(found.pixel / PICTURE, known.pixel / PICTURE, 0.02, weight[..., None])
    total = total + 0.5 * _huber(found.rotation, known.rotation, 0.2, weight[..., None])
    return total + 0.15 * _angle(found.rotation, known.rotation)


def act_loss(found: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Unit vectors (N, act) against embeddings of phrases, NaN rows left out; nothing where there are none."""
    told = known.isfinite().all(-1)
    found, known = found[told], normalize(known[told], dim=-1)
    if not len(found):
        return found.sum() * 0.0
    if len(found) < _ENOUGH:
        return 1.0 - cosine_similarity(found, known, dim=-1).mean()
    return cross_entropy(found @ known.T / SemanticAligner.temperature, torch.arange(len(found), device=found.device))


def motion_loss(
    found: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, rotation: float = EgoMANWeights.rotation
) -> torch.Tensor:
    """Velocities (B, S, 18) against data - noise, over the steps that are valid (B, S)."""
    total = found.new_zeros(())
    for weight, ours, theirs in zip((1.0, rotation), part(found), part(target), strict=True):
        kept = valid[..., None, None].expand_as(ours)
        total = total + weight * torch.where(kept, ours - theirs, 0.0).square().sum() / kept.sum().clamp(min=1)
    return total


def eased(thought: tuple[Moment, ...], future: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Waypoints (B, 3, 18) and their steps (B, 3), of moments start, contact, end, for training the motion expert.

    Where no contact and end of a hand in the whole batch come near its real motion (B, S, 18), they are put at most
    7 cm and 5 steps off that: an expert that is shown nothing but wrong waypoints learns to pay them no attention.
    """
    places, turns = zip(*(part(moment.motion) for moment in thought), strict=True)
    places, steps = [place.clone() for place in places], [moment.step.clone() for moment in thought]
    steps[0] = torch.zeros_like(steps[0])
    truth = part(future)[0]
    for side in range(2):
        near = [_near(places[i][:, side], steps[i], truth[:, :, side]) for i in (1, 2)]
        if not (near[0] & near[1]).any():
            # Both are told by the same times, so the second hand is moved from where the first one's were put.
            for i in (1, 2):
                places[i][:, side], steps[i] = _pulled(places[i][:, side], steps[i], truth[:, :, side])
    joined = torch.stack([torch.cat([p, t], -1).flatten(-2) for p, t in zip(places, turns, strict=True)], dim=1)
    return joined, torch.stack(steps, dim=1).round().long().clamp(0, round(SPAN / STEP) + 9)


def _near(place: torch.Tensor, step: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(B,) whether waypoints (B, 3) at steps (B,) are within reach of a motion (B, S, 3) around their time."""
    times = torch.arange(truth.shape[1], device=truth.device)
    around = (times - step[:, None].clamp(0, truth.shape[1] - 1)).abs() <= _AROUND
    distance = torch.where(around, (truth - place[:, None]).norm(dim=-1), torch.inf)
    least, at = distance.min(-1)
    return (least <= _REACH) & ((step - at).abs() <= _DELAY)


def _pulled(place: torch.Tensor, step: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Waypoints and steps, put as near to themselves as they may be off the most fitting point of the motion."""
    far = (truth - place[:, None]).norm(dim=-1)
    late = (torch.arange(truth.shape[1], device=truth.device) - step[:, None]).abs().to(far)
    score = far / far.amax(-1, keepdim=True).clamp(min=1e-6) + 0.1 * late / late.amax(-1, keepdim=True).clamp(min=1e-6)
    at = score.argmin(-1)
    nearest = truth[torch.arange(len(truth), device=truth.device), at]
    away = place - nearest
    length = away.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    return nearest + away / length * length.clamp(max=_REACH), at + (step - at).clamp(-_DELAY, _DELAY)


def _huber(found: torch.Tensor, known: torch.Tensor, bend: float, weight: torch.Tensor) -> torch.Tensor:
    mask = torch.where(known.isnan(), 0.0, weight.expand_as(found))
    loss = smooth_l1_loss(found, known.nan_to_num(), beta=bend, reduction="none")
    return (loss * mask).sum() / mask.sum().clamp(min=1.0)


def _angle(found: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean angle rad between rotations (..., 6) by rows; the derivative stays finite where they agree."""
    told = known.isfinite().all(-1)
    same = known.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    actual = matrix_from_sixd(torch.where(told[..., None], known, same), rows=True)
    apart = actual.mT @ matrix_from_sixd(found, rows=True)
    cosine = (0.5 * (apart.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0)).clamp(-1.0 + 1e-6, 1.0 - 1e-6)
    skew = apart - apart.mT
    sine = 0.5 * torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1).norm(dim=-1) + 1e-8
    angle = torch.where(told, torch.atan2(sine, cosine), 0.0)
    return angle.sum() / told.sum().clamp(min=1e-8)
