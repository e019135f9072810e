"""A window as `egohand-small` sees it: each hand in its own wrist frame, and the Kalman forecast to be corrected.

In that frame (`frames.wrist_frames`) a hand looks the same wherever it is, however it is turned, and on both sides.
What is unknown is zero beside a flag that says so.
"""

from dataclasses import dataclass

import numpy as np

from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.window import Window
from ..common.frames import LocalFrame, wrist_frames
from ..common.observed import Observed, log_rotation
from ..naive.kalman import Extrapolation, Kalman

# Typical sizes, so that inputs are of the order of 1: positions m, velocities m in 0.1 s, palm turns rad in 0.1 s,
# fingers m and m in 0.1 s, other hand and camera m.
_POSITION, _VELOCITY, _TURN, _FINGER, _FINGER_VELOCITY, _FAR = 0.1, 0.04, 0.2, 0.05, 0.01, 0.3

OWN = 3 + 3 + 6 + 3 + 2 * 3 * (NUM_KEYPOINTS - 1) + (NUM_KEYPOINTS - 1) + 3
OTHER = 3 + 3 + 1
CAMERA = 3 + 3 + 1
GRAVITY = 3 + 1
FEATURES = OWN + OTHER + CAMERA + GRAVITY
_USUAL_STEP = 0.1  # s
# Of each step of the forecast that is corrected: wrist, and the logarithms of its deviation and of the rotation's.
BASELINE = 3 + 1 + 1


@dataclass(frozen=True)
class HandScene:
    """N = 2 B hands, row 2 b + side. T observations, S steps; geometry in each hand's frame, m.

    features (N, T, FEATURES) float32, of the observations
    baseline (N, S, BASELINE) float32, of the Kalman forecast
    wrist (N, S, 3), rotation (N, S, 3, 3) and articulation (N, S, 21, 3): the Kalman forecast
    usual_turn (N, S, 3) rad and usual_bend (N, S, 20, 3) m: from it to the mean palm and fingers of the window
    frames (N,)
    """

    features: np.ndarray
    baseline: np.ndarray
    wrist: np.ndarray
    rotation: np.ndarray
    articulation: np.ndarray
    usual_turn: np.ndarray
    usual_bend: np.ndarray
    frames: LocalFrame


def observe(window: Window, observed: Observed, baseline: Kalman) -> HandScene:
    """Everything the network needs of a window."""
    frames = wrist_frames(observed)
    side_first = lambda array: np.moveaxis(array, 2, 1)  # noqa: E731  (B, T, 2, ...) -> (B, 2, T, ...)
    expected = baseline.extrapolate(observed)
    wrist, rotation, articulation = map(side_first, (expected.wrist, expected.rotation, expected.articulation))
    wrist = frames.points_in(wrist)
    spread = [np.log(side_first(std)[..., None] / unit) for std, unit in _spreads(expected)]
    pace = _USUAL_STEP / baseline.spec.step
    parts = [
        *_own(observed, frames, side_first, pace),
        *_other(observed, frames, side_first, pace),
        *_camera(window, frames),
    ]
    features = np.concatenate(parts, axis=-1, dtype=np.float32)
    rows = lambda array: array.reshape(-1, *array.shape[2:])  # noqa: E731
    rotation, articulation = frames.rotations_in(rotation), frames.articulation(articulation)
    usual_rotation, usual_articulation, known = _usual(observed, frames, side_first)
    turn = log_rotation(usual_rotation[:, :, None] @ rotation.swapaxes(-1, -2))
    bend = np.where(known[:, :, None], usual_articulation[:, :, None] - articulation, 0.0)[..., WRIST + 1 :, :]
    return HandScene(
        rows(features),
        rows(np.concatenate([wrist / _POSITION, *spread], axis=-1, dtype=np.float32)),
        rows(wrist),
        rows(rotation),
        rows(articulation),
        rows(turn),
        rows(bend),
        LocalFrame(*(rows(array) for array in (frames.basis, frames.origin, frames.flip))),
    )


