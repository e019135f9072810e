"""Kinematics against pytorch-kinematics and finite differences, mimic joints of any depth included."""

import numpy as np
import pytest
import pytorch_kinematics as pk
import torch

from egohand_ros.errors import UserError
from egohand_ros.robot.hands.kinematics import build_kinematics
from egohand_ros.robot.hands.library import list_hands, load_hand
from egohand_ros.robot.hands.live_pose import LivePose, PointSet
from egohand_ros.robot.hands.urdf import parse_urdf

CHAINED = """<robot name="chained">
  <link name="base"/><link name="a"/><link name="b"/><link name="c"/><link name="tip"/>
  <joint name="b_joint" type="revolute"><parent link="a"/><child link="b"/><origin xyz="0.1 0 0"/><axis xyz="0 1 0"/>
    <limit lower="-3" upper="3" velocity="1" effort="1"/><mimic joint="a_joint" multiplier="-2" offset="0.1"/></joint>
  <joint name="c_joint" type="revolute"><parent link="b"/><child link="c"/><origin xyz="0.1 0 0"/><axis xyz="0 0 1"/>
    <limit lower="-9" upper="9" velocity="9" effort="1"/><mimic joint="b_joint" multiplier="3" offset="-0.2"/></joint>
  <joint name="a_joint" type="revolute"><parent link="base"/><child link="a"/><origin rpy="0.3 0 0"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" velocity="2" effort="1"/></joint>
  <joint name="tip_joint" type="fixed"><parent link="c"/><child link="tip"/><origin xyz="0.1 0 0"/></joint>
</robot>"""


def reference_poses(urdf_text, kinematics, q, links):
    chain = pk.build_chain_from_urdf(urdf_text.encode()).to(dtype=torch.float64)
    full = dict(zip(kinematics.full_joint_names, kinematics.full_position(q)))
    values = {name: torch.tensor(float(full[name]), dtype=torch.float64) for name in chain.get_joint_parameter_names()}
    poses = chain.forward_kinematics(values)
    return np.stack([poses[link].get_matrix()[0].numpy() for link in links])


@pytest.mark.parametrize("name", list_hands())
def test_link_poses_agree_with_pytorch_kinematics(name):
    hand = load_hand(name)
    links = list(hand.kinematics.frames)
    for q in np.random.default_rng(0).uniform(hand.lower, hand.upper, (5, hand.n)):
        expected = reference_poses(hand.urdf_text, hand.kinematics, q, links)
        np.testing.assert_allclose(hand.kinematics.link_poses(q, links), expected, atol=1e-6)


@pytest.mark.parametrize("name", list_hands())
def test_jacobians_are_the_derivatives(name):
    hand = load_hand(name)
    k, tips = hand.kinematics, list(hand.tips.values())
    q = np.random.default_rng(1).uniform(hand.lower, hand.upper)
    h = 1e-6 * np.eye(hand.n)
    numeric = np.stack([(k.link_positions(q + d, tips) - k.link_positions(q - d, tips)) / 2e-6 for d in h], axis=-1)
    np.testing.assert_allclose(k.link_jacobians(q, tips), numeric, atol=1e-8)
    slots, offsets = k.frame_arrays(tips)
    pose = LivePose(k)
    pose.update(q)
    points = PointSet(pose, slots, offsets[:, :3, 3])
    np.testing.assert_allclose(points.update(), k.link_positions(q, tips), atol=1e-12)
    np.testing.assert_allclose(points.jacobian(), k.link_jacobians(q, tips), atol=1e-12)
    force = np.random.default_rng(2).normal(size=(len(tips), 3))
    second = np.stack(
        [np.einsum("kc,kcn->n", force, k.link_jacobians(q + d, tips) - k.link_jacobians(q - d, tips)) / 2e-6 for d in h]
    )
    np.testing.assert_allclose(points.curvature(force), second, atol=1e-7)


def test_many_poses_at_once_equal_one_by_one():
    hand = load_hand("allegro_right")
    qs = np.random.default_rng(2).uniform(hand.lower, hand.upper, (3, 4, hand.n))
    tips = list(hand.tips.values())
    many = hand.kinematics.link_positions(qs, tips)
    np.testing.assert_allclose(many[1, 2], hand.kinematics.link_positions(qs[1, 2], tips), atol=1e-12)


def test_chained_mimic_joints_follow_their_leader():
    k = build_kinematics(parse_urdf(CHAINED))
    assert k.joint_names == ("a_joint",)
    full = dict(zip(k.full_joint_names, k.full_position(np.array([0.5]))))
    assert full["b_joint"] == pytest.approx(-2 * 0.5 + 0.1)
    assert full["c_joint"] == pytest.approx(3 * (-2 * 0.5 + 0.1) - 0.2)
    expected = reference_poses(CHAINED, k, np.array([0.5]), ["tip"])
    np.testing.assert_allclose(k.link_poses(np.array([0.5]), ["tip"]), expected, atol=1e-6)


def test_a_leader_keeps_its_followers_within_their_limits():
    k = build_kinematics(parse_urdf(CHAINED))
    assert k.upper[0] == pytest.approx(1.0)
    assert k.velocity[0] == pytest.approx(0.5), "b moves twice as fast and may do 1 rad/s"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('joint="a_joint" multiplier="-2"', 'joint="c_joint" multiplier="-2"'), "circle"),
        (('joint="a_joint" multiplier="-2"', 'joint="nobody" multiplier="-2"'), "nobody"),
        (("</robot>", ""), "not a readable URDF"),
    ],
)
def test_broken_urdfs_are_told_in_one_line(change, message):
    with pytest.raises(UserError, match=message) as error:
        parse_urdf(CHAINED.replace(*change))
    assert "\n" not in str(error.value)


def test_unknown_and_mimic_joints_cannot_be_actuated():
    with pytest.raises(UserError, match="mimics"):
        build_kinematics(parse_urdf(CHAINED), ("b_joint",))
    with pytest.raises(UserError, match="joints to choose from: a_joint"):
        build_kinematics(parse_urdf(CHAINED), ("thumb",))
