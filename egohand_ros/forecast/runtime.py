"""`ForecastRuntime`: a forecaster by its name, warm, on the device that was asked for, or on the CPU once that has failed."""

import contextlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from ..errors import UserError
from ..stream.warmup import example_window, example_windows
from ..stream.window import Window
from .base import Forecast, Forecaster, ForecasterSpec, make_forecaster, options_of

AUTO = "auto"
PRECISIONS = (AUTO, "float32", "bfloat16", "float16")
_WARM_UP_RUNS = 3  # a compiled model compiles, warms its memory up and records its graph
# What errors of a device say that have no type of their own.
_DEVICE_ERROR = re.compile(r"CUDA|cuDNN|cuBLAS|HIP error|device-side assert", re.IGNORECASE)
# Why an option that a factory does not take has no meaning for it.
_LACKS = {"checkpoint": "no weights", "precision": "one precision only", "compile": "nothing to compile"}


class ForecastRuntime:
    """The model of a forecaster, for one caller at a time.

    precision   of the network's arithmetic; auto is bfloat16 on a GPU that has it and float32 elsewhere
    compile     CUDA graphs, on a GPU; recorded by `load` for every mix of inputs that a window may have

    `device` is where the model runs now, `fallback` says why that is not what was asked for, and `fallbacks` counts. A
    device that is not there, is out of memory or is lost is replaced by the CPU, in float32: `on_fallback(reason)` is
    called, then the model is made again, which may take seconds, and what was to be forecast is forecast. It stays there.

    Raises `UserError` for a device that cannot exist and for options that the forecaster does not have.
    """

    def __init__(
        self,
        name: str,
        checkpoint: str = "",
        device: str = AUTO,
        precision: str = AUTO,
        compile: bool = False,
        on_fallback: Callable[[str], None] = lambda reason: None,
    ):
        self._name, self._on_fallback = name, on_fallback
        self._given = {"checkpoint": checkpoint, "precision": precision, "compile": compile}
        self._forecaster: Forecaster | None = None
        # CUDA graphs belong to the thread that recorded them, and the caller's thread is not that of `load`.
        self._thread: ThreadPoolExecutor | None = None
        self.spec: ForecasterSpec | None = None  # known after `load`
        self.fallback, self.fallbacks = "", 0
        self.device = self._wanted(device)

    def load(self, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Make the model and run it until it is warm; its last forecast, of a made-up window."""
        options = self._options()
        self.device = options.get("device", "cpu")
        if self.device != "cpu" and self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecaster_model")
        try:
            return self._run(self._make_and_warm_up, options, hypotheses, seed)
        except RuntimeError as error:
            if options.get("compile") and not device_failed(error):
                raise UserError(f"compile is True, but that fails: {_first_line(error)}; leave it at false") from error
            self._move_to_cpu(error)
        return self.load(hypotheses, seed)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """At most as many hypotheses as the model gives."""
        if self._forecaster is not None:
            try:
                return self._run(self._infer, window, hypotheses, seed)
            except RuntimeError as error:
                self._move_to_cpu(error)
        self.load(hypotheses, seed)
        return self._infer(window, hypotheses, seed)

    def close(self) -> None:
        """Let the model go."""
        self._forecaster = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _run(self, function: Callable[..., Forecast], *args) -> Forecast:
        return function(*args) if self._thread is None else self._thread.submit(function, *args).result()

    def _make_and_warm_up(self, options: dict, hypotheses: int, seed: int | None) -> Forecast:
        self._forecaster = make_forecaster(self._name, **options)
        self.spec = self._forecaster.spec
        windows = example_windows(self.spec) if options.get("compile") else [example_window(self.spec)]
        for window in windows:
            for _ in range(_WARM_UP_RUNS):
                forecast = self._infer(window, hypotheses, seed)
        return forecast

    def _infer(self, window: Window, hypotheses: int, seed: int | None) -> Forecast:
        return self._forecaster.forecast(window, min(hypotheses, self.spec.max_hypotheses), seed)

    def _move_to_cpu(self, error: RuntimeError) -> None:
        """Raises the error again where it is not the fault of a device other than the CPU."""
        if self.device == "cpu" or not device_failed(error):
            raise error
        full = isinstance(error, torch.OutOfMemoryError)
        self.close()
        if full:  # others may want the memory; a lost device can give none back
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
        self._fall_back(f"{self.device} is out of memory" if full else f"{self.device} failed: {_first_line(error)}")

    def _fall_back(self, reason: str) -> None:
        self.fallback, self.device = f"{reason}; running on the CPU", "cpu"
        self.fallbacks += 1
        self._on_fallback(self.fallback)

    def _wanted(self, name: str) -> str:
        if name == AUTO:
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError:
            raise UserError(f"device is {name!r}; expected auto, cpu, cuda or cuda:N") from None
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            self._fall_back(f"{name} is not there")
        return self.device if self.fallback else name

    def _options(self) -> dict[str, str | bool]:
        """The options to make the forecaster with: those that it takes, of those that are given."""
        taken, unset = options_of(self._name), {"checkpoint": "", "precision": AUTO, "compile": False}
        for option, value in self._given.items():
            if value != unset[option] and option not in taken:
                say = "empty" if unset[option] == "" else f"at {str(unset[option]).lower()}"
                raise UserError(f"{option} is {value!r}, but {self._name} has {_LACKS[option]}; leave it {say}")
        options = {"device": self.device, **self._given}
        if self.device == "cpu":
            options["compile"] = False
        if self.fallback:
            options["precision"] = AUTO
        elif options["precision"] == AUTO and self.device.startswith("cuda") and torch.cuda.is_bf16_supported(False):
            options["precision"] = "bfloat16"
        return {o: v for o, v in options.items() if o in taken and v != unset.get(o)}


def device_failed(error: RuntimeError) -> bool:
    """Whether an error is that of a GPU: out of memory, lost, or in a state in which nothing works any more."""
    known = isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError)
    return known or _DEVICE_ERROR.search(str(error)) is not None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