def _usual(observed: Observed, frames: LocalFrame, side_first) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean palm (B, 2, 3, 3) and fingers (B, 2, 21, 3) m of the window in each hand's frame; where a keypoint was
    seen.
    """
    articulation, seen = (side_first(array) for array in observed.articulation())
    count = seen.sum(axis=2)[..., None]
    fingers = (frames.articulation(articulation) * seen[..., None]).sum(axis=2) / np.maximum(count, 1)
    turned = side_first(observed.rotation_valid)[..., None, None]
    # The rotation nearest to the sum of all; never seen, it is the last one, which is the identity here.
    total = (frames.rotations_in(side_first(observed.rotation)) * turned).sum(axis=2)
    total = np.where(turned.any(axis=2), total, np.eye(3))
    u, _, v = np.linalg.svd(total)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ v))[..., None]
    return u @ v, fingers, count > 0


def _spreads(expected: Extrapolation) -> tuple[tuple[np.ndarray, float], ...]:
    """Deviations (B, S, 2) of a forecast and their typical sizes, m and rad."""
    return (expected.wrist_std, _VELOCITY), (expected.rotation_std, _TURN)


def _own(observed: Observed, frames: LocalFrame, side_first, pace: float) -> list[np.ndarray]:
    """The hand itself: wrist, palm and fingers with their changes (times `pace`), and what of them is known."""
    seen = side_first(observed.wrist_valid)[..., None]
    wrist = frames.points_in(side_first(observed.wrist)) * seen
    turned = side_first(observed.rotation_valid)[..., None]
    rotation = frames.rotations_in(side_first(observed.rotation))
    axes = rotation[..., :2].reshape(*rotation.shape[:-2], 6) - np.eye(3)[:, :2].ravel()
    turn = np.zeros_like(wrist)
    turn[:, :, 1:] = log_rotation(rotation[:, :, 1:] @ rotation[:, :, :-1].swapaxes(-1, -2)) * (
        turned[:, :, 1:] & turned[:, :, :-1]
    )
    articulation, known = observed.articulation()
    known = side_first(known)[..., 1:]
    fingers = frames.articulation(side_first(articulation))[..., 1:, :] * known[..., None]
    lead = fingers.shape[:3]
    return [
        wrist / _POSITION,
        pace * changes(wrist, seen) / _VELOCITY,
        axes * turned,
        pace * turn / _TURN,
        fingers.reshape(*lead, -1) / _FINGER,
        (pace * changes(fingers, known[..., None]) / _FINGER_VELOCITY).reshape(*lead, -1),
        known,
        seen,
        turned,
        np.broadcast_to(frames.flip[:, :, None, 1, 1, None] < 0, (*lead, 1)),
    ]


def _other(observed: Observed, frames: LocalFrame, side_first, pace: float) -> list[np.ndarray]:
    """The other hand's wrist, seen from this hand's frame."""
    seen = side_first(observed.wrist_valid)[:, ::-1, :, None]
    wrist = frames.points_in(side_first(observed.wrist)[:, ::-1]) * seen
    return [wrist / _FAR, pace * changes(wrist, seen) / _VELOCITY, seen]


def _camera(window: Window, frames: LocalFrame) -> list[np.ndarray]:
    """Where the head is and looks, and where down is; all unknown without camera poses."""
    lead = (window.batch, 2, window.length)
    if window.camera_pose is None:
        return [np.zeros((*lead, CAMERA + GRAVITY), dtype=np.float32)]
    pose = np.broadcast_to(window.camera_pose.cpu().numpy()[:, None], (*lead, 4, 4))
    down = np.broadcast_to(np.array([0.0, 0.0, -1.0]), (*lead, 3))
    one = np.ones((*lead, 1))
    return [
        frames.points_in(pose[..., :3, 3]) / _FAR,
        frames.vectors_in(np.ascontiguousarray(pose[..., :3, 2])),
        one,
        frames.vectors_in(down),
        one,
    ]


def changes(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Difference to the observation before (B, 2, T, ...), zero at the first and where either is not known."""
    change = np.zeros_like(values)
    change[:, :, 1:] = (values[:, :, 1:] - values[:, :, :-1]) * (known[:, :, 1:] & known[:, :, :-1])
    return change
