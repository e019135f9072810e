"""The retargeter over DDS: what goes out follows the human hand, keeps every limit, and stops when it should."""

import signal

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot_graph import Probe, Process, forecast_msg, pose_msg
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool

from egohand_ros.messages.hands import LOST
from egohand_ros.messages.joints import parse_joint_command_msg, parse_joint_state_msg
from egohand_ros.msg import HandForecastArray, HandPoseArray, Latency
from egohand_ros.nodes.bench.hostile_messages import human_hand
from egohand_ros.nodes.retargeter.parameters import RetargeterParameters
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.limits.audit import audit_limits
from egohand_ros.robot.retarget.retargeter import Retargeter

HAND = load_hand("allegro_right")
QUICK = dict(objective="vector", start_enabled=True, joint_states_timeout=0.0)


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


class RetargeterUser:
    """A tracker, a forecaster and a robot's ears around a running retargeter."""

    def __init__(self, probe, hand=HAND):
        self.probe, self.hand = probe, hand
        self.forecasts = probe.publisher(HandForecastArray, "hand_forecasts")
        self.poses = probe.publisher(HandPoseArray, "hand_poses")
        self.targets = probe.collect(JointState, "joint_targets")
        self.last = 0.0
        probe.wait(lambda: probe.node.count_publishers("joint_targets"), what="retargeter on the graph")
        self.wired = self.poses.get_subscription_count

    def forecast(self, curl, **known):
        """At most 60 a second, as a real one."""
        now = self.probe.now()
        if now - self.last > 1 / 60:
            self.last = now
            self.forecasts.publish(forecast_msg(now - 0.02, np.stack([human_hand(curl)] * 10), **known))

    def pose(self, curl, **known):
        now = self.probe.now()
        if now - self.last > 1 / 60:
            self.last = now
            self.poses.publish(pose_msg(now - 0.02, human_hand(curl), **known))

    @property
    def q(self):
        return parse_joint_state_msg(self.targets[-1], self.hand.mapping)

    def is_at(self, q, tolerance=0.35):
        """Retargeting is not unique in every joint (it depends on the way there); how far each finger is bent is."""
        return bool(self.targets) and np.abs(bend(self.q, self.hand) - bend(q, self.hand)).max() < tolerance

    def is_still(self):
        return bool(self.targets) and np.abs(self.targets[-1].velocity).max() < 1e-3

    def mode_is(self, mode):
        return lambda: self.probe.diagnostics.get("retargeter", {}).get("mode") == mode

    def assert_limits(self):
        audit = self.audit()
        assert audit.violations == 0, audit
        return audit

    def audit(self):
        base = self.targets[0].header.stamp.sec  # float64 holds nanoseconds since then, but not since 1970
        stamps = [t.header.stamp.sec - base + 1e-9 * t.header.stamp.nanosec for t in self.targets]
        return audit_limits(self.hand, stamps, [t.position for t in self.targets])


def bend(q, hand=HAND):
    """Total flexion (F,) rad of each finger but the thumb."""
    return q[:12].reshape(3, 4)[:, 1:].sum(axis=1) if hand is HAND else q[:4]


def solved(curl, hand=HAND):
    retargeter = Retargeter(hand)
    for _ in range(5):
        result = retargeter.solve(human_hand(curl))
    return result.q


def test_follows_forecasts_within_the_limits_holds_relaxes_and_recovers(probe):
    with Process("retargeter", relax_after=2.0, **QUICK):
        user = RetargeterUser(probe)
        commands = probe.collect(Float64MultiArray, "joint_commands")
        latencies = probe.collect(Latency, "retargeter/debug/latency")
        for curl in (0.2, 0.7):  # nothing touches at 0.7: there is one way to hold it
            goal = solved(curl)
            probe.wait(lambda: user.is_at(goal), what="arrival", each=lambda: user.forecast(curl))
        probe.wait(lambda: latencies, what="latency", each=lambda: user.forecast(0.7))
        assert list(latencies[-1].stages) == ["input_age", "parse", "solve", "publish", "total"]
        assert 0.5 < latencies[-1].useful_horizon < 1.0
        probe.wait(user.mode_is("holding"), what="holding")
        probe.wait(user.is_still, what="standing still")
        assert user.is_at(goal)
        probe.wait(lambda: user.is_at(HAND.rest_q, 1e-3), what="rest pose")
        probe.wait(user.mode_is("relaxing"), what="relaxing")
        assert "no usable hand_forecasts" in probe.levels["retargeter"][1]
        probe.wait(lambda: user.is_at(goal), what="recovery", each=lambda: user.forecast(0.7))
        user.assert_limits()
        wire = parse_joint_command_msg(commands[-3], HAND.mapping)
        meant = lambda: min(np.abs(wire - target.position).max() for target in user.targets) < 1e-12  # noqa: E731
        probe.wait(meant, what="the target of a command")


