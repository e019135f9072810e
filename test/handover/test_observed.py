"""When the last stretch may begin, and where the tool stands until then."""

from dataclasses import replace

import numpy as np
import pytest
from people import future, futures, hand_at

from egohand_ros.handover.goals import Goals, facing
from egohand_ros.handover.observed import ObservedPerson
from egohand_ros.handover.options import HandoverOptions
from egohand_ros.messages.hands import hands

RESTS_AT = np.array([0.5, 0.0, 0.36])
OPTIONS = HandoverOptions()


def seen(speeds, covariance=0.0, rests_in=0.3):
    """A person whose right hand came along x with speeds m/s, 0.05 s each, and is forecast to rest at `RESTS_AT`."""
    person, x = ObservedPerson(OPTIONS), RESTS_AT[0] + 0.05
    path = x + 0.05 * np.cumsum(speeds[::-1])[::-1]
    for i, now in enumerate(0.05 * np.arange(len(path))):
        person.observe(hands(now, "base", hand_at((path[i], *RESTS_AT[1:]))), None)
    way = np.clip(0.1 * np.arange(1, 11) / rests_in, 0.0, 1.0)[:, None]
    start = np.array([path[-1] + (0.15 if rests_in > 0.5 else 0.0), *RESTS_AT[1:]])
    foreseen = futures(future((start + way * (RESTS_AT - start))[None], covariance))
    person.foresee(replace(foreseen, stamp=person.stamp))
    return person


SLOWS, GROWS = (0.9, 0.7, 0.5, 0.3, 0.2), (0.1, 0.2, 0.3, 0.4, 0.45)


def test_a_hand_that_slows_down_and_is_forecast_to_rest_arrives():
    person = seen(SLOWS)
    assert person.arrives(1, person.stamp) and not person.rests(1)


@pytest.mark.parametrize(
    "person",
    [seen(GROWS), seen((0.9, 0.9, 0.9, 0.9, 0.8)), seen(SLOWS, covariance=0.01), seen(SLOWS, rests_in=1.0)],
    ids=["grows faster", "is fast", "is not sure", "rests later"],
)
def test_no_other_does(person):
    assert not person.arrives(1, person.stamp) and not person.arrives(0, person.stamp)


def test_the_tool_waits_before_the_object_until_the_hand_rests_and_goes_straight_at_it():
    person, goals = seen(SLOWS), Goals(OPTIONS, np.eye(4))
    grasp = person.expected_grasp(person.transfers[1])
    waits = goals.awaiting(person, person.transfers[1])[:3, 3]
    assert np.linalg.norm(waits - grasp) == pytest.approx(OPTIONS.await_at, abs=1e-6)
    ahead, aside = facing(grasp), facing(grasp)
    ahead[:3, 3] -= 0.1 * ahead[:3, 0]
    aside[:3, 3] += 0.1 * aside[:3, 1] - 0.1 * aside[:3, 0]
    assert goals.at(grasp, False, ahead, None)[:3, 3] == pytest.approx(grasp)
    back = (grasp - goals.at(grasp, False, aside, None)[:3, 3]) @ ahead[:3, 0]
    assert back == pytest.approx(OPTIONS.standoff, abs=1e-3)


def test_from_below_the_tool_rises_before_fingers_that_reach_out():
    goals, grasp = Goals(OPTIONS, np.eye(4)), np.array(RESTS_AT)
    fingers = grasp - np.outer(np.linspace(0.0, 0.1, 5), facing(grasp)[:3, 0])
    below, level = facing(grasp), facing(grasp)
    below[:3, 3] -= 0.15 * below[:3, 0] + (0.0, 0.0, 0.1)
    level[:3, 3] -= 0.15 * level[:3, 0]
    first, then = (goals.at(grasp, False, tool, fingers)[:3, 3] for tool in (below, level))
    assert first[2] == pytest.approx(grasp[2]) and (grasp - first) @ level[:3, 0] > 0.1
    assert then == pytest.approx(grasp + OPTIONS.into_palm * facing(grasp)[:3, 0])


def test_while_fingers_close_the_tool_stays_unless_the_object_goes_away():
    goals, grasp, tool = Goals(OPTIONS, np.eye(4)), RESTS_AT, facing(RESTS_AT)
    first = goals.at(grasp, True, tool, None)
    assert (goals.at(grasp + 0.01, True, tool, None) == first).all()
    assert (goals.at(grasp + 0.05, True, tool, None) != first).any()


def test_somebody_of_whom_nothing_is_forecast_is_known_less_well_and_less_whatever_was_forecast_before():
    person = ObservedPerson(OPTIONS)

    def see(now, somebody=True):
        nobody = np.full((2, 21, 3), np.nan)
        person.observe(hands(now, "base", hand_at(RESTS_AT) if somebody else nobody), None)
        person.drop_old(now)
        return person.age(now)

    assert see(1.0) == see(3.0) == 0.0  # the forecaster is not there yet
    person.foresee(replace(futures(future(np.tile(RESTS_AT, (1, 10, 1)))), stamp=3.0))
    assert see(3.1) == pytest.approx(0.0)
    assert see(6.0) == pytest.approx(3.0 - OPTIONS.forecast_period)  # longer than forecasts live
    assert see(6.1, somebody=False) == 0.0
    assert see(6.2) == 0.0  # who just came cannot have been forecast
    assert see(6.5) == pytest.approx(0.3 - OPTIONS.forecast_period)


