"""Movement primitives: paths as sums of minimum-jerk steps, movement times, sway and tremor."""

import numpy as np

from ...geometry.minimum_jerk import minimum_jerk


def fitts_time(distance: float, width: float, offset: float = 0.28, slope: float = 0.11) -> float:
    """Movement time in s to a target `width` m wide at `distance` m (Fitts 1954), typical constants for reaching."""
    return offset + slope * max(0.0, np.log2(2.0 * distance / width + 1e-9))


class Steps:
    """A path of C coordinates: a start value plus minimum-jerk steps, which may overlap and then blend smoothly."""

    def __init__(self, start: np.ndarray):
        self.start = np.asarray(start, dtype=np.float64)
        self.end = self.start.copy()
        self._onset: list[float] = []
        self._duration: list[float] = []
        self._delta: list[np.ndarray] = []

    def move(self, target: np.ndarray, onset: float, duration: float) -> None:
        """Go to `target` (C,), whose NaN coordinates stay as they are, from time `onset` for `duration` s."""
        target = np.asarray(target, dtype=np.float64)
        self.add(np.where(np.isfinite(target), target - self.end, 0.0), onset, duration)

    def add(self, delta: np.ndarray, onset: float, duration: float) -> None:
        """Shift by `delta` (C,)."""
        self._onset.append(onset)
        self._duration.append(max(duration, 1e-3))
        self._delta.append(delta)
        self.end = self.end + delta

    def at(self, times: np.ndarray) -> np.ndarray:
        """The path (T, C) at times (T,) s."""
        if not self._delta:
            return np.tile(self.start, (len(times), 1))
        onset, duration = np.array(self._onset), np.array(self._duration)
        progress = minimum_jerk((times[:, None] - onset) / duration)
        return self.start + progress @ np.stack(self._delta)


def smooth_noise(
    times: np.ndarray, channels: int, low: float, high: float, std: float, rng: np.random.Generator
) -> np.ndarray:
    """Band-limited noise (T, channels) between `low` and `high` Hz with standard deviation `std`: a sum of
    sinusoids.
    """
    waves = 12
    frequency = np.exp(rng.uniform(np.log(low), np.log(high), (waves, channels)))
    phase = rng.uniform(0.0, 2.0 * np.pi, (waves, channels))
    signal = np.sin(2.0 * np.pi * frequency * times[:, None, None] + phase).sum(axis=1)
    return std * signal * np.sqrt(2.0 / waves)
