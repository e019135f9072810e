"""A filter against tracker noise that gets out of the way when the hand moves."""

from typing import Any

import numpy as np

_SPEED_CUTOFF = 1.0  # Hz, at which the speed estimate itself is filtered


class OneEuroFilter:
    """Low-pass whose cutoff grows with speed: little jitter at rest, little lag in motion (Casiez et al., CHI 2012).

    `min_cutoff` Hz at rest, `beta` Hz per (m/s) more in motion; each point (row of (N, 3)) by its own speed.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 15.0):
        self.min_cutoff, self.beta = float(min_cutoff), float(beta)
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next points."""
        self._points: np.ndarray | None = None

    def __call__(self, points: np.ndarray, dt: float) -> np.ndarray:
        """Filtered points (N, 3) m, dt seconds after the last ones. NaN rows pass and start anew."""
        if self._points is None or not dt > 0.0:
            if self._points is None:
                self._points, self._velocity = points.copy(), np.zeros_like(points)
            return self._points.copy()
        known = np.isfinite(points) & np.isfinite(self._points)
        moved = np.where(known, points - self._points, 0.0)
        self._velocity += _share(_SPEED_CUTOFF, dt) * (moved / dt - self._velocity)
        speed = np.sqrt((self._velocity * self._velocity).sum(1, keepdims=True))
        share = _share(self.min_cutoff + self.beta * speed, dt)
        self._points = np.where(known, self._points + share * moved, points)
        return self._points.copy()


def _share(cutoff: Any, dt: float) -> Any:
    """Share of the new value in a first-order low-pass with this cutoff [Hz]."""
    x = 2.0 * np.pi * cutoff * dt
    return x / (1.0 + x)
