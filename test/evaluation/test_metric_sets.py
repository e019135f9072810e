"""The metrics of EgoMAN, ForeHand4D and MEgoHand against values computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egohand_ros.evaluation.alignment import similarity, transformed
from egohand_ros.evaluation.metric_sets import (
    METRIC_SETS,
    Compared,
    dtw,
    egoman_distance,
    egoman_metrics,
    forehand4d_metrics,
    mean_point_error,
    megohand_metrics,
    per_frame,
    shown,
)
from egohand_ros.evaluation.protocol import PROTOCOLS, _best

LEFT, RIGHT, WRIST = 0, 1, 0


def hand(seed=0):
    return np.random.default_rng(seed).normal(scale=0.05, size=(2, 21, 3))


def compared(change, frames=2, samples=1, hands=(True, True)):
    """A forecast that is what happens, but for what `change(keypoints, rotation)` does to it."""
    actual = np.tile(hand(), (samples, frames, 1, 1, 1)) + 0.1 * np.arange(frames)[None, :, None, None, None]
    rotation = np.tile(np.eye(3), (samples, frames, 2, 1, 1))
    keypoints, turned = actual.copy(), rotation.copy()
    change(keypoints, turned)
    valid = np.tile(np.array(hands)[:, None], (samples, 1, 21)).reshape(samples, 2, 21)
    return Compared(keypoints, actual, valid, turned, rotation, valid[..., WRIST])


def values(metrics):
    return {key: mean.value for key, mean in metrics.items()}


# ---------------------------------------------------------------------------------------------- EgoMAN


def test_dtw_by_hand():
    line = lambda *x: np.array([[v, 0.0, 0.0] for v in x])  # noqa: E731
    # Two ways cost 1: 0-0 1-0' 2-2, and 0-0 0-0' 1-2 2-2, which EgoMAN's code takes: 1 over a path of 4.
    assert dtw(line(0, 1, 2), line(0, 0, 2)) == pytest.approx(1 / 4)
    # 2 has no partner: 0-0, 1-1, 2-1 or 2-3, 3-3.
    a, b = line(0, 1, 2, 3), line(0, 1, 3)
    assert dtw(a, b) == pytest.approx(1 / 4)
    assert dtw(a[None, None], b[None, None]).shape == (1, 1)
    assert dtw(a, a) == 0.0
    shifted = a + [0, 0.5, 0]
    assert dtw(a, shifted) == pytest.approx(0.5), "a sideways shift cannot be warped away"
    assert dtw(line(0, 0, 0, 1), line(0, 1, 1, 1)) == 0.0, "a delay costs nothing"


def test_egoman_by_hand():
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()

    def change(keypoints, rotation):
        keypoints[0, 0, RIGHT, WRIST, 0] += 0.03
        keypoints[0, 1, RIGHT, WRIST, 0] += 0.05
        keypoints[0, 1, LEFT, WRIST, 1] += 0.02
        keypoints[0, :, :, 8] += 1.0  # fingers do not count
        rotation[0, 1, RIGHT] = quarter

    found = values(egoman_metrics(compared(change)))
    assert found["ADE"] == pytest.approx(((0.03 + 0.05) / 2 + 0.02 / 2) / 2)
    assert found["FDE"] == pytest.approx((0.05 + 0.02) / 2)
    assert found["ROT"] == pytest.approx((np.pi / 2 / 2 + 0) / 2)
    right_only = compared(change, hands=(False, True))
    assert values(egoman_metrics(right_only))["ADE"] == pytest.approx(0.04)
    assert egoman_distance(right_only) == pytest.approx([0.04 + 0.001 * 45])
    unknown = replace(right_only, rotation_valid=np.zeros((1, 2), bool))
    assert np.isnan(values(egoman_metrics(unknown))["ROT"]) and egoman_distance(unknown) == pytest.approx([0.04])


def test_the_best_of_k_is_chosen_by_place_and_rotation():
    def off(distance, degrees):
        def change(keypoints, rotation):
            keypoints[..., WRIST, 0] += distance
            rotation[:] = Rotation.from_euler("x", degrees, degrees=True).as_matrix()

        return compared(change, samples=2)

    near_but_turned, far_but_right = off(0.02, 60), off(0.05, 0)
    best = egoman_metrics(_best([near_but_turned, far_but_right], METRIC_SETS["egoman"].distance))
    assert best["ADE"].value == pytest.approx(0.05) and best["ROT"].value == pytest.approx(0.0, abs=1e-7)
    assert best["ADE"].weight == 2


# ---------------------------------------------------------------------------------------------- ForeHand4D


def test_a_shifted_hand_costs_place_alone():
    def change(keypoints, rotation):
        keypoints[:, :, RIGHT] += [0.03, 0.04, 0.0]

    found = values(forehand4d_metrics(compared(change)))
    assert found["mpjpe/f"] == pytest.approx((0.05 + 0.0) / 2)
    assert found["MRRPE"] == pytest.approx(0.05)
    for key in ("mpjpe/f/ra", "mpjpe/f/pa", "mpjpe/f/pag", "mpjpe/f/paf"):
        assert found[key] == pytest.approx(0.0, abs=1e-9)


def test_alignment_by_frame_sequence_and_first_frame():
    """The second frame alone is 10 cm off: one alignment a frame sees nothing, that of the first frame all of it."""

    def change(keypoints, rotation):
        keypoints[:, 1] += [0.1, 0.0, 0.0]

    found = values(forehand4d_metrics(compared(change)))
    assert found["mpjpe/f"] == pytest.approx(0.05) and found["mpjpe/f/paf"] == pytest.approx(0.05)
    assert found["mpjpe/f/pa"] == pytest.approx(0.0, abs=1e-9)
    assert 0.0 < found["mpjpe/f/pag"] <= 0.05, "one alignment of both frames goes half way"
    assert found["MRRPE"] == pytest.approx(0.0, abs=1e-12)


def test_one_bent_finger_costs_what_it_is_off():
    def change(keypoints, rotation):
        keypoints[:, :, LEFT, 8, 2] += 0.042

    found = values(forehand4d_metrics(compared(change)))
    assert found["mpjpe/f/ra"] == pytest.approx(0.042 / 21 / 2), "mean over keypoints, then over hands"
    assert 0 < found["mpjpe/f/pa"] < found["mpjpe/f/ra"] * 2
    one = values(forehand4d_metrics(compared(change, hands=(True, False))))
    assert one["mpjpe/f"] == pytest.approx(0.042 / 21) and np.isnan(one["MRRPE"])


# ---------------------------------------------------------------------------------------------- MEgoHand


def test_megohand_by_hand():
    def change(keypoints, rotation):
        keypoints[:, :, RIGHT] += [0.0, 0.06, 0.08]
        keypoints[:, :, LEFT, 4, 0] += 0.021
        rotation[:, :, LEFT] = Rotation.from_rotvec([0.0, 0.3, 0.0]).as_matrix()

    found = values(megohand_metrics(compared(change)))
    assert found["MPJPE"] == pytest.approx((0.1 + 0.001) / 2) and found["MWTE"] == pytest.approx(0.05)
    assert found["MRE"] == pytest.approx(0.15)
    assert 0 < found["MPJPE-PA"] < 0.002, "of the left thumb alone, though spread over the hand"
    assert "MPVE" not in found and "MPVE" in PROTOCOLS["megohand"].metrics, "no mesh, no figure"


def test_vertices_are_points_like_any():
    vertices = np.random.default_rng(1).normal(size=(1, 2, 3, 778, 3))
    turn = Rotation.from_euler("xyz", [0.2, 1.0, -2.0]).as_matrix()
    moved = 1.3 * vertices @ turn.T + [1.0, 2.0, 3.0]
    every = np.ones((1, 2, 778), bool)
    assert mean_point_error(vertices + [0, 3.0, 4.0], vertices, every[:, :, None]) == pytest.approx(
        np.full((1, 2, 3), 5.0)
    )
    assert per_frame(moved, vertices, every) == pytest.approx(vertices)


# ---------------------------------------------------------------------------------------------- alignment


def test_similarity_is_found_again_and_never_a_mirror_image():
    rng = np.random.default_rng(2)
    source, turn = rng.normal(size=(5, 21, 3)), Rotation.random(5, random_state=3).as_matrix()
    scale, shift = rng.uniform(0.5, 2, 5), rng.normal(size=(5, 3))
    target = transformed(source, scale, turn, shift)
    valid = rng.random((5, 21)) < 0.7
    target[~valid] = 99.0
    found = similarity(source, target, valid)
    assert found[0] == pytest.approx(scale) and found[1] == pytest.approx(turn) and found[2] == pytest.approx(shift)
    mirrored = similarity(source, source * [-1, 1, 1], np.ones((5, 21), bool))
    assert np.linalg.det(mirrored[1]) == pytest.approx(np.ones(5))
    few = similarity(source, target, np.arange(21) < np.array([[2]] * 5))
    assert np.isnan(few[0]).all(), "two points have no rotation"


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(4)
    source, target = rng.normal(size=(2, 12, 3))
    every = np.ones(12, bool)
    scale, turn, shift = similarity(source, target, every)
    least = ((transformed(source, scale, turn, shift) - target) ** 2).sum()
    for _ in range(200):
        nearby = Rotation.from_rotvec(rng.normal(scale=0.05, size=3)).as_matrix() @ turn
        other = transformed(source, scale * rng.uniform(0.95, 1.05), nearby, shift + rng.normal(scale=0.02, size=3))
        assert ((other - target) ** 2).sum() >= least - 1e-12


def test_units():
    assert shown("ROT best of 10") == (180 / np.pi, "°") and shown("MRE")[1] == "mrad" and shown("DTW")[1] == "mm"
    assert shown("wrist coverage of 90 %")[1] == "%"
