"""EgoH4's training loss (arXiv 2504.08654, section 3.4, and what its code computes).

    joints: L1 over known joints, hand and body apart, observed and future apart; (hand + w body) / (1 + w)
    reprojection: L1 of the observed wrists in the picture, where they are 0.1 to 1.5 m away
    visibility: cross-entropy of "out of view", observed frames

The code means to balance visibility's two classes and does not: its means keep every element. What it computes is kept
here.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ...hand.skeleton import NUM_KEYPOINTS
from .network import BODY_JOINTS, JOINTS, EgoH4Network

_WRISTS = (BODY_JOINTS, BODY_JOINTS + NUM_KEYPOINTS)  # right, left


@dataclass(frozen=True)
class EgoH4Weights:
    """Published weights of the terms; adam is 1e-4 (0.9, 0.95) for a batch of 128 (scaled with it), 100 epochs."""

    body: float = 1.0
    reprojection: float = 0.05
    visibility: float = 0.1
    near: float = 0.1  # m
    far: float = 1.5  # m


@dataclass(frozen=True)
class EgoH4Batch:
    """What the loss compares with. F frames, T of them observed; sides [right, left] as the network has them.

    joints       (B, F, 171) in the network's units; known (B, F, 57) bool
    wrists       (B, T, 2, 2) in the picture, 0 to 1; wrists_known (B, T, 2) bool
    to_picture   (B, T, 3, 4) from canonical metres to homogeneous px of the picture
    picture_size px
    out_of_view  (B, T, 2): 1 out of view, 0 in view, anything between or NaN where not known
    """

    joints: torch.Tensor
    known: torch.Tensor
    wrists: torch.Tensor
    wrists_known: torch.Tensor
    to_picture: torch.Tensor
    out_of_view: torch.Tensor
    picture_size: float = 512.0


def egoh4_loss(
    network: EgoH4Network,
    joints: torch.Tensor,
    out_of_view: torch.Tensor,
    batch: EgoH4Batch,
    weights: EgoH4Weights = EgoH4Weights(),
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted sum of a forward pass's joints (B, F, 171) and logits (B, F, 2), and its parts by name."""
    observed = network.config.observed
    parts = joint_losses(joints, batch.joints, batch.known, observed)
    body, hand = parts["body_observed"] + parts["body_future"], parts["hand_observed"] + parts["hand_future"]
    seen = network.metres(joints[:, :observed])
    parts["reprojection"] = reprojection_loss(seen, batch, weights.near, weights.far)
    parts["visibility"] = visibility_loss(out_of_view[:, :observed], batch.out_of_view)
    total = (hand + weights.body * body) / (1.0 + weights.body)
    total = total + weights.reprojection * parts["reprojection"] + weights.visibility * parts["visibility"]
    return total, parts


def joint_losses(
    predicted: torch.Tensor, actual: torch.Tensor, known: torch.Tensor, observed: int
) -> dict[str, torch.Tensor]:
    """Mean L1 per coordinate over known joints, in the network's units; 0 for a part of which nothing is known."""
    error = (predicted - actual).abs().unflatten(-1, (JOINTS, 3))
    frames = {"observed": slice(None, observed), "future": slice(observed, None)}
    joints = {"body": slice(None, BODY_JOINTS), "hand": slice(BODY_JOINTS, None)}
    return {
        f"{part}_{when}": _mean(error[:, frames[when], joints[part]], known[:, frames[when], joints[part], None])
        for part in joints
        for when in frames
    }


def reprojection_loss(joints: torch.Tensor, batch: EgoH4Batch, near: float, far: float) -> torch.Tensor:
    """L1 of the wrists of joints (B, T, 171) m in the picture, as a share of its size; the mean over all wrists, those
    that are not counted as zero."""
    wrists = joints.unflatten(-1, (JOINTS, 3))[:, :, list(_WRISTS)]
    pixels = torch.einsum("btij,btkj->btki", batch.to_picture[..., :3], wrists) + batch.to_picture[:, :, None, :, 3]
    depth = pixels[..., 2]
    counted = batch.wrists_known & (depth >= near) & (depth <= far)
    # A wrist in the camera's plane has no place in the picture; it must not turn the gradient of the others into NaN.
    position = pixels[..., :2] / torch.where(counted, depth, 1.0)[..., None] / batch.picture_size
    error = torch.where(counted[..., None], (position - batch.wrists).abs(), 0.0)
    return error.mean()


def visibility_loss(logits: torch.Tensor, out_of_view: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits (B, T, 2), the mean over all, those without a label as zero."""
    labelled = (out_of_view > 0.95) | (out_of_view < 0.05)
    label = torch.where(out_of_view > 0.95, 1.0, 0.0).to(logits)
    loss = binary_cross_entropy_with_logits(logits, label, reduction="none")
    return torch.where(labelled, loss / (1.0 + 1e-6), 0.0).mean()


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    mask = mask.expand_as(values)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
