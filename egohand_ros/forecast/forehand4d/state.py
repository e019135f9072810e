"""ForeHand4D's 198 numbers a frame <-> MANO parameters of both hands.

Right hand's 16 rotations (6D, the first two rows), left hand's 16, right translation, left translation, the
translations z-scored. Outside this folder sides are [left, right], as everywhere here.
"""

from dataclasses import dataclass

import torch

from ...geometry.axis_angle import axis_angle_from_matrix, matrix_from_axis_angle
from ...geometry.rotations import matrix_from_sixd, sixd_from_matrix
from ...hand.skeleton import LEFT, RIGHT, SIDES
from ..common.mano import JOINTS, ManoLayer

CHANNELS = 198
_POSE = 6 * JOINTS
# m, over the authors' training data, of both hands in the current camera's frame.
TRANSLATION_MEAN = (0.10309122, 0.02925274, 0.47753079)
TRANSLATION_STD = (0.20071064, 0.18052778, 0.25474921)
_ORDER = [RIGHT, LEFT]


@dataclass(frozen=True)
class HandMotion:
    """Both hands, sides [left, right], in the current camera's frame (optical).

    rotations   (..., 2, 16, 3, 3) MANO's: the first one global, then 15 relative to the parent and to MANO's mean pose
    translation (..., 2, 3) m: smplx's, the wrist's place without its rest position
    """

    rotations: torch.Tensor
    translation: torch.Tensor

    @property
    def pose(self) -> torch.Tensor:
        """(..., 2, 16, 3) rotation vectors rad, what `ManoLayer` takes."""
        return axis_angle_from_matrix(self.rotations)


def motion_from_pose(pose: torch.Tensor, translation: torch.Tensor) -> HandMotion:
    """Rotation vectors (..., 2, 16, 3) rad and translation (..., 2, 3) m as a motion."""
    return HandMotion(matrix_from_axis_angle(pose), translation)


def state_from_motion(motion: HandMotion) -> torch.Tensor:
    """(..., 198) in the network's units."""
    pose = sixd_from_matrix(motion.rotations, rows=True)[..., _ORDER, :, :].flatten(-3)
    translation = (motion.translation - _constant(TRANSLATION_MEAN, pose)) / _constant(TRANSLATION_STD, pose)
    return torch.cat([pose, translation[..., _ORDER, :].flatten(-2)], dim=-1)


def motion_from_state(state: torch.Tensor) -> HandMotion:
    """The way back of `state_from_motion`; any 6 numbers give a rotation."""
    pose = state[..., : 2 * _POSE].unflatten(-1, (2, JOINTS, 6))[..., _ORDER, :, :]
    translation = state[..., 2 * _POSE :].unflatten(-1, (2, 3))[..., _ORDER, :]
    translation = translation * _constant(TRANSLATION_STD, state) + _constant(TRANSLATION_MEAN, state)
    return HandMotion(matrix_from_sixd(pose, rows=True), translation)


@dataclass(frozen=True)
class HandGeometry:
    """keypoints (..., 2, 21, 3) m and vertices (..., 2, 778, 3) m, sides [left, right]."""

    keypoints: torch.Tensor
    vertices: torch.Tensor


def geometry_of(
    pose: torch.Tensor, translation: torch.Tensor, mano: dict[str, ManoLayer], betas: torch.Tensor | None = None
) -> HandGeometry:
    """Keypoints and vertices of rotation vectors (..., 2, 16, 3) rad and translations (..., 2, 3) m.

    `mano` has a layer a side; betas (..., 2, 10) are the shapes, which are not forecast; mean shapes without.
    """
    hands = [
        mano[side](pose[..., i, :, :], None if betas is None else betas[..., i, :], translation[..., i, :])
        for i, side in enumerate(SIDES)
    ]
    return HandGeometry(torch.stack([h.keypoints for h in hands], -3), torch.stack([h.vertices for h in hands], -3))


def _constant(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)
