"""What the scene is made of: fans, regions that hold what they promise, a robot hand beside the person's."""

import numpy as np
import pytest

from egohand_ros.geometry.rotations import matrix_from_quaternion
from egohand_ros.hand.skeleton import NUM_KEYPOINTS
from egohand_ros.messages.forecast import HandFuture
from egohand_ros.robot.arm.model import ArmModel
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.viewer import shapes


def future(wrist, covariance=None, probability=(1.0,), side=1):
    """A hand whose keypoints are all at its wrist (K, S, 3)."""
    wrist = np.asarray(wrist, dtype=float)
    k, s = wrist.shape[:2]
    spread = np.full((k, s, 6, 6), np.nan)
    if covariance is not None:
        spread[..., :3, :3] = covariance
    return HandFuture(
        side, 1, np.array(probability), np.repeat(wrist[:, :, None], NUM_KEYPOINTS, 2),
        np.broadcast_to(np.eye(3), (k, s, 3, 3)), np.full((k, s, NUM_KEYPOINTS), np.nan), spread,
    )  # fmt: skip


def test_a_region_holds_ninety_percent_of_what_may_come():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3)) * [[0.05], [0.02], [0.1]]
    covariance = root @ root.T
    drawn = rng.multivariate_normal(np.zeros(3), covariance, 20000)
    one = future(np.zeros((1, len(drawn), 3)), covariance)
    assert np.nanmean(shapes.inside(one, drawn)) == pytest.approx(0.9, abs=0.01)
    centres, wxyz, half_axes = shapes.ellipsoids(future(np.zeros((1, 1, 3)), covariance))
    turned = drawn @ matrix_from_quaternion(np.roll(wxyz[0], -1))  # into the axes of the ellipsoid that is drawn
    assert (((turned - centres[0]) / half_axes[0]) ** 2).sum(-1).__le__(1.0).mean() == pytest.approx(0.9, abs=0.01)


def test_a_fan_begins_at_the_hand_and_pales_with_time_and_doubt():
    wrist = np.stack([np.linspace([0.1, 0, 0], [0.3, 0, 0], 3), np.linspace([0, 0.1, 0], [0, 0.3, 0], 3)])
    segments, colours = shapes.fan(future(wrist, probability=(0.9, 0.1)), np.zeros(3), 1)
    assert segments.shape == (6, 2, 3) and colours.shape == (6, 2, 3)
    assert (segments[[0, 3], 0] == 0.0).all() and (segments[2, 1] == wrist[0, 2]).all()
    distance = np.abs(colours.astype(float) - shapes.COLOURS[1]).sum(-1)
    assert distance[0, 0] < distance[2, 1] and distance[0, 0] < distance[3, 0]


def test_what_is_not_known_is_out_of_sight():
    known = np.random.default_rng(1).normal(size=(NUM_KEYPOINTS, 3))
    assert np.array_equal(shapes.points(known), known)
    known[8] = np.nan
    lines = shapes.bones(known)
    assert np.isfinite(lines).all() and (lines[:, 0, 2] < -100).sum() == 1  # the one bone to the index finger's tip
    for segments in (shapes.fan(None, np.zeros(3), 0)[0], shapes.ghost(None)):
        assert (segments[..., 2] < -100).all()
    assert len(shapes.ellipsoids(future(np.zeros((1, 2, 3))))[0]) == 0


@pytest.mark.parametrize("name", ["allegro_right", "inspire_left"])
def test_a_robot_hand_stands_aside_and_turns_with_the_palm(name):
    hand = load_hand(name)
    palm, wrist = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.3, 0.1, 0.2])
    base = shapes.beside(hand, wrist, palm, np.eye(4), 0.25)
    assert base[:3, :3] @ hand.config.palm_rotation == pytest.approx(palm)
    assert base[:3, 3] - wrist == pytest.approx([0, -0.25 if hand.side == "right" else 0.25, 0])
    assert shapes.beside(hand, np.full(3, np.nan), palm, np.eye(4), 0.25) is None


def test_the_robot_is_drawn_as_the_body_that_it_keeps_apart():
    pytest.importorskip("trimesh")
    hand = load_hand("allegro_right")
    meshes = shapes.link_meshes(hand)
    assert set(meshes) == set(hand.capsules.links)
    for link, (vertices, faces) in meshes.items():
        own = [i for i, name in enumerate(hand.capsules.links) if name == link]
        _, offset = hand.kinematics.frame(link)
        placed = vertices @ offset[:3, :3].T + offset[:3, 3]
        a, b = hand.capsules.ends[own, 0], hand.capsules.ends[own, 1]
        along = np.clip(((placed[:, None] - a) * (b - a)).sum(-1) / np.maximum(((b - a) ** 2).sum(-1), 1e-12), 0.0, 1.0)
        off = np.linalg.norm(placed[:, None] - a - along[..., None] * (b - a), axis=-1) - hand.capsules.radius[own]
        assert np.abs(off).min(axis=1).max() < 5e-4 and faces.max() < len(vertices)


def test_an_arms_capsules_are_as_large_as_its_own():
    arm = ArmModel.load("ur5e")
    for (vertices, faces), (radius, half, _) in zip(shapes.arm_meshes(arm), arm.model.geom_size, strict=True):
        off = np.linalg.norm(vertices - np.clip(vertices[:, 2:], -half, half) * [0.0, 0.0, 1.0], axis=1)
        assert off == pytest.approx(np.full(len(vertices), radius), abs=1e-6) and len(faces) > 20
