"""Where a robot hand is to be at a moment of a forecast."""

import math
from typing import Any, Protocol

import numpy as np

from ...errors import UserError
from ...hand.skeleton import SIDES, WRIST, side_index
from ..follow.hand_path import forecast_path
from ..hands.config import DRIVING_OBJECTIVE
from ..hands.model import HandModel
from .retargeter import Retargeter, RetargetResult

_SETTLED, _MOST_SOLVES = 1e-4, 60  # rad; solves take about 0.5 ms


class Futures(Protocol):
    """The part of a forecast that is looked at; B windows, K hypotheses, S steps. Arrays, or tensors on the CPU.

    stamp (B,) s; step_times (S,) s from it; keypoints (B, K, S, 2, 21, 3) m; keypoint_std (B, K, S, 2, 21) m;
    valid (B, 2, 21)
    """

    stamp: Any
    step_times: Any
    keypoints: Any
    keypoint_std: Any
    valid: Any


class ForecastRetargeter:
    """Retargets moments of forecasts, in any order, and live poses.

    A moment is solved from the pose before it, so that moments that follow each other give poses that do, and until the
    pose settles: a live solve stays near the pose before, and would answer by what was asked last. Nor does a leap of
    keypoints count as a tracking error here, since one moment of a forecast may lie far from another.
    """

    def __init__(self, hand: HandModel, side: str | None = None, objective: str = DRIVING_OBJECTIVE):
        self.retargeter = Retargeter(hand, side, objective, jump=math.inf)

    @property
    def hand(self) -> HandModel:
        return self.retargeter.hand

    def solve(self, keypoints: np.ndarray, valid: np.ndarray | None = None) -> RetargetResult:
        """The pose for keypoints (21, 3) m in any frame, of which `valid` (21,) are known."""
        return self.retargeter.solve(keypoints, valid)

    def at(self, forecast: Futures, time: float, hypothesis: int = 0, window: int = 0) -> RetargetResult:
        """The pose `time` s after the last observation of a window, between steps by interpolation in the palm frame.

        Before the first step, the first two are continued backwards; `time` beyond the horizon is a `UserError`, as is
        a hand that is not forecast.
        """
        side, horizon = self.retargeter.side, float(forecast.step_times[-1])
        if not 0.0 <= time <= horizon + 1e-9:
            raise UserError(f"time {time:g} s is not in the forecast; expected 0 to {horizon:g} s")
        number = side_index(side)
        if not bool(forecast.valid[window, number, WRIST]):
            seen = [s for s in SIDES if bool(forecast.valid[window, side_index(s), WRIST])]
            raise UserError(f"the {side} hand is not forecast; the forecast has {', '.join(seen) or 'none'}")
        path = forecast_path(
            0.0,
            np.asarray(forecast.step_times, dtype=float),
            np.asarray(forecast.keypoints[window, hypothesis, :, number], dtype=float),
            np.asarray(forecast.keypoint_std[window, hypothesis, :, number], dtype=float),
            side,
        )
        keypoints, _ = path.at(time)
        known = np.asarray(forecast.valid[window, number])
        for _ in range(_MOST_SOLVES):
            before, result = self.retargeter.q, self.retargeter.solve(keypoints, known)
            if np.abs(result.q - before).max() < _SETTLED:
                break
        return result
