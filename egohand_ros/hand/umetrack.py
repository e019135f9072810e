"""UmeTrack's hand model (Han et al., SIGGRAPH Asia 2022): joint angles -> landmarks, from a user profile of HOT3D.

The profile holds the model of a *left* hand; a right one is its mirror image. Structure after `umetrack_layer.py` and
`UmeTrackHandDataProvider.py` of facebookresearch/hot3d: 17 bones (root, wrist, three of each finger), 4 angles a
finger.
"""

import numpy as np

from ..geometry.rotations import exp_rotation
from ..geometry.transforms import make_transform

_FIELDS = (
    "joint_rotation_axes",
    "joint_rest_positions",
    "landmark_rest_positions",
    "landmark_rest_bone_weights",
    "landmark_rest_bone_indices",
)
_FINGERS, _ANGLES, _BONES = 5, 4, 17


class UmeTrackHand:
    """One person's hands. Raises `KeyError` for a profile that lacks a part of the model."""

    def __init__(self, hand_model: dict):
        axes, rest, landmarks, weights, bones = (np.asarray(hand_model[name], dtype=np.float64) for name in _FIELDS)
        self._axes, self._rest = axes[: _FINGERS * _ANGLES], rest[: _FINGERS * _ANGLES] / 1000.0  # mm
        self._landmarks = landmarks / 1000.0
        self._weights = np.zeros((len(landmarks), _BONES))
        np.add.at(self._weights, (np.arange(len(landmarks))[:, None], bones.astype(int)), weights)

    def landmarks(self, angles: np.ndarray, T_world_wrist: np.ndarray, side: str) -> np.ndarray:
        """Landmarks (T, 21, 3) m of angles (T, 20 or more) rad and wrist poses (T, 4, 4), in convention `aria_mps`."""
        T_world_wrist = T_world_wrist.copy()
        if side == "right":
            T_world_wrist[:, :, 0] *= -1.0
        rotation = exp_rotation(self._axes * angles[:, : len(self._axes), None])
        # Each joint turns about an axis through its own rest position.
        turn = make_transform(rotation, self._rest - (rotation @ self._rest[..., None])[..., 0])
        bones = [np.tile(np.eye(4), (len(angles), 1, 1))] * 2
        for finger in range(_FINGERS):
            pose = np.eye(4)
            for joint in range(_ANGLES):
                pose = pose @ turn[:, finger * _ANGLES + joint]
                if joint > 0:  # the first two angles belong to one bone
                    bones.append(pose)
        skinned = np.einsum("lb,btij->tlij", self._weights, np.stack(bones))
        points = np.concatenate([self._landmarks, np.ones((len(self._landmarks), 1))], axis=1)
        local = np.einsum("tlij,lj->tli", skinned, points)
        return np.einsum("tij,tlj->tli", T_world_wrist, local)[..., :3]
