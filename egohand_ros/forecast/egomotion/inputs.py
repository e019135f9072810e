"""A window's arrays -> what the networks take, and their motions -> both hands in the window's frame.

A motion says how a hand goes on from where it was seen last, so that all zeros is a hand that stays: the way of the
wrist along the axes of the camera at the last observation, the turn of the palm from the last seen one, and the change
of its keypoints in the palm's frame. That is ours: the paper generates a whole body from nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ...geometry.rotations import matrix_from_sixd, sixd_from_matrix
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.window import Window
from ..common.observed import Observed, last_index, pose_hand, take
from .config import PAST_FEATURES, SIDE_CHANNELS

_FINGERS = NUM_KEYPOINTS - 1
_SMALL, _TURN = 10.0, 2.0  # what metres of fingers and of ways, and numbers of turns, are multiplied by
_STILL = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)  # no turn


@dataclass(frozen=True)
class Now:
    """Where hands were seen last: wrist (B, 2, 3) m, palm (B, 2, 3, 3), keypoints in it (B, 2, 21, 3) m, and the axes
    of the camera now (B, 3, 3), all in the window's frame; origin (B, 3) m of that camera."""

    wrist: np.ndarray
    palm: np.ndarray
    articulation: np.ndarray
    axes: np.ndarray
    origin: np.ndarray


def camera_of(window: Window) -> np.ndarray:
    """T_window_camera (B, 4, 4) at the last observation; the window's frame is taken to be the camera's without it."""
    if window.camera_pose is None:
        return np.broadcast_to(np.eye(4), (window.batch, 4, 4))
    return window.camera_pose[:, -1].cpu().numpy()


def now_of(window: Window, observed: Observed) -> Now:
    """What a motion of this window starts from."""
    camera = camera_of(window)
    articulation, known = observed.articulation()
    return Now(
        take(observed.wrist, last_index(observed.wrist_valid)),
        observed.rotation[:, -1],
        take(articulation, last_index(known)),
        camera[:, :3, :3],
        camera[:, :3, 3],
    )


def past_of(window: Window, observed: Observed, now: Now) -> torch.Tensor:
    """(B, T, PAST_FEATURES) float32, oldest first: of each hand its place and palm as the camera of now has them, its
    keypoints in the palm, its way and turn from where it was seen last, and whether it is seen; and the picture's focal
    lengths in its widths and heights, 0 where not known. Of a hand that is not seen all is 0."""
    axes = now.axes[:, None, None]
    place = ((observed.wrist - now.origin[:, None, None])[..., None, :] @ axes)[..., 0, :]
    way = ((observed.wrist - now.wrist[:, None])[..., None, :] @ axes)[..., 0, :]
    palm = _sixd(axes.swapaxes(-1, -2) @ observed.rotation)
    turn = _sixd(now.palm[:, None].swapaxes(-1, -2) @ observed.rotation) - _STILL.numpy()
    articulation, known = observed.articulation()
    fingers = np.where(known[..., None], articulation, 0.0)[..., WRIST + 1 :, :].reshape(*place.shape[:-1], -1)
    seen, turned = observed.wrist_valid[..., None], observed.rotation_valid[..., None]
    parts = (place * seen, palm * turned, _SMALL * fingers, _SMALL * way * seen, _TURN * turn * turned, seen)
    hands = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts], axis=-1)
    hands = hands.reshape(*hands.shape[:2], -1)
    focal = np.broadcast_to(_focal_lengths(window)[:, None], (*hands.shape[:2], 2))
    made = torch.from_numpy(np.concatenate([hands, focal], axis=-1)).float()
    assert made.shape[-1] == PAST_FEATURES
    return made


def motion_in(now: Now, keypoints: np.ndarray, rotation: np.ndarray) -> torch.Tensor:
    """Futures (B, S, 2, 21, 3) m and palms (B, S, 2, 3, 3) of the window's frame as a motion (B, S, 138) float32."""
    wrist = keypoints[..., WRIST, :]
    way = ((wrist - now.wrist[:, None])[..., None, :] @ now.axes[:, None, None])[..., 0, :]
    turn = _sixd(now.palm[:, None].swapaxes(-1, -2) @ rotation) - _STILL.numpy()
    change = (keypoints - wrist[..., None, :]) @ rotation - now.articulation[:, None]
    fingers = change[..., WRIST + 1 :, :].reshape(*way.shape[:-1], -1)
    return torch.from_numpy(np.concatenate([way, turn, fingers], axis=-1)).flatten(-2).float()


def known_in(valid: np.ndarray, rotation_valid: np.ndarray, seen: np.ndarray) -> torch.Tensor:
    """Which numbers of a motion (B, S, 138) are known: keypoints `valid` (B, S, 2, 21), palms (B, S, 2), of hands that
    were seen (B, 2)."""
    seen = seen[:, None]
    wrist = (valid[..., WRIST] & seen)[..., None]
    turned = (rotation_valid & seen)[..., None]
    fingers = np.repeat(valid[..., WRIST + 1 :] & wrist & turned, 3, axis=-1)
    parts = [np.repeat(wrist, 3, axis=-1), np.repeat(turned, 6, axis=-1), fingers]
    return torch.from_numpy(np.concatenate(parts, axis=-1)).flatten(-2)


def motion_out(now: Now, motion: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The way back of `motion_in`: motions (B, K, S, 138) -> keypoints (B, K, S, 2, 21, 3) and palms
    (B, K, S, 2, 3, 3)."""
    hands = motion.double().cpu().unflatten(-1, (2, SIDE_CHANNELS))
    way, turn, change = hands.split((3, 6, 3 * _FINGERS), dim=-1)
    spread = (slice(None), None, None)
    rotation = now.palm[spread] @ matrix_from_sixd(turn + _STILL).numpy()
    moved = now.wrist[spread] + (now.axes[:, None, None, None] @ way.numpy()[..., None])[..., 0]
    articulation = np.broadcast_to(now.articulation[spread], (*rotation.shape[:-2], NUM_KEYPOINTS, 3)).copy()
    articulation[..., WRIST + 1 :, :] += change.unflatten(-1, (_FINGERS, 3)).numpy()
    keypoints = pose_hand(moved, rotation, articulation)
    keypoints[..., WRIST, :] = moved
    return keypoints, rotation


def _focal_lengths(window: Window) -> np.ndarray:
    if window.camera_matrix is None or window.images is None:
        return np.zeros((window.batch, 2))
    matrix = window.camera_matrix[:, -1].cpu().numpy()
    height, width = window.images.shape[2:4]
    return np.nan_to_num(np.stack([matrix[:, 0, 0] / width, matrix[:, 1, 1] / height], axis=-1))


def _sixd(rotation: np.ndarray) -> np.ndarray:
    return sixd_from_matrix(torch.from_numpy(np.ascontiguousarray(rotation))).numpy()
