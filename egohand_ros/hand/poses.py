"""An average human hand that can be posed: what retargeting is fitted to, shown with and benchmarked on.

Segment lengths are those of an adult of hand length 189 mm (Buryanov and Kotiuk, 2010, table 1, rounded to 1 mm).
Keypoints (21, 3) m are in the palm frame: x distal, y to the thumb on a right hand, z dorsal.
"""

import numpy as np

from ..errors import UserError
from .skeleton import FINGERS, NUM_KEYPOINTS, side_index

# Root of the finger in the palm plane (x, y), then the lengths of its three phalanges [m].
_ROOTS = {"index": (0.089, 0.024), "middle": (0.090, 0.002), "ring": (0.083, -0.018), "little": (0.074, -0.036)}
_PHALANGES = {
    "index": (0.040, 0.022, 0.016),
    "middle": (0.045, 0.026, 0.017),
    "ring": (0.041, 0.026, 0.017),
    "little": (0.033, 0.018, 0.016),
}
_THUMB = (0.046, 0.032, 0.022)
_THUMB_ROOT = np.array([0.020, 0.024, -0.010])
_SPREAD = {"index": 0.12, "middle": 0.0, "ring": -0.10, "little": -0.22}  # rad
_TIP_RADIUS = 0.007  # keypoints of a closed pinch stay two of these apart

POSES = ("open", "relaxed", "fist", "pinch_index", "pinch_middle", "pinch_ring", "pinch_little")


def hand_pose(name: str, side: str = "right") -> np.ndarray:
    """Keypoints (21, 3) m of a named pose (see `POSES`); `UserError` lists the names."""
    if name == "open":
        return posed_hand(dict.fromkeys(FINGERS, 0.03), side=side)
    if name == "relaxed":
        return posed_hand(dict.fromkeys(FINGERS, 0.35), side=side)
    if name == "fist":
        return posed_hand({"thumb": 0.75, **dict.fromkeys(FINGERS[1:], 1.35)}, spread=0.0, opposition=1.0, side=side)
    if name.startswith("pinch_") and name[6:] in FINGERS[1:]:
        return pinching_hand(name[6:], 1.0, side)
    raise UserError(f"pose {name!r} is unknown; poses: {', '.join(POSES)}")


def posed_hand(curl: dict[str, float], spread: float = 1.0, opposition: float = 0.2, side: str = "right") -> np.ndarray:
    """Keypoints (21, 3) m. `curl`: flexion of each finger's joints [rad]; `spread` 0 (parallel) to 1 (fanned out);
    `opposition` of the thumb, 0 (beside the palm) to 1 (in front of it)."""
    points = np.zeros((NUM_KEYPOINTS, 3))
    points[1:5] = _thumb(curl["thumb"], opposition)
    for i, finger in enumerate(FINGERS[1:], start=1):
        points[1 + 4 * i : 5 + 4 * i] = _finger(finger, curl[finger], spread * _SPREAD[finger])
    return mirrored(points, side)


def pinching_hand(finger: str, closed: float, side: str = "right") -> np.ndarray:
    """Thumb and `finger` on the way (0) to touching (1); the other fingers stay half open."""
    curls = dict.fromkeys(FINGERS, 0.35)
    curls[finger] = 0.35 + 0.5 * closed
    points = posed_hand(curls, opposition=0.4 + 0.6 * closed)
    tip = points[4 + 4 * FINGERS.index(finger)]
    start = points[4]
    towards = (start - tip) / np.linalg.norm(start - tip)
    goal = start + closed * (tip + 2 * _TIP_RADIUS * towards * (1.0 - 0.9 * closed) - start)
    points[1:5] = _reach(points[1:5], _THUMB, goal)
    return mirrored(points, side)


def mirrored(points: np.ndarray, side: str) -> np.ndarray:
    """A right hand's keypoints (..., 21, 3) as those of `side`."""
    return points * np.array([1.0, -1.0, 1.0]) if side_index(side) == 0 else points


