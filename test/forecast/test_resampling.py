"""A forecast at other times: what lies between steps, before the first, and beyond the last."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egohand_ros.errors import UserError
from egohand_ros.forecast.naive.constant_velocity import ConstantVelocity
from egohand_ros.forecast.resampling import at_times
from egohand_ros.stream.warmup import example_window


@pytest.fixture(scope="module")
def given():
    """Both hands at 10 mm/s, as `example_window` moves them, and the window."""
    forecaster = ConstantVelocity()
    window = example_window(forecaster.spec)
    return forecaster.forecast(window), window


def test_a_straight_path_stays_straight_at_any_times(given):
    forecast, window = given
    times = np.arange(1, 31) / 30.0
    found = at_times(forecast, times, window)
    expected = window.keypoints[:, -1].double().numpy()[:, None, None] + 0.01 * times[:, None, None, None] * [1.0, 0, 0]
    assert np.allclose(found.step_times, times) and np.allclose(found.keypoints, expected, atol=1e-9)
    assert found.wrist_rotation.shape == (1, 1, 30, 2, 3, 3)
    turned = found.wrist_rotation @ found.wrist_rotation.mT
    assert torch.allclose(turned, torch.eye(3, dtype=turned.dtype).expand_as(turned), atol=1e-9)


def test_its_own_times_change_nothing(given):
    forecast, window = given
    assert at_times(forecast, forecast.step_times, window) is forecast
    shorter = at_times(forecast, forecast.step_times[:3], window)
    assert torch.equal(shorter.keypoints, forecast.keypoints[:, :, :3]) and len(shorter.step_times) == 3


def test_spread_and_body_are_between_those_of_their_steps(given):
    forecast, window = given
    grows = torch.arange(1.0, 11.0, dtype=torch.float64)[None, None, :, None, None].expand(1, 1, 10, 2, 21)
    body = torch.arange(10.0)[None, None, :, None, None].expand(1, 1, 10, 15, 3)
    found = at_times(replace(forecast, keypoint_std=grows, body=body), [0.05, 0.15], window)
    assert torch.allclose(found.keypoint_std[0, 0, :, 0, 0], torch.tensor([1.0, 1.5], dtype=torch.float64))
    assert found.body[0, 0, 1, 0, 0] == pytest.approx(0.5)


def test_nothing_is_made_up_beyond_the_last_step(given):
    with pytest.raises(UserError, match="the forecast ends after 1 s; 1.2 s is asked for"):
        at_times(given[0], [0.6, 1.2], given[1])
