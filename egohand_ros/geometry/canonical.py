"""The canonical egocentric frame: gravity-aligned, at the camera of the window's first observation (DESIGN.md 3).

Z is up, X is the camera's forward (optical +z) axis turned horizontal, so only yaw and position are removed.
The world frame is REP-103 (Z up); the camera frame is optical (z forward, x right, y down).
"""

import numpy as np

from .transforms import make_transform


def canonical_from_camera(T_world_camera: np.ndarray) -> np.ndarray:
    """T_world_canonical (..., 4, 4) for the camera pose (..., 4, 4) of the first observation.

    A camera that looks straight up or down has no horizontal forward axis; its image-up axis (-y) gives the yaw then.
    """
    T_world_camera = np.asarray(T_world_camera, dtype=np.float64)
    forward = T_world_camera[..., :3, 2].copy()
    vertical = np.linalg.norm(forward[..., :2], axis=-1) < 1e-3
    forward[vertical] = -T_world_camera[..., :3, 1][vertical]
    yaw = np.arctan2(forward[..., 1], forward[..., 0])
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    rotation = np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=-1).reshape(*yaw.shape, 3, 3)
    return make_transform(rotation, T_world_camera[..., :3, 3])
