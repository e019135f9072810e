"""Rotations of MANO's joints from keypoints, in closed form: the palm as a whole, then every bone by its least turn.

`mano_layer.fit_mano` fits more (shape, tips of the mesh) and takes hundreds of times as long.
"""

import numpy as np

from .mano_layer import JOINTS, TO_MANO
from .palm import palm_rotation


def bone_rotations(rest: np.ndarray, keypoints: np.ndarray, side: str) -> np.ndarray:
    """Rotations (..., 16, 3, 3) of MANO's joints, the first one global, the others relative to their parents, that turn
    the bones of a rest hand (21, 3) into the directions of keypoints (..., 21, 3), both of this `side`.

    Bones do not twist, and lengths are the rest hand's. NaN where the palm is too flat to have an orientation.
    """
    found = np.zeros((*keypoints.shape[:-2], JOINTS, 3, 3))
    found[..., 0, :, :] = palm_rotation(keypoints, side) @ palm_rotation(rest, side).T
    whole = found[..., 0, :, :]
    for joint in range(1, JOINTS):
        begin = TO_MANO[joint]
        if joint % 3 == 1:  # a finger's first joint hangs on the palm
            whole = found[..., 0, :, :]
        bone = rest[begin + 1] - rest[begin]
        seen = np.swapaxes(whole, -1, -2) @ (keypoints[..., begin + 1, :] - keypoints[..., begin, :])[..., None]
        found[..., joint, :, :] = least_rotation(bone, seen[..., 0])
        whole = whole @ found[..., joint, :, :]
    return found


def least_rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation (..., 3, 3) that turns directions (..., 3) into others; none for what has no length, and
    any one that is nearly right for opposite ones."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (source, target))
    a, b = np.broadcast_arrays(a, b)
    axis, cosine = np.cross(a, b), np.clip((a * b).sum(-1), -0.9999, 1.0)
    skew = np.zeros((*axis.shape, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        skew[..., j, i], skew[..., i, j] = axis[..., k], -axis[..., k]
    turn = np.eye(3) + skew + skew @ skew / (1.0 + cosine)[..., None, None]
    return np.where(np.isfinite(turn).all((-1, -2), keepdims=True), turn, np.eye(3))
