"""Live retargeting: it finds the optimum, follows the hand, and holds on bad input."""

import numpy as np
import pytest
from human_hand import open_hand

from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.retarget.retargeter import Retargeter


@pytest.mark.parametrize("name", ["allegro_right", "inspire_right"])
def test_a_fist_closes_and_an_open_hand_opens(name):
    hand = load_hand(name)
    retargeter = Retargeter(hand)
    for _ in range(20):
        opened = retargeter.solve(open_hand()).q
    for _ in range(40):
        closed = retargeter.solve(open_hand(curl=1.3)).q
    flexion = [
        i for i, joint in enumerate(hand.joint_names) if joint in ("joint_1.0", "joint_2.0", "index_proximal_joint")
    ]
    assert (closed[flexion] - opened[flexion] > 0.4).all()


def test_the_frame_of_the_keypoints_does_not_matter():
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    hand = load_hand("allegro_right")
    points = open_hand(curl=0.5)
    here = Retargeter(hand).solve(points).q
    there = Retargeter(hand).solve(points @ rotation.T + [1.0, -2.0, 0.5]).q
    np.testing.assert_allclose(here, there, atol=1e-6)


@pytest.mark.parametrize("spoil", ["nan", "missing", "shape", "flat", "jump"])
def test_bad_keypoints_hold_the_last_pose_and_say_so(spoil):
    retargeter = Retargeter(load_hand("allegro_right"))
    last = retargeter.solve(open_hand()).q
    points, valid = open_hand(curl=0.8), np.ones(21, bool)
    if spoil == "nan":
        points[8] = np.nan
    elif spoil == "missing":
        valid[8] = False
    elif spoil == "shape":
        points = points[:20]
    elif spoil == "flat":
        points[[5, 17]] = points[0]
    elif spoil == "jump":
        points[8] += 0.3
    result = retargeter.solve(points, valid)
    assert result.status.startswith("held: ") and not result.solved
    np.testing.assert_array_equal(result.q, last)
    assert retargeter.solve(open_hand()).solved


def test_a_keypoint_that_no_term_uses_may_be_missing():
    points = open_hand()
    points[20] = np.nan
    assert Retargeter(load_hand("allegro_right")).solve(points).solved, "Allegro has no little finger"


def test_frames_further_apart_may_differ_more():
    far = open_hand()
    far[8] += 0.2
    for seconds, believed in ((1 / 60, False), (1 / 30, False), (0.2, True)):
        retargeter = Retargeter(load_hand("allegro_right"))
        retargeter.solve(open_hand(), stamp=10.0)
        assert retargeter.solve(far, stamp=10.0 + seconds).solved is believed, f"{seconds:.3f} s later"


def test_a_jump_that_lasts_is_believed():
    retargeter = Retargeter(load_hand("allegro_right"))
    retargeter.solve(open_hand())
    far = open_hand()
    far[8] += 0.2
    assert [retargeter.solve(far).solved for _ in range(4)] == [False, False, False, True]
