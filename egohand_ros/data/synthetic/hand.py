"""A kinematic hand of individual size: 20 joint angles -> 21 keypoints with constant bone lengths.

Angles are (5 fingers, 4): abduction, then flexion of the three joints (thumb: CMC, MCP, IP), rad. Segment lengths as
fractions of hand length: Buchholz, Armstrong and Goldstein 1992, table 3. Poses are made for a right hand in its palm
frame and mirrored in y for a left one.
"""

from dataclasses import dataclass

import numpy as np

from ...hand.skeleton import LEFT, NUM_KEYPOINTS, SIDES

NUM_ANGLES = 20

# Distance from the wrist to the MCP, then the three phalanges; thumb: from its CMC. Fractions of hand length.
_METACARPAL = np.array([0.0, 0.463, 0.446, 0.421, 0.414])
_PHALANGES = np.array(
    [[0.251, 0.196, 0.158], [0.245, 0.143, 0.097], [0.266, 0.170, 0.108], [0.244, 0.165, 0.107], [0.204, 0.117, 0.093]]
)
# Direction of each metacarpal in the palm plane, rad from x towards the thumb, and how far the arch lowers its head.
_FAN = np.radians([0.0, 14.0, 2.0, -10.0, -21.0])
_ARCH = np.array([0.0, -0.010, 0.0, -0.006, -0.028])
_THUMB_CMC = np.array([0.085, 0.105, -0.05])
# The thumb points along the first at zero flexion and bends towards the second.
_THUMB_ALONG, _THUMB_BEND = np.array([0.72, 0.62, -0.30]), np.array([0.30, -0.80, -0.45])


def _posture(abduction, mcp, pip, dip) -> np.ndarray:
    return np.radians(np.stack([abduction, mcp, pip, dip], axis=-1)).ravel()


# Finger order thumb, index, middle, ring, little; degrees.
POSTURES: dict[str, np.ndarray] = {
    "rest": _posture([2, 3, 0, -2, -5], [14, 22, 24, 26, 28], [18, 28, 32, 34, 34], [20, 15, 18, 18, 18]),
    "open": _posture([18, 9, 1, -7, -15], [-8, 2, 0, 2, 4], [0, 8, 8, 8, 10], [0, 4, 4, 4, 5]),
    "preshape": _posture([26, 6, 1, -4, -9], [8, 14, 14, 15, 18], [14, 26, 28, 28, 28], [14, 12, 14, 14, 14]),
    "power": _posture([20, 3, 0, -2, -5], [26, 42, 46, 50, 54], [28, 52, 56, 56, 54], [34, 28, 30, 30, 30]),
    "pinch": _posture([22, 2, 0, -3, -6], [26, 46, 40, 32, 28], [22, 42, 40, 36, 36], [28, 24, 22, 20, 20]),
    "tripod": _posture([22, 3, -1, -4, -8], [28, 44, 46, 56, 58], [22, 44, 46, 62, 62], [28, 24, 26, 34, 34]),
    "flat": _posture([4, 2, 0, -2, -3], [4, 3, 2, 3, 4], [4, 6, 6, 6, 6], [4, 3, 3, 3, 3]),
    "point": _posture([10, 2, 0, -3, -6], [30, 6, 62, 66, 66], [36, 8, 74, 76, 74], [36, 4, 42, 42, 42]),
    "fist": _posture([12, 0, 0, -2, -4], [36, 66, 72, 74, 74], [44, 84, 88, 88, 86], [48, 48, 50, 50, 50]),
}


