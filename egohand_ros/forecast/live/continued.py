"""A slow forecaster beside a stream: the hands go on with its last forecast while it works on the newest window.

What a forecast said of later is still the best there is when the next observations come, but hands have gone on, and
not quite as was forecast. So it is moved ahead by its age, and by how far it is off the newest observation, the less
the later: a forecast begins where hands are, and ends where its forecaster said. That is ours; it costs no more than
reading the forecast at other times. Beyond its last step it stays there.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...errors import UserError
from ...stream.window import Window
from ..common.observed import Observed, exp_rotation, last_index, log_rotation, nothing, take
from ..common.protocol import Forecast, Forecaster, Waypoints
from ..options import BACKGROUND
from ..resampling import at_times
from ..vlm.thinker import Thinker, prompts_of

_FORGETS = 0.4  # s after which 1/e is left of how far a forecast was off
_ALWAYS = 1e-3  # s: every window that is newer is worked on


@dataclass(frozen=True, eq=False)
class _Made:
    """A forecast of a window of one, with that window; as a `Thinker` has it."""

    forecast: Forecast
    window: Window

    @property
    def stamp(self) -> np.ndarray:
        return self.window.stamp.cpu().numpy()

    @property
    def prompt(self) -> tuple[str, ...]:
        return prompts_of(self.window)


class ContinuedForecaster(Thinker[_Made]):
    """`forecaster` of windows of one, at its own pace in a thread of low priority. The first forecast is waited for; of
    a prompt that is new, neither hand is forecast until it has been worked on. `age` [s]: that of the last one used."""

    def __init__(self, forecaster: Forecaster):
        super().__init__(BACKGROUND, _ALWAYS, forecaster.spec.horizon)
        self.forecaster, self.spec = forecaster, forecaster.spec
        self.age = 0.0
        self._asked: tuple[int, int | None] = (1, None)
        self._failure: UserError | None = None  # of the newest window worked on

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Raises `MissingInput` as the forecaster does, and `UserError` from when the newest window fails until one
        does not."""
        self.spec.check(window)
        if self._asked[0] != hypotheses:
            self.reset()
        self._asked = hypotheses, seed
        made = self(window)
        if self._failure is not None:
            raise self._failure
        if made is None:
            return nothing(self.spec, window)
        self.age = float(window.stamp[0]) - float(made.stamp[0])
        return made.forecast if self.age <= 0.0 else continued(made.forecast, made.window, window)

    def forget(self, side: int) -> None:
        """A hand is another one now: what was forecast of both began with the old one."""
        self.reset()

    def reset(self) -> None:
        super().reset()
        if hasattr(self.forecaster, "reset"):
            self.forecaster.reset()

    def close(self) -> None:
        """Let the forecaster go, and its process if it has one."""
        self.reset()
        if hasattr(self.forecaster, "close"):
            self.forecaster.close()

    def _one(self, window: Window) -> _Made:
        return _Made(self.forecaster.forecast(window, *self._asked), window)

    def _all(self, window: Window) -> _Made:
        return self._one(window)

    def _conclude(self, window: Window, epoch: int) -> None:
        """What a process of its own ended with is for who asks next, not for the log of a thread."""
        try:
            super()._conclude(window, epoch)
            self._failure = None
        except UserError as error:
            self._failure = error


def continued(forecast: Forecast, then: Window, now: Window) -> Forecast:
    """What a forecast of the window `then` says at a later one, both of one hand each and in one frame: the same steps
    from there. Keypoints and palms of a hand that is seen now begin where it is; one that is not is not forecast."""
    age = float(now.stamp[0]) - float(forecast.stamp[0])
    steps, last = forecast.step_times.double(), float(forecast.step_times[-1])
    asked = np.clip(np.concatenate([[age], age + steps.numpy()]), 1e-6, last)
    path = _read(forecast, asked, then)
    observed = Observed.from_window(now)
    share = np.exp(-steps.numpy() / _FORGETS)
    paths, turns = path.keypoints.numpy(), path.wrist_rotation.numpy()
    off = take(observed.keypoints, last_index(observed.valid))[:, None] - paths[:, :, 0]
    off = np.where(observed.valid.any(axis=1)[:, None, ..., None], off, 0.0)
    turned = log_rotation(observed.rotation[:, -1][:, None] @ turns[:, :, 0].swapaxes(-1, -2))
    turned = np.where(observed.rotation_valid.any(axis=1)[:, None, :, None], turned, 0.0)
    keypoints = paths[:, :, 1:] + share[:, None, None, None] * off[:, :, None]
    rotation = exp_rotation(share[:, None, None] * turned[:, :, None]) @ turns[:, :, 1:]
    seen = torch.from_numpy(observed.wrist_valid.any(axis=1))[..., None]
    return replace(
        forecast,
        stamp=now.stamp.to(forecast.stamp),
        keypoints=torch.from_numpy(keypoints).to(forecast.keypoints),
        wrist_rotation=torch.from_numpy(rotation).to(forecast.wrist_rotation),
        keypoint_std=path.keypoint_std[:, :, 1:].to(forecast.keypoint_std),
        wrist_covariance=path.wrist_covariance[:, :, 1:].to(forecast.wrist_covariance),
        valid=forecast.valid & seen.to(forecast.valid.device),
        mano=None,
        waypoints=None if forecast.waypoints is None else _nearer(forecast.waypoints, age),
        **_rest(path),
    )


def _read(forecast: Forecast, asked: np.ndarray, window: Window) -> Forecast:
    """The forecast at times (S,) s that may repeat, as those beyond its last step do."""
    times, index = np.unique(asked, return_inverse=True)
    found = at_times(replace(forecast, mano=None), times, window)
    names = ("keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance", "body", "vertices")
    spread = {n: getattr(found, n)[:, :, index].double() for n in names if getattr(found, n) is not None}
    return replace(found, step_times=torch.from_numpy(asked), **spread)


def _rest(path: Forecast) -> dict[str, torch.Tensor]:
    """Body and mesh as they were forecast for then; their own place is not observed."""
    return {n: getattr(path, n)[:, :, 1:].float() for n in ("body", "vertices") if getattr(path, n) is not None}


def _nearer(waypoints: Waypoints, age: float) -> Waypoints:
    return replace(waypoints, time=(waypoints.time - age).clamp(min=0.0))
