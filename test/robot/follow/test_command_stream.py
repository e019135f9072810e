"""The command stream: whatever targets and clocks do, limits hold and the watchdog stops the hand."""

import numpy as np
import pytest

from egohand_ros.errors import RejectedInput
from egohand_ros.nodes.bench.hostile_monitor import motion_of, worst_use
from egohand_ros.robot.follow.command_stream import Follower, FollowerOptions, Mode
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.limits.audit import audit_limits

HAND = load_hand("allegro_right")
OPEN = HAND.lower * 0.5 + HAND.upper * 0.5
CLOSED = np.where(np.arange(HAND.n) < 12, 0.9 * HAND.upper, HAND.rest_q)  # a fist with the thumb out of its way
START = 1000.0
PERIOD = 0.01


class Stream:
    """A follower with a clock, and everything that it sent."""

    def __init__(self, **options):
        self.follower = Follower(HAND, FollowerOptions(**options))
        self.now = START
        self.sent = []

    def run(self, seconds, target=None, every=1, confidence=1.0):
        for i in range(round(seconds / PERIOD)):
            self.now += PERIOD
            if target is not None and i % every == 0:
                self.follower.set_target(target, self.now - 0.005, self.now, confidence)
            self.tick()
        return self

    def tick(self):
        command = self.follower.tick(self.now)
        if command is not None:
            self.sent.append(command)
        return command

    def assert_limits(self):
        audit = audit_limits(HAND, [c.stamp for c in self.sent], [c.q for c in self.sent])
        assert audit.violations == 0, audit


def enabled(measured=None, **options):
    stream = Stream(**options)
    stream.follower.enable(stream.now, measured)
    return stream


def test_disabled_sends_nothing_whatever_the_targets():
    stream = Stream().run(1.0, CLOSED)
    assert stream.sent == [] and stream.follower.mode is Mode.DISABLED


def test_enabling_starts_where_the_robot_was_measured():
    measured = HAND.rest_q * 0.5 + CLOSED * 0.5
    stream = enabled(measured)
    np.testing.assert_allclose(stream.tick().q, measured)
    stream.run(2.0, CLOSED).assert_limits()
    np.testing.assert_allclose(stream.sent[-1].q, CLOSED, atol=1e-3)


def test_a_stream_that_has_to_stand_sends_where_it_is_and_follows_gently_afterwards():
    measured = HAND.rest_q * 0.5 + CLOSED * 0.5
    stream = enabled(measured)
    stream.follower.standing = True
    stream.run(0.5, OPEN)
    assert stream.sent and all((command.q == measured).all() for command in stream.sent)
    stream.follower.standing = False
    before = len(stream.sent)
    stream.run(2.0, OPEN)
    speeds = [np.abs(c.qd / HAND.velocity_limit).max() for c in stream.sent[before:]]
    assert max(speeds[:5]) < 0.3 and np.abs(stream.sent[-1].q - OPEN).max() < 0.01
    stream.assert_limits()


def test_enabling_without_a_measurement_starts_at_the_rest_pose():
    np.testing.assert_allclose(enabled().tick().q, HAND.rest_q)


def test_disabling_in_motion_brakes_within_the_limits_and_falls_silent():
    stream = enabled().run(0.25, CLOSED)
    assert np.abs(stream.sent[-1].qd).max() > 1.0
    stream.follower.disable()
    stream.run(1.0, None)
    stopped = len(stream.sent)
    assert stream.follower.mode is Mode.DISABLED
    assert np.abs(stream.sent[-1].qd).max() < 1e-2
    stream.run(0.5, None)
    assert len(stream.sent) == stopped
    stream.assert_limits()


def test_a_gate_that_closes_for_a_moment_does_not_step_back_to_the_measured_pose():
    stream = enabled().run(0.3, CLOSED)
    stream.follower.disable()
    stream.run(0.2)
    assert stream.follower.mode is Mode.DISABLED
    stream.follower.enable(stream.now, stream.follower.q - 0.1)
    stream.run(0.5, CLOSED).assert_limits()


def test_watchdog_holds_then_relaxes_and_recovers_by_itself():
    stream = enabled(hold_after=0.2, relax_after=1.0).run(1.5, CLOSED)
    stream.run(0.15)
    assert stream.follower.mode is Mode.TRACKING
    stream.run(0.1)
    assert stream.follower.mode is Mode.HOLDING
    held = stream.follower.q
    stream.run(0.7)
    assert stream.follower.mode is Mode.HOLDING
    np.testing.assert_allclose(stream.follower.q, held, atol=1e-3)
    stream.run(0.2)
    assert stream.follower.mode is Mode.RELAXING
    stream.run(10.0)
    np.testing.assert_allclose(stream.follower.q, HAND.rest_q, atol=1e-3)
    relaxing = np.array([c.qd for c in stream.sent if c.mode is Mode.RELAXING])
    assert (np.abs(relaxing) <= 0.151 * HAND.velocity_limit).all()
    before = len(stream.sent)
    stream.run(2.0, CLOSED)
    assert stream.follower.mode is Mode.TRACKING
    np.testing.assert_allclose(stream.follower.q, CLOSED, atol=1e-3)
    start = np.array([np.abs(c.qd / HAND.velocity_limit).max() for c in stream.sent[before : before + 10]])
    assert (start < 0.4).all(), "following after relaxing begins gently"
    stream.assert_limits()


