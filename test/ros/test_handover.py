"""Handovers over real DDS: node and simulated people as processes, and what becomes of an arm whose nodes die."""

import json
import os
import signal
import time
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("mink", reason="the extra `handover` is not installed")

from builtin_interfaces.msg import Duration
from rclpy.action import ActionClient
from robot_graph import ASK_AGAIN, Probe, Process
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from egohand_ros.action import Handover
from egohand_ros.handover.controller import EITHER
from egohand_ros.handover.intent import GIVE, TAKE
from egohand_ros.handover.machine import Outcome, Phase
from egohand_ros.msg import HandForecastArray, HandoverState, HandPoseArray
from egohand_ros.nodes.base import qos
from egohand_ros.robot.arm.config import find_arm

ARM = find_arm("ur5e")[0].joints
VELOCITY = np.pi  # rad/s, the maker's limit of each of them
STILL = 0.02  # rad/s, what the servos' play comes to
MOVING = 0.15  # rad/s


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


class Scene:
    """The graph of a handover, as processes, and what of it the tests look at."""

    def __init__(self, probe, *nodes, **handover):
        self.probe, self._client = probe, None
        self.states = probe.collect(HandoverState, "handover_state")
        self.joints = probe.collect(JointState, "joint_states")
        self.story = []
        probe.node.create_subscription(
            String, "sim_handover/scene", lambda m: self.story.append(json.loads(m.data)), qos.profile(qos.LATCHED)
        )
        given = {"start_enabled": True} | handover
        kinds = {  # as `egohand handover` starts them
            "sim_handover": {"manner": "waits", "seed": 3, "image_rate": 0.0, "realtime_priority": 15},
            "forecaster": {"forecaster": "minimum-jerk", "hypotheses": 10, "realtime_priority": 15},
            "handover": given,
        }
        self.nodes = {name: Process(name, **kinds[name]) for name in nodes or kinds}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        begun = (b for a, b in pairwise([None, *self.states]) if a is None or a.phase != b.phase)
        print("phases:", *(f"{stamp(s):.2f} {Phase(s.phase).name}: {s.reason}" for s in begun), sep="\n")
        for process in reversed(self.nodes.values()):
            process.__exit__()

    @property
    def phase(self):
        return Phase(self.states[-1].phase) if self.states else None

    def wait_for_phase(self, *phases):
        self.probe.wait(lambda: self.phase in phases, what=f"one of {phases}, not {self.phase}")

    def wait_until_it_moves(self):
        self.probe.wait(lambda: self.joints and fastest(self.joints[-1]) > MOVING, what="an arm that moves")

    def send(self, **goal):
        """The answer to a goal. One client for all: what a new one is answered gets lost while the server has not
        discovered it, so its first goal, which the tests have refused, is sent again until then."""
        first = self._client is None
        if first:
            self._client = ActionClient(self.probe.node, Handover, "handover/handover")
            self.probe.wait(self._client.server_is_ready, what="the action server")
        self.feedback = []
        asked, due = [], [0.0]

        def ask():
            if time.monotonic() >= due[0]:
                due[0] = time.monotonic() + (ASK_AGAIN if first else float("inf"))
                asked.append(
                    self._client.send_goal_async(Handover.Goal(**goal), feedback_callback=self.feedback.append)
                )

        self.probe.wait(lambda: any(f.done() for f in asked), what="an answer to the goal", each=ask)
        return next(f.result() for f in asked if f.done())

    def result_of(self, goal):
        future = goal.get_result_async()
        self.probe.wait(future.done, what="the result of the goal")
        return future.result().result


def fastest(state):
    """rad/s, of the arm's joints."""
    place = [list(state.name).index(name) for name in ARM]
    return float(np.abs(np.array(state.velocity)[place]).max())


def arm_position(state):
    place = [list(state.name).index(name) for name in ARM]
    return np.array(state.position)[place]


def stamp(message):
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def test_a_person_gives_an_object_and_the_action_says_so(probe):
    with Scene(probe) as scene:
        scene.probe.wait(lambda: scene.story, what="a scene")
        assert not scene.send(direction=TAKE).accepted, "an empty hand has nothing to give"
        failed = []
        while True:  # on a machine that is busy an offer may be missed, or an object lost
            goal = scene.send(direction=GIVE, timeout=Duration(sec=200))
            assert goal.accepted
            assert not scene.send(direction=EITHER).accepted, "one goal at a time"
            result = scene.result_of(goal)
            if Outcome(result.outcome) == Outcome.SUCCESS:
                break
            failed.append(f"{Outcome(result.outcome).name}: {result.message}")
            assert Outcome(result.outcome) != Outcome.HUMAN_CONTACT and len(failed) < 4, failed
        assert result.direction == GIVE and scene.story[-1]["handed_over"] >= 1
        phases = [Phase(s.phase) for s in scene.states]
        for phase in (Phase.OBSERVE, Phase.TRANSFER, Phase.RETREAT):  # PLACE is short, and alone ends in success
            assert phase in phases
        # Where the first forecast comes late, the hand rests already, and there is nothing to reach ahead for.
        reached = next(s for s in scene.states if s.phase in (Phase.REACH, Phase.TRANSFER))
        assert reached.header.frame_id == "robot_base" and reached.probability[GIVE] > 0.5
        assert sum(reached.probability) == pytest.approx(1.0, abs=1e-3)
        assert "latency/forecast_to_command p99 [ms]" in probe.diagnostics["handover"]


