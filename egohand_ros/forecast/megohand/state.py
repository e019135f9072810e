"""MEgoHand's state of one hand, 109 numbers, and chunks of states relative to the one that they begin with.

A state is, in the order of the paper's (arXiv 2505.16602, section 3.1), the rotations of MANO's 15 joints (15 x 6,
relative to the parent and to MANO's mean pose), the shape (10), the global rotation (6) and the translation (3, m), in
the frame of the camera. That 6 numbers are the first two columns of a rotation, and in which units networks have them,
is not in the paper.

A chunk's wrists are relative to the first state (paper, section 3.3), its shape is that of the first state.
"""

from dataclasses import dataclass

import torch

from ...geometry.axis_angle import axis_angle_from_matrix, matrix_from_axis_angle
from ...geometry.rotations import matrix_from_sixd, sixd_from_matrix

JOINTS, SHAPES = 15, 10
FINGERS, SHAPE = slice(0, 6 * JOINTS), slice(6 * JOINTS, 6 * JOINTS + SHAPES)
ROOT, TRANSLATION = slice(SHAPE.stop, SHAPE.stop + 6), slice(SHAPE.stop + 6, SHAPE.stop + 9)
WIDTH = TRANSLATION.stop
# What 1 stands for in a network: of a rotation's numbers, of a chunk's wrist, m, and of a wrist's place, m.
_TURN, _MOVE, _PLACE = 0.3, 0.1, 0.3
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class HandState:
    """fingers (..., 15, 3, 3) and root (..., 3, 3) rotations, betas (..., 10), translation (..., 3) m: smplx's, the
    wrist's place without its rest position."""

    fingers: torch.Tensor
    betas: torch.Tensor
    root: torch.Tensor
    translation: torch.Tensor

    @property
    def pose(self) -> torch.Tensor:
        """(..., 16, 3) rotation vectors rad, as `ManoLayer` takes them."""
        return axis_angle_from_matrix(torch.cat([self.root[..., None, :, :], self.fingers], dim=-3))

    @property
    def numbers(self) -> torch.Tensor:
        """(..., 109)."""
        fingers = sixd_from_matrix(self.fingers).flatten(-2)
        return torch.cat([fingers, self.betas, sixd_from_matrix(self.root), self.translation], dim=-1)

    @classmethod
    def of_numbers(cls, numbers: torch.Tensor) -> "HandState":
        """The way back of `numbers`; any 6 numbers give a rotation."""
        fingers = matrix_from_sixd(numbers[..., FINGERS].unflatten(-1, (JOINTS, 6)))
        return cls(fingers, numbers[..., SHAPE], matrix_from_sixd(numbers[..., ROOT]), numbers[..., TRANSLATION])

    @classmethod
    def of_pose(cls, pose: torch.Tensor, betas: torch.Tensor, translation: torch.Tensor) -> "HandState":
        """From rotation vectors (..., 16, 3) rad."""
        rotations = matrix_from_axis_angle(pose)
        return cls(rotations[..., 1:, :, :], betas, rotations[..., 0, :, :], translation)


def state_input(state: HandState) -> torch.Tensor:
    """States as the network is told them (..., 109): rotations off the identity, everything near 1."""
    numbers = _scaled(state.numbers)
    return torch.cat([numbers[..., : TRANSLATION.start], state.translation / _PLACE], dim=-1)


def chunk_of(first: HandState, later: HandState) -> torch.Tensor:
    """States (B, S) `later` than the `first` (B,), relative to it, as the network has them: (B, S, 109). Of the shape
    there is nothing to say, and it is 0."""
    root = later.root @ first.root[:, None].mT
    moved = HandState(
        later.fingers, torch.zeros_like(later.betas), root, later.translation - first.translation[:, None]
    )
    numbers = _scaled(moved.numbers)
    return torch.cat([numbers[..., : TRANSLATION.start], moved.translation / _MOVE], dim=-1)


def states_of(first: HandState, chunk: torch.Tensor) -> HandState:
    """The way back of `chunk_of`: states (B, S) of a chunk (B, S, 109), with the shape of the first."""
    fingers = matrix_from_sixd(_unscaled(chunk[..., FINGERS].unflatten(-1, (JOINTS, 6))))
    root = matrix_from_sixd(_unscaled(chunk[..., ROOT])) @ first.root[:, None]
    betas = first.betas[:, None].expand(*chunk.shape[:2], SHAPES)
    return HandState(fingers, betas, root, chunk[..., TRANSLATION] * _MOVE + first.translation[:, None])


def told() -> torch.Tensor:
    """(109,) bool: what a chunk tells, which is all but the shape."""
    mask = torch.ones(WIDTH, dtype=torch.bool)
    mask[SHAPE] = False
    return mask


def _scaled(numbers: torch.Tensor) -> torch.Tensor:
    same = numbers.new_tensor(_IDENTITY)
    fingers = (numbers[..., FINGERS] - same.repeat(JOINTS)) / _TURN
    return torch.cat([fingers, numbers[..., SHAPE], (numbers[..., ROOT] - same) / _TURN, numbers[..., TRANSLATION]], -1)


def _unscaled(sixd: torch.Tensor) -> torch.Tensor:
    return sixd * _TURN + sixd.new_tensor(_IDENTITY)
