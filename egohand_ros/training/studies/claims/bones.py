"""Hands of bones in place of MANO's, whose files are everybody's own: so the claims of a system that gives MANO's
parameters can be tried without."""

import torch

from ....forecast.megohand.bones import BoneHand
from ....hand.mano_layer import ManoHand
from ....hand.skeleton import SIDES


class BonesOfSide(BoneHand):
    """A hand of one side. It has no mesh: its keypoints stand in for vertices, whose loss must have no weight."""

    def __init__(self, side: str):
        super().__init__()
        if side == "left":
            self.template[:, 1] *= -1.0
            self.axes[:, 1] *= -1.0

    def forward(
        self, pose: torch.Tensor, betas: torch.Tensor | None = None, translation: torch.Tensor | None = None
    ) -> ManoHand:
        """As `BoneHand`."""
        keypoints = super().forward(pose, betas, translation).keypoints
        return ManoHand(keypoints, keypoints)


def hands_of_bones() -> dict[str, BonesOfSide]:
    """One a side."""
    return {side: BonesOfSide(side) for side in SIDES}
