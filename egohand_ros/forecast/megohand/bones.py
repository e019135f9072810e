"""What stands in for MANO where its files are not: a right hand of bones with MANO's parameters, and hands at random.

MANO may not be passed on, so nothing that is trained with it can be tried by everybody. `BoneHand` has its joints in
their order, its 16 rotations, 10 numbers of shape and translation, but its own rest pose, its own axes of shape, and no
mesh. A state of one is none of the other.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ...data.synthetic.hand import NUM_ANGLES, HandShape
from ...geometry.axis_angle import matrix_from_axis_angle
from ...hand.mano_layer import FROM_MANO, JOINTS, SHAPES, TO_MANO
from ...hand.skeleton import FINGER_KEYPOINTS, INDEX_MCP, LITTLE_MCP, NUM_KEYPOINTS, RIGHT, WRIST

_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
_TIP_PARENTS = (15, 3, 6, 12, 9)  # thumb to little finger
# What one deviation of a number of shape changes, as a share: the whole hand, the palm's length and width, each
# finger, the last bones, and the thumb's root.
_SIZE, _PART = 0.06, 0.05


@dataclass(frozen=True)
class BonePoints:
    """keypoints (..., 21, 3) m."""

    keypoints: torch.Tensor


class HandModel(Protocol):
    """A right hand: `BoneHand`, or `hand.mano_layer.ManoLayer`, whose hands have vertices too."""

    template: torch.Tensor

    def __call__(
        self, pose: torch.Tensor, betas: torch.Tensor | None, translation: torch.Tensor | None
    ) -> BonePoints: ...

    def rest_wrist(self, betas: torch.Tensor | None = None) -> torch.Tensor: ...


class BoneHand(nn.Module):
    """Rotation vectors, shape, translation -> keypoints of a right hand; as `ManoLayer` but for the mesh. The rest pose
    is a nearly flat hand in the palm's axes (hand/palm.py), the wrist at the origin."""

    def __init__(self) -> None:
        super().__init__()
        rest = HandShape.mean().keypoints(np.zeros(NUM_ANGLES), RIGHT)
        axes = np.stack([moved - rest for moved in _shapes(rest)], axis=-1)
        self.register_buffer("template", torch.from_numpy(rest).float(), persistent=False)
        self.register_buffer("axes", torch.from_numpy(axes).float(), persistent=False)

    def forward(
        self, pose: torch.Tensor, betas: torch.Tensor | None = None, translation: torch.Tensor | None = None
    ) -> BonePoints:
        """pose (..., 16, 3) rad, the first one global; betas (..., 10); translation (..., 3) m."""
        turns = matrix_from_axis_angle(pose)
        rest = self.template if betas is None else self.template + torch.einsum("...s,kcs->...kc", betas, self.axes)
        mano = rest.expand(*pose.shape[:-2], NUM_KEYPOINTS, 3)[..., list(TO_MANO), :]  # 16 joints, then the tips
        places, rotations = [mano[..., 0, :]], [turns[..., 0, :, :]]
        for joint in range(1, JOINTS):
            parent = _PARENTS[joint]
            bone = mano[..., joint, :] - mano[..., parent, :]
            places.append(places[parent] + (rotations[parent] @ bone[..., None])[..., 0])
            rotations.append(rotations[parent] @ turns[..., joint, :, :])
        for tip, parent in enumerate(_TIP_PARENTS):
            bone = mano[..., JOINTS + tip, :] - mano[..., parent, :]
            places.append(places[parent] + (rotations[parent] @ bone[..., None])[..., 0])
        points = torch.stack(places, dim=-2)[..., list(FROM_MANO), :]
        return BonePoints(points if translation is None else points + translation[..., None, :])

    def rest_wrist(self, betas: torch.Tensor | None = None) -> torch.Tensor:
        """(..., 3) m: the origin."""
        return self.template.new_zeros(3) if betas is None else betas.new_zeros(*betas.shape[:-1], 3)


