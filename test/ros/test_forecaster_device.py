"""Where the forecaster node's model runs, and what becomes of it when that device fails."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile

from egohand_ros.forecast.naive.persistence import Persistence
from egohand_ros.msg import ForecasterInfo


class OnDevices(Persistence):
    """Runs on any device; on "meta" it raises `error`, while there is one."""

    def __init__(self, error=None):
        super().__init__()
        self.spec = replace(self.spec, name="on devices")
        self.error, self.made = error, []

    def on(self, device="cpu", precision="float32", compile=False):
        """The factory."""
        self.made.append((device, precision, compile))
        return self

    def forecast(self, window, hypotheses=1, seed=None):
        if self.made[-1][0] == "meta" and self.error is not None:
            raise self.error
        return super().forecast(window, hypotheses, seed)


def test_a_device_that_is_full_falls_back_to_the_cpu(probe, driver, registered):
    model = OnDevices(torch.OutOfMemoryError("meta is out of memory"))
    d = driver(forecaster=registered(model), device="meta")
    assert [device for device, *_ in model.made] == ["meta", "cpu"]
    d.answer(d.message())
    probe.wait(lambda: "out of memory" in probe.levels.get("forecaster", (0, ""))[1], 10, "warning in diagnostics")
    assert probe.diagnostics["forecaster"]["device"] == "cpu"


def test_a_device_that_is_lost_costs_no_forecast_and_everybody_is_told(probe, driver, registered):
    model = OnDevices()
    d = driver(forecaster=registered(model), device="meta", precision="bfloat16", compile=True)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    info = probe.collect(ForecasterInfo, "forecaster_info", latched)
    probe.wait(lambda: info and info[-1].device == "meta", 10, "info")
    d.history()
    model.error = torch.AcceleratorError("CUDA error: unspecified launch failure")
    futures = d.answer(d.message())  # the observation at which the device was lost
    assert len(futures.hands) == 2
    assert model.made == [("meta", "bfloat16", True), ("cpu", "float32", False)]
    probe.wait(lambda: info[-1].device == "cpu", 10, "info")
    said = lambda: probe.levels.get("forecaster", (0, ""))  # noqa: E731
    probe.wait(lambda: "unspecified launch failure; running on the CPU" in said()[1], 10, "warning in diagnostics")
    shown = probe.diagnostics["forecaster"]
    assert said()[0] == 1 and (shown["device"], shown["count/device_fallbacks"]) == ("cpu", "1")
    assert d.node.health.rejected("internal_error") == 0
    d.history()
    assert len(d.forecasts) == 7


def test_a_gpu_that_is_not_there_is_a_warning_and_an_impossible_device_an_error(probe, driver):
    d = driver(device="cuda:99")
    d.answer(d.message())
    probe.wait(lambda: "cuda:99 is not there" in probe.levels.get("forecaster", (0, ""))[1], 10, "warning")
    assert probe.diagnostics["forecaster"]["device"] == "cpu"
    node = driver(autostart=False, device="abacus")
    assert not node.autostart() and "expected auto, cpu, cuda" in node.failure
    node = driver(autostart=False, checkpoint="weights")
    assert not node.autostart() and "persistence has no weights" in node.failure
    for option, value, said in (
        ("precision", "bfloat16", "one precision only"),
        ("compile", True, "nothing to compile"),
    ):
        node = driver(autostart=False, **{option: value})
        assert not node.autostart() and f"persistence has {said}" in node.failure
