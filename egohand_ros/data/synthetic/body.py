"""A body for the person of a scene, and a person who looks around: what EgoH4 is trained on, in miniature.

The body is a seated figure that goes with head and wrists. Nothing in it is measured, and it says nothing of a hand
that head and wrists do not; a real body's does.
"""

import numpy as np

from ...geometry.rotations import exp_rotation
from ...hand.skeleton import LEFT, RIGHT, WRIST
from .motion import Steps
from .render import elbow_position
from .scene import Scene

# m, from the head camera: x right, y down, z ahead.
_HEAD = {
    "nose": (0.0, 0.05, -0.01),
    "left_eye": (-0.032, 0.015, -0.03),
    "right_eye": (0.032, 0.015, -0.03),
    "left_ear": (-0.075, 0.03, -0.11),
    "right_ear": (0.075, 0.03, -0.11),
}
_FOLLOWS = 0.6  # share of the head's sway that the shoulders have
_HIP_WIDTH, _TORSO, _THIGH, _SHANK = 0.26, 0.48, 0.42, 0.43  # m
# rad that somebody turns the head aside, and up; s between two looks, of turning, and of staying there.
_ASIDE, _UP = (0.4, 1.4), (0.2, 1.0)
_BETWEEN, _TURNING, _STAYING = 2.0, (0.4, 0.8), (0.5, 2.0)


def seated_body(scene: Scene) -> tuple[np.ndarray, tuple[str, ...]]:
    """Joints (T, 15, 3) m of a body in the world frame, and their names (COCO's without the wrists)."""
    camera, joints = scene.T_world_camera, {}
    for name, place in _HEAD.items():
        joints[name] = camera[:, :3, :3] @ np.array(place) + camera[:, :3, 3]
    sway = camera[:, :3, 3] - camera[:, :3, 3].mean(axis=0)
    for side, word in ((LEFT, "left"), (RIGHT, "right")):
        shoulder = scene.person.shoulder(side) + _FOLLOWS * sway
        out = np.sign(scene.person.shoulder(side)[1])
        hip = np.array([scene.person.shoulder(side)[0], out * _HIP_WIDTH / 2, 0.0]) + 0.2 * sway
        hip[:, 2] = scene.person.shoulder(side)[2] - _TORSO
        wrists = scene.keypoints[:, side, WRIST]
        joints[f"{word}_shoulder"] = shoulder
        joints[f"{word}_elbow"] = np.stack([elbow_position(w, s) for w, s in zip(wrists, shoulder, strict=True)])
        joints[f"{word}_hip"] = hip
        joints[f"{word}_knee"] = hip + [_THIGH, 0.04 * out, 0.0]
        joints[f"{word}_ankle"] = hip + [_THIGH, 0.04 * out, -_SHANK]
    return np.stack(list(joints.values()), axis=1), tuple(joints)


def looking_around(scene: Scene, seed: int) -> np.ndarray:
    """T_world_camera (T, 4, 4) of somebody who now and then turns the head away from what the hands do."""
    rng = np.random.default_rng([seed, 0x100C])
    turn, time, stamp = Steps(np.zeros(2)), float(rng.uniform(0.0, _BETWEEN)), scene.stamp - scene.stamp[0]
    while time < stamp[-1]:
        aside = rng.uniform(*_ASIDE) * rng.choice([-1.0, 1.0])
        for target in (np.array([aside, rng.uniform(*_UP)]), np.zeros(2)):
            duration = float(rng.uniform(*_TURNING))
            turn.move(target, time, duration)
            time += duration + (float(rng.uniform(*_STAYING)) if target.any() else 0.0)
        time += float(rng.exponential(_BETWEEN))
    aside, up = turn.at(stamp).T
    pose = scene.T_world_camera.copy()
    about_z, about_x = np.zeros((2, len(stamp), 3))
    about_z[:, 2], about_x[:, 0] = aside, up  # the world's vertical, the camera's own axis to the right
    pose[:, :3, :3] = exp_rotation(about_z) @ pose[:, :3, :3] @ exp_rotation(about_x)
    return pose
