"""What a human hand does over the next moments, as one path that can be asked for any time.

Keypoints are kept in the palm frame: a robot hand is retargeted from the articulation alone, and straight-line
interpolation between steps would shrink a hand that turns.
"""

from dataclasses import dataclass

import numpy as np

from ...hand.palm import to_palm_frame


@dataclass(frozen=True, eq=False)
class HandPath:
    """Keypoints (P, 21, 3) m in the palm frame at increasing `times` (P,) s, NaN where unknown, and their standard
    deviation (P, 21) m, NaN where unknown. The first point is the observation where there is one."""

    times: np.ndarray
    keypoints: np.ndarray
    std: np.ndarray

    @property
    def end(self) -> float:
        """Time of the last point: the horizon."""
        return float(self.times[-1])

    def at(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (21, 3) and standard deviation (21,) at a time; the ends hold beyond the ends."""
        after = int(np.searchsorted(self.times, time, side="right"))
        if after in (0, len(self.times)):
            index = max(after - 1, 0)
            return self.keypoints[index], self.std[index]
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        before = after - 1
        keypoints = (1.0 - share) * self.keypoints[before] + share * self.keypoints[after]
        return keypoints, (1.0 - share) * self.std[before] + share * self.std[after]


def forecast_path(
    stamp: float,
    step_times: np.ndarray,
    keypoints: np.ndarray,
    std: np.ndarray,
    side: str,
    observed: np.ndarray | None = None,
    rotation: np.ndarray | None = None,
    observed_rotation: np.ndarray | None = None,
) -> HandPath:
    """The path of one hypothesis: S steps at `stamp + step_times` s, keypoints (S, 21, 3) m and std (S, 21) m.

    `observed` (21, 3) m is the pose at `stamp`, in whatever frame it was seen; it begins the path with no deviation.
    Without it the first two steps are continued back to `stamp`. `rotation` (S, 3, 3) and `observed_rotation` (3, 3)
    are R_frame_palm where they are known, NaN otherwise: they serve where the palm's keypoints do not tell (see
    `hand.palm`).
    """
    times, palm = stamp + step_times, to_palm_frame(keypoints, side, rotation)
    if observed is not None:
        first, first_std = to_palm_frame(observed, side, observed_rotation), np.where(np.isfinite(std[0]), 0.0, np.nan)
    elif len(times) > 1:
        first = palm[0] - (palm[1] - palm[0]) * (step_times[0] / (step_times[1] - step_times[0]))
        first_std = std[0]
    else:
        return HandPath(times, palm, std)
    return HandPath(np.r_[stamp, times], np.concatenate([first[None], palm]), np.concatenate([first_std[None], std]))


def observed_path(stamp: float, keypoints: np.ndarray, side: str, rotation: np.ndarray | None = None) -> HandPath:
    """The path of a live pose (21, 3) m without any forecast: it stays as it is. `rotation` as in `forecast_path`."""
    palm = to_palm_frame(keypoints, side, rotation)
    return HandPath(np.array([stamp]), palm[None], np.full((1, len(keypoints)), np.nan))