def test_a_hand_offers_once_it_slows_towards_where_the_tool_gets_to():
    person = seen(SLOWS)
    assert person.offers(1) and not person.offers(0)
    assert not seen(GROWS).offers(1), "it may yet be withdrawn"
    assert not seen(SLOWS, covariance=0.3).offers(1), "nobody knows where it ends"


def test_a_hand_that_rests_further_out_offers_after_a_while():
    person, point = ObservedPerson(OPTIONS), (0.9, 0.0, 0.16)
    offers = []
    for now in 0.05 * np.arange(30):
        person.observe(hands(now, "base", hand_at(point)), None)
        person.foresee(replace(futures(future(np.tile(point, (1, 10, 1)))), stamp=now))
        offers.append(person.offers(1))
    first = 0.05 * offers.index(True)
    assert OPTIONS.offer_after <= first <= OPTIONS.offer_after + 0.2 and all(offers[offers.index(True) :])


def test_of_a_hand_that_stays_it_is_known_where_it_came_from_until_it_goes_on():
    person, there = ObservedPerson(OPTIONS), np.array((0.9, 0.0, 0.36))
    reach = [there + (0.4 - 0.1 * i, 0.0, 0.0) for i in range(5)]
    stays = [there] * 40
    goes = [there - (0.1 * i, 0.0, 0.0) for i in range(1, 12)]
    came_from = []
    for i, at in enumerate([*reach, *stays, *goes]):
        person.observe(hands(0.05 * i, "base", hand_at(at)), None)
        came_from.append(person.came_from(1)[0] - there[0])
    assert came_from[len(reach) + len(stays) - 1] > 0.05  # 2 s after it came
    assert came_from[-1] == pytest.approx(-0.5, abs=0.11)


def test_noise_does_not_make_a_hand_that_rests_further_out_wait_longer_and_one_that_creeps_on_does():
    rng, point = np.random.default_rng(0), np.array((0.9, 0.0, 0.16))

    def first_offer(noise, speed):
        person = ObservedPerson(OPTIONS)
        for now in np.arange(60) / 30.0:
            at = point - (speed * now, 0.0, 0.0) + rng.normal(0.0, noise, 3)
            person.observe(hands(now, "base", hand_at(at)), None)
            person.foresee(replace(futures(future(np.tile(at, (1, 10, 1)), 0.01)), stamp=now))
            if person.offers(1):
                return now
        return np.inf

    offers = [first_offer(0.004, 0.0) for _ in range(10)]
    assert OPTIONS.offer_after <= min(offers) and max(offers) <= OPTIONS.offer_after + 0.4
    assert first_offer(0.0, 0.15) == np.inf


def test_the_tool_waits_nearer_with_an_empty_hand_and_goes_back_from_fingers_that_surely_come():
    ready = np.eye(4)
    ready[:3, 3] = OPTIONS.ready
    goals, nobody, near = Goals(OPTIONS, ready), ObservedPerson(OPTIONS), seen(SLOWS)
    empty, full = (goals.waiting(nobody, at_home=home)[0, 3] for home in (False, True))
    assert empty - full == pytest.approx(OPTIONS.receive_ahead) and full == pytest.approx(OPTIONS.ready[0])
    assert goals.waiting(near, at_home=False)[0, 3] < full
    assert goals.waiting(seen(SLOWS, covariance=0.05), at_home=False)[0, 3] > goals.waiting(near, at_home=False)[0, 3]


def test_a_hand_that_is_likely_to_hand_over_is_faced_and_not_come_nearer_to_as_far_as_it_is_sure():
    ready = facing(np.array([0.4, -0.1, 0.3]))
    sure, unsure = seen(SLOWS), seen(SLOWS, covariance=0.03)

    def beside(person, likely):
        goals = Goals(OPTIONS, ready)
        moved = (goals.waiting(person, True, likely) - goals.waiting(person))[:3, 3]
        assert moved @ ready[:3, 0] == pytest.approx(0.0, abs=1e-9)
        return float(np.linalg.norm(moved))

    way = sure.expected_grasp(sure.transfers[1]) - ready[:3, 3]
    aside = np.linalg.norm(way - way @ ready[:3, 0] * ready[:3, 0])
    assert beside(sure, None) == beside(sure, 0) == 0.0
    assert beside(sure, 1) == pytest.approx(min(aside, OPTIONS.most_beside), abs=1e-3)
    assert 0.0 < beside(unsure, 1) < beside(sure, 1) - 0.02
