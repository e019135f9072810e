"""Online assessment: scores worked out by hand, and coverage that comes back when the motion changes."""

import numpy as np
import pytest
import torch
from test_calibration import make_forecast

from egohand_ros.data.importers.mocap import load_qualisys
from egohand_ros.data.windows import cut_windows, window_ends
from egohand_ros.forecast.common.calibration import score
from egohand_ros.forecast.live.assessment import OnlineAssessment, OnlineOptions
from egohand_ros.forecast.registry import make_forecaster

ALL = np.ones((2, 21), dtype=bool)


def at(x: float) -> np.ndarray:
    """Both hands as one point at x m."""
    keypoints = np.zeros((2, 21, 3))
    keypoints[..., 0] = x
    return keypoints


def stamped(stamp: float, steps: int = 3):
    forecast = make_forecast(1, steps)
    return type(forecast)(**{**vars(forecast), "stamp": torch.tensor([stamp], dtype=torch.float64)})


def test_a_forecast_is_scored_when_its_last_step_has_come():
    assessment = OnlineAssessment()
    assert assessment.publish(stamped(0.0)) is not None
    assert assessment.observe(0.0, at(0.0), ALL) == 0
    assert assessment.observe(0.1, at(0.01), ALL) == 0
    assert assessment.observe(0.2, at(0.02), ALL) == 0
    assert assessment.observe(0.3, at(0.06), ALL) == 1
    report = assessment.report()
    assert report.ade == pytest.approx(0.03) and report.fde == pytest.approx(0.06)
    # One promised radius of deviation 0.01 m is 0.025 m: inside at 0.01 and 0.02, outside at 0.06.
    assert report.coverage == pytest.approx(2 / 3)
    assert report.scored == 1 and not report.adapted


def test_truth_is_interpolated_between_observations_of_any_rate_but_not_over_gaps():
    assessment = OnlineAssessment()
    assessment.publish(stamped(0.0))
    for stamp in (0.0, 0.04, 0.13, 0.22, 0.31):
        assessment.observe(stamp, at(stamp), ALL)
    assert assessment.report().ade == pytest.approx(0.2)
    gap = OnlineAssessment()
    gap.publish(stamped(0.0))
    assert gap.observe(0.0, at(0.0), ALL) == 0 and gap.observe(0.9, at(1.0), ALL) == 1
    assert gap.report().scored == 0 and np.isnan(gap.report().ade)


def test_an_unseen_hand_does_not_count():
    assessment, right = OnlineAssessment(), ALL.copy()
    right[0] = False
    assessment.publish(stamped(0.0))
    for stamp in (0.0, 0.1, 0.2, 0.3):
        points = at(0.5)
        points[1] = 0.0
        assessment.observe(stamp, points, right)
    assert assessment.report().ade == 0.0


def test_old_or_repeated_stamps_are_ignored_and_reset_forgets_what_is_pending():
    assessment = OnlineAssessment()
    assessment.publish(stamped(0.0))
    assessment.observe(0.2, at(0.0), ALL)
    assert assessment.observe(0.1, at(9.0), ALL) == 0
    assessment.reset()
    assert assessment.observe(5.0, at(0.0), ALL) == 0
    assert assessment.report().scored == 0


@pytest.mark.parametrize("spread", [0.002, 0.05])
def test_coverage_follows_the_motion(spread):
    """Promised deviation 0.01 m, real one much smaller, then much larger, or the other way round."""
    rng, assessment = np.random.default_rng(0), OnlineAssessment(OnlineOptions(memory=20.0))
    inside = []
    for i in range(1200):
        now, std = 0.1 * i, spread if i < 600 else 0.0001 / spread
        adapted = assessment.publish(stamped(now, steps=1))
        truth = rng.normal(0.0, std, (2, 21, 3))
        radius = 2.5003 * adapted.wrist_covariance[0, 0, 0, :, 0, 0].sqrt().numpy()
        inside.append(np.linalg.norm(truth[:, 0], axis=-1) <= radius)
        assessment.observe(now + 0.1, truth, ALL)
    inside = np.array(inside)
    for span in (slice(300, 600), slice(900, 1200)):
        assert inside[span].mean() == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize("name", ["persistence", "kalman", "egohand-small"])
