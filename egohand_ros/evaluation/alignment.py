"""Similarity (Procrustes) alignment of point sets, as the -PA metrics need it."""

import numpy as np


def similarity(source: np.ndarray, target: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale (...), rotation (..., 3, 3) and translation (..., 3) that bring source nearest to target in the least
    squares.

    source, target (..., N, 3); only points that are valid (..., N) count (Umeyama 1991, equations 40 to 42). NaN where
    fewer than three points count, or where they all coincide.
    """
    weight = valid[..., None].astype(np.float64)
    count = weight.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        source_mean = (np.where(valid[..., None], source, 0.0)).sum(axis=-2) / count
        target_mean = (np.where(valid[..., None], target, 0.0)).sum(axis=-2) / count
    from_mean = np.where(valid[..., None], source - source_mean[..., None, :], 0.0)
    to_mean = np.where(valid[..., None], target - target_mean[..., None, :], 0.0)
    spread = (from_mean**2).sum(axis=(-1, -2))
    usable = (count[..., 0] >= 3) & (spread > 1e-18)
    covariance = np.where(usable[..., None, None], np.swapaxes(to_mean, -1, -2) @ from_mean, np.eye(3))
    u, strength, vt = np.linalg.svd(covariance)
    mirror = np.ones(strength.shape)
    mirror[..., 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * mirror[..., None, :]) @ vt
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(usable, (strength * mirror).sum(axis=-1) / spread, np.nan)
    return scale, rotation, target_mean - scale[..., None] * (rotation @ source_mean[..., None])[..., 0]


def transformed(points: np.ndarray, scale: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Points (..., N, 3) after a similarity."""
    return scale[..., None, None] * (points @ np.swapaxes(rotation, -1, -2)) + translation[..., None, :]
