"""`static`: the mean pose, whatever the hand does now."""

import numpy as np

from ..stream.window import Window
from .base import Forecast, ForecasterSpec, register
from .motion import Observed, assemble


class Static:
    """Holds the mean of each keypoint over the observed window, and the wrist rotation of its middle."""

    def __init__(self, step: float = 0.1, window_length: int = 20, horizon_steps: int = 10):
        self.spec = ForecasterSpec("static", step, window_length, horizon_steps)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for."""
        observed = Observed.from_window(window)
        count = np.maximum(observed.valid.sum(axis=1), 1)
        mean = observed.keypoints.sum(axis=1) / count[..., None]
        rotation = observed.rotation[:, observed.rotation.shape[1] // 2]
        return assemble(self.spec, window, observed, mean[:, None, None], rotation[:, None, None])


@register("static", "holds the mean pose of the observed window")
def static(**options) -> Static:
    return Static(**options)
