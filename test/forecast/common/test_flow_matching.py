"""Flow matching against distributions and paths that are known."""

import pytest
import torch

from egohand_ros.forecast.common.flow_matching import FlowMatching


def test_training_times_have_the_published_distribution():
    """(s - b) / s with b ~ Beta(1.5, 1): P(t <= x) = 1 - ((1 - x) s)^1.5 for x > 0."""
    flow = FlowMatching()
    time = flow.draw_time(200_000, torch.Generator().manual_seed(0))
    assert time.min() >= 0.0 and time.max() <= 1.0
    for x in (0.1, 0.5, 0.9):
        assert (time <= x).float().mean().item() == pytest.approx(1 - ((1 - x) * 0.999) ** 1.5, abs=0.005)
    uniform = FlowMatching(alpha=1.0, s=1.0).draw_time(100_000, torch.Generator().manual_seed(0))
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.005)


def test_the_same_generator_gives_the_same_times():
    flow = FlowMatching()
    draws = [flow.draw_time(5, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_interpolation_goes_from_noise_to_data():
    noise, data = torch.zeros(3, 2, 4), torch.ones(3, 2, 4)
    time = torch.tensor([0.0, 0.25, 1.0])
    mixed = FlowMatching.interpolate(noise, data, time)
    assert torch.allclose(mixed[:, 0, 0], time)


@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_sampling_follows_a_straight_path_exactly(steps):
    """Towards one data point the velocity is constant, so that any number of Euler steps arrives."""
    data, noise = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.allclose(FlowMatching(steps).sample(lambda x, bucket: data - noise, noise), data, atol=1e-6)


def test_sampling_tells_the_network_when_it_is():
    seen = []
    FlowMatching(4, buckets=1000).sample(lambda x, bucket: seen.append(bucket.tolist()) or x, torch.zeros(2, 3))
    assert seen == [[0], [250], [500], [750]]


def test_one_step_from_no_noise_is_the_mean_and_many_steps_give_the_distribution():
    """Data N(2, 0.5^2): the exact velocity at (x, t) is E[data - noise | x]."""
    mean, std = 2.0, 0.5

    def velocity(x: torch.Tensor, bucket: torch.Tensor) -> torch.Tensor:
        t = bucket.float() / 1000
        variance = (1 - t) ** 2 + (t * std) ** 2
        data = mean + t * std**2 / variance * (x - t * mean)
        noise = (1 - t) / variance * (x - t * mean)
        return data - noise

    flow = FlowMatching(steps=100)
    assert flow.sample(velocity, torch.zeros(1, 1), steps=1).item() == pytest.approx(mean)
    samples = flow.sample(velocity, torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)))
    assert samples.mean().item() == pytest.approx(mean, abs=0.02)
    assert samples.std().item() == pytest.approx(std, abs=0.03)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"alpha": 0.0}, {"s": -1.0}, {"buckets": 0}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="positive"):
        FlowMatching(**wrong)
