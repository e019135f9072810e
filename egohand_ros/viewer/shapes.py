"""What the scene is made of, as arrays: bones, fans of paths, ellipsoids, and the robot's links."""

import math

import numpy as np
from scipy.special import gammaincinv

from ..geometry.rotations import quaternion_from_matrix
from ..hand.skeleton import BONES, NUM_KEYPOINTS
from ..images.drawing import SIDE_COLOURS
from ..messages.forecast import HandFuture
from ..robot.arm.model import ArmModel
from ..robot.hands.capsules import capsules_of
from ..robot.hands.model import HandModel

COVERAGE = 0.9
# Radius that holds as much of a Gaussian in space, from chi squared; scipy.stats would take a second to import.
ELLIPSOID_SIGMAS = math.sqrt(2.0 * gammaincinv(3 / 2, COVERAGE))
SHOWN_HYPOTHESES = 10
COLOURS = np.array(list(SIDE_COLOURS.values()), dtype=float)  # [left, right], RGB
_PALE = np.array([225.0, 225.0, 225.0])
_LATE, _UNLIKELY = 0.4, 0.5  # how far towards pale the last step goes, and the least probable hypothesis
_AWAY = np.array([0.0, 0.0, -1e4])  # where nobody looks: points that are not known


def bones(keypoints: np.ndarray) -> np.ndarray:
    """Segments (20, 2, 3) of keypoints (21, 3); those with an unknown end are points where nobody looks."""
    segments = keypoints[np.array(BONES)]
    return np.where(np.isfinite(segments).all(axis=(1, 2), keepdims=True), segments, _AWAY)


def points(keypoints: np.ndarray) -> np.ndarray:
    """The same of single keypoints (21, 3)."""
    return np.where(np.isfinite(keypoints).all(axis=-1, keepdims=True), keypoints, _AWAY)


def fan(future: HandFuture | None, wrist: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments (N, 2, 3) of the wrist's path in each hypothesis, from the observed wrist (3,) on, NaN where unknown,
    and RGB uint8 colours (N, 2, 3): paler what is later and what is less probable."""
    if future is None:
        return np.tile(_AWAY, (1, 2, 1)), np.zeros((1, 2, 3), dtype=np.uint8)
    paths = future.wrist[:SHOWN_HYPOTHESES]
    probability = future.probability[:SHOWN_HYPOTHESES]
    if np.isfinite(wrist).all():
        paths = np.concatenate([np.broadcast_to(wrist, (len(paths), 1, 3)), paths], axis=1)
    if paths.shape[1] < 2:
        paths = np.repeat(paths, 2, axis=1)
    segments = np.stack([paths[:, :-1], paths[:, 1:]], axis=2)
    late = np.linspace(0.0, _LATE, paths.shape[1])
    unlikely = _UNLIKELY * (1.0 - probability / max(probability.max(), 1e-9))
    pale = 1.0 - (1.0 - late) * (1.0 - unlikely[:, None])
    colours = (1.0 - pale[..., None]) * COLOURS[side] + pale[..., None] * _PALE
    colours = np.stack([colours[:, :-1], colours[:, 1:]], axis=2)
    return segments.reshape(-1, 2, 3), colours.reshape(-1, 2, 3).astype(np.uint8)


def ghost(future: HandFuture | None) -> np.ndarray:
    """Segments (20, 2, 3) of the hand at the last step of the most probable hypothesis."""
    last = np.full((NUM_KEYPOINTS, 3), np.nan) if future is None else future.keypoints[0, -1]
    return bones(last)


def ellipsoids(future: HandFuture | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (N, 3) m, orientations (N, 4) wxyz and half axes (N, 3) m of what holds 90 % of the wrist's positions, at
    each step of each hypothesis of which the covariance is known."""
    nothing = np.zeros((0, 3)), np.zeros((0, 4)), np.zeros((0, 3))
    if future is None:
        return nothing
    covariance = future.wrist_covariance[:SHOWN_HYPOTHESES, :, :3, :3].reshape(-1, 3, 3)
    known = np.isfinite(covariance).all(axis=(-1, -2))
    if not known.any():
        return nothing
    variances, axes = np.linalg.eigh(covariance[known])
    axes[..., 0] *= np.sign(np.linalg.det(axes))[:, None]
    centres = future.wrist[:SHOWN_HYPOTHESES].reshape(-1, 3)[known]
    return centres, wxyz(axes), ELLIPSOID_SIGMAS * np.sqrt(np.maximum(variances, 1e-10))


def inside(future: HandFuture, wrists: np.ndarray) -> np.ndarray:
    """(S,) whether the wrist (S, 3) that came true lies in the 90 % ellipsoid of the most probable hypothesis; NaN
    where either is not known."""
    covariance = future.wrist_covariance[0, :, :3, :3]
    known = np.isfinite(covariance).all(axis=(-1, -2)) & np.isfinite(wrists).all(axis=-1)
    result = np.full(len(wrists), np.nan)
    if known.any():
        off = wrists[known] - future.wrist[0, known]
        squares = np.einsum("si,si->s", off, np.linalg.solve(covariance[known], off[..., None])[..., 0])
        result[known] = squares <= ELLIPSOID_SIGMAS**2
    return result


def wxyz(rotation: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4), w first, of rotations (..., 3, 3)."""
    return np.roll(quaternion_from_matrix(rotation), 1, axis=-1)


def link_meshes(hand: HandModel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Vertices (V, 3) m and faces (F, 3) of each link's body, in the link's frame: the capsules that keep the hand from
    touching itself. Links without any are left out."""
    import trimesh

    sphere = trimesh.creation.icosphere(2, 1.0).vertices
    given, meshes = hand.config.collision.capsules, {}
    for link in dict.fromkeys([*hand.shapes, *given]):
        own = [(np.array(c[:3]), np.array(c[3:6]), c[6]) for c in given.get(link, ())]
        capsules = own or capsules_of(hand.shapes.get(link, ()))
        hulls = [trimesh.convex.convex_hull(np.concatenate([a + r * sphere, b + r * sphere])) for a, b, r in capsules]
        if hulls:
            whole = trimesh.util.concatenate(hulls)
            meshes[link] = np.asarray(whole.vertices), np.asarray(whole.faces)
    return meshes


def arm_meshes(arm: ArmModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertices (V, 3) m and faces (F, 3) of each of the arm's capsules, in MuJoCo's order and in its own frame."""
    import trimesh

    found = []
    for radius, half, _ in arm.model.geom_size:
        capsule = trimesh.creation.capsule(height=2.0 * half, radius=radius, count=(12, 12))
        found.append((np.asarray(capsule.vertices) - capsule.bounds.mean(axis=0), np.asarray(capsule.faces)))
    return found


def beside(
    hand: HandModel, wrist: np.ndarray, palm: np.ndarray, upright: np.ndarray, aside: float
) -> np.ndarray | None:
    """T_shown_base (4, 4) that puts the robot hand `aside` m to the outer side of a person's wrist (3,), turned as the
    palm, R_shown_palm (3, 3); None where these are not known. `upright` is `Moment.upright`."""
    if not (np.isfinite(wrist).all() and np.isfinite(palm).all()):
        return None
    rotation = palm @ hand.config.palm_rotation.T
    outwards = upright[:3, :3].T @ np.array([0.0, -aside if hand.side == "right" else aside, 0.0])
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = rotation, wrist + outwards
    return transform