def test_the_arm_stands_when_a_node_is_frozen_or_dies_and_goes_on_where_it_is(probe):
    with Scene(probe, without_goal="either") as scene:
        commands = probe.collect(JointTrajectory, "arm_commands")
        scene.wait_until_it_moves()
        os.kill(scene.nodes["forecaster"].pid, signal.SIGSTOP)
        scene.wait_for_phase(Phase.HOLD)
        probe.wait(lambda: fastest(scene.joints[-1]) < STILL, what="an arm that stands")
        os.kill(scene.nodes["forecaster"].pid, signal.SIGCONT)
        scene.wait_for_phase(Phase.OBSERVE, Phase.REACH, Phase.WAIT, Phase.TRANSFER)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            scene.wait_until_it_moves()
            os.kill(scene.nodes["handover"].pid, number)
            probe.spin(0.5)  # what was under way has come
            last, count = stamp(scene.joints[-1]), len(commands)
            probe.wait(lambda last=last: stamp(scene.joints[-1]) > last + 0.5, what="half a second of simulation")
            assert len(commands) == count
            assert fastest(scene.joints[-1]) < STILL
            place = arm_position(scene.joints[-1])
            if number == signal.SIGSTOP:
                probe.spin(1.0)
                assert arm_position(scene.joints[-1]) == pytest.approx(place, abs=0.01)
                seen = len(scene.joints)
                os.kill(scene.nodes["handover"].pid, signal.SIGCONT)
                probe.wait(lambda n=count: len(commands) > n + 20, what="commands again")
                ways = np.abs(np.diff([arm_position(s) for s in scene.joints[seen:]], axis=0))
                times = np.diff([stamp(s) for s in scene.joints[seen:]])[:, None]  # long where the machine is busy
                assert (ways < VELOCITY * times + 0.02).all(), "a jump"
            else:
                scene.nodes["handover"].kill()
    for message in commands:
        ends = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points]
        assert len(ends) >= 5 and ends[-1] < 0.25 and stamp(message) == 0.0
        assert not any(message.points[-1].velocities)


def test_a_goal_needs_the_gate_can_be_cancelled_and_runs_out_of_time_and_nonsense_is_refused_by_reason(probe):
    with Scene(probe, "sim_handover", "handover", start_enabled=False) as scene:
        probe.wait(lambda: scene.joints, what="joint states")
        assert not scene.send(direction=GIVE).accepted
        assert probe.call(SetBool, "handover/enable", SetBool.Request(data=True)).success
        goal = scene.send(direction=GIVE)  # nobody forecasts, so nothing will come of it
        scene.wait_for_phase(Phase.OBSERVE)
        probe.wait(lambda: scene.feedback, what="feedback")
        cancelled = goal.cancel_goal_async()
        probe.wait(cancelled.done, what="an answer to cancelling")
        assert Outcome(scene.result_of(goal).outcome) == Outcome.ABORTED
        hurried = Handover.Goal(direction=GIVE).timeout
        hurried.nanosec = 300_000_000
        assert Outcome(scene.result_of(scene.send(direction=GIVE, timeout=hurried)).outcome) == Outcome.TIMEOUT

        hands, futures = (
            probe.publisher(HandPoseArray, "hand_poses"),
            probe.publisher(HandForecastArray, "hand_forecasts"),
        )
        arm = probe.publisher(JointTrajectory, "arm_commands")
        point = JointTrajectoryPoint(positions=[0.0] * 6, velocities=[1.0] * 6)
        point.time_from_start.nanosec = 20_000_000

        def send():
            hands.publish(HandPoseArray())
            futures.publish(HandForecastArray())
            arm.publish(JointTrajectory(joint_names=list(ARM), points=[point]))
            probe.spin(0.05)

        def refused(node, reason):
            return any(k.endswith(reason) for k in probe.diagnostics.get(node, {}) if k.startswith("rejected/"))

        probe.wait(
            lambda: (
                refused("handover", "hand_poses/empty_frame")
                and refused("handover", "hand_forecasts/empty_frame")
                and refused("sim_handover", "arm_commands/ends_in_motion")
            ),
            what="rejections in diagnostics",
            each=send,
        )
        assert all(process.running for process in scene.nodes.values())
