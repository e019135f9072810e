"""`ForecastRuntime`: a forecaster by its name, warm, on the device that was asked for, or on the CPU once that has
failed.
"""

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import torch

from ...errors import UserError
from ...stream.warmup import example_window, example_windows
from ...stream.window import Window
from ..common.protocol import Forecast, Forecaster, ForecasterSpec
from ..external.forecaster import ExternalForecaster
from ..options import AUTO, BACKGROUND, REASONING
from ..registry import is_slow, make_forecaster, options_of
from .continued import ContinuedForecaster
from .separate import SeparateForecaster

_WARM_UP_RUNS = 3  # a compiled model compiles, warms its memory up and records its graph
_STREAM = 1.0 / 30.0  # s between the observations of a tracker
# What errors of a device say that have no type of their own.
_DEVICE_ERROR = re.compile(r"CUDA|cuDNN|cuBLAS|HIP error|device-side assert", re.IGNORECASE)
# Why an option that a factory does not take has no meaning for it.
_LACKS = {
    "checkpoint": "no weights",
    "mano": "no use for MANO",
    "precision": "one precision only",
    "compile": "nothing to compile",
}


class ForecastRuntime:
    """The model of a forecaster, for one caller at a time.

    precision   of the network's arithmetic; auto is bfloat16 on a GPU that has it and float32 elsewhere
    mano        folder of the user's MANO files, for forecasters that give a mesh
    background  forecasters that reason do so beside the stream: the same window may then be forecast by another
                thought; and slow ones, on a CPU, work beside it altogether (`ContinuedForecaster`), learned ones
                in a process of their own (`SeparateForecaster`)
    compile     CUDA graphs, on a GPU; recorded by `load` for every mix of inputs that a window may have
    timeout     s after which a device that does not answer counts as hung, for as many hypotheses as it has given
                before; 0: never

    `device` is where the model runs now, `fallback` says why that is not what was asked for, and `fallbacks` counts. A
    device that is not there, is out of memory, is lost or hangs is replaced by the CPU, in float32:
    `on_fallback(reason)` is called, then the model is made again, which may take seconds, and what was to be forecast
    is forecast. It stays there.

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
        timeout: float = 0.0,
        mano: str = "",
        background: bool = False,
    ):
        self._background = background
        self._name, self._on_fallback, self._timeout = name, on_fallback, timeout
        self._given = {"checkpoint": checkpoint, "precision": precision, "compile": compile, "mano": mano}
        self._forecaster: Forecaster | None = None
        # CUDA graphs belong to the thread that recorded them, and the caller's thread is not that of `load`.
        self._thread: _DeviceThread | None = None
        self._warm_for: set[int] = set()  # numbers of hypotheses; a new one may have a graph to be compiled for
        self.spec: ForecasterSpec | None = None  # known after `load`
        self.fallback, self.fallbacks = "", 0
        self.device = self._wanted(device)

    def load(self, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Make the model and run it until it is warm; its last forecast, of a made-up window."""
        options = self._options()
        self.device = options.get("device", "cpu")
        if self.device != "cpu" and self._thread is None:
            self._thread = _DeviceThread()
        try:
            forecast = self._run(None, self._make_and_warm_up, options, hypotheses, seed)
            self._warm_for = {hypotheses}
            return forecast
        except RuntimeError as error:
            if options.get("compile") and not device_failed(error):
                raise UserError(f"compile is True, but that fails: {_first_line(error)}; leave it at false") from error
            self._move_to_cpu(error)
        return self.load(hypotheses, seed)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """At most as many hypotheses as the model gives."""
        if self._forecaster is not None:
            try:
                timeout = self._timeout if hypotheses in self._warm_for else 0.0
                forecast = self._run(timeout or None, self._infer, window, hypotheses, seed)
                self._warm_for.add(hypotheses)
                return forecast
            except RuntimeError as error:
                self._move_to_cpu(error)
        self.load(hypotheses, seed)
        return self._infer(window, hypotheses, seed)

    def forget(self, side: int | None = None) -> None:
        """History is void: of everything, as after a jump of the clock, or of a hand that is another one now. What has
        no memory forgets nothing.
        """
        if side is None and hasattr(self._forecaster, "reset"):
            self._forecaster.reset()
        elif side is not None and hasattr(self._forecaster, "forget"):
            self._forecaster.forget(side)

    @property
    def age(self) -> float | None:
        """s, of the forecast that hands go on with now; None where every window has its own."""
        return self._forecaster.age if isinstance(self._forecaster, ContinuedForecaster) else None

    def close(self) -> None:
        """Let the model go, and its process if it has one."""
        if isinstance(self._forecaster, ContinuedForecaster):
            self._forecaster.close()
        self._forecaster = None
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _run(self, timeout: float | None, function: Callable[..., Forecast], *args) -> Forecast:
        return function(*args) if self._thread is None else self._thread.call(timeout, function, *args)

    def _make_and_warm_up(self, options: dict, hypotheses: int, seed: int | None) -> Forecast:
        beside = self._background and self.device == "cpu"
        apart = beside and is_slow(self._name)
        forecaster = SeparateForecaster(self._name, options) if apart else make_forecaster(self._name, **options)
        self.spec, self._forecaster = forecaster.spec, forecaster
        if beside and self._is_slow(forecaster, hypotheses, seed):
            self._forecaster = ContinuedForecaster(forecaster)
        windows = example_windows(self.spec) if options.get("compile") else [example_window(self.spec)]
        for window in windows:
            for _ in range(_WARM_UP_RUNS):
                forecast = self._infer(window, hypotheses, seed)
        return forecast

    def _is_slow(self, forecaster: Forecaster, hypotheses: int, seed: int | None) -> bool:
        """By its own word; a process that does not say is timed, and slow where none of its first answers comes within
        the time between observations."""
        if self.spec.slow or not isinstance(forecaster, ExternalForecaster) or forecaster.says_pace:
            return self.spec.slow
        window = example_window(self.spec)
        for _ in range(_WARM_UP_RUNS):
            began = time.perf_counter()
            self._infer(window, hypotheses, seed)
            if time.perf_counter() - began < _STREAM:
                return False
        return True

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
        taken, unset = options_of(self._name), {"checkpoint": "", "precision": AUTO, "compile": False, "mano": ""}
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
        if self._background:
            options[REASONING] = BACKGROUND
        return {o: v for o, v in options.items() if o in taken and v != unset.get(o)}


class DeviceHung(RuntimeError):
    """A device has not answered in time."""


class _DeviceThread:
    """Calls functions in one thread, which is left behind where a device never answers: nothing waits for it at the
    end.
    """

    def __init__(self):
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="forecaster_model", daemon=True).start()

    def call(self, timeout: float | None, function: Callable[..., Forecast], *args) -> Forecast:
        """What the function returns or raises; raises `DeviceHung` after `timeout` s."""
        answer: Future[Forecast] = Future()
        self._calls.put((answer, function, args))
        try:
            return answer.result(timeout)
        except TimeoutError:
            if answer.done():  # the function's own
                raise
            raise DeviceHung(f"no answer within {timeout:g} s") from None

    def close(self) -> None:
        """It ends after the call that it is busy with."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            answer, function, args = call
            try:
                answer.set_result(function(*args))
            except Exception as error:
                answer.set_exception(error)


def device_failed(error: RuntimeError) -> bool:
    """Whether an error is that of a GPU: out of memory, lost, hung, or in a state in which nothing works any more."""
    known = isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError | DeviceHung)
    return known or _DEVICE_ERROR.search(str(error)) is not None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
