"""Following in simulated time: the judge, the delays, and that the bench tells prediction from none."""

import numpy as np
import pytest

from egohand_ros.evaluation.bench.following import Delays, HumanMotion, Judge, Method, RobotMotion, follow
from egohand_ros.evaluation.bench.following_bench import FollowingResult, identified_lead, synthetic_motions
from egohand_ros.hand.poses import posed_hand
from egohand_ros.hand.skeleton import FINGERS, SIDES
from egohand_ros.robot.hands.library import load_hand

HAND = load_hand("allegro_right")
DELAYS = Delays()


def slow_motion(seconds=6.0, side="right"):
    """A hand that opens and closes, seen without errors."""
    stamp = 100.0 + np.arange(round(seconds * 30)) / 30.0
    curls = 0.5 + 0.16 * np.sin(2 * np.pi * 0.45 * stamp) + 0.09 * np.sin(2 * np.pi * 0.73 * stamp + 1.0)
    keypoints = np.full((len(stamp), 2, 21, 3), np.nan)
    keypoints[:, SIDES.index(side)] = [posed_hand(dict.fromkeys(FINGERS, c), 0.6, 0.5, side) for c in curls]
    return HumanMotion("slow", stamp, keypoints, keypoints, side)


@pytest.fixture(scope="module")
def judge():
    return Judge(slow_motion(), HAND)


def test_the_judge_knows_a_robot_that_is_late_by_a_known_time(judge):
    for late in (0.0, 0.12):
        robot = RobotMotion(judge.times, judge.q, judge.times + late, judge.q)
        score = judge.score("copy", robot)
        assert score.lag_ms == pytest.approx(1e3 * late, abs=3.0) and score.velocity_lag_ms == pytest.approx(
            1e3 * late, abs=5.0
        )
        assert (score.error_mm < 0.01) == (late == 0.0)


def test_lag_without_prediction_is_the_sum_of_the_delays_and_a_perfect_forecast_takes_it_away(judge):
    lead = identified_lead(HAND, DELAYS, 200.0)
    assert lead == pytest.approx(DELAYS.actuation + DELAYS.transport + 0.0127 + 0.0025, abs=0.004)
    without = judge.score("none", follow(judge.motion, HAND, Method("none"), DELAYS))
    perfect = judge.score("oracle", follow(judge.motion, HAND, Method("oracle", lead=lead, oracle=True), DELAYS))
    stages = DELAYS.input + DELAYS.transport + DELAYS.solve + lead
    assert 1e3 * stages < without.lag_ms < 1e3 * stages + 50.0  # and half a frame, and the blending
    assert abs(perfect.lag_ms) < 15.0
    assert perfect.error_mm < 0.2 * without.error_mm and perfect.jerk < without.jerk
    assert without.violations == perfect.violations == 0


def test_actuation_delay_is_what_the_robot_is_late_by(judge):
    lags = [
        judge.score("none", follow(judge.motion, HAND, Method("none"), Delays(actuation=delay))).lag_ms
        for delay in (0.0, 0.1)
    ]
    assert lags[1] - lags[0] == pytest.approx(100.0, abs=5.0)


def test_synthetic_motions_come_exact_and_as_a_tracker_sees_them():
    exact, seen = synthetic_motions(0, 8.0, "left")
    assert exact.side == "left" and np.array_equal(exact.truth, seen.truth)
    apart = np.linalg.norm(seen.observed - seen.truth, axis=-1)
    assert 1e-3 < np.nanmedian(apart) < 0.03 and np.array_equal(exact.observed, exact.truth)


def test_changes_are_told_relative_to_another_method(judge):
    result = FollowingResult(0.1, "given")
    robot = RobotMotion(judge.times, judge.q, judge.times + 0.1, judge.q)
    half = RobotMotion(judge.times, judge.q, judge.times + 0.05, judge.q)
    result.scores = [judge.score(FollowingResult.WITHOUT, robot), judge.score("half", half)]
    assert result.change(result.scores[0], FollowingResult.WITHOUT) == ""
    assert result.change(result.scores[1], FollowingResult.DEX) == ""
    assert -55 < float(result.change(result.scores[1], FollowingResult.WITHOUT).split()[0]) < -40
