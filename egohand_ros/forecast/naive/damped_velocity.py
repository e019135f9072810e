"""`damped`: the hand goes on and comes to rest, its speed decaying exponentially."""

import numpy as np

from ...stream.window import Window
from ..common.observed import (
    Observed,
    assemble,
    damped_displacement,
    last_and_velocity,
    pose_hand,
)
from ..common.protocol import Forecast, ForecasterSpec
from ..registry import register
from .constant_velocity import extrapolate_rotation


@register("damped", "velocity that decays to rest")
class DampedVelocity:
    """Wrist path, wrist rotation and articulation each go on with a velocity that decays as exp(-t / time constant).

    The articulation is extrapolated in the palm frame, so that fingers turn with the wrist. Time constants in s.
    """

    def __init__(
        self,
        step: float = 0.1,
        window_length: int = 20,
        horizon_steps: int = 10,
        position_time_constant: float = 0.2,
        rotation_time_constant: float = 0.11,
        articulation_time_constant: float = 0.06,
    ):
        self.spec = ForecasterSpec("damped", step, window_length, horizon_steps, minimum_observations=2)
        self._times = step * np.arange(1, horizon_steps + 1)
        self._position = position_time_constant
        self._rotation = rotation_time_constant
        self._articulation = articulation_time_constant

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for."""
        observed = Observed.from_window(window)
        wrist, rotation, articulation = self.extrapolate(observed)
        keypoints = pose_hand(wrist, rotation, articulation)
        return assemble(self.spec, window, observed, keypoints[:, None], rotation[:, None])

    def extrapolate(self, observed: Observed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wrist (B, S, 2, 3) m, R_frame_palm (B, S, 2, 3, 3) and palm-frame articulation (B, S, 2, 21, 3) m."""
        wrist = self._extrapolate(observed.wrist, observed.wrist_valid, self._position)
        articulation = self._extrapolate(*observed.articulation(), self._articulation)
        rotation = extrapolate_rotation(
            observed, self.spec.step, 1, lambda time: damped_displacement(time, self._rotation), self._times
        )
        return wrist, rotation, articulation

    def _extrapolate(self, values, valid, time_constant):
        last, velocity, age = last_and_velocity(values, valid, self.spec.step, span=1)
        elapsed = self._times.reshape(-1, *(1,) * (age.ndim - 1)) + age[:, None]
        return last[:, None] + velocity[:, None] * damped_displacement(elapsed, time_constant)[..., None]
