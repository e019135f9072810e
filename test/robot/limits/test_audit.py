"""The audit finds what breaks a limit, by stamps or by arrival, and nothing else."""

import numpy as np
import pytest

from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.limits.audit import audit_limits, others_late

HAND = load_hand("leap_right")
PERIOD = 0.01


def slow(count=200):
    stamp = 100.0 + PERIOD * np.arange(count)
    return stamp, HAND.rest_q + 0.2 * np.sin(3.0 * (stamp - 100.0))[:, None]


def test_a_calm_stream_breaks_nothing_whatever_transport_does():
    stamp, q = slow()
    held_up = stamp + 0.002 + 0.03 * (np.arange(len(stamp)) % 20 == 7)
    received = np.maximum.accumulate(held_up)
    audit = audit_limits(HAND, stamp, q, received=received)
    assert audit.violations == 0 and 0.0 < audit.worst_arrival < 1.0


def test_a_burst_of_the_sender_after_a_stall_is_found_by_arrival_though_stamps_say_nothing():
    stamp, q = slow()
    stamp[100:] += 1.0
    jump = q.copy()
    jump[100:] += 0.1 * HAND.velocity_limit * np.sign(HAND.upper + HAND.lower - 2 * HAND.rest_q)
    jump = np.clip(jump, HAND.lower, HAND.upper)
    by_stamp = audit_limits(HAND, stamp, jump)
    assert by_stamp.velocity == 0 and by_stamp.arrival == 0
    by_arrival = audit_limits(HAND, stamp, jump, received=stamp + 0.001)
    assert by_arrival.arrival > 0 and by_arrival.worst_arrival > 2.0 and by_arrival.violations > 0


def test_a_clock_that_is_set_forward_hides_nothing_from_the_audit_by_arrival():
    stamp, q = slow()
    received = stamp + 0.001
    stamp = stamp + np.where(np.arange(len(stamp)) >= 100, 100.0, 0.0)
    q[100:] = np.clip(q[100:] + HAND.velocity_limit, HAND.lower, HAND.upper)  # in 0.01 s
    assert audit_limits(HAND, stamp, q).velocity == 0
    assert audit_limits(HAND, stamp, q, received=received).arrival > 0


@pytest.mark.parametrize("change, broken", [(0.0, 0), (0.5, 1)])
def test_slowing_down_over_a_late_step_is_no_acceleration_but_speeding_up_is(change, broken):
    v = 0.8 * HAND.velocity_limit
    stamp = np.array([0.0, 0.01, 0.02, 0.03, 0.06, 0.07]) + 5.0
    steps = np.array([v * 0.01] * 3 + [(0.3 + 2 * change) * v * 0.03] + [(0.3 + 2 * change) * v * 0.01])
    q = 0.5 * (HAND.lower + HAND.upper) - 0.05 * v + np.r_[np.zeros((1, HAND.n)), np.cumsum(steps, axis=0)]
    assert (audit_limits(HAND, stamp, q).acceleration > 0) == bool(broken)


def test_after_a_silence_commands_may_begin_where_the_robot_was_measured_and_nowhere_else():
    stamp, q = slow()
    stamp[100:] += 1.5
    q[100:] = np.clip(q[100:] + 0.4, HAND.lower, HAND.upper)
    received = stamp + 0.001
    there, heard = q[100:101], stamp[100:101] - 0.02
    assert audit_limits(HAND, stamp, q, received=received).arrival > 0
    assert audit_limits(HAND, stamp, q, received=received, measured=(heard, there)).arrival == 0
    elsewhere = audit_limits(HAND, stamp, q, received=received, measured=(heard, there - 0.3))
    assert elsewhere.arrival > 0, "it was measured elsewhere"
    stale = audit_limits(HAND, stamp, q, received=received, measured=(heard - 1.2, there))
    assert stale.arrival > 0, "that was long before"


def test_a_recorder_that_was_held_up_is_told_from_a_burst_of_the_sender_by_what_others_sent():
    stamp = 100.0 + PERIOD * np.arange(200)
    share = np.clip((stamp - 100.48) / 0.24, 0.0, 1.0)[:, None]
    q = HAND.lower + share * np.minimum(0.24 * 0.9 * HAND.velocity_limit, HAND.upper - HAND.lower)
    held = (stamp > 100.5) & (stamp < 100.7)
    received = np.where(held, 100.7, stamp) + 0.002
    states = 100.004 + 0.02 * np.arange(100)
    came = np.where((states > 100.5) & (states < 100.7), 100.7, states) + 0.001
    assert audit_limits(HAND, stamp, q, received=received).arrival > 0
    held_up = others_late(received, states, came)
    assert held_up.max() == pytest.approx(0.2, abs=0.02) and (held_up == 0.0).sum() > 150
    assert audit_limits(HAND, stamp, q, received=received, late=held_up).arrival == 0
    in_time = others_late(received, states, states + 0.001)
    assert audit_limits(HAND, stamp, q, received=received, late=in_time).arrival > 0, "then the sender was late"
