"""Keypoint orders of other trackers, each mapped to our 21 (`skeleton.KEYPOINT_NAMES`).

An index of -1 marks a keypoint that the source does not have; it comes out as NaN and invalid.
Sources: Khronos OpenXR XR_EXT_hand_tracking; WebXR Hand Input; Project Aria MPS hand tracking documentation (HOT3D's
UmeTrack landmarks have the same order, with the palm's centre as the last one); ARKit HandSkeleton.JointName; MANO as
smplx gives it (16 joints, then the fingertips thumb to little); H2O and Ego-Exo4D: wrist, then four a finger from the
thumb on.
"""

import numpy as np

from .skeleton import NUM_KEYPOINTS

# canonical[i] = source[INDICES[i]]
CONVENTIONS: dict[str, tuple[int, tuple[int, ...]]] = {
    # name: (number of joints in the source, index of each of our 21 in it)
    "mediapipe": (21, tuple(range(21))),
    "openxr": (26, (1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 19, 20, 22, 23, 24, 25)),
    "webxr": (25, (0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19, 21, 22, 23, 24)),
    "aria_mps": (21, (5, -1, 6, 7, 0, 8, 9, 10, 1, 11, 12, 13, 2, 14, 15, 16, 3, 17, 18, 19, 4)),
    # hand, thumb knuckle to tip, then metacarpal, knuckle, intermediate base, intermediate tip and tip of each finger
    "arkit": (25, (0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19, 21, 22, 23, 24)),
    "h2o": (21, tuple(range(21))),
    "egoexo4d": (21, tuple(range(21))),
    "mano": (21, (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)),
}


def to_canonical(joints: np.ndarray, convention: str) -> np.ndarray:
    """Reorder joints (..., N, D) of a named convention into our (..., 21, D); what the source lacks is NaN.

    Raises `ValueError` for an unknown convention or a wrong number of joints.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"keypoint convention {convention!r} is unknown; known: {', '.join(sorted(CONVENTIONS))}")
    count, indices = CONVENTIONS[convention]
    joints = np.asarray(joints, dtype=np.float64)
    if joints.shape[-2] != count:
        raise ValueError(f"convention {convention!r} has {count} joints, but {joints.shape[-2]} were given")
    canonical = joints[..., list(indices), :].copy()
    canonical[..., [i for i in range(NUM_KEYPOINTS) if indices[i] < 0], :] = np.nan
    return canonical


def convention_for_count(count: int) -> str | None:
    """The convention that a joint count alone tells apart (21 mediapipe, 25 webxr, 26 openxr), otherwise None."""
    return {21: "mediapipe", 25: "webxr", 26: "openxr"}.get(count)
