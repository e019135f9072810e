"""The frames in which networks work, and the way there and back: window -> local -> window, in this one place.

`canonical_frame` is EgoH4's and EggHand's (DESIGN.md section 3). `wrist_frames` has one frame a hand: at its last seen
wrist and turned like its palm, mirrored for left hands, so that both hands look like right ones wherever they are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...geometry.canonical import canonical_from_camera
from ...hand.skeleton import LEFT
from ...stream.window import Window
from .observed import Observed, last_index, take

_MIRROR = np.diag([1.0, -1.0, 1.0])


@dataclass(frozen=True)
class LocalFrame:
    """An orthonormal frame (improper where it mirrors) in a window's frame, with leading axes `...`.

    basis  (..., 3, 3) its axes as columns
    origin (..., 3) m
    flip   (..., 3, 3) what mirroring does to a palm's own axes; the identity without mirroring
    """

    basis: np.ndarray
    origin: np.ndarray
    flip: np.ndarray

    def points_in(self, points: np.ndarray) -> np.ndarray:
        """Points (..., *, 3) m of the window's frame in this one; * is any number of axes."""
        return _rotate(points - _spread(self.origin, points, 1), self.basis)

    def points_out(self, points: np.ndarray) -> np.ndarray:
        """The way back of `points_in`."""
        return _rotate(points, self.basis.swapaxes(-1, -2)) + _spread(self.origin, points, 1)

    def vectors_in(self, vectors: np.ndarray) -> np.ndarray:
        """Directions (..., *, 3) of the window's frame in this one."""
        return _rotate(vectors, self.basis)

    def vectors_out(self, vectors: np.ndarray) -> np.ndarray:
        """The way back of `vectors_in`."""
        return _rotate(vectors, self.basis.swapaxes(-1, -2))

    def rotations_in(self, rotations: np.ndarray) -> np.ndarray:
        """R_window_palm (..., *, 3, 3) as R_local_palm, of the mirrored palm where the frame mirrors."""
        return _spread(self.basis.swapaxes(-1, -2), rotations, 2) @ rotations @ _spread(self.flip, rotations, 2)

    def rotations_out(self, rotations: np.ndarray) -> np.ndarray:
        """The way back of `rotations_in`."""
        return _spread(self.basis, rotations, 2) @ rotations @ _spread(self.flip, rotations, 2)

    def articulation(self, articulation: np.ndarray) -> np.ndarray:
        """Palm-frame articulation (..., *, 3) mirrored where the frame mirrors; the way there and back are the same."""
        return _rotate(articulation, self.flip)

    def covariances_out(self, covariances: np.ndarray) -> np.ndarray:
        """Covariances (..., *, 3, 3) of positions, or of rotation vectors, in the window's frame."""
        basis = _spread(self.basis, covariances, 2)
        return basis @ covariances @ basis.swapaxes(-1, -2)

    def __getitem__(self, index: Any) -> "LocalFrame":
        return LocalFrame(self.basis[index], self.origin[index], self.flip[index])


def canonical_frame(window: Window) -> LocalFrame:
    """One frame a window (B,): gravity-aligned, at the first observation's camera, x along its horizontal view.

    Without a camera pose nothing is known about gravity or the camera, and it is the window's own frame.
    """
    identity = np.broadcast_to(np.eye(3), (window.batch, 3, 3))
    if window.camera_pose is None:
        return LocalFrame(identity, np.zeros((window.batch, 3)), identity)
    T_window_canonical = canonical_from_camera(window.camera_pose[:, 0].cpu().numpy())
    return LocalFrame(T_window_canonical[:, :3, :3], T_window_canonical[:, :3, 3], identity)


def wrist_frames(observed: Observed) -> LocalFrame:
    """One frame a hand (B, 2): origin at its last valid wrist, turned like its last valid palm, left hands mirrored.

    A hand without a valid palm keeps the window's axes; one never seen has its frame at the origin.
    """
    origin = take(observed.wrist, last_index(observed.wrist_valid))
    flip = np.broadcast_to(np.eye(3), (len(origin), 2, 3, 3)).copy()
    flip[:, LEFT] = _MIRROR
    return LocalFrame(observed.rotation[:, -1] @ flip, origin, flip)


def _rotate(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """rows (..., *, 3) times matrix (..., 3, 3) from the right."""
    flat = rows.reshape(*matrix.shape[:-2], -1, 3)
    return (flat @ matrix).reshape(rows.shape)


def _spread(array: np.ndarray, like: np.ndarray, own: int) -> np.ndarray:
    """array (..., own axes) shaped to broadcast with like (..., *, own axes)."""
    lead = array.ndim - own
    return array.reshape(*array.shape[:lead], *(1,) * (like.ndim - array.ndim), *array.shape[lead:])
