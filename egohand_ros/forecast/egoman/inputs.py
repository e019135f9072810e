"""A window's arrays -> what EgoMAN's networks take, and their motions -> wrists in the window's frame.

The networks know one frame: that of Aria's RGB camera at the image's time, which lies on its side while the image that
they see is upright. A wrist's rotation there is that of the authors' wrist, whose axes in the palm's were read off a
recording of Aria's hand tracking (docs/systems.md). Without camera poses the window's frame is taken to be the
camera's.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ...geometry.camera import UPRIGHT_FROM_TURNED
from ...geometry.rotations import matrix_from_sixd, sixd_from_matrix
from ...geometry.transforms import make_transform
from ...hand.skeleton import WRIST
from ...stream.window import Window
from .config import PAST
from .expert import join, part

# Columns are the axes of the authors' wrist in the palm's frame: out of the palm, towards the arm, the palm's y.
PALM_WRIST = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class Past:
    """Wrists before the image, as the motion expert has them: motion (B, 5, 18), oldest first; now (B, 18) at the
    image; known (B,) whether any wrist was seen before the image."""

    motion: torch.Tensor
    now: torch.Tensor
    known: torch.Tensor


def camera_frames(window: Window) -> np.ndarray:
    """T_frame_aria (B, 4, 4) of the last observation."""
    pose = np.eye(4) if window.camera_pose is None else window.camera_pose[:, -1].cpu().numpy()
    turned = make_transform(UPRIGHT_FROM_TURNED, np.zeros(3))
    return np.broadcast_to(pose @ turned, (window.batch, 4, 4))


def past_of(window: Window, frame: np.ndarray) -> Past:
    """The past in frames T_frame_aria (B, 4, 4). A wrist that is not seen is where it was seen next before, or after;
    one never seen is at the origin, as numbers that are all zero."""
    wrist, valid = window.keypoints[:, :, :, WRIST].cpu().numpy(), window.valid[:, :, :, WRIST].cpu().numpy()
    rotation, turned = window.wrist_rotation.cpu().numpy(), window.rotation_valid.cpu().numpy()
    motion = motion_in(frame[:, None], _filled(wrist, valid), _filled(rotation, turned))
    hands = motion.unflatten(-1, (2, -1))
    hands[..., :3] *= torch.from_numpy(valid.any(axis=1))[:, None, :, None]
    hands[..., 3:] *= torch.from_numpy(turned.any(axis=1))[:, None, :, None]
    motion = hands.flatten(-2)
    seen = torch.from_numpy(valid[:, :PAST].any(axis=(1, 2)))
    return Past(motion[:, :PAST] * seen[:, None, None], motion[:, PAST], seen)


def motion_in(frame: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> torch.Tensor:
    """Wrists (..., 2, 3) m and R_window_palm (..., 2, 3, 3) as the networks have them, (..., 18) float32; frame
    (..., 4, 4) is T_window_aria."""
    basis = frame[..., None, :3, :3]
    local = ((position - frame[..., None, :3, 3])[..., None, :] @ basis)[..., 0, :]
    turned = basis.swapaxes(-1, -2) @ rotation @ PALM_WRIST
    return join(torch.from_numpy(local), sixd_from_matrix(torch.from_numpy(turned), rows=True)).float()


def motion_out(frame: np.ndarray, motion: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The way back of `motion_in`: positions (..., 2, 3) m and R_window_palm (..., 2, 3, 3)."""
    position, rows = part(motion.double().cpu())
    basis = frame[..., None, :3, :3]
    matrix = matrix_from_sixd(rows, rows=True).numpy()
    moved = (basis @ position.numpy()[..., None])[..., 0] + frame[..., None, :3, 3]
    return moved, basis @ matrix @ PALM_WRIST.T


def _filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values (B, T, 2, ...) with gaps filled from the last valid one before, else the first one after."""
    times = np.arange(valid.shape[1])[None, :, None]
    before = np.maximum.accumulate(np.where(valid, times, -1), axis=1)
    index = np.where(before >= 0, before, np.argmax(valid, axis=1)[:, None])
    return np.take_along_axis(values, index.reshape(*index.shape, *(1,) * (values.ndim - 3)), axis=1)
