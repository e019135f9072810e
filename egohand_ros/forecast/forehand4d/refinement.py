"""ForeHand4D's optional refinement of a lifted motion: MANO parameters moved until they agree with the 2D (and 3D)
keypoints.

Adam at 1e-2, at most 1000 steps, gradients clipped to a norm of 1, as the authors impute labels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...hand.mano_layer import ManoLayer
from .conditioning import IMAGE_SIZE
from .objective import project
from .state import HandMotion, geometry_of, motion_from_pose


@dataclass(frozen=True)
class Refinement:
    """`keypoints_weight` counts with 3D keypoints (`pixels_weight` then is the published 0.1); without them it is 2D
    alone."""

    iterations: int = 1000
    rate: float = 1e-2
    enough: float = 1e-4
    clip: float = 1.0
    keypoints_weight: float = 1.0
    pixels_weight: float = 0.1


@dataclass(frozen=True)
class Seen:
    """What the motion shall agree with. Sides [left, right].

    pixels (B, T, 2, 21, 2) px of the 224 px image and valid (B, T, 2, 21) bool; camera_current (B, T, 4, 4)
    T_camera_current;
    intrinsics (B, 3, 3); keypoints (B, T, 2, 21, 3) m, each in its own frame's camera, or None.
    """

    pixels: torch.Tensor
    valid: torch.Tensor
    camera_current: torch.Tensor
    intrinsics: torch.Tensor
    keypoints: torch.Tensor | None = None


def refine(
    motion: HandMotion,
    seen: Seen,
    mano: dict[str, ManoLayer],
    betas: torch.Tensor | None = None,
    settings: Refinement = Refinement(),
    progress: Callable[[int, float], None] | None = None,
) -> tuple[HandMotion, float]:
    """The refined motion (B, T, 2, …) and the loss it ended with; `progress` is told step and loss.

    A motion whose loss is not a number stays what it was before that step.
    """
    pose = motion.pose.detach().clone().requires_grad_()
    translation = motion.translation.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([pose, translation], lr=settings.rate)
    kept, last = (pose.detach().clone(), translation.detach().clone()), float("nan")
    for step in range(settings.iterations):
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = agreement(pose, translation, seen, mano, betas, settings)
        if not torch.isfinite(loss):
            break
        kept, last = (pose.detach().clone(), translation.detach().clone()), float(loss.detach())
        if progress is not None:
            progress(step, last)
        if last < settings.enough or step == settings.iterations - 1:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_([pose, translation], settings.clip)
        optimiser.step()
    return motion_from_pose(*kept), last


def agreement(
    pose: torch.Tensor,
    translation: torch.Tensor,
    seen: Seen,
    mano: dict[str, ManoLayer],
    betas: torch.Tensor | None = None,
    settings: Refinement = Refinement(),
) -> torch.Tensor:
    """The loss: squared error of pixels in [-1, 1] (clipped to the image) and of 3D keypoints, means over valid
    ones."""
    keypoints = geometry_of(pose, translation, mano, betas).keypoints
    predicted, actual = (
        (2.0 * pixels / IMAGE_SIZE - 1.0).clamp(-1.0, 1.0)
        for pixels in (project(keypoints, seen.camera_current, seen.intrinsics), seen.pixels)
    )
    pixels = _mean((predicted - actual).square(), seen.valid)
    if seen.keypoints is None:
        return pixels
    there = torch.einsum("btij,btskj->btski", seen.camera_current[..., :3, :3], keypoints)
    there = there + seen.camera_current[:, :, None, None, :3, 3]
    points = _mean((there - seen.keypoints).square(), seen.valid)
    return settings.keypoints_weight * points + settings.pixels_weight * pixels


def _mean(error: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Over valid (B, T, 2, 21) keypoints of error (B, T, 2, 21, n), a side at a time; the two are added."""
    mask = valid[..., None].expand_as(error)
    error = torch.where(mask, error, 0.0)
    return sum(error[:, :, side].sum() / (mask[:, :, side].sum() + 1e-8) for side in range(2))
