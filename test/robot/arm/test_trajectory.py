"""What an arm does with trajectories, and what it does when there are no more."""

import numpy as np
import pytest

from egohand_ros.errors import RejectedInput
from egohand_ros.robot.arm.trajectory import TrajectoryFollower

LIMITS = np.full(2, -1.0), np.full(2, 1.0), np.full(2, 2.0)


def follower():
    return TrajectoryFollower(np.zeros(2), *LIMITS)


def test_it_passes_its_points_and_stands_at_the_end():
    arm = follower()
    times, q, qd = np.array([0.1, 0.2]), np.array([[0.1, 0.0], [0.15, 0.0]]), np.array([[0.8, 0.0], [0.0, 0.0]])
    arm.follow(times, q, qd, 5.0)
    assert arm.at(5.1)[0] == pytest.approx(q[0]) and arm.at(5.1)[1] == pytest.approx(qd[0])
    assert arm.at(9.0)[0] == pytest.approx(q[1]) and not arm.at(9.0)[1].any()


def test_a_new_trajectory_goes_on_from_where_the_old_one_was():
    arm = follower()
    arm.follow(np.array([0.2]), np.array([[0.2, 0.1]]), np.zeros((1, 2)), 0.0)
    before = arm.at(0.1)
    arm.follow(np.array([0.2]), np.array([[0.3, 0.1]]), np.zeros((1, 2)), 0.1)
    after = arm.at(0.1)
    assert after[0] == pytest.approx(before[0]) and after[1] == pytest.approx(before[1])


@pytest.mark.parametrize(
    "times, q, qd, reason",
    [
        ([0.2, 0.1], [[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2, "bad_times"),
        ([0.1], [[0.0, 0.0]], [[0.1, 0.0]], "ends_in_motion"),
        ([0.1], [[1.5, 0.0]], [[0.0, 0.0]], "out_of_range"),
        ([0.01], [[0.9, 0.0]], [[0.0, 0.0]], "too_fast"),
    ],
)
def test_what_an_arm_cannot_do_is_refused(times, q, qd, reason):
    arm = follower()
    with pytest.raises(RejectedInput) as refused:
        arm.follow(np.array(times), np.array(q), np.array(qd), 0.0)
    assert refused.value.reason == reason
    assert not arm.at(1.0)[0].any()