def demonstration(side: str = "right", rate: float = 30.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Keypoints (T, 21, 3) m of twelve seconds: fist and back, four pinches, waving fingers; `noise` m (std)."""
    parts = [[_closing(s) for s in _there_and_back(2.0, rate)]]
    parts += [[pinching_hand(finger, s) for s in _there_and_back(1.25, rate)] for finger in FINGERS[1:]]
    parts.append([_waving(t) for t in np.arange(0.0, 3.0, 1.0 / rate)])
    frames: list[np.ndarray] = []
    for part in parts:
        if frames:
            share = np.linspace(0.0, 1.0, max(int(0.3 * rate), 2))[1:-1, None, None]
            frames += list((1.0 - share) * frames[-1] + share * part[0])
        frames += part
    path = mirrored(np.stack(frames), side)
    return path + np.random.default_rng(seed).normal(0.0, noise, path.shape) if noise else path


def _closing(s: float) -> np.ndarray:
    curl = {"thumb": 0.1 + 0.6 * s, **dict.fromkeys(FINGERS[1:], 0.05 + 1.3 * s)}
    return posed_hand(curl, spread=1.0 - s, opposition=0.2 + 0.8 * s)


def _waving(t: float) -> np.ndarray:
    curl = {f: 0.5 - 0.45 * np.cos(2 * np.pi * (t / 1.5 - 0.12 * i)) for i, f in enumerate(FINGERS)}
    return posed_hand(curl, spread=0.6, opposition=0.5)


def _there_and_back(seconds: float, rate: float) -> np.ndarray:
    t = np.arange(0.0, seconds, 1.0 / rate) / seconds
    return 0.5 - 0.5 * np.cos(2 * np.pi * t)


def _finger(finger: str, curl: float, spread: float) -> np.ndarray:
    """MCP, PIP, DIP and tip: the joints bend by curl, 1.1 curl and 0.7 curl."""
    at = np.array([*_ROOTS[finger], 0.0])
    heading = np.array([np.cos(spread), np.sin(spread), 0.0])
    points, angle = [at], 0.0
    for length, share in zip(_PHALANGES[finger], (1.0, 1.1, 0.7)):
        angle += share * curl
        at = at + length * (np.cos(angle) * heading + np.sin(angle) * np.array([0.0, 0.0, -1.0]))
        points.append(at)
    return np.array(points)


def _thumb(curl: float, opposition: float) -> np.ndarray:
    """CMC, MCP, IP and tip: the thumb swings from beside the palm to in front of it, and bends towards the fingers."""
    swing = 1.2 * opposition
    outwards = np.array([0.72, 0.69 * np.cos(swing), -0.69 * np.sin(swing)])
    inwards = np.array([0.45, -0.75 * np.cos(0.5 * swing), -0.35])
    inwards -= outwards * (inwards @ outwards) / (outwards @ outwards)
    outwards, inwards = outwards / np.linalg.norm(outwards), inwards / np.linalg.norm(inwards)
    at, points, angle = _THUMB_ROOT, [_THUMB_ROOT], 0.0
    for length, share in zip(_THUMB, (0.2, 0.9, 0.9)):
        angle += share * curl
        at = at + length * (np.cos(angle) * outwards + np.sin(angle) * inwards)
        points.append(at)
    return np.array(points)


def _reach(chain: np.ndarray, lengths, goal: np.ndarray) -> np.ndarray:
    """Bend a chain (m + 1, 3) so that its end is at the goal (FABRIK; Aristidou and Lasenby, 2011)."""
    points, root = chain.copy(), chain[0].copy()
    for _ in range(30):
        points[-1] = goal
        for i in range(len(lengths) - 1, -1, -1):
            points[i] = points[i + 1] + lengths[i] * _unit(points[i] - points[i + 1])
        points[0] = root
        for i in range(len(lengths)):
            points[i + 1] = points[i] + lengths[i] * _unit(points[i + 1] - points[i])
    return points


def _unit(v: np.ndarray) -> np.ndarray:
    return v / max(float(np.linalg.norm(v)), 1e-12)
