"""Lags by cross-correlation, and a robot's delay by it."""

import numpy as np
import pytest

from egohand_ros.errors import UserError
from egohand_ros.robot.follow.delay import cross_correlation_lag
from egohand_ros.robot.follow.latency_calibration import calibrate_latency, load_latency
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.simulation.simulated_hand import HandSimulation

HAND = load_hand("allegro_right")


def motion(times, count=3, seed=0, slow=1.0):
    """Smooth signals (T, count) of several frequencies."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.2, 1.5, (2, 5, count))
    return np.sin(2 * np.pi * (slow * frequency * times[:, None, None] + phase)).sum(1) / 5


@pytest.mark.parametrize("delay", [-0.1, 0.0, 0.0123, 0.15, 0.3377])
def test_a_lag_is_found_to_a_fraction_of_a_sample_also_under_noise(delay):
    times = np.arange(0.0, 20.0, 0.01)
    late = motion(times - delay)
    lag = cross_correlation_lag(motion(times), late, 0.01)
    assert abs(lag.seconds - delay) < 2e-3 and lag.correlation > 0.999
    np.testing.assert_allclose(lag.each, delay, atol=2e-3)
    noisy = late + np.random.default_rng(1).normal(0.0, 0.05, late.shape)
    assert abs(cross_correlation_lag(motion(times), noisy, 0.01).seconds - delay) < 5e-3


def test_what_does_not_move_has_no_lag_and_does_not_count():
    times = np.arange(0.0, 10.0, 0.01)
    first, second = motion(times), motion(times - 0.1)
    first[:, 1] = second[:, 1] = 0.5
    lag = cross_correlation_lag(first, second, 0.01)
    assert np.isnan(lag.each[1]) and abs(lag.seconds - 0.1) < 2e-3
    assert np.isnan(cross_correlation_lag(0 * first, second, 0.01).seconds)
    with pytest.raises(UserError, match="1.0 s long"):
        cross_correlation_lag(first[:100], second[:100], 0.01)


def simulated(delay, hand=HAND, seconds=12.0, rate=100.0):
    """Commands of a hand that opens and closes, and the joints that the simulated hand has, at its own uneven times."""
    simulation = HandSimulation(hand, actuation_delay=delay)
    times = np.arange(100.0, 100.0 + seconds, 1.0 / rate)
    centre, reach = hand.rest_q, 0.06 * (hand.upper - hand.lower)
    command = centre + reach * motion(times, hand.n, slow=0.4)
    states = []
    for now, q in zip(times, command):
        simulation.advance(now)
        simulation.command(q, now)
        states.append(simulation.q.copy())
    return times, command, times.copy(), np.array(states)


@pytest.mark.parametrize("delay", [0.0, 0.08, 0.15])
def test_the_delay_of_a_simulated_hand_is_identified(delay, tmp_path):
    found = calibrate_latency(HAND.joint_names, *simulated(delay), "alice", HAND.name)
    # The servo itself lags by 2 / (2 pi 25 Hz) = 12.7 ms, and a command acts until the next one: half of 10 ms.
    assert abs(found.delay - (delay + 0.0127 + 0.005)) < 0.004
    assert found.confidence == "high" and len(found.joints) > 12 and found.spread < 0.005
    path = found.save(tmp_path)
    assert load_latency(str(path), HAND.name) == found


def test_what_is_no_measurement_is_refused_with_what_to_do(tmp_path, monkeypatch):
    times, command, state_times, state = simulated(0.1, seconds=6.0)
    with pytest.raises(UserError, match="open and close the hand"):
        calibrate_latency(HAND.joint_names, times, 0 * command, state_times, 0 * state)
    with pytest.raises(UserError, match="does not do what it is told"):
        calibrate_latency(HAND.joint_names, times, command, state_times, motion(times, HAND.n, seed=9))
    with pytest.raises(UserError, match="before it was told"):
        calibrate_latency(HAND.joint_names, times, command, state_times - 0.3, state)
    with pytest.raises(UserError, match="different times"):
        calibrate_latency(HAND.joint_names, times, command, state_times + 1000.0, state)
    monkeypatch.setenv("EGOHAND_USERS", str(tmp_path))
    with pytest.raises(UserError, match="egohand calibrate latency --hand allegro_right"):
        load_latency("nobody", HAND.name)
    (tmp_path / "bad.yaml").write_text("delay: 3")
    with pytest.raises(UserError, match="is no latency calibration"):
        load_latency(str(tmp_path / "bad.yaml"), HAND.name)
