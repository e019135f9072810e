"""Wire values: order, sign, offset, scale, unit, clip, and the way back."""

import numpy as np
import pytest

from egohand_ros.robot.hands.command import CommandMapping
from egohand_ros.robot.hands.config import Channel, CommandInterface
from egohand_ros.robot.hands.library import load_hand


def test_allegro_controller_wants_the_thumb_first():
    hand = load_hand("allegro_right")
    wire = hand.mapping.to_wire(np.arange(16.0))
    np.testing.assert_array_equal(wire, [12, 13, 14, 15, *range(12)])
    assert hand.mapping.names[0] == "ah_joint00"


def test_inspire_registers_are_1000_open_and_0_closed():
    hand = load_hand("inspire_right")
    np.testing.assert_allclose(hand.mapping.to_wire(hand.lower), 1000, atol=1e-9)
    np.testing.assert_allclose(hand.mapping.to_wire(hand.upper), 0, atol=1e-9)


def test_degrees_sign_offset_and_clip():
    channels = (Channel("b", "B", sign=-1.0, offset=0.5), Channel("a", "A", scale=2.0, lower=-10, upper=10))
    mapping = CommandMapping(CommandInterface("x", "/x", "JointState", channels, unit="deg"), ("a", "b"))
    np.testing.assert_allclose(mapping.to_wire(np.array([0.05, 0.3])), [np.rad2deg(0.2), 2 * np.rad2deg(0.05)])
    assert mapping.to_wire(np.array([9.0, 0.0]))[1] == 10
    np.testing.assert_allclose(mapping.velocity_to_wire(np.array([1.0, 2.0])), [-np.rad2deg(2.0), 2 * np.rad2deg(1.0)])


def test_joint_states_come_back_by_name_and_lack_is_nan():
    hand = load_hand("inspire_right")
    q = hand.mapping.from_joint_state(["index", "thumb_proximal_yaw_joint"], [500.0, 0.7])
    assert q[hand.joint_names.index("index_proximal_joint")] == pytest.approx(0.735)
    assert q[hand.joint_names.index("thumb_proximal_yaw_joint")] == 0.7
    assert np.isnan(q).sum() == 4
