"""A slow forecaster, whose last forecast hands go on with."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from egohand_ros.forecast.common.protocol import Waypoints
from egohand_ros.forecast.live.continued import ContinuedForecaster, continued
from egohand_ros.forecast.live.runtime import ForecastRuntime
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.stream.warmup import example_window

SPEED = torch.tensor([0.3, 0.0, -0.1], dtype=torch.float64)  # m/s


def moving(spec, stamp, off=0.0, prompt=None):
    """A window of hands that move evenly; `off` m, the newest observation is beside that in y."""
    window = example_window(spec)
    times = stamp - spec.step * torch.arange(spec.window_length - 1, -1, -1, dtype=torch.float64)
    keypoints = window.keypoints[:, -1:].double() + times[None, :, None, None, None] * SPEED
    keypoints[:, -1, ..., 1] += off
    rotation = window.wrist_rotation[:, -1:].expand_as(window.wrist_rotation)
    known = torch.ones_like(window.valid)
    return replace(
        window,
        keypoints=keypoints.to(window.keypoints),
        wrist_rotation=rotation,
        valid=known,
        rotation_valid=known[..., WRIST],
        stamp=torch.tensor([stamp], dtype=torch.float64),
        prompt=None if prompt is None else (prompt,),
    )


class Slow:
    """`cvm` that does not go on before it may."""

    def __init__(self):
        self.inner = make_forecaster("cvm")
        self.spec = replace(self.inner.spec, slow=True)
        self.may, self.begun = threading.Event(), threading.Event()
        self.may.set()

    def forecast(self, window, hypotheses=1, seed=None):
        self.begun.set()
        assert self.may.wait(60.0)
        return self.inner.forecast(window, hypotheses, seed)


def test_a_right_forecast_stays_right_and_a_wrong_one_begins_where_the_hand_is():
    forecaster = make_forecaster("cvm")
    then, now = moving(forecaster.spec, 10.0), moving(forecaster.spec, 10.13)
    late = continued(forecaster.forecast(then), then, now)
    new = forecaster.forecast(now)
    steps = late.step_times.numpy() + 0.13 <= forecaster.spec.horizon
    np.testing.assert_allclose(late.keypoints[:, :, steps], new.keypoints[:, :, steps], atol=1e-5)
    beyond = late.keypoints[0, 0, ~steps, :, WRIST, 0]
    assert torch.allclose(beyond, beyond[:1]) and float(late.stamp[0]) == 10.13
    aside = continued(forecaster.forecast(then), then, moving(forecaster.spec, 10.13, off=0.05))
    apart = (aside.keypoints - late.keypoints)[0, 0, :, :, WRIST, 1].numpy()
    np.testing.assert_allclose(apart, 0.05 * np.exp(-late.step_times.numpy() / 0.4)[:, None] * [1.0, 1.0], atol=1e-5)


def test_what_comes_meanwhile_goes_on_at_once_and_a_new_prompt_is_waited_for():
    slow = Slow()
    beside = ContinuedForecaster(slow)
    assert bool(beside.forecast(moving(slow.spec, 5.0, prompt="a")).valid.all()) and beside.age == 0.0
    slow.may.clear()
    slow.begun.clear()
    for stamp in (5.05, 5.1, 5.15):
        out = beside.forecast(moving(slow.spec, stamp, prompt="a"))
        assert beside.age == pytest.approx(stamp - 5.0) and float(out.stamp[0]) == stamp
    assert slow.begun.wait(60.0)
    assert not beside.forecast(moving(slow.spec, 5.2, prompt="b")).valid.any()
    slow.may.set()
    for _ in range(10_000):
        out = beside.forecast(moving(slow.spec, 5.25, prompt="b"))
        if bool(out.valid.all()):
            break
        slow.begun.wait(0.01)
    assert bool(out.valid.all()) and beside.age <= 0.06
    beside.reset()
    slow.may.clear()
    assert not beside.forecast(moving(slow.spec, 5.3, prompt="b")).valid.any()
    slow.may.set()


def test_waypoints_come_nearer_and_a_hand_that_went_away_is_not_forecast():
    forecaster = make_forecaster("cvm")
    then, now = moving(forecaster.spec, 1.0), moving(forecaster.spec, 1.25)
    now.valid[:, :, 0] = False
    point = torch.zeros(1, 1)
    waypoints = Waypoints(
        ("contact",), point + 0.9, point.long(), torch.zeros(1, 1, 3), torch.eye(3)[None, None], point, point > -1
    )
    late = continued(replace(forecaster.forecast(then), waypoints=waypoints), then, now)
    assert float(late.waypoints.time) == pytest.approx(0.65)
    assert not late.valid[0, 0].any() and late.valid[0, 1].all()
    assert torch.isfinite(late.keypoints[0, :, :, 1]).all()


def test_slow_forecasters_work_beside_a_live_stream_on_a_cpu_alone(tmp_path):
    make_forecaster("usst-small", untrained=True).save_pretrained(tmp_path)
    live, evaluated = (
        ForecastRuntime(str(tmp_path), device="cpu", background=background) for background in (True, False)
    )
    assert live.load().valid.any() and live.age == 0.0
    assert evaluated.load().valid.any() and evaluated.age is None
