"""The model on its device: options, warm-up, and the way to the CPU when the device fails. The device is a pretended
one.
"""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egohand_ros.errors import UserError
from egohand_ros.forecast import registry
from egohand_ros.forecast.live.runtime import ForecastRuntime, device_failed
from egohand_ros.forecast.naive.persistence import Persistence
from egohand_ros.forecast.registry import options_of
from egohand_ros.stream.warmup import example_window, example_windows

LOST = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")
FULL = torch.OutOfMemoryError("CUDA out of memory")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`")


class OnDevices(Persistence):
    """Keeps how it was made and what it was asked; on "meta" it raises `error`, while there is one."""

    def __init__(self, error=None):
        super().__init__()
        modalities = ("keypoints", "images", "prompt")
        self.spec = replace(
            self.spec, name="on devices", modalities=modalities, image_offsets=(0,), image_size=(24, 32)
        )
        self.error, self.made, self.windows, self.threads = error, [], [], set()
        self.answers = threading.Event()  # while it is not set, "meta" does not answer
        self.answers.set()

    def make(self, device="cpu", checkpoint="", precision="float32", compile=False):
        """The factory."""
        self.made.append((device, precision, compile))
        return self

    def forecast(self, window, hypotheses=1, seed=None):
        if self.made[-1][0] == "meta":
            self.answers.wait()
            if self.error is not None:
                raise self.error
        self.windows.append(window)
        self.threads.add(threading.current_thread())
        return super().forecast(window, hypotheses, seed)


@pytest.fixture
def registered(monkeypatch):
    registry.presets()  # all modules are in before it is copied
    monkeypatch.setattr(registry, "_PRESETS", dict(registry._PRESETS))

    def put(error=None):
        model = OnDevices(error)
        registry.register("on devices", "of a test")(model.make)
        return model

    return put


def test_a_model_is_made_with_what_was_asked_for_and_warm_in_the_thread_that_uses_it(registered):
    model = registered()
    runtime = ForecastRuntime("on devices", device="meta", precision="float16", compile=True)
    assert runtime.load().valid.all()
    assert model.made == [("meta", "float16", True)]
    mixes = [(w.images is not None, bool(w.prompt[0])) for w in model.windows]
    assert [mixes[i] for i in range(0, len(mixes), 3)] == [(True, True), (True, False), (False, True), (False, False)]
    runtime.forecast(example_window(model.spec))
    assert len(model.threads) == 1 and threading.current_thread() not in model.threads
    runtime.close()
    assert runtime.device == "meta" and not runtime.fallback


def test_on_the_cpu_nothing_is_compiled_and_nothing_changes_threads(registered):
    model = registered()
    runtime = ForecastRuntime("on devices", device="cpu", precision="bfloat16", compile=True)
    runtime.load()
    assert model.made == [("cpu", "bfloat16", False)] and model.threads == {threading.current_thread()}
    assert len(model.windows) == 3, "the full window, until it is warm"


@pytest.mark.parametrize(
    "error, said",
    [(LOST, "meta failed: CUDA error: an illegal memory"), (CUBLAS, "meta failed"), (FULL, "meta is out of memory")],
)
def test_what_was_to_be_forecast_when_the_device_failed_is_forecast_on_the_cpu(registered, error, said):
    model, reasons = registered(), []
    runtime = ForecastRuntime(
        "on devices",
        device="meta",
        precision="bfloat16",
        compile=True,
        on_fallback=lambda r: reasons.append((r, len(model.made))),
    )
    runtime.load()
    window = example_window(model.spec)
    model.error = error
    forecast = runtime.forecast(window)
    assert forecast.stamp == window.stamp and model.windows[-1] is window
    assert model.made == [("meta", "bfloat16", True), ("cpu", "float32", False)]
    assert reasons == [(runtime.fallback, 1)], "said before the model is made again"
    assert runtime.fallback.startswith(said) and runtime.fallback.endswith("running on the CPU")
    assert (runtime.device, runtime.fallbacks) == ("cpu", 1) and "\n" not in runtime.fallback
    runtime.forecast(window)
    assert len(model.made) == 2, "it stays there"


def test_a_device_that_fails_before_it_was_ever_used_is_replaced_too(registered):
    model = registered(FULL)
    runtime = ForecastRuntime("on devices", device="meta")
    runtime.load()
    assert [device for device, *_ in model.made] == ["meta", "cpu"] and runtime.device == "cpu"


def test_a_device_that_hangs_is_left_for_the_cpu(registered):
    model = registered()
    runtime = ForecastRuntime("on devices", device="meta", timeout=0.2)
    runtime.load()
    window = example_window(model.spec)
    runtime.forecast(window)
    model.answers.clear()
    try:
        assert runtime.forecast(window) is not None
        assert (runtime.device, runtime.fallbacks) == ("cpu", 1) and "no answer within 0.2 s" in runtime.fallback
        assert runtime.forecast(window) is not None and len(model.made) == 2, "it stays there"
        assert next(t for t in threading.enumerate() if t.name == "forecaster_model").daemon, "the process can end"
    finally:
        model.answers.set()


def test_what_a_device_is_asked_for_the_first_time_may_take_long(registered):
    model = registered()
    runtime = ForecastRuntime("on devices", device="meta", timeout=0.1)
    runtime.load(hypotheses=1)
    model.answers.clear()
    threading.Timer(0.4, model.answers.set).start()  # a graph is compiled for another number of hypotheses
    runtime.forecast(example_window(model.spec), hypotheses=2)
    assert (runtime.device, runtime.fallbacks) == ("meta", 0)
    runtime.close()


def test_a_bug_is_a_bug_on_every_device(registered):
    model = registered()
    runtime = ForecastRuntime("on devices", device="meta")
    runtime.load()
    model.error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        runtime.forecast(example_window(model.spec))
    assert runtime.device == "meta" and runtime.fallbacks == 0
    runtime.close()
    assert not device_failed(RuntimeError("expected scalar type Float but found Half"))


def test_a_model_that_does_not_compile_says_so(registered):
    registered(RuntimeError("Failed to find C compiler."))
    with pytest.raises(UserError, match="compile is True, but that fails: Failed to find C compiler"):
        ForecastRuntime("on devices", device="meta", compile=True).load()


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(precision="bfloat16"), "precision is 'bfloat16', but kalman has one precision only; leave it at auto"),
        (dict(compile=True), "compile is True, but kalman has nothing to compile; leave it at false"),
        (dict(checkpoint="weights"), "checkpoint is 'weights', but kalman has no weights; leave it empty"),
    ],
)
def test_options_that_a_forecaster_does_not_have_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        ForecastRuntime("kalman", **given).load()


def test_options_of_presets_and_of_folders():
    assert {"checkpoint", "device", "precision", "compile"} <= (options_of("egghand") & options_of("egghand-hf"))
    assert "precision" not in options_of("egohand-small") and "device" in options_of("egohand-small")
    shipped = str(Path(registry.__file__).parent / "weights" / "egohand-small")
    assert "device" in options_of(shipped) and "checkpoint" not in options_of(shipped)
    runtime = ForecastRuntime(shipped, device="cpu")
    runtime.load()
    assert runtime.spec.checkpoint_hash


def test_windows_of_a_model_without_images_or_prompt_have_one_form():
    assert len(list(example_windows(Persistence().spec))) == 1
