"""kill -9 of any node of the robot's side: the hand stays safe, and who comes back rejoins."""

from pathlib import Path

import numpy as np
import pytest
from robot_graph import Probe, Process, forecast_msg
from sensor_msgs.msg import JointState

from egohand_ros.messages.basic import seconds
from egohand_ros.messages.joints import parse_joint_state_msg
from egohand_ros.msg import HandForecastArray
from egohand_ros.nodes.bench.hostile_messages import human_hand
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.limits.audit import audit_limits

HAND = load_hand("allegro_right")
RETARGETER = dict(start_enabled=True, joint_states_timeout=60.0)  # it does have a robot to measure
SIM_HAND = dict(image_rate=0.0, relax_after=1.0, relax_speed=0.15)


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


class Human:
    """Publishes forecasts of a hand at 60 Hz, and watches the simulated robot."""

    def __init__(self, probe):
        self.probe, self.last = probe, 0.0
        self.publisher = probe.publisher(HandForecastArray, "hand_forecasts")
        self.states = probe.collect(JointState, "joint_states")
        self.targets = probe.collect(JointState, "joint_targets")

    def show(self, curl):
        now = self.probe.now()
        if now - self.last > 1 / 60:
            self.last = now
            self.publisher.publish(forecast_msg(now - 0.02, np.stack([human_hand(curl)] * 10)))

    def robot(self, index=-1):
        return parse_joint_state_msg(self.states[index], HAND.mapping)

    def robot_bend(self):
        return self.robot()[:12].reshape(3, 4)[:, 1:].sum(axis=1).mean() if self.states else 0.0

    def close_fist(self):
        self.probe.wait(lambda: self.robot_bend() > 2.0, what="closed robot hand", each=lambda: self.show(1.0))

    def open_hand(self):
        self.probe.wait(lambda: self.robot_bend() < 1.0, what="open robot hand", each=lambda: self.show(0.1))


@pytest.mark.unhurried
@pytest.mark.parametrize("name", ["retargeter", "handover", "sim_hand", "sim_handover"])
def test_who_commands_a_robot_waits_for_no_lock_that_a_frozen_subscriber_may_hold(probe, name):
    with Process(name) as process:
        probe.wait(lambda: name in probe.diagnostics, what="diagnostics")
        threads = [task.read_text() for task in Path(f"/proc/{process.pid}/task").glob("*/comm")]
        assert any(t.startswith("dds.udp") for t in threads) and not any("shm" in t for t in threads)


def test_when_the_retargeter_is_killed_the_robot_holds_relaxes_and_follows_the_next_one(probe):
    with Process("sim_hand", **SIM_HAND) as sim, Process("retargeter", **RETARGETER) as retargeter:
        human = Human(probe)
        human.close_fist()
        retargeter.kill()
        killed = human.probe.now()
        drive = lambda: probe.diagnostics.get("sim_hand", {}).get("drive")  # noqa: E731
        probe.wait(lambda: drive() == "relaxing", what="relaxing robot", each=lambda: human.show(1.0))
        at_rest = lambda: np.abs(human.robot() - HAND.rest_q).max() < 0.02  # noqa: E731
        probe.wait(at_rest, what="rest pose", each=lambda: human.show(1.0))
        # What the hand still had to do when the commands ended is done; from then on it only moves slowly.
        later = [s for s in human.states if seconds(s.header.stamp) > killed + 0.6]
        speeds = np.array([np.abs(s.velocity / HAND.velocity_limit).max() for s in later])
        assert len(speeds) and (speeds < 0.25).all() and sim.running

        began = len(human.targets)
        robot = human.robot()
        retargeter.start()
        human.close_fist()
        first = parse_joint_state_msg(human.targets[began], HAND.mapping)
        np.testing.assert_allclose(first, robot, atol=0.02)
        stamps = [
            t.header.stamp.sec - human.targets[0].header.stamp.sec + 1e-9 * t.header.stamp.nanosec
            for t in human.targets
        ]
        for part in (slice(0, began), slice(began, None)):
            audit = audit_limits(HAND, stamps[part], [t.position for t in human.targets[part]])
            assert audit.violations == 0, audit


def test_when_the_robot_is_killed_and_comes_back_it_follows_again(probe):
    with Process("sim_hand", **SIM_HAND) as sim, Process("retargeter", **RETARGETER) as retargeter:
        human = Human(probe)
        human.close_fist()
        sim.kill()
        human.states.clear()
        sim.start()
        human.open_hand()
        human.close_fist()
        assert retargeter.running
