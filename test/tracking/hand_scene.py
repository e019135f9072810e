"""A hand of known size and pose, and what a detector that sees it would report."""

import cv2
import numpy as np

from egohand_ros.geometry.camera import Camera

HAND_LENGTH = 0.187

# Fingers as (angle in the palm, distance of the MCP from the wrist, bone lengths), for a left hand seen from its palm.
_FINGERS = (
    (0.55, 0.040, (0.033, 0.032, 0.026)),
    (0.28, 0.0905, (0.040, 0.025, 0.024)),
    (0.02, 0.0890, (0.044, 0.029, 0.025)),
    (-0.22, 0.0860, (0.040, 0.027, 0.025)),
    (-0.45, 0.0800, (0.032, 0.021, 0.023)),
)


def hand_model(side: str = "right", curl: float = 0.3) -> np.ndarray:
    """Keypoints (21, 3) m: fingers up (-y), palm to a camera that looks along z, curled by `curl` rad a joint."""
    points = [np.zeros(3)]
    for angle, reach, bones in _FINGERS:
        along = np.array([-np.sin(angle), -np.cos(angle), 0.0])
        place = reach * along
        points.append(place)
        for i, bone in enumerate(bones):
            bend = curl * (i + 1)
            place = place + bone * (np.cos(bend) * along + np.sin(bend) * np.array([0.0, 0.0, -1.0]))
            points.append(place)
    model = np.array(points)
    return model * [-1.0, 1.0, 1.0] if side == "right" else model


def palm_size(points: np.ndarray) -> float:
    """Mean length, m, of the bones that do not bend."""
    bones = [(0, 5), (0, 9), (0, 13), (0, 17), (5, 17)]
    return float(np.mean([np.linalg.norm(points[b] - points[a]) for a, b in bones]))


def rotation(*vector: float) -> np.ndarray:
    return cv2.Rodrigues(np.array(vector, dtype=float))[0]


def random_hand(rng: np.random.Generator, side: str = "right") -> np.ndarray:
    """Keypoints (21, 3) m in a camera's optical frame, 0.25 to 0.9 m away and up to 30 degrees off its axis."""
    spin = cv2.Rodrigues(rng.normal(size=3) * [0.5, 0.5, 1.0])[0]
    model = hand_model(side, rng.uniform(0.1, 0.9)) @ spin.T
    depth = rng.uniform(0.25, 0.9)
    return model + np.array([*(rng.uniform(-0.5, 0.5, 2) * depth), depth]) - model.mean(0)


def report(
    keypoints: np.ndarray,
    camera: Camera,
    rng: np.random.Generator | None = None,
    pixel_noise: float = 0.0,
    tilt: float = 0.0,
    scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """(world (21, 3) m, landmarks (21, 2) px) of a detector that knows the hand's shape, but not where it is.

    World landmarks are centred, `scale` times too large, and turned as for a camera that looks straight at the hand,
    up to an error of `tilt` rad.
    """
    centre = keypoints.mean(0)
    axis = np.array([-centre[1], centre[0], 0.0])
    angle = np.arctan2(np.linalg.norm(axis), centre[2])
    view = rotation(*(axis / max(np.linalg.norm(axis), 1e-12) * angle))
    error = rotation(*(rng.normal(size=3) * tilt)) if tilt else np.eye(3)
    world = (keypoints - centre) @ view @ error.T * scale
    landmarks = camera.project(keypoints)
    if pixel_noise:
        landmarks = landmarks + rng.normal(scale=pixel_noise, size=landmarks.shape)
    return world, landmarks
