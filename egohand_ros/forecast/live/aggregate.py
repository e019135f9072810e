"""Forecasts that overlap in time -> one: what a consumer sees of them, by Temporal Orthogonal Filtering or as they
come.
"""

from dataclasses import replace

import numpy as np
import torch

from ...hand.skeleton import WRIST
from ..common.protocol import Forecast
from .temporal_filter import TemporalOrthogonalFilter

_GRID = 0.02  # s
_LONGEST_SILENCE = 0.5  # s; a hand that was away for longer comes back with nothing to average with


class ForecastAggregator:
    """Averages the most probable hypothesis of each hand over all forecasts that reach the same moment.

    `recency` s weights a forecast exp(-age / recency); None counts all alike, as published (MEgoHand). Other hypotheses
    and the deviations stay the newest forecast's. Constant time a forecast. A new `epoch` says that history is void.
    """

    def __init__(self, horizon: float, recency: float | None = None):
        self._filters = [TemporalOrthogonalFilter(horizon, min(_GRID, horizon), recency) for _ in range(2)]
        self.reset()

    def reset(self) -> None:
        """Forget every forecast."""
        self._last, self._epoch = [-np.inf, -np.inf], None
        for filter in self._filters:
            filter.reset()

    def __call__(self, forecast: Forecast, epoch: int = 0) -> Forecast:
        """A forecast (batch of one) with its first hypothesis averaged."""
        if epoch != self._epoch:
            self.reset()
            self._epoch = epoch
        stamp, times = float(forecast.stamp[0]), (forecast.stamp[0] + forecast.step_times).numpy()
        keypoints, rotation = forecast.keypoints.clone(), forecast.wrist_rotation.clone()
        for side in np.flatnonzero(forecast.valid[0, :, WRIST].numpy()):
            filter = self._filters[side]
            if not 0.0 <= stamp - self._last[side] <= _LONGEST_SILENCE:
                filter.reset()
            self._last[side] = stamp
            shown, turned = keypoints[0, 0, :, side], rotation[0, 0, :, side]
            filter.add(stamp, times, shown.double().cpu().numpy(), turned.double().cpu().numpy())
            mean, turn, known = filter.at(times)
            shown[known] = torch.from_numpy(mean[known]).to(shown)
            turned[known] = torch.from_numpy(turn[known]).to(turned)
        return replace(forecast, keypoints=keypoints, wrist_rotation=rotation)
