"""The one resampler: irregular hand observations at the times that a model asks for. Live nodes and evaluation share
it.
"""

from dataclasses import dataclass

import numpy as np

from ..geometry.rotations import slerp
from ..hand.skeleton import NUM_KEYPOINTS, WRIST

# A sample this close (s) to the asked time is that time: stamps go through nanoseconds and floats.
_SAME_TIME = 1e-6


@dataclass(frozen=True)
class HandSamples:
    """Observations of both hands at M times: keypoints (M, 2, 21, 3) m, valid (M, 2, 21), rotation (M, 2, 3, 3)
    R_frame_palm (NaN where unknown). Resampled invalid keypoints are zero and unknown rotations the identity, with
    masks that say so.
    """

    keypoints: np.ndarray
    valid: np.ndarray
    rotation: np.ndarray
    rotation_valid: np.ndarray


def resample(
    stamp: np.ndarray, keypoints: np.ndarray, valid: np.ndarray, rotation: np.ndarray, at: np.ndarray, max_gap: float
) -> HandSamples:
    """Observations at times `at` (M,) s by linear interpolation (spherical for rotations) within each hand.

    stamp (T,) s increasing, keypoints (T, 2, 21, 3) m, valid (T, 2, 21), rotation (T, 2, 3, 3) or NaN where unknown.
    A hand is interpolated between the two nearest frames in which its wrist is valid, if they are at most `max_gap` s
    apart; a keypoint is valid where it is valid in both. Outside the recorded time nothing is made up.
    """
    count = len(at)
    out = HandSamples(
        np.zeros((count, 2, NUM_KEYPOINTS, 3)),
        np.zeros((count, 2, NUM_KEYPOINTS), dtype=bool),
        np.tile(np.eye(3), (count, 2, 1, 1)),
        np.zeros((count, 2), dtype=bool),
    )
    for side in range(2):
        seen = np.flatnonzero(valid[:, side, WRIST])
        if not len(seen):
            continue
        before, after, weight, inside = bracket(stamp[seen], at, max_gap)
        before, after = seen[before], seen[after]
        w = weight[:, None, None]
        mixed = (1.0 - w) * keypoints[before, side] + w * keypoints[after, side]
        both = inside[:, None] & valid[before, side] & valid[after, side]
        out.valid[:, side] = both
        out.keypoints[:, side] = np.where(both[..., None], mixed, 0.0)
        known = (
            inside & np.isfinite(rotation[before, side]).all((1, 2)) & np.isfinite(rotation[after, side]).all((1, 2))
        )
        out.rotation_valid[:, side] = known
        out.rotation[known, side] = slerp(rotation[before[known], side], rotation[after[known], side], weight[known])
    return out


def bracket(stamp: np.ndarray, at: np.ndarray, max_gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Samples (T,) s around times (M,) s: index before, index after, weight of the later one, and whether the time lies
    between two samples at most `max_gap` s apart (or on one); outside that, nothing is known."""
    after = np.clip(np.searchsorted(stamp, at - _SAME_TIME), 0, len(stamp) - 1)
    exact = np.abs(stamp[after] - at) <= _SAME_TIME
    before = np.where(exact, after, np.maximum(after - 1, 0))
    gap = stamp[after] - stamp[before]
    inside = exact | ((stamp[before] <= at) & (at <= stamp[after]) & (gap <= max_gap + _SAME_TIME))
    weight = np.divide(at - stamp[before], gap, out=np.zeros(len(at)), where=gap > 0)
    return before, after, np.clip(weight, 0.0, 1.0), inside
