"""Averaging overlapping forecasts as a consumer sees it."""

import numpy as np
import torch

from egohand_ros.forecast.common.protocol import Forecast
from egohand_ros.forecast.live.aggregate import ForecastAggregator
from egohand_ros.hand.skeleton import NUM_KEYPOINTS

STEPS = 5


def forecast(stamp, offset, hypotheses=2, valid=(True, True)):
    """Both hands at rest, shifted by `offset` m; the second hypothesis is elsewhere."""
    keypoints = torch.full((1, hypotheses, STEPS, 2, NUM_KEYPOINTS, 3), float(offset))
    keypoints[:, 1:] = 7.0
    lead = (1, hypotheses, STEPS, 2)
    known = torch.tensor(valid)[None, :, None].expand(1, 2, NUM_KEYPOINTS)
    return Forecast(
        torch.tensor([stamp], dtype=torch.float64),
        0.1 * torch.arange(1, STEPS + 1, dtype=torch.float64),
        keypoints,
        torch.eye(3).expand(*lead, 3, 3),
        torch.full((*lead, NUM_KEYPOINTS), 0.01),
        torch.full((*lead, 6, 6), 0.0),
        torch.tensor([[0.6, 0.4]]),
        known,
    )


def test_forecasts_that_reach_a_moment_count_alike_and_the_rest_stays():
    aggregate = ForecastAggregator(0.5)
    assert torch.equal(aggregate(forecast(10.0, 0.0)).keypoints, forecast(10.0, 0.0).keypoints)
    out = aggregate(forecast(10.1, 1.0))
    # The newest reaches 10.2 to 10.6, the one before it 10.1 to 10.5: only the last step is the newest's alone.
    np.testing.assert_allclose(out.keypoints[0, 0, :, :, 0, 0], [[0.5, 0.5]] * 4 + [[1.0, 1.0]], atol=1e-6)
    assert (out.keypoints[:, 1] == 7.0).all()
    np.testing.assert_allclose(out.wrist_rotation[0, 0], np.broadcast_to(np.eye(3), (STEPS, 2, 3, 3)), atol=1e-6)
    assert torch.equal(out.keypoint_std, forecast(10.1, 1.0).keypoint_std)


def test_a_new_epoch_a_long_silence_and_an_older_stamp_forget_what_was():
    for stamp, epoch in ((10.1, 1), (11.0, 0), (9.9, 0)):
        aggregate = ForecastAggregator(2.0)
        aggregate(forecast(10.0, 0.0), epoch=0)
        assert (aggregate(forecast(stamp, 1.0), epoch).keypoints[0, 0] == 1.0).all()


def test_a_hand_that_is_not_forecast_is_left_alone():
    aggregate = ForecastAggregator(0.5)
    aggregate(forecast(10.0, 0.0))
    out = aggregate(forecast(10.1, 1.0, valid=(True, False)))
    assert out.keypoints[0, 0, 0, 0, 0, 0] == 0.5 and (out.keypoints[0, 0, :, 1] == 1.0).all()


def test_the_newer_count_more_with_recency():
    aggregate = ForecastAggregator(0.5, recency=0.05)
    aggregate(forecast(10.0, 0.0))
    value = float(aggregate(forecast(10.1, 1.0)).keypoints[0, 0, 0, 0, 0, 0])
    assert abs(value - 1.0 / (1.0 + np.exp(-2.0))) < 1e-6
