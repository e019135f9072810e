"""ForeHand4D's training loss (arXiv 2510.06145, section 3, and its code): diffusion, MANO, keypoints, vertices, pixels.

Means are over what is valid: frames that are not padding, of hands and keypoints that are labelled. Each hand has its
own mean, and the two are added.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import smooth_l1_loss

from ...hand.skeleton import SIDES
from .conditioning import IMAGE_SIZE
from .state import CHANNELS, HandGeometry, HandMotion

_EPSILON = 1e-8
# Channels of the state by side [left, right]: global rotation, finger rotations, translation.
_BLOCKS = ((slice(96, 102), slice(102, 192), slice(195, 198)), (slice(0, 6), slice(6, 96), slice(192, 195)))
_LEAST_KEYPOINTS = 3  # a hand with fewer valid keypoints in a frame has no pose there
_LAST = 20  # the keypoint whose validity stands for all vertices


@dataclass(frozen=True)
class ForeHand4DWeights:
    """Published weights. `pixels` is for the lifter and for the second stage of the forecaster, 0 in its first one."""

    diffusion: float = 1.0
    pose: float = 1.0
    keypoints: float = 1.0
    vertices: float = 1.0
    translation: float = 0.01
    pixels: float = 0.0


@dataclass(frozen=True)
class ForeHand4DBatch:
    """What the loss compares with: B samples, T frames, sides [left, right], in the current camera's frame.

    state     (B, T, 198) in the network's units
    motion    its rotations and translations; geometry: their keypoints and vertices
    seen      (B, T) bool, False for padding
    valid     (B, T, 2, 21) bool, labelled keypoints
    hand      (B, 2) bool, hands that are valid in the image; keypoint (B, 2, 21) bool, their keypoints
    posed     (B,) bool, samples whose MANO rotations are known; located: translations; measured: 3D keypoints
    pixels    (B, T, 2, 21, 2) px of the 224 px image, with camera_current (B, T, 4, 4) and intrinsics (B, 3, 3) as
              the lifter
              has them; used where `pixels` has a weight
    """

    state: torch.Tensor
    motion: HandMotion
    geometry: HandGeometry
    seen: torch.Tensor
    valid: torch.Tensor
    hand: torch.Tensor
    keypoint: torch.Tensor
    posed: torch.Tensor
    located: torch.Tensor
    measured: torch.Tensor
    pixels: torch.Tensor | None = None
    camera_current: torch.Tensor | None = None
    intrinsics: torch.Tensor | None = None
    flat: torch.Tensor | None = None  # (B,) bool, samples whose pixels are labelled; all of them without


def forehand4d_loss(
    state: torch.Tensor,
    motion: HandMotion,
    geometry: HandGeometry,
    batch: ForeHand4DBatch,
    weights: ForeHand4DWeights = ForeHand4DWeights(),
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted sum for a forward pass's state (B, T, 198), its motion and geometry; and its parts by name.

    A regressor has no diffusion loss: give that a weight of 0.
    """
    frames = batch.seen[..., None] & (batch.valid.sum(-1) >= _LEAST_KEYPOINTS)  # (B, T, 2)
    points = batch.valid & batch.seen[..., None, None] & batch.keypoint[:, None]  # (B, T, 2, 21)
    surface = (frames & points[..., _LAST])[..., None]
    parts = {
        "diffusion": diffusion_loss(state, batch),
        "pose": _mean((motion.rotations - batch.motion.rotations).square().flatten(-3), frames, batch.posed),
        "keypoints": _mean(_about_first(geometry.keypoints, batch.geometry.keypoints), points, batch.measured),
        "vertices": _mean(_about_first(geometry.vertices, batch.geometry.vertices), surface, batch.measured),
        "translation": _mean((motion.translation - batch.motion.translation).square(), frames, batch.located),
    }
    if weights.pixels:
        flat = batch.flat if batch.flat is not None else torch.ones_like(batch.posed)
        predicted = project(geometry.keypoints, batch.camera_current, batch.intrinsics, 1e-3)
        error = smooth_l1_loss(_unit(predicted), _unit(batch.pixels), reduction="none")
        parts["pixels"] = _mean(error, points, flat)
    return sum(getattr(weights, name) * part for name, part in parts.items()), parts


def diffusion_loss(state: torch.Tensor, batch: ForeHand4DBatch) -> torch.Tensor:
    """Squared error of the clean state (B, T, 198), the mean over channels and frames of each of six blocks, their
    sum."""
    error = torch.where(batch.seen[..., None], state - batch.state, 0.0).square().sum(1)
    frames = batch.seen.sum(1)
    total = state.new_zeros(())
    for side in range(len(SIDES)):
        for block, known in zip(_BLOCKS[side], (batch.measured, batch.measured, batch.located)):
            width = len(range(*block.indices(CHANNELS)))
            mean = error[:, block].sum(-1) / (frames * width + _EPSILON)
            total = total + torch.where(batch.hand[:, side] & known, mean, 0.0).mean()
    return total


def project(
    keypoints: torch.Tensor, camera_current: torch.Tensor, intrinsics: torch.Tensor, epsilon: float = 0.0
) -> torch.Tensor:
    """Keypoints (B, T, 2, 21, 3) m of the current camera's frame -> (B, T, 2, 21, 2) px of each frame's camera.

    camera_current (B, T, 4, 4) T_camera_current; intrinsics (B, 3, 3); `epsilon` m is added to depths.
    """
    points = torch.einsum("btij,btskj->btski", camera_current[..., :3, :3], keypoints)
    points = torch.einsum("bij,btskj->btski", intrinsics, points + camera_current[:, :, None, None, :3, 3])
    return points[..., :2] / (points[..., 2:] + epsilon)


def _unit(pixels: torch.Tensor) -> torch.Tensor:
    return 2.0 * pixels / IMAGE_SIZE - 1.0


def _about_first(predicted: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """Squared differences of points relative to the first of them: the wrist, or the first vertex."""
    return ((predicted - predicted[..., :1, :]) - (actual - actual[..., :1, :])).square()


def _mean(error: torch.Tensor, valid: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """Mean of error (B, T, 2, …) where valid (B, T, 2[, …]) and the sample (B,) counts, a side at a time; the two are
    added."""
    mask = valid & sample.reshape(-1, *(1,) * (valid.dim() - 1))
    mask = mask.reshape(*mask.shape, *(1,) * (error.dim() - mask.dim())).expand_as(error)
    error = torch.where(mask, error, 0.0)
    return sum(error[:, :, side].sum() / (mask[:, :, side].sum() + _EPSILON) for side in range(len(SIDES)))