def test_a_target_that_was_held_up_counts_from_when_it_should_have_come():
    stream = enabled(hold_after=0.2).run(1.0, CLOSED)
    stream.run(0.15)  # the hand is lost here, and what was seen before comes late
    stream.follower.set_target(CLOSED, stream.now - 0.15, stream.now)
    stream.run(0.1)
    assert stream.follower.mode is Mode.HOLDING, "about 0.2 s after the last observation, not after its arrival"


@pytest.mark.parametrize("age", [0.1, 0.4])
def test_observations_that_are_always_late_are_followed(age):
    stream = enabled(hold_after=0.2).run(0.1, CLOSED)
    modes = []
    for _ in range(60):
        stream.follower.set_target(CLOSED, stream.now - age, stream.now) if stream.now - age > START + 0.1 else None
        stream.run(1 / 30)
        modes.append(stream.follower.mode)
    assert modes[-15:] == [Mode.TRACKING] * 15
    assert age > 0.2 or modes == [Mode.TRACKING] * 60


def test_a_short_gap_is_not_a_reason_to_start_gently():
    stream = enabled().run(1.0, OPEN).run(0.3).run(0.12, CLOSED)
    assert np.abs(stream.sent[-1].qd / HAND.velocity_limit).max() > 0.9


@pytest.mark.parametrize("confidence, fastest", [(1.0, 0.93), (0.4, 0.5), (0.3, 0.25)])
def test_doubt_slows_the_motion(confidence, fastest):
    stream = enabled(min_confidence=0.2, full_confidence=0.6).run(1.0, HAND.rest_q).run(0.25, CLOSED, 1, confidence)
    speed = np.array([np.abs(c.qd / HAND.velocity_limit).max() for c in stream.sent[-20:]])
    assert speed.max() == pytest.approx(fastest, rel=1e-3)


def test_too_much_doubt_holds():
    stream = enabled().run(1.0, OPEN)
    for _ in range(30):
        stream.now += PERIOD
        with pytest.raises(RejectedInput, match="low_confidence"):
            stream.follower.set_target(CLOSED, stream.now, stream.now, 0.1)
        stream.tick()
    assert stream.follower.mode is Mode.HOLDING
    np.testing.assert_allclose(stream.follower.q, OPEN, atol=1e-3)


@pytest.mark.parametrize(
    "target, age, confidence, reason",
    [
        (CLOSED[:5], 0.0, 1.0, "joint_count"),
        (np.full(HAND.n, np.nan), 0.0, 1.0, "non_finite_target"),
        (np.full(HAND.n, np.inf), 0.0, 1.0, "non_finite_target"),
        (CLOSED, START + 1, 1.0, "zero_stamp"),
        (CLOSED, np.nan, 1.0, "zero_stamp"),
        (CLOSED, -1.0, 1.0, "future_stamp"),
        (CLOSED, 10.0, 1.0, "stale_stamp"),
        (CLOSED, 0.02, 1.0, "old_stamp"),
        (CLOSED, 0.0, np.nan, "bad_confidence"),
    ],
)
def test_bad_targets_are_refused_by_reason_and_change_nothing(target, age, confidence, reason):
    stream = enabled().run(1.0, OPEN)
    stamp = stream.now - age if age < START else 0.0
    with pytest.raises(RejectedInput) as error:
        stream.follower.set_target(target, stamp, stream.now, confidence)
    assert error.value.reason == reason
    stream.run(0.15)
    np.testing.assert_allclose(stream.follower.q, OPEN, atol=1e-3)


def test_a_clock_that_jumps_back_holds_and_goes_on_from_there():
    stream = enabled().run(0.5, OPEN).run(0.2, CLOSED)
    assert np.abs(stream.sent[-1].qd).max() > 1.0
    before = stream.sent[-1]
    stream.now -= 500.0
    assert stream.tick() is None, "no time has passed that a command could use"
    stream.run(0.1)
    assert {c.mode for c in stream.sent if c.stamp < before.stamp - 100} == {Mode.HOLDING}
    stream.run(0.4)
    assert np.abs(stream.sent[-1].qd).max() < 1e-6
    stream.run(2.0, CLOSED)
    np.testing.assert_allclose(stream.follower.q, CLOSED, atol=1e-3)
    stream.assert_limits()


