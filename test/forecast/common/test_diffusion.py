"""Schedules, steps and samplers against what they must be by their definition; against the authors' code:
test_*_parity.py."""

import fixtures
import pytest
import torch

from egohand_ros.forecast.common.diffusion import PREDICTIONS, SCHEDULES, Diffusion, seeded_noise


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_signal_falls_from_all_to_nothing(schedule):
    signal = Diffusion(1000, schedule).signal
    assert (signal.diff() < 0).all() and signal[0] > 0.999 and signal[-1] < 1e-4


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_perfect_network_gives_the_data_back(schedule, prediction):
    """Whatever the noise, samplers end at the sample that the network knows."""
    diffusion = Diffusion(50, schedule, prediction)
    x0 = fixtures.numbers(3, 4, 5, seed=1)

    def knows(x, t):
        signal = diffusion.signal[t].float()[:, None, None]
        return x0 if prediction == "x0" else (x - signal.sqrt() * x0) / (1 - signal).sqrt()

    noise = fixtures.numbers(3, 4, 5, seed=2)
    tolerance = dict(rtol=0, atol=2e-4 if prediction == "noise" else 1e-5)
    torch.testing.assert_close(diffusion.sample(knows, noise, seeded_noise(3)), x0, **tolerance)
    for steps, eta in ((1, 0.0), (7, 0.0), (50, 1.0)):
        torch.testing.assert_close(diffusion.sample_ddim(knows, noise, steps, eta, seeded_noise(4)), x0, **tolerance)


def test_samples_have_the_spread_of_the_data():
    """Of data ~ N(0, 0.5^2) the best guess of x0 is known; samples of it must have that deviation."""
    diffusion = Diffusion(200, "cosine")

    def best(x, t):
        signal = diffusion.signal[t].float()[:, None]
        return x * signal.sqrt() * 0.25 / (signal * 0.25 + 1 - signal)

    samples = diffusion.sample(best, fixtures.numbers(1, 20000, seed=5), seeded_noise(6))
    assert float(samples.std()) == pytest.approx(0.5, rel=0.03) and abs(float(samples.mean())) < 0.02


def test_all_steps_of_ddim_with_full_noise_are_the_ancestral_ones():
    diffusion = Diffusion(30, "linear", "noise", clip=1.0)
    x, output, noise = (fixtures.numbers(4, 6, seed=s) for s in (7, 8, 9))
    t = torch.tensor([0, 1, 15, 29])
    torch.testing.assert_close(
        diffusion.ddim_step(output, x, t, t - 1, noise, eta=1.0), diffusion.step(output, x, t, noise), rtol=0, atol=2e-5
    )


def test_the_same_seed_gives_the_same_sample():
    diffusion, noise = Diffusion(10), fixtures.numbers(2, 3, seed=10)
    one, two, other = (diffusion.sample(lambda x, t: 0.5 * x, noise, seeded_noise(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_what_cannot_be_is_refused():
    for options in (dict(steps=0), dict(schedule="square"), dict(prediction="velocity")):
        with pytest.raises(ValueError):
            Diffusion(**options)
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="1 to 1000"):
            Diffusion().spaced_times(steps)
    assert Diffusion().spaced_times(50)[-1] == 999 and len(Diffusion().spaced_times(50)) == 50
