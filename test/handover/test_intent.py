"""What the person wants: evidence, probabilities, and a decision that does not flicker."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from people import future, hand_at

from egohand_ros.handover.intent import GIVE, NONE, TAKE, HandEvidence, IntentFilter, evidence, intent_probability
from egohand_ros.handover.options import HandoverOptions
from egohand_ros.handover.transfer import expected_transfer

REACHES = HandEvidence(arrives=1.0, approach=0.95, facing=0.95, height=0.8, closed=1.0)
AWAY = HandEvidence(arrives=0.0, approach=-0.6, facing=-0.2, height=-0.5, closed=1.0)


def test_a_closed_hand_that_comes_gives_and_an_open_one_takes():
    assert intent_probability(REACHES, robot_holds=False).argmax() == GIVE
    assert intent_probability(replace(REACHES, closed=0.0), robot_holds=True).argmax() == TAKE
    assert intent_probability(AWAY, robot_holds=False).argmax() == NONE


def test_nothing_is_given_to_a_full_hand_nor_taken_from_an_empty_one():
    for closed in (0.0, 1.0):
        seen = replace(REACHES, closed=closed)
        assert intent_probability(seen, robot_holds=True)[GIVE] == 0.0
        assert intent_probability(seen, robot_holds=False)[TAKE] == 0.0


def test_an_empty_hand_gives_nothing():
    assert intent_probability(replace(REACHES, holds=False), robot_holds=False)[GIVE] == 0.0


def test_words_count():
    unsure = HandEvidence(arrives=0.5, approach=0.6, facing=0.6, height=0.3, closed=0.6)
    plain = intent_probability(unsure, False)[GIVE]
    assert intent_probability(unsure, False, "hand over the red cup")[GIVE] > plain
    assert intent_probability(unsure, False, "take the red cup")[GIVE] == pytest.approx(plain)


@given(
    st.builds(
        HandEvidence,
        arrives=st.floats(0, 1),
        approach=st.floats(-1, 1),
        facing=st.floats(-1, 1),
        height=st.floats(-1, 1),
        closed=st.floats(0, 1),
        holds=st.sampled_from([None, True, False]),
    ),
    st.booleans(),
    st.text(max_size=20),
)
def test_probabilities_are_probabilities_and_coming_nearer_never_makes_them_less(seen, robot_holds, prompt):
    p = intent_probability(seen, robot_holds, prompt)
    assert p.sum() == pytest.approx(1.0) and (p >= 0).all()
    nearer = intent_probability(replace(seen, approach=min(seen.approach + 0.3, 1.0)), robot_holds, prompt)
    assert nearer[NONE] <= p[NONE] + 1e-12


def run(values, period=0.033):
    """Directions after each probability of GIVE."""
    watch = IntentFilter()
    return [watch.update(i * period, {1: np.array([1 - p, p, 0.0])}) for i, p in enumerate(values)]


def test_it_is_entered_after_a_while_and_left_after_a_while():
    said = run([0.9] * 12 + [0.6] * 10 + [0.3] * 8)
    assert said[5] == NONE and said[7] == GIVE, "after 0.2 s"
    assert set(said[7:23]) == {GIVE}, "0.6 is enough to stay"
    assert said[-1] == NONE


def test_one_odd_observation_changes_nothing():
    assert set(run([0.9, 0.9, 0.1] * 10)) == {NONE}
    assert run([0.9] * 10 + [0.1] + [0.9] * 5)[-1] == GIVE


@given(st.lists(st.floats(0.0, 1.0), min_size=5, max_size=80))
def test_it_never_changes_twice_within_its_hysteresis(values):
    said = run(values)
    entered = [i for i in range(1, len(said)) if said[i] != NONE and said[i - 1] == NONE]
    for i in entered:
        assert min(values[i - 6 : i + 1]) > 0.8


def test_a_hand_that_is_gone_ends_it():
    watch = IntentFilter()
    for i in range(10):
        watch.update(0.033 * i, {0: np.array([0.05, 0.95, 0.0])})
    assert (watch.direction, watch.side, watch.likely) == (GIVE, 0, 0)
    for i in range(10, 16):
        watch.update(0.033 * i, {})
    assert (watch.direction, watch.side, watch.likely) == (NONE, None, None)


def test_nothing_is_begun_with_a_hand_that_does_not_offer_however_long_it_comes():
    watch, likely = IntentFilter(), {1: np.array([0.05, 0.95, 0.0])}
    for i in range(30):
        assert watch.update(0.033 * i, likely, offering=(0,)) == NONE
        assert watch.likely == 1, "though it is told already which hand is about something"
    assert watch.update(1.0, likely, offering=(1,)) == GIVE, "it was likely for long enough"
    assert watch.update(1.033, likely, offering=()) == GIVE, "what is begun goes on"


def test_of_a_hand_that_rests_there_it_is_seen_that_it_arrived_though_hypotheses_go_on():
    point = np.array([0.75, 0.0, 0.35])
    on = np.tile(point, (4, 10, 1))
    on[1:, :, 0] += 0.05 * np.arange(1, 11)  # three of four: 0.5 m/s out of reach
    zone = HandoverOptions().zone
    transfer = expected_transfer(future(on), 0.0, 0.1 * np.arange(1, 11), point, zone)
    assert transfer.probability < 0.5
    seen = [evidence(hand_at(point)[1], point, transfer, np.array([0.5, 0.0, 0.42]), zone.floor, None, there)
            for there in (False, True)]  # fmt: skip
    assert (seen[0].arrives, seen[1].arrives) == (transfer.probability, 1.0)
    moves, rests = (intent_probability(s, robot_holds=False)[GIVE] for s in seen)
    assert moves < rests
