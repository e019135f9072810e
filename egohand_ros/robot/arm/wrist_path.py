"""`WristPath`: where a human wrist is over the next moments, as one path that can be asked for any time."""

from dataclasses import dataclass

import numpy as np

from ...errors import RejectedInput
from ...geometry.rotations import slerp
from ...geometry.transforms import make_transform


@dataclass(frozen=True, eq=False)
class WristPath:
    """`position` (P, 3) m and `rotation` R_frame_palm (P, 3, 3) at increasing `times` (P,) s, and the standard
    deviation `std` (P,) m of the position, NaN where unknown. The first point is the observation where there is one.

    Raises `RejectedInput`: non_finite.
    """

    times: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        finite = all(np.isfinite(x).all() for x in (self.times, self.position, self.rotation))
        if not finite or not len(self.times) or (np.diff(self.times) <= 0.0).any():
            raise RejectedInput("non_finite", "a wrist pose is NaN or infinite, or its times do not increase")

    @property
    def end(self) -> float:
        """Time of the last point: the horizon."""
        return float(self.times[-1])

    def at(self, time: float) -> np.ndarray:
        """T_frame_palm (4, 4) at a time; the ends hold beyond the ends."""
        before, after, share = self._around(time)
        position = (1.0 - share) * self.position[before] + share * self.position[after]
        weight = np.array([share])
        return make_transform(slerp(self.rotation[[before]], self.rotation[[after]], weight)[0], position)

    def std_at(self, time: float) -> float:
        """Standard deviation in m at a time, NaN where it is not known."""
        before, after, share = self._around(time)
        return float((1.0 - share) * self.std[before] + share * self.std[after])

    def _around(self, time: float) -> tuple[int, int, float]:
        after = int(np.searchsorted(self.times, time, side="right"))
        if after in (0, len(self.times)):
            return max(after - 1, 0), max(after - 1, 0), 0.0
        before = after - 1
        return before, after, float((time - self.times[before]) / (self.times[after] - self.times[before]))


def wrist_path(
    stamp: float,
    step_times: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    std: np.ndarray,
    observed: np.ndarray | None = None,
) -> WristPath:
    """The path of one hypothesis: S steps at `stamp + step_times` s, `position` (S, 3) m, `rotation` (S, 3, 3) and
    `std` (S,) m. `observed` T_frame_palm (4, 4) is the pose at `stamp`, which then begins the path. Raises as
    `WristPath` does."""
    times = stamp + np.asarray(step_times, dtype=float)
    if observed is None:
        return WristPath(times, position, rotation, std)
    return WristPath(
        np.r_[stamp, times],
        np.concatenate([observed[None, :3, 3], position]),
        np.concatenate([observed[None, :3, :3], rotation]),
        np.r_[0.0, std],
    )


def observed_wrist(stamp: float, pose: np.ndarray) -> WristPath:
    """The path of a live pose T_frame_palm (4, 4) without any forecast: it stays as it is."""
    return WristPath(np.array([stamp]), pose[None, :3, 3], pose[None, :3, :3], np.full(1, np.nan))
