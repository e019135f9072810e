"""A forecast at other times than those of its forecaster: the one place where horizons and rates are matched.

Forecasters see and give what they were made for (10 steps at 10 Hz, 16 at 30 Hz). Whoever wants other times, as a
protocol does, asks here; nothing is made up beyond the last step.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..errors import UserError
from ..geometry.rotations import slerp
from ..stream.window import Window
from .common.observed import Observed, last_index, take
from .common.protocol import Forecast

_SAME_TIME = 1e-6  # s


def at_times(forecast: Forecast, times: Sequence[float] | np.ndarray, window: Window) -> Forecast:
    """The forecast at `times` (S,) s after its stamp, increasing and positive.

    Keypoints, deviations and covariances are linear between two steps, rotations spherical. Before the first step the
    last observation of `window`, which the forecast came from, is the other end; deviations are those of the first
    step there, and so are vertices and the body, which are not observed. Waypoints have their own times and stay;
    MANO's parameters between steps are not known, and left out. Raises `UserError` for a time beyond the last step.
    """
    given, asked = forecast.step_times.double().cpu().numpy(), np.asarray(times, dtype=np.float64)
    if len(asked) <= len(given) and np.allclose(given[: len(asked)], asked, rtol=0.0, atol=_SAME_TIME):
        return forecast if len(asked) == len(given) else _steps(forecast, slice(0, len(asked)))
    if asked[-1] > given[-1] + _SAME_TIME:
        raise UserError(f"the forecast ends after {given[-1]:.3g} s; {asked[-1]:.3g} s is asked for")
    knots = np.concatenate([[0.0], given])
    after = np.clip(np.searchsorted(knots, asked - _SAME_TIME), 1, len(knots) - 1)
    weight = np.clip((asked - knots[after - 1]) / (knots[after] - knots[after - 1]), 0.0, 1.0)
    observed = Observed.from_window(window)
    last = take(observed.keypoints, last_index(observed.valid))[:, None, None]
    seen = observed.valid.any(axis=1)[:, None, None, ..., None]
    keypoints, rotation = _array(forecast.keypoints), _array(forecast.wrist_rotation)
    first = np.where(seen, last, keypoints[:, :, :1])
    turned = observed.rotation_valid.any(axis=1)[:, None, None, ..., None, None]
    first_rotation = np.where(turned, observed.rotation[:, None, -1:], rotation[:, :, :1])
    path = np.concatenate([np.broadcast_to(first, keypoints[:, :, :1].shape), keypoints], axis=2)
    turns = np.concatenate([np.broadcast_to(first_rotation, rotation[:, :, :1].shape), rotation], axis=2)

    def between(values: np.ndarray) -> torch.Tensor:
        share = weight.reshape(1, 1, -1, *(1,) * (values.ndim - 3))
        return torch.from_numpy((1.0 - share) * values[:, :, after - 1] + share * values[:, :, after])

    def spread(values: torch.Tensor) -> torch.Tensor:
        array = _array(values)
        return between(np.concatenate([array[:, :, :1], array], axis=2))

    start, end = turns[:, :, after - 1], turns[:, :, after]
    shares = np.broadcast_to(weight[:, None], start.shape[:-2]).ravel()
    mixed = slerp(start.reshape(-1, 3, 3), end.reshape(-1, 3, 3), shares).reshape(start.shape)
    return replace(
        forecast,
        step_times=torch.from_numpy(asked),
        keypoints=between(path),
        wrist_rotation=torch.from_numpy(mixed),
        keypoint_std=spread(forecast.keypoint_std),
        wrist_covariance=spread(forecast.wrist_covariance),
        body=None if forecast.body is None else spread(forecast.body),
        vertices=None if forecast.vertices is None else spread(forecast.vertices),
        mano=None,
    )


def _steps(forecast: Forecast, steps: slice) -> Forecast:
    per_step = ("keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance", "body", "vertices")
    cut = {name: getattr(forecast, name)[:, :, steps] for name in per_step if getattr(forecast, name) is not None}
    if forecast.mano is not None:
        pose, translation = forecast.mano.pose[:, :, steps], forecast.mano.translation[:, :, steps]
        cut["mano"] = replace(forecast.mano, pose=pose, translation=translation)
    return replace(forecast, step_times=forecast.step_times[steps], **cut)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()