@pytest.mark.unhurried
def test_follows_live_poses_too(probe):
    with Process("retargeter", source="pose", **QUICK):
        user = RetargeterUser(probe)
        goal = solved(0.7)
        probe.wait(lambda: user.is_at(goal), what="arrival", each=lambda: user.pose(0.7))
        user.assert_limits()


@pytest.mark.unhurried
def test_speaks_the_robots_language(probe):
    hand, interface, kind = load_hand("inspire_right"), "normalized", JointState
    with Process("retargeter", hand=hand.name, command_interface=interface, use_robot_topics=True, **QUICK):
        mapping = hand.command_mapping(interface)
        user = RetargeterUser(probe, hand)
        commands = probe.collect(kind, mapping.topic)
        goal = solved(0.8, hand)

        def arrived() -> bool:  # targets and commands come by different topics, one later than the other
            if not (commands and user.is_at(goal, 0.2)):
                return False
            sent = bend(parse_joint_command_msg(commands[-1], mapping), hand)
            return np.allclose(sent, bend(goal, hand), rtol=0.0, atol=0.25)

        probe.wait(arrived, what="arrival, on the wire too", each=lambda: user.forecast(0.8))
        assert commands[-1].name == list(mapping.names)
        assert all(0.0 <= value <= 1.0 for command in commands for value in command.position)


def test_is_silent_until_enabled_starts_where_the_robot_is_and_falls_silent_when_disabled(probe):
    with Process("retargeter", joint_states_timeout=1000.0):
        user = RetargeterUser(probe)
        states = probe.publisher(JointState, "joint_states")
        measured = HAND.lower * 0.4 + HAND.upper * 0.6
        status = lambda: probe.diagnostics.get("retargeter", {})  # noqa: E731
        human = lambda: user.forecast(0.3)  # noqa: E731

        def robot_and_human():
            states.publish(JointState(name=list(HAND.joint_names), position=measured.tolist()))
            user.forecast(0.3)

        # The diagnostics that count used targets come after what those targets would have caused.
        probe.wait(lambda: int(status().get("count/targets", 0)) > 20, what="targets", each=human)
        assert user.targets == [] and status()["mode"] == "disabled"

        answer = probe.call(SetBool, "retargeter/enable", SetBool.Request(data=True))
        assert answer.success and answer.message == "enabled as soon as it is known where the robot is"
        waiting = lambda: "nothing comes on joint_states" in probe.levels["retargeter"][1]  # noqa: E731
        probe.wait(waiting, what="the warning", each=human)
        assert user.targets == []
        probe.wait(lambda: user.targets, what="commands", each=robot_and_human)
        first = parse_joint_state_msg(user.targets[0], HAND.mapping)
        np.testing.assert_allclose(first, measured, atol=1e-9)
        goal = solved(0.3)
        probe.wait(lambda: user.is_at(goal), what="arrival", each=robot_and_human)

        assert probe.call(SetBool, "retargeter/enable", SetBool.Request(data=False)).success
        probe.wait(user.mode_is("disabled"), what="disabled", each=human)
        probe.spin(0.3)  # what was sent before that
        count, already = len(user.targets), int(status()["count/targets"])
        probe.wait(lambda: int(status()["count/targets"]) > already + 20, what="more targets", each=human)
        assert len(user.targets) == count
        user.assert_limits()


@pytest.mark.unhurried
def test_a_stream_begins_with_a_command_that_stands(probe):
    with Process("retargeter", **QUICK):
        user = RetargeterUser(probe)
        probe.wait(lambda: user.targets and not user.is_still(), what="motion", each=lambda: user.forecast(0.7))
    first, moving = user.targets[0], next(t for t in user.targets if np.abs(t.velocity).max() > 1e-3)
    assert moving is not first and np.abs(np.subtract(moving.position, first.position)).max() < 0.05
    user.assert_limits()


