"""A slow forecaster in a process of its own: the same forecasts and refusals, and what becomes of it when it ends."""

import gc
import os
import signal

import pytest
import torch

from egohand_ros.errors import UserError
from egohand_ros.forecast.live import separate
from egohand_ros.forecast.live.runtime import ForecastRuntime
from egohand_ros.forecast.live.separate import SeparateForecaster
from egohand_ros.forecast.registry import is_slow, make_forecaster
from egohand_ros.stream.warmup import example_window


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usst")
    make_forecaster("usst-small", untrained=True).save_pretrained(folder)
    return str(folder)


def test_it_forecasts_as_here_and_comes_back_when_it_was_killed(folder, monkeypatch):
    there, here = SeparateForecaster(folder, {"device": "cpu"}), make_forecaster(folder)
    assert there.spec == here.spec
    window = example_window(there.spec)
    torch.testing.assert_close(there.forecast(window, 1, 3).keypoints, here.forecast(window, 1, 3).keypoints)
    os.kill(there._process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="was ended by SIGKILL"):
        there.forecast(window)
    with pytest.raises(UserError, match="started again in 5 s"):
        there.forecast(window)
    monkeypatch.setattr(separate, "_REST", 0.0)
    there.reset()
    assert there.forecast(window).valid.any()
    process = there._process
    del there
    gc.collect()
    assert process.poll() is not None, "nobody asks it any more"


def test_why_it_cannot_be_made_is_told_as_it_is_here():
    with pytest.raises(UserError, match="usst-small has no shipped weights"):
        SeparateForecaster("usst-small", {})


def test_slow_learned_ones_alone_are_put_in_a_process(folder):
    assert is_slow(folder) and is_slow("egoman-small") and is_slow("forehand4d")
    assert not any(is_slow(name) for name in ("kalman", "adaptive", "egohand-small", "adaptive:kalman", "nobody"))
    live = ForecastRuntime("kalman", device="cpu", background=True)
    live.load()
    assert live.age is None
    live.close()
