"""The simulated hand as a process: commands in over DDS, joint states and pictures out, safe whatever happens."""

from xml.etree import ElementTree

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot_graph import Probe, Process
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String

from egohand_ros.messages.joints import parse_joint_state_msg
from egohand_ros.nodes.messages.joints import build_joint_command_msg
from egohand_ros.robot.follow.braking import Stop
from egohand_ros.robot.hands.library import load_hand

HAND = load_hand("allegro_right")
GOAL = HAND.rest_q + 0.3


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


class SimUser:
    """A commander and observer of a running sim_hand."""

    def __init__(self, probe, interface=None):
        self.probe, self.mapping = probe, HAND.command_mapping(interface)
        kind = {"Float64MultiArray": Float64MultiArray, "JointState": JointState}[self.mapping.type]
        self.publisher = probe.publisher(kind, "joint_commands")
        self.states = probe.collect(JointState, "joint_states")
        probe.wait(lambda: self.states and self.publisher.get_subscription_count(), what="sim_hand on the graph")

    @property
    def q(self):
        return parse_joint_state_msg(self.states[-1], self.mapping)

    def command(self, q):
        now, q = self.probe.now(), np.asarray(q, float)
        message = build_joint_command_msg(self.mapping, now, q, np.zeros(HAND.n), 0.01, Stop(q, 0.1))
        self.publisher.publish(message)

    def is_at(self, q, tolerance=0.01):
        return np.abs(self.q - q).max() < tolerance

    def go(self, q):
        self.probe.wait(lambda: self.is_at(q), what="arrival", each=lambda: self.command(q))

    def drive_is(self, state):
        return lambda: self.probe.diagnostics.get("sim_hand", {}).get("drive") == state


def test_who_comes_late_is_told_what_robot_it_is(probe):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with Process("sim_hand", hand="allegro_right", image_rate=0.0):
        SimUser(probe)  # it runs
        told = probe.collect(String, "robot_description", latched)
        probe.wait(lambda: told, what="a robot_description")
        assert len(movable_joints(told[0].data)) >= HAND.n


def movable_joints(text):
    """The movable joints of a URDF."""
    return [joint for joint in ElementTree.fromstring(text).findall("joint") if joint.get("type") != "fixed"]


def test_follows_commands_then_holds_then_relaxes_and_recovers(probe):
    with Process("sim_hand", relax_after=3.0, image_rate=0.0):
        user = SimUser(probe)
        user.go(GOAL)
        probe.wait(user.drive_is("holding"), what="holding")
        assert user.is_at(GOAL)
        before = len(user.states)
        probe.wait(user.drive_is("relaxing"), what="relaxing")
        probe.wait(lambda: user.is_at(HAND.rest_q), what="rest pose")
        fastest = max(np.abs(state.velocity / HAND.velocity_limit).max() for state in user.states[before:])
        assert fastest < 0.2
        user.go(GOAL)
        assert probe.diagnostics["sim_hand"]["clipped commands"] == "0"


def test_refuses_hostile_commands_by_reason_clips_those_out_of_range_and_obeys_good_ones(probe):
    with Process("sim_hand", command_interface="joint_cmd", image_rate=0.0) as process:
        user = SimUser(probe, "joint_cmd")
        start = user.q
        good = build_joint_command_msg(user.mapping, 0.0, GOAL, np.zeros(HAND.n), 0.01, Stop(GOAL, 0.1))

        def bad(stamp=0.0, **changes):
            message = build_joint_command_msg(user.mapping, stamp, GOAL, np.zeros(HAND.n), 0.01, Stop(GOAL, 0.1))
            for key, value in changes.items():
                setattr(message, key, value)
            return message

        now = probe.now()
        hostile = {
            "non_finite": bad(position=[float("nan")] * HAND.n),
            "huge_value": bad(position=[1e300] * HAND.n),
            "wrong_count": bad(position=[0.0] * 3),
            "wrong_names": bad(name=["elbow", *good.name[1:]]),
            "stale_stamp": bad(now - 100.0),
            "future_stamp": bad(now + 100.0),
        }

        def counts():
            found = probe.diagnostics.get("sim_hand", {})
            return {k.rpartition("/")[2]: int(v) for k, v in found.items() if k.startswith("rejected/")}

        # The publisher may know the hand before the hand knows the publisher, and what it sends until then is lost.
        first = bad()
        first.header.stamp.nanosec = 2_000_000_000

        def greet():
            user.publisher.publish(first)
            probe.spin(0.2)  # few, so that they do not fill the queue of those that count

        probe.wait(lambda: "bad_stamp" in counts(), what="first rejection", each=greet)
        for message in hostile.values():
            for _ in range(3):
                user.publisher.publish(message)
        user.publisher.publish(bad(name=[], position=[]))

        def others():
            return {reason: number for reason, number in counts().items() if reason != "bad_stamp"}

        probe.wait(lambda: sum(others().values()) >= 19, what="rejections in diagnostics")
        assert others() == {**dict.fromkeys(hostile, 3), "wrong_count": 4}
        np.testing.assert_allclose(user.q, start, atol=1e-6)
        assert process.running
        user.go(GOAL)
        assert probe.diagnostics["sim_hand"]["clipped commands"] == "0"

        # Out of range is no reason to refuse: such commands are clipped and counted.
        probe.wait(lambda: user.is_at(HAND.lower, 0.02), what="arrival", each=lambda: user.command(HAND.lower - 5.0))
        assert all((np.array(s.position) > HAND.lower - 0.05).all() for s in user.states)
        probe.wait(lambda: int(probe.diagnostics.get("sim_hand", {}).get("clipped commands", 0)) > 0, what="count")


def test_pictures_are_drawn_for_subscribers_only_and_show_the_motion(probe):
    with Process("sim_hand", image_width=160, image_height=120):
        user = SimUser(probe)
        probe.wait(lambda: "sim_hand" in probe.diagnostics, what="diagnostics")
        assert "OpenGL" not in probe.diagnostics["sim_hand"]
        pictures = probe.collect(Image, "sim_hand/image")

        def no_opengl():
            return "apt-get" in probe.levels.get("sim_hand", (0, ""))[1]

        probe.wait(lambda: pictures or no_opengl(), what="a picture")
        if no_opengl():
            pytest.skip(probe.levels["sim_hand"][1])
        first = np.frombuffer(pictures[-1].data, np.uint8)
        assert pictures[-1].encoding == "rgb8" and first.size == 160 * 120 * 3 and first.std() > 20
        user.go(GOAL)
        count = len(pictures)
        probe.wait(lambda: len(pictures) > count + 1, what="another picture", each=lambda: user.command(GOAL))
        assert (np.abs(np.frombuffer(pictures[-1].data, np.uint8).astype(int) - first) > 30).mean() > 0.01


def test_an_unknown_hand_ends_with_one_line_and_the_known_ones(probe):
    process = Process("sim_hand", hand="tentacle")
    assert process.ended() == 2
    assert "'tentacle' is unknown; known hands: " in process.errors and "Traceback" not in process.errors
