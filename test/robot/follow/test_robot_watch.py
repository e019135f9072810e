"""A command stream and its robot: parted by a stall, by silence, or by a restart, and brought together again."""

import numpy as np
import pytest

from egohand_ros.robot.follow.robot_watch import RobotWatch

VELOCITY = np.array([5.0, 8.0])
HERE, THERE = np.array([0.1, 0.2]), np.array([1.4, 0.2])


class Robot:
    def __init__(self):
        self.watch, self.now = RobotWatch(VELOCITY, silence=0.5), 100.0

    def run(self, seconds, at=HERE, ticks=True):
        """Joint states and looks at 100 Hz; the reasons that were given, in order."""
        reasons = []
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            if at is not None:
                self.watch.hear(at, self.now)
            if ticks:
                reasons.append(self.watch.look(self.now))
        return [reason for reason in reasons if reason is not None]


@pytest.fixture
def robot():
    robot = Robot()
    assert robot.run(1.0) == [] and (robot.watch.pose(robot.now) == HERE).all()
    return robot


def test_a_robot_that_was_never_heard_is_no_reason_to_stop():
    robot = Robot()
    assert robot.run(3.0, at=None) == [] and robot.watch.pose(robot.now) is None and not robot.watch.speaks


def test_silence_is_told_and_the_pose_is_unknown_until_it_speaks_again(robot):
    assert robot.run(0.45, at=None) == []
    assert "joint_states" in robot.run(0.2, at=None)[0]
    assert robot.watch.pose(robot.now) is None
    robot.run(0.1, at=THERE)
    assert (robot.watch.pose(robot.now) == THERE).all()


def test_after_a_stall_what_had_piled_up_is_not_believed(robot):
    robot.now += 2.0
    for _ in range(5):  # joint states of before the stall, read at once
        robot.watch.hear(HERE, robot.now)
    assert robot.watch.look(robot.now) == "no command was sent for 2.0 s"
    robot.run(0.1, at=HERE)
    assert robot.watch.pose(robot.now) is None
    assert robot.run(0.3, at=THERE) == []
    assert (robot.watch.pose(robot.now) == THERE).all()


def test_a_robot_that_comes_back_elsewhere_at_once_is_noticed(robot):
    reasons = robot.run(0.1, at=THERE)
    assert reasons == ["the robot is suddenly elsewhere"]
    assert robot.watch.pose(robot.now) is None, "it is given time to come to rest"
    assert robot.run(0.1, at=THERE) == []
    assert (robot.watch.pose(robot.now) == THERE).all()


def test_one_wrong_reading_moves_nothing(robot):
    robot.watch.hear(THERE, robot.now + 0.001)
    assert (robot.watch.pose(robot.now + 0.001) == HERE).all() and robot.run(0.5) == []


def test_full_speed_is_not_elsewhere(robot):
    at = HERE.copy()
    for _ in range(100):
        at = at + 0.01 * VELOCITY
        assert robot.run(0.01, at) == []


def test_while_a_simulated_clock_stands_still_nothing_is_a_stall(robot):
    robot.now += 5.0
    robot.watch.hear(HERE, robot.now)
    assert robot.watch.look(robot.now, passed=0.0) is None
