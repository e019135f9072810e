"""What is felt: a held object from fingers that stay behind, a pull and a blow from a force sensor that drifts."""

import numpy as np
import pytest

from egohand_ros.handover.touch import TouchSense
from egohand_ros.robot.hands.library import load_hand

OUT = np.array([1.0, 0.0, 0.0])


@pytest.fixture
def sense():
    return TouchSense(load_hand("allegro_right"))


def test_fingers_that_stay_behind_hold_something(sense):
    q = sense.hand.rest_q
    still = np.zeros(len(q))
    sense.fingers(q, q, still)
    assert not sense.touch(OUT, True).gripped
    sense.fingers(q + 0.2, q, still)
    assert sense.touch(OUT, True).gripped
    sense.fingers(q + 0.2, q, still + 1.0)
    assert not sense.touch(OUT, True).gripped, "they are on their way"
    one = q.copy()
    one[0] += 0.2
    sense.fingers(one, q, still)
    assert not sense.touch(OUT, True).gripped, "one finger holds nothing"


def test_a_pull_is_told_from_what_the_sensor_shows_without_a_load(sense):
    drift = np.array([3.0, -2.0, 8.0])
    for k in range(200):
        sense.force(drift, 0.01 * k, False)
    assert sense.touch(OUT, False).pull == pytest.approx(0.0, abs=1e-6)
    sense.force(drift + 6.0 * OUT, 2.0, True)
    assert sense.touch(OUT, True).pull == pytest.approx(6.0, abs=1e-6)


def test_a_large_force_before_a_transfer_is_a_person(sense):
    sense.force(np.zeros(3), 0.0, False)
    sense.force(np.array([0.0, 60.0, 0.0]), 0.01, False)
    assert sense.touch(OUT, False).elsewhere
    assert not sense.touch(OUT, True).elsewhere
