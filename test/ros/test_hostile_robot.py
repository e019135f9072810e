"""Around a robot: a stopped node, a lost hand, a robot that comes back elsewhere, a clock that is set. And the
monitor.
"""

import numpy as np

from egohand_ros.nodes.bench.hostile_monitor import motion_of, time_to_stand_still, worst_use
from egohand_ros.nodes.bench.hostile_robot import run_trials
from egohand_ros.nodes.session.processes import private_domain

PERIOD, VELOCITY = 0.01, np.array([8.5])
NOBODY = np.zeros(0), np.zeros((0, 1))


def judged(arrived, q, measured=NOBODY):
    return worst_use(motion_of(np.asarray(arrived), np.asarray(q)[:, None], PERIOD, *measured), VELOCITY)[0]


def test_the_monitor_finds_full_speed_exactly_and_a_jump_after_a_stall():
    t = PERIOD * np.arange(100)
    assert abs(judged(t, VELOCITY[0] * t) - 1.0) < 1e-9
    late, q = t + np.where(t > 0.5, 1.0, 0.0), VELOCITY[0] * t
    q[t > 0.5] += 0.09 * VELOCITY[0]  # what a limiter that grants 0.1 s would send at once
    assert judged(late, q) > 2.5


def test_the_monitor_takes_a_robot_for_where_it_was_measured_after_a_silence():
    t = np.r_[PERIOD * np.arange(50), 2.0 + PERIOD * np.arange(50)]
    q = np.r_[np.zeros(50), np.full(50, 1.2)]
    assert judged(t, q) > 2.0
    there = np.array([1.9]), np.array([[1.2]])
    assert judged(t, q, there) == 0.0
    assert judged(t, q, (np.array([1.9]), np.array([[0.2]]))) > 2.0
    assert judged(t, q, (np.array([2.05]), np.array([[1.2]]))) == 0.0, "heard a little later than it was commanded"
    assert judged(t, q, (np.array([2.2]), np.array([[1.2]]))) > 2.0


def test_the_monitor_tells_when_a_hand_stands_still_and_moves_again():
    t = PERIOD * np.arange(300)
    q = np.minimum(t, 1.2) + np.maximum(t - 2.0, 0.0)
    still, again = time_to_stand_still(t, q[:, None], VELOCITY, 1.0, 3.0)
    assert abs(still - 0.2) < 0.02 and abs(again - 1.0) < 0.03


def test_whatever_happens_to_nodes_hand_robot_and_clock_no_joint_is_asked_for_more_than_full_speed(tmp_path):
    with private_domain() as domain:
        report = run_trials("leap_right", domain, tmp_path, short=True)
    assert report.failures == [], report
    assert {"retargeter stopped for 1 s", "hand: lost", "robot lost, back elsewhere", "clock +100 s"} <= {
        trial.name for trial in report.trials
    }
    assert all(trial.commands > 50 for trial in report.trials)
