"""Rigid transforms as 4x4 matrices. `T_target_source` maps source coordinates to target coordinates."""

import numpy as np


def make_transform(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """T (..., 4, 4) from a rotation (..., 3, 3) and a translation (..., 3) in metres."""
    rotation, translation = np.asarray(rotation, dtype=np.float64), np.asarray(translation, dtype=np.float64)
    transform = np.zeros((*np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]), 4, 4))
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = translation
    transform[..., 3, 3] = 1.0
    return transform


def invert_transform(transform: np.ndarray) -> np.ndarray:
    """T_source_target from T_target_source (..., 4, 4)."""
    rotation_inverse = np.swapaxes(transform[..., :3, :3], -1, -2)
    return make_transform(rotation_inverse, -(rotation_inverse @ transform[..., :3, 3:])[..., 0])


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., N, 3) mapped by T_target_source (..., 4, 4), leading axes broadcast."""
    return points @ np.swapaxes(transform[..., :3, :3], -1, -2) + transform[..., None, :3, 3]


def z_up_from_y_up() -> np.ndarray:
    """T (4, 4) from a world whose Y axis points up (ARKit, OpenXR) to one whose Z axis does (REP-103); X stays."""
    return make_transform(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), np.zeros(3))


# Optical axes (x right, y down, z forward) to those of somebody who stands upright (x forward, y left, z up): REP-103.
UPRIGHT_OPTICAL = make_transform(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.zeros(3))