@dataclass(frozen=True)
class HandShape:
    """Segment lengths of one person's hand in m: metacarpals (5,), phalanges (5, 3), thumb CMC (3,) in the palm."""

    length: float
    metacarpal: np.ndarray
    phalanges: np.ndarray
    thumb_cmc: np.ndarray
    fan: np.ndarray

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "HandShape":
        """An adult hand: length 0.187 +- 0.011 m, with proportions of its own."""
        length = float(np.clip(rng.normal(0.187, 0.011), 0.160, 0.215))
        return cls(
            length,
            length * _METACARPAL * rng.normal(1.0, 0.03, 5),
            length * _PHALANGES * rng.normal(1.0, 0.04, (5, 1)) * rng.normal(1.0, 0.02, (5, 3)),
            length * _THUMB_CMC * rng.normal(1.0, 0.05, 3),
            _FAN * rng.normal(1.0, 0.06),
        )

    @classmethod
    def mean(cls, length: float = 0.187) -> "HandShape":
        """The hand of which those of people are variations."""
        return cls(length, length * _METACARPAL, length * _PHALANGES, length * _THUMB_CMC, _FAN.copy())

    def keypoints(self, angles: np.ndarray, side: int) -> np.ndarray:
        """Keypoints (..., 21, 3) m in the palm's axes, wrist at the origin, of angles (..., 20) rad."""
        angles = np.asarray(angles).reshape(*np.shape(angles)[:-1], 5, 4)
        abduction, flexion = angles[..., 0], np.cumsum(angles[..., 1:], axis=-1)
        along, bend = self._axes(abduction)
        direction = np.cos(flexion)[..., None] * along[..., None, :] + np.sin(flexion)[..., None] * bend[..., None, :]
        joints = np.cumsum(self.phalanges[..., None] * direction, axis=-2) + self.bases()[:, None]
        bases = np.broadcast_to(self.bases()[:, None], (*joints.shape[:-2], 1, 3))
        chains = np.concatenate([bases, joints], axis=-2)
        points = np.zeros((*joints.shape[:-3], NUM_KEYPOINTS, 3))
        points[..., 1:, :] = chains.reshape(*joints.shape[:-3], NUM_KEYPOINTS - 1, 3)
        if side == LEFT:
            points[..., 1] = -points[..., 1]
        return points

    def bases(self) -> np.ndarray:
        """Thumb CMC and the four MCPs (5, 3) in the palm's axes of a right hand."""
        head = self.metacarpal[:, None] * np.stack([np.cos(self.fan), np.sin(self.fan), np.zeros(5)], axis=-1)
        head[:, 2] += _ARCH * self.length
        head[0] = self.thumb_cmc
        return head

    def _axes(self, abduction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each finger's direction when straight, and the direction it bends to: (..., 5, 3) twice."""
        heading = 0.5 * self.fan + abduction
        zero, one = np.zeros_like(heading), np.ones_like(heading)
        along = np.stack([np.cos(heading), np.sin(heading), zero], axis=-1)
        bend = np.stack([zero, zero, -one], axis=-1)
        # The thumb abducts out of the palm: from lying along it towards the palmar direction.
        turn = abduction[..., 0, None]
        straight = _THUMB_ALONG / np.linalg.norm(_THUMB_ALONG)
        palmar = np.array([0.0, 0.0, -1.0]) - straight * -straight[2]
        thumb = np.cos(turn) * straight + np.sin(turn) * palmar / np.linalg.norm(palmar)
        across = _THUMB_BEND - (thumb * _THUMB_BEND).sum(axis=-1, keepdims=True) * thumb
        along[..., 0, :] = thumb
        bend[..., 0, :] = across / np.linalg.norm(across, axis=-1, keepdims=True)
        return along, bend


def posture(name: str, rng: np.random.Generator, variation: float = 0.05) -> np.ndarray:
    """Angles (20,) of a named posture as one person takes it once: whole-hand and per-finger variation, rad."""
    base = POSTURES[name].reshape(5, 4)
    flexed = base[:, 1:] * rng.normal(1.0, variation) + rng.normal(0.0, variation, (5, 1)) * np.array([1.0, 0.9, 0.5])
    return np.concatenate([base[:, :1] + rng.normal(0.0, variation / 2, (5, 1)), flexed], axis=-1).ravel()


def side_sign(side: int) -> float:
    """+1 for the right hand and -1 for the left one: y, yaw and roll of a mirrored pose change sign by it."""
    return -1.0 if SIDES[side] == "left" else 1.0