def test_regions_keep_their_promise_on_a_real_recording(shared_data, name):
    """90 +- 4 % after 30 s of adaptation, for a forecaster with and one without deviations of its own."""
    episode = load_qualisys(shared_data / "hand_mocap" / "recording.tsv")
    forecaster, assessment, inside = make_forecaster(name), OnlineAssessment(), []
    ends, seen = window_ends(episode.stamp, 0.1, 20, 10), 0
    for batch in np.array_split(ends, 10):
        cut = cut_windows(episode, batch, 0.1, 20, 10)
        forecasts = forecaster.forecast(cut.window)
        for row, end in enumerate(batch):
            for frame in range(seen, end + 1, 10):
                assessment.observe(episode.stamp[frame], episode.keypoints[frame], episode.valid[frame])
            seen = end + 1
            one = {k: v[row : row + 1] for k, v in vars(forecasts).items() if v is not None and k != "step_times"}
            adapted = assessment.publish(type(forecasts)(step_times=forecasts.step_times, **one))
            if episode.stamp[end] > episode.stamp[0] + 32.0:
                parts = (cut.future[[row]], cut.future_valid[[row]])
                inside.append(score(adapted, *parts).position[0, :, 1] <= 1.0)
    assert len(inside) > 200 and assessment.report().adapted
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)


def test_work_and_memory_are_bounded():
    assessment = OnlineAssessment(OnlineOptions(memory=1.0, kept=10, max_pending=50))
    for i in range(400):
        assessment.publish(stamped(0.002 * i))
        assessment.observe(0.002 * i, at(0.0), ALL)
    assert len(assessment._pending) == len(assessment._observations) == 50
    held = {values.shape[0] for values in assessment._memory.values}
    assert held == {10}


def test_what_was_learned_survives_a_jump_of_the_clock():
    assessment = OnlineAssessment()

    def run(start: float, steps: int):
        for i in range(steps):
            forecast = assessment.publish(stamped(start + 0.1 * i))
            assessment.observe(start + 0.1 * i, at(0.05 * (i % 2)), ALL)
        return forecast.wrist_covariance[0, 0, -1, 0, 0, 0]

    before = run(1000.0, 200)
    assessment.reset()
    after = run(0.0, 2)
    assert assessment.adapted and after == before > 1.5 * stamped(0.0).wrist_covariance[0, 0, -1, 0, 0, 0]
    assert np.isfinite(run(5.0, 300)), "and goes on to learn"


def test_regions_that_are_not_adapted_are_scored_as_published():
    assessment = OnlineAssessment()
    for i in range(300):
        given = assessment.publish(stamped(0.1 * i), adapt=False)
        assessment.observe(0.1 * i, at(0.05 * (i % 2)), ALL)
    assert torch.equal(given.wrist_covariance, stamped(0.0).wrist_covariance)
    # Every other step is 0.05 m away, which is outside of 0.025 m.
    assert assessment.adapted and assessment.report().coverage == pytest.approx(1 / 2, abs=0.02)


def test_keypoints_of_a_tracker_of_wrists_alone_are_adapted_as_soon_as_wrists():
    """Promised deviation 0.01 m, every wrist is 0.05 m off and no other keypoint is known."""
    assessment, wrists = OnlineAssessment(), np.zeros_like(ALL)
    wrists[:, 0] = True
    for i in range(60):
        given = assessment.publish(stamped(0.2 * i, steps=1))
        assessment.observe(0.2 * i, at(0.05), wrists)
    assert given.keypoint_std[0, 0, 0, 0, 0] > 0.015 and given.wrist_covariance[0, 0, 0, 0, 0, 0] > 0.015**2


def test_regions_follow_how_well_it_goes_now():
    """Motion that is ten times as fast for 10 s of every 20: by a local scale regions are soon wide enough."""
    shares = {}
    for local in (0.0, 2.0):
        rng, assessment, inside = np.random.default_rng(0), OnlineAssessment(OnlineOptions(local=local)), []
        for i in range(900):
            now, fast = 0.1 * i, i // 100 % 2
            adapted = assessment.publish(stamped(now, steps=1))
            truth = rng.normal(0.0, 0.03 if fast else 0.003, (2, 21, 3))
            radius = 2.5003 * adapted.wrist_covariance[0, 0, 0, :, 0, 0].sqrt().numpy()
            if i > 500 and fast:
                inside.append(np.linalg.norm(truth[:, 0], axis=-1) <= radius)
            assessment.observe(now + 0.1, truth, ALL)
        shares[local] = np.mean(inside)
    assert abs(shares[2.0] - 0.9) < abs(shares[0.0] - 0.9)
