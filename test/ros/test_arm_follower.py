"""An arm that follows a wrist as real processes: simulated arm and hand, the node, and a person's hand over DDS."""

import numpy as np
import pytest
from robot_graph import Probe, Process, pose_msg
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from egohand_ros.messages.basic import seconds
from egohand_ros.msg import HandPoseArray
from egohand_ros.nodes.bench.hostile_messages import human_hand
from egohand_ros.robot.arm.model import ArmModel
from egohand_ros.robot.hands.library import load_hand

ARM = ArmModel.load("ur5e", load_hand("allegro_right"))
NODE = dict(source="pose", still_camera="ahead", rotate=False, realtime_priority=0, joint_states_silence=5.0)


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


class User:
    """A person before a camera that looks ahead, and what the arm does."""

    def __init__(self, probe):
        self.probe = probe
        self.hands = probe.publisher(HandPoseArray, "hand_poses")
        self.commands = probe.collect(JointTrajectory, "arm_commands")
        self.states = probe.collect(JointState, "joint_states")
        self.at, self.shown = 0.0, probe.now()
        probe.wait(lambda: self.states and self.hands.get_subscription_count(), what="arm and node on the graph")

    def show(self, ahead=0.0):
        """The hand, on its way to so far ahead, m, as fast as people move."""
        now = self.probe.now()
        most = 0.3 * (now - self.shown)
        self.at, self.shown = self.at + float(np.clip(ahead - self.at, -most, most)), now
        self.hands.publish(pose_msg(now, human_hand(0.2) + np.array([0.0, 0.0, 0.4 + self.at])))

    @property
    def tool(self):
        state = self.states[-1]
        ARM.move(np.array([state.position[list(state.name).index(name)] for name in ARM.config.joints]))
        return ARM.tool()[:3, 3]

    def mode_is(self, mode):
        return lambda: self.probe.diagnostics.get("arm_follower", {}).get("mode") == mode

    def is_still(self):
        return np.abs(self.states[-1].velocity[: ARM.n]).max() < 0.01


def test_the_arm_goes_the_way_of_the_wrist_stands_without_it_and_goes_on_from_there(probe):
    with Process("sim_hand", arm="ur5e", image_rate=0.0), Process("arm_follower", **NODE):
        user = User(probe)
        began = user.tool
        probe.wait(user.mode_is("disabled"), what="a closed gate", each=user.show)
        assert not user.commands
        probe.call(SetBool, "arm_follower/enable", SetBool.Request(data=True))
        probe.wait(user.mode_is("following"), what="following", each=user.show)
        ahead = lambda: user.tool[0] - began[0] > 0.09  # noqa: E731
        probe.wait(ahead, what="the way ahead", each=lambda: user.show(0.1))
        probe.wait(user.mode_is("waiting for a hand"), what="a hand that is lost")
        probe.wait(user.is_still, what="standing")
        stood = user.tool
        assert stood - began == pytest.approx([0.1, 0.0, 0.0], abs=0.02)
        user.at = -0.3  # it comes back elsewhere, and stays there
        probe.wait(user.mode_is("following"), what="following again", each=lambda: user.show(-0.3))
        assert user.tool == pytest.approx(stood, abs=0.01)
        last = user.commands[-1]
        assert np.abs(last.points[-1].velocities).max() == 0.0 and seconds(last.header.stamp) == 0.0


def test_an_arm_whose_node_is_killed_stands_and_one_that_is_started_again_goes_on_from_there(probe):
    with Process("sim_hand", arm="ur5e", image_rate=0.0):
        follower = Process("arm_follower", start_enabled=True, **NODE)
        user = User(probe)
        began = user.tool
        away = lambda: user.tool[0] - began[0] > 0.03  # noqa: E731
        probe.wait(user.mode_is("following"), what="following", each=user.show)
        probe.wait(away, what="motion", each=lambda: user.show(0.3))
        follower.kill()
        probe.wait(user.is_still, what="standing")
        stood = user.tool
        with Process("arm_follower", start_enabled=True, **NODE):
            probe.wait(lambda: user.hands.get_subscription_count(), what="the node")
            probe.diagnostics.clear()
            probe.wait(user.mode_is("following"), what="following again", each=user.show)
            assert user.tool == pytest.approx(stood, abs=0.01)


def test_hands_of_a_camera_of_which_nothing_is_known_are_refused_and_move_nothing(probe):
    unknown = {name: value for name, value in NODE.items() if name != "still_camera"}
    with Process("sim_hand", arm="ur5e", image_rate=0.0), Process("arm_follower", start_enabled=True, **unknown):
        user = User(probe)
        refused = "rejected/hand_poses/unknown_frame"
        told = lambda: int(probe.diagnostics.get("arm_follower", {}).get(refused, 0)) > 3  # noqa: E731
        probe.wait(told, what="refusals", each=user.show)
        assert user.is_still() and user.mode_is("waiting for a hand")()


def test_nonsense_is_refused_by_reason_moves_nothing_and_the_next_hand_is_followed(probe):
    hand = human_hand(0.2) + np.array([0.0, 0.0, 0.4])
    nonsense = {"future_stamp": pose_msg(probe.now() + 1e4, hand), "zero_stamp": pose_msg(0.0, hand)}
    still = NODE | {"still_camera": "facing"}
    with Process("sim_hand", arm="ur5e", image_rate=0.0), Process("arm_follower", start_enabled=True, **still):
        user = User(probe)
        began = user.tool

        def counts():
            found = probe.diagnostics.get("arm_follower", {})
            return {key.rpartition("/")[2] for key in found if key.startswith("rejected/hand_poses/")}

        for reason, message in nonsense.items():
            probe.wait(lambda: reason in counts(), what=reason, each=lambda: user.hands.publish(message))
        assert user.tool == pytest.approx(began, abs=1e-3)
        probe.wait(user.mode_is("following"), what="following", each=user.show)

        def misspelt():
            message = pose_msg(probe.now(), hand + np.array([0.0, 0.0, 0.2]))
            message.header.frame_id = "camrea"
            user.hands.publish(message)

        probe.wait(lambda: "unknown_frame" in counts(), what="a refused frame", each=misspelt)
        probe.wait(user.mode_is("waiting for a hand"), what="no hand", each=misspelt)
        assert user.tool == pytest.approx(began, abs=0.01)
