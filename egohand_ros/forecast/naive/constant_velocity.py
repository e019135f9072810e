"""`cvm`: the constant-velocity model of the hand-forecasting literature (EgoH4, EggHand: baseline "CVM")."""

import numpy as np

from ...stream.window import Window
from ..common.observed import (
    Observed,
    assemble,
    exp_rotation,
    last_and_velocity,
    last_index,
    log_rotation,
    take,
)
from ..common.protocol import Forecast, ForecasterSpec
from ..registry import register


@register("cvm", "constant velocity of each keypoint on its own")
class ConstantVelocity:
    """Every keypoint goes on, independently of the others, at the velocity between its last two observations.

    The wrist rotation goes on at the angular velocity between its last two observations.
    """

    def __init__(self, step: float = 0.1, window_length: int = 20, horizon_steps: int = 10):
        self.spec = ForecasterSpec("cvm", step, window_length, horizon_steps, minimum_observations=2)
        self._times = step * np.arange(1, horizon_steps + 1)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for."""
        observed = Observed.from_window(window)
        last, velocity, age = last_and_velocity(observed.keypoints, observed.valid, self.spec.step, span=1)
        elapsed = self._times[:, None, None] + age[:, None]
        keypoints = last[:, None] + velocity[:, None] * elapsed[..., None]
        rotation = extrapolate_rotation(observed, self.spec.step, 1, lambda time: time, self._times)
        return assemble(self.spec, window, observed, keypoints[:, None], rotation[:, None])


def extrapolate_rotation(observed: Observed, step: float, span: int, travel, times):
    """R_frame_palm (B, S, 2, 3, 3) at `times` (S,) s, turned on from the last one.

    The angular velocity is taken over `span` observations; `travel` maps elapsed s to seconds at that velocity.
    """
    last = take(observed.rotation.reshape(*observed.rotation.shape[:3], 9), last_index(observed.rotation_valid))
    last = last.reshape(*last.shape[:-1], 3, 3)
    turned = log_rotation(observed.rotation @ last[:, None].swapaxes(-1, -2))
    _, velocity, age = last_and_velocity(turned, observed.rotation_valid, step, span)
    elapsed = travel(times[:, None] + age[:, None])
    return exp_rotation(velocity[:, None] * elapsed[..., None]) @ last[:, None]