@pytest.mark.parametrize("there, back", [(-0.01, 0.0), (-0.003, 0.0), (-5.0, 5.003), (-5.0, 5.0)])
def test_a_clock_that_goes_back_and_comes_on_again_buys_no_time(there, back):
    stream = enabled().run(0.5, OPEN).run(0.1, CLOSED)
    stream.now += there
    stream.tick()
    stream.now += back
    stream.run(1.0, CLOSED).assert_limits()


def test_a_long_silence_of_the_caller_is_not_made_up_in_one_jump():
    stream = enabled().run(0.5, OPEN).run(0.1, CLOSED)
    before = stream.follower.q
    stream.now += 30.0
    after = stream.tick()
    assert (np.abs(after.q - before) <= 0.1 * HAND.velocity_limit + 1e-9).all()
    stream.run(0.5, CLOSED).assert_limits()


def test_two_ticks_at_one_time_are_one_command():
    stream = enabled()
    assert stream.tick() is not None and stream.tick() is None


def test_a_moving_path_is_followed_without_lag():
    stream = enabled().run(1.0, OPEN)
    speed = 0.5 * HAND.velocity_limit
    lag = []
    for i in range(20):
        if i % 3 == 0:  # a forecast of 0.2 s every 30 ms
            times = stream.now + np.array([0.0, 0.1, 0.2])
            path = OPEN - speed * (times[:, None] - START - 1.0)
            stream.follower.set_path(times, path, stream.now, stream.now)
        stream.run(PERIOD)
        lag.append(stream.follower.q - (OPEN - speed * (stream.now - START - 1.0)))
    np.testing.assert_allclose(lag[-5:], 0.0, atol=1e-3)
    stream.assert_limits()


def test_clocks_of_two_threads_that_cross_are_no_jump():
    stream = enabled().run(0.5, OPEN).run(0.1, CLOSED)
    stream.follower.set_target(CLOSED, stream.now, stream.now - 0.002)
    assert stream.follower.mode is Mode.TRACKING
    stream.run(0.1).assert_limits()
    assert {c.mode for c in stream.sent[-5:]} == {Mode.TRACKING}


def hostile_target(rng):
    kind = rng.integers(6)
    if kind == 0:
        return np.full(HAND.n, rng.choice([np.nan, np.inf, -np.inf]))
    if kind == 1:
        return rng.normal(0, 1e6, HAND.n)
    if kind == 2:
        return rng.uniform(HAND.lower, HAND.upper, HAND.n)[: rng.integers(0, HAND.n)]
    return rng.uniform(HAND.lower - 1, HAND.upper + 1)


@pytest.mark.parametrize("seed", range(4))
def test_late_lost_reordered_contradictory_and_broken_targets_break_no_limit(seed):
    """10,000 targets in all, with jitter, stalls, gaps and clock jumps between the ticks."""
    rng = np.random.default_rng(seed)
    options = FollowerOptions(blend_time=0.03 * (seed % 2))
    follower, now, sent, refused = Follower(HAND, options), START, [], 0
    follower.enable(now, rng.uniform(HAND.lower, HAND.upper))
    for _ in range(2500):
        event = rng.random()
        now += (
            rng.choice([rng.uniform(0, 1e-3), rng.uniform(0.001, 0.03), PERIOD])
            if event > 0.02
            else rng.uniform(0.1, 3)
        )
        if event > 0.99:
            now += rng.choice([-0.01, -0.1, 0.1, -1.0, 1.0]) * rng.choice([1.0, 30.0])
        if event > 0.997:
            follower.disable()
        elif event > 0.5:
            follower.enable(now, None if follower.mode is not Mode.DISABLED else sent[-1].q if sent else None)
        stamp = rng.choice(
            [now - rng.uniform(0, 0.1), now, 0.0, now + rng.uniform(0, 5), now - rng.uniform(0, 5), np.nan]
        )
        points = rng.integers(1, 4)
        path = np.stack([hostile_target(rng)] * points) + rng.normal(0, 0.2, (points, 1))
        times = now + np.cumsum(rng.choice([1e-6, 0.01, 0.1, -0.1], points, p=[0.1, 0.3, 0.5, 0.1]))
        try:
            follower.set_path(times, path, stamp, now, rng.choice([1.0, rng.random(), np.nan], p=[0.6, 0.3, 0.1]))
        except RejectedInput:
            refused += 1
        command = follower.tick(now)
        if command is not None:
            sent.append(command)
    assert refused > 100 and len(sent) > 500
    audit = audit_limits(HAND, [c.stamp for c in sent], [c.q for c in sent])
    assert audit.violations == 0, audit
    assert audit.worst_velocity > 0.9 and audit.worst_acceleration > 0.9, "the test did not push the limits"


