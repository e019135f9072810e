"""Where the forecaster node's model runs, and what becomes of it when that device fails."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile

from egohand_ros.forecast.persistence import Persistence
from egohand_ros.msg import ForecasterInfo


class OnDevices(Persistence):
    """Runs on any device, of which "meta" has no memory left."""

    def __init__(self):
        super().__init__()
        self.spec = replace(self.spec, name="on devices")
        self.devices = []

    def on(self, device="cpu"):
        """The factory."""
        self.devices.append(device)
        return self

    def forecast(self, window, hypotheses=1, seed=None):
        if self.devices[-1] == "meta":
            raise torch.OutOfMemoryError("meta is out of memory")
        return super().forecast(window, hypotheses, seed)


def test_a_device_that_is_full_falls_back_to_the_cpu(probe, driver, registered):
    model = OnDevices()
    d = driver(forecaster=registered(model), device="meta")
    assert model.devices == ["meta", "cpu"]
    d.answer(d.message())
    probe.wait(lambda: "out of memory" in probe.levels.get("forecaster", (0, ""))[1], 10, "warning in diagnostics")
    assert probe.diagnostics["forecaster"]["device"] == "cpu"
    # It fills up while it runs: the observation is forecast all the same.
    model.devices.append("meta")
    d.node.model.device = "meta"
    d.answer(d.message())
    assert model.devices[-2:] == ["meta", "cpu"]
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    info = probe.collect(ForecasterInfo, "forecaster_info", latched)
    probe.wait(lambda: info and info[-1].device == "cpu", 10, "info")


def test_a_gpu_that_is_not_there_is_a_warning_and_an_impossible_device_an_error(probe, driver):
    d = driver(device="cuda:99")
    d.answer(d.message())
    probe.wait(lambda: "cuda:99 is not there" in probe.levels.get("forecaster", (0, ""))[1], 10, "warning")
    assert probe.diagnostics["forecaster"]["device"] == "cpu"
    node = driver(autostart=False, device="abacus")
    assert not node.autostart() and "expected auto, cpu, cuda" in node.failure
    node = driver(autostart=False, checkpoint="weights")
    assert not node.autostart() and "persistence has no weights" in node.failure