@pytest.mark.unhurried
def test_takes_the_robot_from_robot_description_and_refuses_a_broken_one(probe):
    with Process("retargeter", use_robot_description=True, **QUICK):
        user = RetargeterUser(probe)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        description = probe.node.create_publisher(String, "robot_description", latched)
        description.publish(String(data="<robot><link></robot>"))
        status = lambda: probe.diagnostics.get("retargeter", {})  # noqa: E731
        broken = lambda: status().get("rejected/robot_description/bad_robot_description") == "1"  # noqa: E731
        probe.wait(broken, what="the refusal", each=lambda: user.forecast(1.0))
        assert user.targets == [] and status()["mode"] == "waiting for robot_description"
        description.publish(String(data=HAND.urdf_text.replace('upper="1.709"', 'upper="0.5"')))
        narrow = [HAND.joint_names.index(name) for name in ("joint_2.0", "joint_6.0", "joint_10.0")]
        probe.wait(lambda: user.targets and user.q[narrow].max() > 0.49, what="a fist", each=lambda: user.forecast(1.0))
        probe.wait(user.is_still, what="rest", each=lambda: user.forecast(1.0))
        assert max(np.array(target.position)[narrow].max() for target in user.targets) <= 0.5


def test_doubtful_forecasts_are_followed_slowly_and_hopeless_ones_not_at_all(probe):
    with Process("retargeter", relax_after=30.0, **QUICK):
        user = RetargeterUser(probe)
        goal = solved(0.0)
        arrived = lambda: user.is_at(goal) and user.is_still()  # noqa: E731
        probe.wait(arrived, what="arrival", each=lambda: user.forecast(0.0))
        before = len(user.targets)
        goal = solved(0.7)
        # sure_std 0.05, lost_std 0.20: 0.14 m gives confidence 0.4, which is half the speed.
        probe.wait(lambda: user.is_at(goal), what="arrival", each=lambda: user.forecast(0.7, std=0.14))
        fastest = max(np.abs(t.velocity / HAND.velocity_limit).max() for t in user.targets[before:])
        assert 0.3 < fastest < 0.55
        probe.wait(user.mode_is("holding"), what="holding", each=lambda: user.forecast(0.0, std=0.5))
        assert user.is_at(goal)
        assert int(probe.diagnostics["retargeter"]["rejected/hand_forecasts/low_confidence"]) > 0
        user.assert_limits()


def test_asked_to_end_in_motion_it_brakes_and_the_last_command_stands_still(probe):
    with Process("retargeter", **QUICK) as process:
        user = RetargeterUser(probe)
        moving = lambda: user.targets and np.abs(user.targets[-1].velocity).max() > 1.5  # noqa: E731
        probe.wait(moving, what="motion", each=lambda: user.forecast(1.0))
        process.send_signal(signal.SIGTERM)
        probe.wait(lambda: not process.running, what="the end")
        assert process.ended() == 0
        probe.wait(user.is_still, what="standstill")
        user.assert_limits()


@pytest.mark.unhurried
def test_what_is_wrong_with_a_forecast_is_told_of_a_hand_too_that_nobody_sees(probe):
    with Process("retargeter", **QUICK):
        user = RetargeterUser(probe)

        def send(scale):
            now = probe.now()
            user.poses.publish(pose_msg(now, human_hand(0.0), state=np.full(2, LOST)))
            user.forecasts.publish(forecast_msg(now, scale * np.stack([human_hand(0.0)] * 10)))
            return probe.diagnostics.get("retargeter", {})

        probe.wait(lambda: "count/hand_not_tracked" in send(1.0), what="a forecast that is set aside")
        assert "rejected/hand_forecasts/implausible_hand" not in send(1.0)
        probe.wait(lambda: "rejected/hand_forecasts/implausible_hand" in send(100.0), what="a refusal")


@pytest.mark.unhurried
def test_settings_that_cannot_work_end_it_with_one_line(probe):
    process = Process("retargeter", command_interface="telepathy")
    assert process.ended() == 2 and "Traceback" not in process.errors
    assert "no command interface 'telepathy'; it has: position_controller" in process.errors
    with pytest.raises(ValueError, match="hold_after is 2.0 s and relax_after 1.0 s"):
        RetargeterParameters(hold_after=2.0)
    with pytest.raises(ValueError, match="sure_std is 0.3, lost_std 0.2"):
        RetargeterParameters(sure_std=0.3)
