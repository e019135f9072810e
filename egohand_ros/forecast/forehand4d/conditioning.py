"""What ForeHand4D's networks are told: an image, or 2D keypoints, camera poses, rays and viewing angles (arXiv
2510.06145).

Each condition becomes tokens of the transformer's width by three linear maps.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import interpolate

from ...hand.mano_layer import TO_MANO
from ...hand.skeleton import LEFT, NUM_KEYPOINTS, RIGHT
from ..common.vit import VIT_H, ViT, ViTConfig
from .state import TRANSLATION_MEAN

IMAGE_SIZE = 224  # px, of the square image and of the pixels that keypoints and intrinsics are in
FREQUENCIES = 4
POINTS, CAMERA, RAYS, ANGLES = 2 * 2 * NUM_KEYPOINTS, 16, 2 * 6 * NUM_KEYPOINTS, 2 * 2 * 2 * FREQUENCIES * NUM_KEYPOINTS


def token_map(inputs: int, width: int) -> nn.Sequential:
    """Three linear maps with ReLU between them."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
    )


class ImageTokens(nn.Module):
    """Images (B, 3, 224, 224), normalised as ImageNet's -> tokens (B, 192, width), row by row of 16 x 12 patches.

    HaMeR's ViT-H sees the image at 256 px without its outer 32 columns.
    """

    def __init__(self, width: int, vit: ViTConfig = VIT_H):
        super().__init__()
        self.backbone = ViT(vit)
        self.net = token_map(vit.width, width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, wide = self.backbone.config.image_size
        margin = (height - wide) // 2
        images = interpolate(images, size=height, mode="bilinear", align_corners=False)
        return self.net(self.backbone(images[..., margin : height - margin]))


@dataclass(frozen=True)
class Lifting:
    """What the lifter is told of T frames, in the order in which its maps take it.

    points (B, T, 84), camera (B, T, 16), rays (B, T, 252), angles (B, T, 672); rows of zeros for frames that are not
    seen
    """

    points: torch.Tensor
    camera: torch.Tensor
    rays: torch.Tensor
    angles: torch.Tensor


def lifting(
    pixels: torch.Tensor,
    valid: torch.Tensor,
    camera_current: torch.Tensor,
    intrinsics: torch.Tensor,
    seen: torch.Tensor,
) -> Lifting:
    """The lifter's inputs from 2D keypoints.

    pixels (B, T, 2, 21, 2) px of a 224 px image, sides [left, right], our order of keypoints; valid (B, T, 2, 21) bool;
    camera_current (B, T, 4, 4) T_camera_current: from the current camera's frame, in which the motion comes out, into
    that of frame t's camera; intrinsics (B, 3, 3) of the 224 px image; seen (B, T) bool, False for padding.
    """
    pixels = pixels[:, :, [RIGHT, LEFT]][..., list(TO_MANO), :]
    valid = (valid[:, :, [RIGHT, LEFT]][..., list(TO_MANO)] & seen[..., None, None]).to(pixels)[..., None]
    points = (2.0 * pixels / IMAGE_SIZE - 1.0) * valid
    rays, angles = pluecker_rays(pixels, camera_current, intrinsics) * valid, viewing_angles(pixels, intrinsics) * valid
    return Lifting(
        points.flatten(2),
        camera_current.flatten(2) * seen[..., None].to(pixels),
        rays.flatten(2),
        angles.transpose(2, 3).flatten(2),  # of each keypoint the right hand's, then the left's
    )


def pluecker_rays(pixels: torch.Tensor, camera_current: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """(B, T, 2, 21, 6): direction and moment of the ray from the current camera's centre to each keypoint.

    Its depth is not known: every keypoint is put at the mean depth of the training data, 0.4775 m, in its own camera's
    frame, in which the ray is. Arguments as `lifting`.
    """
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    points = torch.einsum("bij,btskj->btski", torch.linalg.inv(intrinsics), homogeneous) * TRANSLATION_MEAN[2]
    origin = camera_current[:, :, None, None, :3, 3].expand_as(points)
    direction = points - origin
    direction = direction / (direction.norm(dim=-1, keepdim=True) + 1e-8)
    return torch.cat([direction, torch.linalg.cross(origin, direction)], dim=-1)


def viewing_angles(pixels: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """(B, T, 2, 21, 16): sine and cosine of 1, 2, 4 and 8 times the angles at which keypoints are seen (KPE of Prakash
    et al.).

    Innermost the sine and cosine, then x and y, then the multiples. Arguments as `lifting`.
    """
    focal, centre = intrinsics[:, [0, 1], [0, 1]], intrinsics[:, :2, 2]
    angle = torch.atan2(pixels - centre[:, None, None, None], focal[:, None, None, None].expand_as(pixels))
    multiples = 2.0 ** torch.arange(FREQUENCIES, device=pixels.device)
    angle = angle[..., None, :] * multiples[:, None]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3)
