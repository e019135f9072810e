"""EggHand's geometry-aware losses (paper section 3.4, equations 12 to 15), in metres, over what is valid.

Keypoints are (..., 21, 3) m and valid (..., 21), one hand each; all leading axes are averaged over.
"""

from dataclasses import dataclass

import torch

from ...hand.skeleton import NUM_KEYPOINTS, WRIST


@dataclass(frozen=True)
class GeometryWeights:
    """Weights of the three losses (EggHand section 4.3)."""

    absolute: float = 0.6
    relative: float = 0.2
    pairwise: float = 0.2


def absolute_loss(predicted: torch.Tensor, actual: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean L1 distance of keypoints (equation 13): the sum over three axes, the mean over valid keypoints, m."""
    return masked_mean((predicted - _known(actual, valid)).abs().sum(-1), valid)


def relative_loss(predicted: torch.Tensor, actual: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """`absolute_loss` relative to the wrist, of all keypoints but the wrist itself (equation 14), m."""
    wrist, actual = slice(WRIST, WRIST + 1), _known(actual, valid)
    error = (predicted - predicted[..., wrist, :]) - (actual - actual[..., wrist, :])
    counted = valid & valid[..., wrist]
    return masked_mean(error[..., WRIST + 1 :, :].abs().sum(-1), counted[..., WRIST + 1 :])


def pairwise_loss(predicted: torch.Tensor, actual: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the distances between pairs of keypoints of a hand (equation 15), m^2."""
    first, second = torch.triu_indices(NUM_KEYPOINTS, NUM_KEYPOINTS, offset=1, device=predicted.device)
    error = _distances(predicted, first, second) - _distances(_known(actual, valid), first, second)
    return masked_mean(error.square(), valid[..., first] & valid[..., second])


def geometry_loss(
    predicted: torch.Tensor, actual: torch.Tensor, valid: torch.Tensor, weights: GeometryWeights = GeometryWeights()
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted sum (equation 12), and its parts by name; a part of no weight is not worked out."""
    losses = {"absolute": absolute_loss, "relative": relative_loss, "pairwise": pairwise_loss}
    parts = {name: loss(predicted, actual, valid) for name, loss in losses.items() if getattr(weights, name) > 0}
    return sum(getattr(weights, name) * part for name, part in parts.items()), parts


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of values (...) where mask (...); 0 where there is nothing."""
    mask = mask.expand_as(values)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def _known(actual: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    # A NaN behind the mask would still turn gradients of zero into NaN.
    return torch.where(valid[..., None], actual, 0.0)


def _distances(keypoints: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    # The small constant keeps the gradient finite where two keypoints coincide.
    return ((keypoints[..., first, :] - keypoints[..., second, :]).square().sum(-1) + 1e-12).sqrt()
