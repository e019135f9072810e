"""The benchmark of retargeting: what it measures of a short sequence, with and without a search for optima."""

import numpy as np
import pytest

from egohand_ros.evaluation.bench.retarget_bench import measure, sequences
from egohand_ros.robot.hands.library import load_hand


@pytest.mark.parametrize("optimum", [True, False])
def test_a_short_sequence_keeps_its_limits_and_has_gaps_where_optima_were_searched_for(optimum):
    hand = load_hand("inspire_right")
    keypoints = sequences(None, "right")["synthetic"][:16]
    (ours,), notes = measure(hand, "vector", "short", keypoints, rounds=2, optimum=optimum)
    assert (ours.method, ours.frames, notes) == ("egohand", 16, [])
    assert ours.position == ours.velocity == ours.acceleration == ours.collisions == 0
    assert 0.0 < ours.median_ms <= ours.p95_ms <= ours.p99_ms
    assert np.isnan(ours.gap_median) != optimum
