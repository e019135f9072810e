"""`ForecastRuntime`: a forecaster by its name on the device that was asked for, warm, and moved to the CPU when that device is
not there or out of memory."""

import inspect
from collections.abc import Callable

import torch

from ..errors import UserError
from ..stream.warmup import example_window
from ..stream.window import Window
from .base import Forecast, Forecaster, ForecasterSpec, make_forecaster, presets

_WARM_UP_RUNS = 3


class ForecastRuntime:
    """One thread at a time. `device` is where the model runs now; `fallback` says why that is not what was asked for.

    `on_fallback(reason)` is called before the model is made again on the CPU, which may take seconds.
    Raises `UserError` for a device that cannot exist; one that is not there is a fall-back.
    """

    def __init__(
        self, name: str, checkpoint: str = "", device: str = "auto", on_fallback: Callable[[str], None] = lambda r: None
    ):
        self._name, self._checkpoint, self._on_fallback = name, checkpoint, on_fallback
        self._forecaster: Forecaster | None = None
        self.fallback = ""
        self.device = self._wanted(device)

    def load(self, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Make the model and run it until it is warm; its last forecast, of a made-up window."""
        options = self._options()
        self.device = options.get("device", "cpu")
        try:
            self._forecaster = make_forecaster(self._name, **options)
            for _ in range(_WARM_UP_RUNS):
                forecast = self._infer(example_window(self.spec), hypotheses, seed)
            return forecast
        except torch.OutOfMemoryError:
            self._move_to_cpu()
            return self.load(hypotheses, seed)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """At most as many hypotheses as the model gives; on the CPU from now on when the device fails at this one."""
        try:
            return self._infer(window, hypotheses, seed)
        except torch.OutOfMemoryError:
            self._move_to_cpu()
            self.load(hypotheses, seed)
            return self._infer(window, hypotheses, seed)

    @property
    def spec(self) -> ForecasterSpec:
        """That of the model that `load` made."""
        return self._forecaster.spec

    def _infer(self, window: Window, hypotheses: int, seed: int | None) -> Forecast:
        return self._forecaster.forecast(window, min(hypotheses, self.spec.max_hypotheses), seed)

    def _move_to_cpu(self) -> None:
        """Raises the error that is being handled where the CPU itself has failed."""
        if self.device == "cpu":
            raise
        self._fall_back(f"{self.device} is out of memory")

    def _fall_back(self, reason: str) -> None:
        self.fallback, self.device = f"{reason}; running on the CPU", "cpu"
        self._on_fallback(self.fallback)

    def _wanted(self, name: str) -> str:
        if name == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError:
            raise UserError(f"device is {name!r}; expected auto, cpu, cuda or cuda:N") from None
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            self._fall_back(f"{name} is not there")
            return "cpu"
        return name

    def _options(self) -> dict[str, str]:
        """The options that the forecaster's factory takes, of those that there are."""
        known = presets()
        taken = inspect.signature(known[self._name].factory).parameters if self._name in known else ()
        if self._checkpoint and "checkpoint" not in taken:
            raise UserError(f"checkpoint is {self._checkpoint!r}, but {self._name} has no weights; leave it empty")
        options = {"device": self.device, "checkpoint": self._checkpoint}
        return {option: value for option, value in options.items() if option in taken and value}