def random_poses(model: HandModel, count: int, generator: torch.Generator) -> torch.Tensor:
    """Poses (count, 16, 3) rad of hands as they open and close, the global rotation left at none.

    Fingers bend about the axis across bone and palm of the rest hand, which is found from its keypoints, so any model
    does; a finger's joints bend together, and each by itself. The mean pose of MANO is taken for a middle one.
    """
    device = model.template.device
    with torch.no_grad():
        rest = model(torch.zeros(1, JOINTS, 3, device=device), None, None).keypoints[0].cpu()
    bend, spread, along = _axes(rest)
    draw = lambda *shape: torch.randn(*shape, generator=generator, device=generator.device).cpu()  # noqa: E731
    closed = torch.rand(count, 1, 1, generator=generator, device=generator.device).cpu()
    each = 0.25 * draw(count, 5, 1)
    share = torch.tensor([0.35, 1.0, 1.0, 1.0, 1.0])[:, None] * torch.tensor([1.2, 1.5, 1.0])
    angles = (closed + each).clamp(-0.15, 1.1) * share + 0.12 * draw(count, 5, 3)
    sideways = torch.tensor([0.15, 0.0, 0.0]) * draw(count, 5, 3)
    twist = torch.tensor([0.05, 0.04, 0.03]) * draw(count, 5, 3)
    turned = angles[..., None] * bend + sideways[..., None] * spread + twist[..., None] * along
    turned[:, 0] += 0.2 * draw(count, 3, 3)  # thumbs do what they like
    pose = torch.zeros(count, JOINTS, 3)
    for finger, name in enumerate(FINGER_KEYPOINTS):
        pose[:, _JOINTS_OF[name]] = turned[:, finger]
    return pose.to(device)


_JOINTS_OF = {
    "thumb": [13, 14, 15], "index": [1, 2, 3], "middle": [4, 5, 6], "ring": [10, 11, 12], "little": [7, 8, 9]
}  # fmt: skip


def _axes(rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the rest keypoints (21, 3) of a right hand, a unit axis (5, 3, 3) a joint each: about which it bends, spreads
    and twists."""
    unit = lambda v: torch.nn.functional.normalize(v, dim=-1)  # noqa: E731
    dorsal = unit(torch.linalg.cross(rest[LITTLE_MCP] - rest[WRIST], rest[INDEX_MCP] - rest[WRIST]))
    chains = torch.tensor([list(chain) for chain in FINGER_KEYPOINTS.values()])
    along = unit(rest[chains[:, 1:]] - rest[chains[:, :-1]])
    across = unit(torch.linalg.cross(dorsal.expand_as(along), along))
    return across, unit(torch.linalg.cross(along, across)), along


def _shapes(rest: np.ndarray) -> list[np.ndarray]:
    """The rest hand (21, 3) after one deviation of each number of shape."""
    made = [rest * (1.0 + _SIZE)]
    for axis in (0, 1):  # the palm's length, its width: fingers go along
        moved = rest.copy()
        for chain in FINGER_KEYPOINTS.values():
            moved[list(chain)] += _PART * rest[chain[0]] * (np.arange(3) == axis)
        made.append(moved)
    for chain in FINGER_KEYPOINTS.values():
        moved = rest.copy()
        moved[list(chain)] += _PART * (rest[list(chain)] - rest[chain[0]])
        made.append(moved)
    moved = rest.copy()
    for chain in FINGER_KEYPOINTS.values():
        moved[chain[3]] += 2.0 * _PART * (rest[chain[3]] - rest[chain[2]])
    made.append(moved)
    moved = rest.copy()
    thumb = list(FINGER_KEYPOINTS["thumb"])
    moved[thumb] += 2.0 * _PART * rest[thumb[0]]
    made.append(moved)
    assert len(made) == SHAPES
    return made
