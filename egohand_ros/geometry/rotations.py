"""Rotation representations. NumPy here; the 6D form also in torch, because networks use it.

Quaternions are unit, xyzw. Matrices are (..., 3, 3). 6D is the first two columns (Zhou et al. 2019, section 4.2), or,
for networks that were trained with pytorch3d, the first two rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a node that runs no network must not wait 2 s for torch, nor a command 0.3 s for SciPy
    import torch


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 4) xyzw, w >= 0."""
    from scipy.spatial.transform import Rotation

    matrix = np.asarray(matrix, dtype=np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_quat(canonical=True)
    return flat.reshape(*matrix.shape[:-2], 4)


def matrix_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """(..., 4) xyzw -> (..., 3, 3). A zero quaternion is a `ValueError`."""
    from scipy.spatial.transform import Rotation

    quaternion = np.asarray(quaternion, dtype=np.float64)
    return Rotation.from_quat(quaternion.reshape(-1, 4)).as_matrix().reshape(*quaternion.shape[:-1], 3, 3)


def sixd_from_matrix(matrix: torch.Tensor, rows: bool = False) -> torch.Tensor:
    """(..., 3, 3) -> (..., 6): first column, then second; or first row, then second."""
    if not rows:
        matrix = matrix.transpose(-1, -2)
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def matrix_from_sixd(sixd: torch.Tensor, rows: bool = False) -> torch.Tensor:
    """(..., 6) -> (..., 3, 3) by Gram-Schmidt (Zhou et al. 2019, equation 15)."""
    import torch

    first, second = sixd[..., :3], sixd[..., 3:]
    x = torch.nn.functional.normalize(first, dim=-1)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-2 if rows else -1)


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation closest to a 3x3 matrix in the Frobenius norm, by SVD with the sign of the determinant mended."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., :, -1] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


def geodesic_angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in rad (...) between rotations a and b (..., 3, 3)."""
    cosine = (np.einsum("...ij,...ij->...", a, b) - 1.0) / 2.0
    return np.arccos(np.clip(cosine, -1.0, 1.0))


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 3) axis times angle, rad."""
    from scipy.spatial.transform import Rotation

    matrix = np.asarray(matrix, dtype=np.float64)
    return Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec().reshape(*matrix.shape[:-2], 3)


def matrix_from_rotation_vector(vector: np.ndarray) -> np.ndarray:
    """(..., 3) axis times angle in rad -> (..., 3, 3)."""
    from scipy.spatial.transform import Rotation

    vector = np.asarray(vector, dtype=np.float64)
    return Rotation.from_rotvec(vector.reshape(-1, 3)).as_matrix().reshape(*vector.shape[:-1], 3, 3)


def exp_rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) rad, by Rodrigues' formula."""
    angle = np.sqrt((vector * vector).sum(axis=-1))
    sin_term = np.sinc(angle / np.pi)[..., None, None]
    cos_term = (0.5 * np.sinc(angle / (2 * np.pi)) ** 2)[..., None, None]
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape, 3)
    return np.eye(3) + sin_term * skew + cos_term * (skew @ skew)


def log_rotation(matrix: np.ndarray) -> np.ndarray:
    """Rotation vectors (..., 3) rad of matrices (..., 3, 3); the angle is exact below pi, its axis is lost at pi."""
    skew = np.stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ],
        axis=-1,
    )
    cosine = (np.trace(matrix, axis1=-2, axis2=-1) - 1.0) / 2.0
    sine = np.sqrt((skew * skew).sum(axis=-1)) / 2.0
    angle = np.arctan2(sine, cosine)
    return skew * (angle / np.maximum(2.0 * sine, 1e-12))[..., None] + (sine < 1e-12)[..., None] * skew / 2.0


def slerp(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) at `weight` (N,), 0 to 1, on the shortest way from a (N, 3, 3) to b (N, 3, 3)."""
    result = a.copy()
    between = weight > 0.0
    if between.any():
        start = a[between]
        turn = log_rotation(start.swapaxes(-1, -2) @ b[between])
        result[between] = start @ exp_rotation(turn * weight[between, None])
    return result
