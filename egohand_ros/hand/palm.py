"""The palm frame: the wrist orientation that keypoints alone define.

Origin at the wrist. x distal: from the wrist to the midpoint of index MCP and little MCP. z dorsal: out of the back
of the hand. y = z cross x, so it points to the thumb on a right hand and to the little finger on a left one. The
frame is right-handed for both.
"""

import numpy as np

from .skeleton import INDEX_MCP, LEFT, LITTLE_MCP, SIDES, WRIST, side_index

# A palm flatter than this (sine of the angle between its two edges) has no orientation worth using.
_MIN_SINE = 0.05


def palm_rotation(keypoints: np.ndarray, side: str) -> np.ndarray:
    """Rotation R_frame_palm (..., 3, 3) of keypoints (..., 21, 3) given in that frame; NaN where it is undefined."""
    keypoints = np.asarray(keypoints, dtype=np.float64)
    wrist = keypoints[..., WRIST, :]
    to_index = keypoints[..., INDEX_MCP, :] - wrist
    to_little = keypoints[..., LITTLE_MCP, :] - wrist
    dorsal = _cross(to_index, to_little) if side_index(side) == LEFT else _cross(to_little, to_index)
    distal = to_index + to_little
    with np.errstate(invalid="ignore", divide="ignore"):
        sine = np.linalg.norm(dorsal, axis=-1) / (
            np.linalg.norm(to_index, axis=-1) * np.linalg.norm(to_little, axis=-1)
        )
        x = distal / np.linalg.norm(distal, axis=-1, keepdims=True)
        z = dorsal / np.linalg.norm(dorsal, axis=-1, keepdims=True)
    rotation = np.stack([x, _cross(z, x), z], axis=-1)
    return np.where((sine > _MIN_SINE)[..., None, None], rotation, np.nan)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.cross of (..., 3) vectors, several times faster for the one or two of a live observation."""
    return a[..., (1, 2, 0)] * b[..., (2, 0, 1)] - a[..., (2, 0, 1)] * b[..., (1, 2, 0)]


def palm_rotations(keypoints: np.ndarray) -> np.ndarray:
    """R_frame_palm (..., 2, 3, 3) of both hands' keypoints (..., 2, 21, 3), sides [left, right]."""
    keypoints = np.asarray(keypoints, dtype=np.float64)
    return np.stack([palm_rotation(keypoints[..., i, :, :], side) for i, side in enumerate(SIDES)], axis=-3)


def to_palm_frame(keypoints: np.ndarray, side: str, rotation: np.ndarray | None = None) -> np.ndarray:
    """Keypoints (..., 21, 3) moved into their own palm frame, metres; `rotation` is R_frame_palm when already known."""
    rotation = palm_rotation(keypoints, side) if rotation is None else rotation
    relative = np.asarray(keypoints, dtype=np.float64) - np.asarray(keypoints)[..., WRIST : WRIST + 1, :]
    return relative @ rotation