@pytest.mark.parametrize("target_first", [False, True])
@pytest.mark.parametrize("gap", [0.3, 1.0, 5.0])
def test_after_a_stall_no_command_jumps_even_if_a_target_comes_before_it(gap, target_first):
    stream = enabled().run(0.5, OPEN).run(0.1, CLOSED)
    before = stream.sent[-1].q
    stream.now += gap
    if target_first:
        stream.follower.set_target(CLOSED, stream.now - 0.005, stream.now)
    first = len(stream.sent)
    stream.run(0.3, CLOSED)
    steps = np.abs(np.diff([before, *(c.q for c in stream.sent[first:])], axis=0)) / (HAND.velocity_limit * PERIOD)
    assert steps[0].max() < 0.2 and steps[:5].max() < 0.35 and steps.max() > 0.5, "at rest, then ever faster"


def test_a_clock_that_is_set_forward_buys_no_motion():
    follower, now, steady, path = Follower(HAND), START, 7.0, []
    follower.enable(now)
    for i in range(300):
        now, steady = now + PERIOD * (10.0 if i % 7 else 1.0), steady + PERIOD  # ten times too fast
        follower.set_target(CLOSED, now, now)
        command = follower.tick(now, steady)
        path.append(command.q)
    moved = np.abs(np.diff(path, axis=0))
    assert (moved <= 1.2 * HAND.velocity_limit * PERIOD * (1 + 1e-9)).all()
    assert (np.abs(np.array(path[5:]) - path[:-5]) <= 1.05 * HAND.velocity_limit * 5 * PERIOD).all()
    assert np.abs(path[-1] - HAND.rest_q).max() > 0.3


def test_missed_periods_are_not_made_up_at_once():
    stream = enabled().run(0.5, OPEN).run(0.12, CLOSED)
    assert np.abs(stream.sent[-1].qd / HAND.velocity_limit).max() > 0.9
    before = stream.sent[-1].q
    stream.now += 0.06
    stream.follower.set_target(CLOSED, stream.now, stream.now)
    after = stream.tick().q
    assert (np.abs(after - before) <= 1.2 * PERIOD * HAND.velocity_limit + 1e-9).all()
    stream.run(0.3, CLOSED).assert_limits()


def test_an_interrupted_stream_is_silent_and_begins_where_the_robot_is():
    stream = enabled().run(0.5, OPEN).run(0.1, CLOSED)
    stream.follower.interrupt()
    count = len(stream.sent)
    stream.run(0.05, CLOSED)
    assert len(stream.sent) == count and stream.follower.mode is Mode.DISABLED
    measured = 0.5 * (HAND.rest_q + OPEN)
    stream.follower.enable(stream.now, measured)
    stream.run(0.1, CLOSED)
    np.testing.assert_allclose(stream.sent[count].q, measured)
    speeds = [np.abs(c.qd / HAND.velocity_limit).max() for c in stream.sent[count:]]
    assert max(speeds) < 0.4


@pytest.mark.parametrize("period, poses", [(0.01, np.inf), (0.005, np.inf), (0.01, 1 / 60)])
@pytest.mark.parametrize("seed", range(3))
def test_commands_that_are_held_up_break_no_limit_by_stamp_or_by_arrival(seed, period, poses):
    """The beat wakes up late, and a command waits between being made and being sent, as on a busy machine. With `poses`
    (s between them) each is sent at once as well, and the next command a period later."""
    rng = np.random.default_rng(seed)
    follower, offset = Follower(HAND, FollowerOptions(period=period)), START - 7.0
    follower.enable(START)
    due, pose, free, commands, gone, waited = 7.0, 7.0 + min(poses, 1e9), 0.0, [], [], 0
    for _ in range(2000):
        at_once = pose < due
        at = pose if at_once else due
        woke = max(at + (rng.exponential(0.3e-3) if rng.random() < 0.9 else rng.exponential(6e-3)), free)
        free = woke + (rng.exponential(0.2e-3) if rng.random() < 0.9 else rng.exponential(8e-3))
        target = CLOSED if (woke % 0.5) < 0.25 else OPEN
        follower.set_target(target, woke + offset, woke + offset)
        command = follower.tick(woke + offset, woke)
        pose, due = (pose + poses, free + period if command else due) if at_once else (pose, due + period)
        if command is None:
            waited += 1
            continue
        follower.sent(free)
        commands.append(command)
        gone.append(free)
    stamps, q, gone = np.array([c.stamp for c in commands]), np.array([c.q for c in commands]), np.array(gone)
    audit = audit_limits(HAND, stamps, q, received=gone, period=period)
    assert audit.violations == 0, audit
    assert worst_use(motion_of(gone, q, period, np.zeros(0), np.zeros((0, HAND.n))), HAND.velocity_limit)[0] < 1.045
    assert 0 < waited < 0.3 * len(commands) and audit.worst_velocity > 0.9
