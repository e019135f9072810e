"""Losses of the three stages; all weights are ours, as the paper's are not public.

tokenizer: L1 of way, turn and fingers alike, of what is rebuilt from primitives and of what is rebuilt from latents,
    beside it that of their change from step to step; commitment to the codes; divergence of the latents
reasoning: cross-entropy of the primitives, mean over the codebooks
generation: squared error of clean latents
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from .config import SIDE_CHANNELS
from .tokenizer import PARTS


@dataclass(frozen=True)
class EgoMotionWeights:
    """Weights of the terms."""

    change: float = 0.5
    commitment: float = 0.02
    divergence: float = 1e-4
    reasoning: float = 1.0
    generation: float = 1.0


def motion_loss(found: torch.Tensor, actual: torch.Tensor, known: torch.Tensor, change: float) -> torch.Tensor:
    """L1 of motions (B, S, 138), in units of their deviation, where they are known; way, turn and fingers count
    alike."""
    total = _parts(found - actual, known)
    both = known[:, 1:] & known[:, :-1]
    return total + change * _parts((found - actual).diff(dim=1), both)


def reasoning_loss(logits: torch.Tensor, codes: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of logits (B, N, Q, K) for codes (B, N, Q), where a primitive is known (B, N): the loss, and how often the
    likeliest code of the first book is the right one."""
    kept = known[..., None].expand_as(codes)
    if not kept.any():
        return logits.sum() * 0.0, logits.new_zeros(())
    loss = cross_entropy(logits[kept].float(), codes[kept])
    hit = (logits[..., 0, :].argmax(-1) == codes[..., 0])[known].float().mean()
    return loss, hit


def generation_loss(found: torch.Tensor, latent: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Squared error of latents (B, N, L) where a primitive is known (B, N)."""
    kept = known[..., None].expand_as(latent)
    return torch.where(kept, found.float() - latent, 0.0).square().sum() / kept.sum().clamp(min=1)


def _parts(error: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    errors = error.unflatten(-1, (2, SIDE_CHANNELS)).split(PARTS, dim=-1)
    masks = known.unflatten(-1, (2, SIDE_CHANNELS)).split(PARTS, dim=-1)
    terms = [
        torch.where(mask, part.abs(), 0.0).sum() / mask.sum().clamp(min=1)
        for part, mask in zip(errors, masks, strict=True)
    ]
    return sum(terms) / len(terms)
