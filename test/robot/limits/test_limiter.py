"""No stream of targets and time steps may break a limit, judged on the commands alone."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.limits.limiter import HOLD, RELAX, JointLimiter

HAND = load_hand("inspire_right")
FIST = np.where(np.arange(HAND.n) < 4, HAND.upper, HAND.rest_q)  # with the thumb out of its way
EPS = np.finfo(float).eps


def assert_limits(times, commands, hand=HAND, stopped_dead=False):
    """Position exactly; velocity and acceleration up to the rounding of q, which finite differences blow up.

    A hand that was `stopped_dead`, because steps of wildly changing length led it into a collision, broke the last on
    purpose.
    """
    times, q = np.asarray(times), np.asarray(commands)
    assert (q >= hand.lower).all() and (q <= hand.upper).all()
    moved = np.concatenate([[True], np.diff(times) > 0])
    steps, q = np.diff(times[moved]), q[moved]
    unit = 4 * EPS * np.maximum(np.abs(hand.lower), np.abs(hand.upper))
    velocity = np.diff(q, axis=0) / steps[:, None]
    stamp_error = 4 * EPS * times[moved][1:, None] / steps[:, None]
    velocity_error = unit / steps[:, None] + (4 * EPS + stamp_error) * np.abs(velocity)
    assert (np.abs(velocity) <= hand.velocity_limit + velocity_error).all()
    if stopped_dead:
        return
    change = np.abs(np.diff(velocity, axis=0))
    error = velocity_error[1:] + velocity_error[:-1] + 8 * EPS * hand.velocity_limit
    for span in (steps[1:], 0.5 * (steps[1:] + steps[:-1])):
        assert (change <= hand.acceleration_limit * span[:, None] * (1 + stamp_error[1:]) + error).all()


def run(limiter, targets, steps, mode=None):
    times, commands = [0.0], [limiter.q]
    for target, dt in zip(targets, steps):
        q, _ = limiter.step(target, dt, mode)
        times.append(times[-1] + (dt if np.isfinite(dt) and dt > 0 else 0.0))
        commands.append(q)
    return np.array(times), np.array(commands)


value = st.one_of(st.floats(-10, 10), st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300]))
step = st.one_of(
    st.floats(1e-4, 0.2), st.sampled_from([0.0, -0.01, np.nan, np.inf, 1e-4, 0.01, 1 / 30, 0.5, 3.0, 1000.0])
)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.lists(value, min_size=6, max_size=6), step, st.sampled_from([None, HOLD, RELAX])), max_size=25
    )
)
def test_no_target_and_no_time_step_breaks_a_limit(inputs):
    limiter = JointLimiter(HAND)
    times, commands = [0.0], [limiter.q]
    for target, dt, mode in inputs:
        q, _ = limiter.step(np.array(target), dt, mode)
        times.append(times[-1] + (dt if np.isfinite(dt) and dt > 0 else 0.0))
        commands.append(q)
    assert_limits(times, commands, stopped_dead=limiter.collision_stops > 0)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.0005, 0.05))
@example(497102, 0.044921875)  # with collision avoidance it is stopped dead
def test_full_speed_into_the_end_stops_brakes_in_time_under_any_jitter(seed, nominal):
    rng = np.random.default_rng(seed)
    limiter = JointLimiter(HAND, avoid_collisions=False)
    targets = [np.where(rng.random(6) < 0.5, HAND.lower, HAND.upper) for _ in range(5) for _ in range(25)]
    steps = nominal * np.exp(rng.normal(0, 1.5, len(targets)))
    assert_limits(*run(limiter, targets, steps))


def test_step_response_reaches_the_target_and_stays():
    limiter = JointLimiter(HAND, HAND.lower, avoid_collisions=False)
    _, commands = run(limiter, [FIST] * 300, [0.01] * 300)
    np.testing.assert_allclose(commands[-1], FIST, atol=1e-4)
    assert (np.diff(commands, axis=0) >= -1e-15).all()
    middle = 0.5 * (HAND.lower + FIST)
    _, commands = run(limiter, [middle] * 300, [0.01] * 300)
    np.testing.assert_allclose(commands[-1], middle, atol=1e-6)
    assert (commands >= middle - 1e-3).all(), "overshoot"


def test_the_stream_is_as_fast_as_the_limits_allow():
    limiter = JointLimiter(HAND, HAND.lower, avoid_collisions=False)
    start = np.flatnonzero(run(limiter, [HAND.upper] * 300, [0.01] * 300)[1][:, 0] > 0.9 * HAND.upper[0])[0] * 0.01
    fastest = 0.9 * HAND.upper[0] / HAND.velocity_limit[0] + 0.5 * HAND.velocity_limit[0] / HAND.acceleration_limit[0]
    assert start <= 1.15 * fastest


@pytest.mark.parametrize("target", [None, np.full(6, np.nan), np.full(6, np.inf)])
def test_no_target_brakes_and_holds(target):
    limiter = JointLimiter(HAND)
    run(limiter, [HAND.upper] * 5, [0.02] * 5)
    _, commands = run(limiter, [target] * 50, [0.02] * 50)
    assert (commands[-1] == commands[-2]).all()
    assert (limiter.qd == 0).all()


def test_relax_goes_to_rest_slowly():
    limiter = JointLimiter(HAND, FIST)
    _, commands = run(limiter, [None] * 800, [0.01] * 800, RELAX)
    np.testing.assert_allclose(commands[-1], HAND.rest_q, atol=1e-4)
    assert (np.abs(np.diff(commands, axis=0)) <= 0.25 * HAND.velocity_limit * 0.01 + 1e-12).all()


def test_a_late_step_does_not_jump():
    limiter = JointLimiter(HAND, HAND.lower)
    q, _ = limiter.step(HAND.upper, 5.0)
    assert (q - HAND.lower <= HAND.velocity_limit * limiter.longest_step + 1e-12).all()


@pytest.mark.parametrize("name", ["allegro_right", "inspire_left", "shadow_right"])
@pytest.mark.parametrize("jitter", [0.0, 0.5])
def test_the_stream_never_collides_and_never_has_to_stop_dead(name, jitter):
    hand = load_hand(name)
    rng = np.random.default_rng(3)
    limiter = JointLimiter(hand)
    targets = np.repeat(rng.uniform(hand.lower, hand.upper, (12, hand.n)), 20, axis=0)
    times, commands = run(limiter, targets, 0.02 * np.exp(rng.normal(0, jitter, len(targets))))
    assert hand.capsules.distances(hand.kinematics, commands).min() > 0.0
    assert limiter.collision_stops == 0
    assert_limits(times, commands, hand)


def test_a_hand_that_starts_in_collision_gets_out_of_it():
    hand = load_hand("inspire_right")
    assert hand.capsules.distances(hand.kinematics, hand.upper).min() < 0.0
    limiter = JointLimiter(hand, hand.upper)
    _, commands = run(limiter, [hand.rest_q] * 400, [0.01] * 400)
    np.testing.assert_allclose(commands[-1], hand.rest_q, atol=1e-3)


def test_wrong_shapes_are_told():
    limiter = JointLimiter(HAND)
    with pytest.raises(ValueError, match="6 joints"):
        limiter.step(np.zeros(3), 0.01)
    with pytest.raises(ValueError, match="6 joints"):
        limiter.reset(np.zeros(3))
