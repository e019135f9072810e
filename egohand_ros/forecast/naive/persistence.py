"""`persistence`: the future is the last observation. The baseline that every other forecaster has to beat."""

from ...stream.window import Window
from ..common.observed import Observed, assemble, last_index, take
from ..common.protocol import Forecast, ForecasterSpec
from ..registry import register


@register("persistence", "repeats the last observation")
class Persistence:
    """Holds each keypoint, and each wrist rotation, where it was last seen in the window."""

    def __init__(self, step: float = 0.1, window_length: int = 20, horizon_steps: int = 10):
        self.spec = ForecasterSpec("persistence", step, window_length, horizon_steps)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for."""
        observed = Observed.from_window(window)
        held = take(observed.keypoints, last_index(observed.valid))
        return assemble(self.spec, window, observed, held[:, None, None], observed.rotation[:, -1][:, None, None])
