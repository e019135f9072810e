import numpy as np
import pytest
from hand_scene import hand_model

from egohand_ros.tracking.identity import HandIdentity, Sighting, TrackingState
from egohand_ros.tracking.localize import HandLocation

DT = 1 / 30


def sighting(side, wrist, score=0.95):
    keypoints = hand_model(side) + np.asarray(wrist, dtype=float)
    noise = np.diag([0.001, 0.001, 0.005]) ** 2
    location = HandLocation(keypoints, np.zeros((21, 2)), np.eye(6), noise, np.zeros(21))
    return Sighting(side, score, location)


@pytest.fixture
def identity():
    return HandIdentity(max_gap=0.2, memory=1.0)


def run(identity, frames, start=0.0):
    """Feed frames (lists of sightings) at 30 Hz; yields (stamp, tracks by side) after each."""
    for i, frame in enumerate(frames):
        stamp = start + i * DT
        identity.update(stamp, frame)
        yield stamp, dict(identity.tracks)


def feed(identity, frames, start=0.0):
    return [{side: (t.track_id, t.state) for side, t in tracks.items()} for _, tracks in run(identity, frames, start)]


def crossing(count=45, wrong_labels=(), hidden=(), depth_gap=0.05):
    """Left hand moves right and right hand moves left, past each other at half time; yields (truth, frame)."""
    rng = np.random.default_rng(0)
    for i in range(count):
        x = -0.15 + 0.3 * i / (count - 1)
        left = np.array([x, 0.0, 0.45]) + rng.normal(scale=[0.001, 0.001, 0.004])
        right = np.array([-x, 0.02, 0.45 + depth_gap]) + rng.normal(scale=[0.001, 0.001, 0.004])
        frame = [
            sighting(
                "right" if ("left", i) in wrong_labels else "left", left, 0.7 if ("left", i) in wrong_labels else 0.95
            ),
            sighting(
                "left" if ("right", i) in wrong_labels else "right",
                right,
                0.7 if ("right", i) in wrong_labels else 0.95,
            ),
        ]
        frame = [s for s, side in zip(frame, ("left", "right"), strict=True) if (side, i) not in hidden]
        yield (left, right), frame


@pytest.mark.parametrize(
    ("wrong", "hidden"),
    [
        ((), ()),
        ({("left", i) for i in range(20, 25)}, ()),
        ({("left", 22), ("right", 22)}, ()),
        ((), {("right", i) for i in range(20, 25)}),
        ({("left", i) for i in range(19, 21)}, {("right", i) for i in range(19, 24)}),
    ],
    ids=["clean", "wrong labels", "swapped labels", "occluded", "occluded and wrong"],
)
def test_hands_that_cross_keep_their_side_and_track(identity, wrong, hidden):
    scene = list(crossing(wrong_labels=wrong, hidden=hidden))
    first = None
    for (truth, _), (_, tracks) in zip(scene, run(identity, [f for _, f in scene]), strict=True):
        ids = {side: t.track_id for side, t in tracks.items()}
        first = first or ids
        assert ids == first
        for side, place in zip(("left", "right"), truth, strict=True):
            if tracks[side].state is TrackingState.MEASURED:
                np.testing.assert_allclose(tracks[side].sighting.wrist, place)
    assert all(t.state is TrackingState.MEASURED for t in identity.tracks.values())


def test_a_gap_is_extrapolated_then_lost_then_resumed_under_the_same_id(identity):
    here = [sighting("right", [0, 0, 0.5])]
    states = feed(identity, [here] * 10 + [[]] * 15 + [here] * 2)
    ids = {s["right"][0] for s in states}
    names = [s["right"][1].value[0] for s in states]
    assert ids == {1}
    assert "".join(names) == "m" * 10 + "e" * 6 + "l" * 9 + "m" * 2


def test_a_hand_that_comes_back_late_or_far_away_is_a_new_one(identity):
    here = [sighting("right", [0, 0, 0.5])]
    feed(identity, [here] * 5)
    assert feed(identity, [here], start=5.0)[0]["right"][0] == 2
    far = [sighting("right", [1.5, 0, 0.5])]
    assert feed(identity, [far], start=5.1)[0]["right"][0] == 3


def test_nothing_is_left_of_a_hand_after_its_memory(identity):
    feed(identity, [[sighting("left", [0, 0, 0.5])]] * 5 + [[]] * 40)
    assert identity.tracks == {}


def test_a_flash_of_a_hand_is_not_extrapolated(identity):
    states = feed(identity, [[sighting("left", [0, 0, 0.5])], []])
    assert states[1]["left"][1] is TrackingState.LOST


def test_a_second_hand_of_the_same_side_is_withheld_and_counted(identity):
    mine, theirs = sighting("right", [0, 0, 0.4], 0.97), sighting("right", [0.3, 0, 0.9], 0.9)
    rejected = sum((identity.update(i * DT, [theirs, mine]) for i in range(5)), start=identity.update(-1.0, []))
    assert rejected == {"side_taken": 5}
    assert set(identity.tracks) == {"right"}
    np.testing.assert_allclose(identity.tracks["right"].sighting.wrist, [0, 0, 0.4])


def test_one_wrong_label_changes_nothing_but_a_lasting_one_makes_it_the_other_hand(identity):
    right, left = sighting("right", [0, 0, 0.5]), sighting("left", [0, 0, 0.5])
    states = feed(identity, [[right]] * 20 + [[left]] + [[right]] * 5)
    assert {tuple(s) for s in states} == {("right",)} and {s["right"][0] for s in states} == {1}
    states = feed(identity, [[left]] * 20, start=1.0)
    assert "right" in states[0] and set(states[-1]) == {"left"}
    assert states[-1]["left"][0] == 2


def test_two_hands_born_swapped_are_turned_together(identity):
    a, b = [-0.2, 0, 0.5], [0.2, 0, 0.5]
    feed(identity, [[sighting("left", a, 0.6), sighting("right", b, 0.6)]] * 2)
    states = feed(identity, [[sighting("right", a), sighting("left", b)]] * 15, start=0.1)
    assert set(states[-1]) == {"left", "right"}
    np.testing.assert_allclose(identity.tracks["right"].sighting.wrist, a)
    assert {i for i, _ in states[-1].values()}.isdisjoint({i for i, _ in states[0].values()})


def test_ids_are_never_used_twice_even_after_a_reset(identity):
    feed(identity, [[sighting("left", [0, 0, 0.5])]])
    identity.reset()
    assert identity.tracks == {}
    assert feed(identity, [[sighting("left", [0, 0, 0.5])]])[0]["left"][0] == 2
