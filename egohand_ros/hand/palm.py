"""The palm frame: the wrist orientation that keypoints alone define.

Origin at the wrist. x distal: from the wrist to the midpoint of index MCP and little MCP. z dorsal: out of the back
of the hand. y = z cross x, so it points to the thumb on a right hand and to the little finger on a left one. The
frame is right-handed for both.

Where the palm's knuckles are missing, or the palm is seen too flat, a tracker's own wrist rotation serves
(`palm_or_given_rotation`). Live poses, forecasts and whole horizons all get their palm frame here.
"""

import math

import numpy as np

from .skeleton import INDEX_MCP, LEFT, LITTLE_MCP, SIDES, WRIST, side_index

# A palm flatter than this (sine of the angle between its two edges) has no orientation worth using.
_MIN_SINE = 0.05


def palm_rotation(keypoints: np.ndarray, side: str) -> np.ndarray:
    """Rotation R_frame_palm (..., 3, 3) of keypoints (..., 21, 3) given in that frame; NaN where it is undefined."""
    keypoints = np.asarray(keypoints, dtype=np.float64)
    left = side_index(side) == LEFT
    if keypoints.ndim == 2:
        return _rotation_of_one(keypoints, left)
    wrist = keypoints[..., WRIST, :]
    to_index = keypoints[..., INDEX_MCP, :] - wrist
    to_little = keypoints[..., LITTLE_MCP, :] - wrist
    dorsal = _cross(to_index, to_little) if left else _cross(to_little, to_index)
    distal = to_index + to_little
    with np.errstate(invalid="ignore", divide="ignore"):
        sine = np.linalg.norm(dorsal, axis=-1) / (
            np.linalg.norm(to_index, axis=-1) * np.linalg.norm(to_little, axis=-1)
        )
        x = distal / np.linalg.norm(distal, axis=-1, keepdims=True)
        z = dorsal / np.linalg.norm(dorsal, axis=-1, keepdims=True)
    rotation = np.stack([x, _cross(z, x), z], axis=-1)
    return np.where((sine > _MIN_SINE)[..., None, None], rotation, np.nan)


def _rotation_of_one(points: np.ndarray, left: bool) -> np.ndarray:
    """The same for one hand in plain floats: 20 times as fast, and NumPy would take longer for it than for a solve."""
    wx, wy, wz = points[WRIST].tolist()
    ix, iy, iz = points[INDEX_MCP].tolist()
    lx, ly, lz = points[LITTLE_MCP].tolist()
    ix, iy, iz, lx, ly, lz = ix - wx, iy - wy, iz - wz, lx - wx, ly - wy, lz - wz
    zx, zy, zz = ly * iz - lz * iy, lz * ix - lx * iz, lx * iy - ly * ix  # little x index
    if left:
        zx, zy, zz = -zx, -zy, -zz
    xx, xy, xz = ix + lx, iy + ly, iz + lz
    area, length = math.sqrt(zx * zx + zy * zy + zz * zz), math.sqrt(xx * xx + xy * xy + xz * xz)
    edges = math.sqrt((ix * ix + iy * iy + iz * iz) * (lx * lx + ly * ly + lz * lz))
    if not area > _MIN_SINE * edges or length == 0.0 or not math.isfinite(area):
        return np.full((3, 3), np.nan)
    zx, zy, zz, xx, xy, xz = zx / area, zy / area, zz / area, xx / length, xy / length, xz / length
    return np.array(((xx, zy * xz - zz * xy, zx), (xy, zz * xx - zx * xz, zy), (xz, zx * xy - zy * xx, zz)))


def palm_or_given_rotation(keypoints: np.ndarray, side: str, given: np.ndarray | None) -> np.ndarray:
    """R_frame_palm (..., 3, 3) of keypoints (..., 21, 3): of the palm where it is defined, otherwise `given` (the same
    shape, NaN where unknown). The palm goes first, so that a tracker's own idea of a wrist frame never bends fingers.
    """
    rotation = palm_rotation(keypoints, side)
    if given is None:
        return rotation
    return np.where(np.isfinite(rotation), rotation, given)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.cross of (..., 3) vectors, several times faster for the one or two of a live observation."""
    return a[..., (1, 2, 0)] * b[..., (2, 0, 1)] - a[..., (2, 0, 1)] * b[..., (1, 2, 0)]


def palm_rotations(keypoints: np.ndarray) -> np.ndarray:
    """R_frame_palm (..., 2, 3, 3) of both hands' keypoints (..., 2, 21, 3), sides [left, right]."""
    keypoints = np.asarray(keypoints, dtype=np.float64)
    return np.stack([palm_rotation(keypoints[..., i, :, :], side) for i, side in enumerate(SIDES)], axis=-3)


def to_palm_frame(keypoints: np.ndarray, side: str, given: np.ndarray | None = None) -> np.ndarray:
    """Keypoints (..., 21, 3) moved into their own palm frame, metres; `given` as in `palm_or_given_rotation`.

    NaN where there is no palm frame, but for a known wrist: it is the origin of any.
    """
    keypoints = np.asarray(keypoints, dtype=np.float64)
    relative = keypoints - keypoints[..., WRIST : WRIST + 1, :]
    local = relative @ palm_or_given_rotation(keypoints, side, given)
    local[..., WRIST, :] = relative[..., WRIST, :]
    return local
