"""The lifecycle, parameters, signals and diagnostics that every node inherits, on a small node of the test's own."""

import gc
import math
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot_graph import Probe
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64

from egohand_ros.errors import RejectedInput, UserError
from egohand_ros.nodes.base import qos
from egohand_ros.nodes.base.node import BaseParameters, EgoHandNode, parameter, run_node
from egohand_ros.nodes.messages.basic import time_msg

SAFE = -1.0


@dataclass(frozen=True)
class EchoParameters(BaseParameters):
    gain: float = parameter(1.0, "Factor on every input.", unit="1", range=(0.0, 10.0))
    offsets: tuple[float, ...] = parameter((0.0, 0.0), "Added to the output.", range=(-1.0, 1.0))
    mode: str = parameter("good", "What setup does.", choices=("good", "missing", "bug"), read_only=True)

    def __post_init__(self):
        if self.gain == 7.0:
            raise ValueError("gain is 7, which this test forbids")


class EchoNode(EgoHandNode):
    """output = gain * input + offset; -1 is its safe command. 13 is a bug, a negative input is refused."""

    Parameters = EchoParameters

    def __init__(self, **kwargs):
        super().__init__("echo", **kwargs)
        self.resets, self.changes, self.released = 0, [], 0

    def setup(self):
        if self.parameters.mode == "missing":
            raise UserError("the model is missing; fetch it with `make model`")
        self.output = self.advertise(Float64, "output")
        if self.parameters.mode == "bug":
            raise KeyError("bug")
        self.worker = self.make_worker(self.process, self.output.publish)
        self.subscribe(Float64, "input", self.on_input)

    def on_input(self, message):
        if message.data < 0:
            raise RejectedInput("negative", f"{message.data}")
        self.worker.submit(message)

    def process(self, message):
        if message.data == 13.0:
            raise KeyError("unlucky")
        return Float64(data=self.parameters.gain * message.data + self.parameters.offsets[0])

    def stop(self):
        self.output.publish(Float64(data=SAFE))

    def release(self):
        self.released += 1

    def reset(self):
        self.resets += 1

    def parameters_changed(self, old, new):
        self.changes.append((old.gain, new.gain))


@pytest.fixture
def probe(ros):
    gc.collect()  # a lifecycle node that is destroyed keeps its /rosout publisher until it is collected
    probe = Probe()
    yield probe
    probe.close()


@pytest.fixture
def echo(probe):
    """Makes echo nodes that the probe spins; parameters as keyword arguments."""
    nodes = []

    def make(**overrides):
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        node = EchoNode(parameter_overrides=given)
        probe._executor.add_node(node)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def values(messages):
    return [m.data for m in messages]


def say(probe, messages, number, publisher, until):
    """Publish until the node answers, so that discovery cannot lose the message."""
    probe.wait(
        lambda: until in values(messages), 20, f"answer {until}", each=lambda: publisher.publish(Float64(data=number))
    )


def drive(probe, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return probe.call(ChangeState, "echo/change_state", request).success


def state(probe):
    return probe.call(GetState, "echo/get_state", GetState.Request()).current_state.id


def test_a_lifecycle_manager_drives_the_node_and_the_safe_command_is_the_last(probe, echo):
    echo(autostart=False)
    answers, publisher = probe.collect(Float64, "output"), probe.publisher(Float64, "input")
    assert state(probe) == State.PRIMARY_STATE_UNCONFIGURED
    assert drive(probe, Transition.TRANSITION_CONFIGURE)
    assert drive(probe, Transition.TRANSITION_ACTIVATE)
    say(probe, answers, 2.0, publisher, 2.0)
    assert drive(probe, Transition.TRANSITION_DEACTIVATE)
    probe.wait(lambda: values(answers)[-1] == SAFE, 5, "safe command")
    assert state(probe) == State.PRIMARY_STATE_INACTIVE
    # Nothing comes while inactive: what is sent now is not answered, what is sent after the next activation is.
    publisher.publish(Float64(data=3.0))
    assert state(probe) == State.PRIMARY_STATE_INACTIVE  # a round trip through the node's executor: 3 has been seen
    assert drive(probe, Transition.TRANSITION_ACTIVATE)
    say(probe, answers, 4.0, publisher, 4.0)
    assert 3.0 not in values(answers)
    assert drive(probe, Transition.TRANSITION_DEACTIVATE)
    assert drive(probe, Transition.TRANSITION_CLEANUP)
    assert state(probe) == State.PRIMARY_STATE_UNCONFIGURED
    assert drive(probe, Transition.TRANSITION_CONFIGURE)
    assert drive(probe, Transition.TRANSITION_ACTIVATE)
    say(probe, answers, 5.0, publisher, 5.0)


@pytest.mark.parametrize("mode", ["missing", "bug"])
def test_a_configure_that_fails_says_why_tears_down_and_can_be_tried_again(probe, echo, mode):
    node = echo(mode=mode, autostart=False)
    for _ in range(2):
        assert not drive(probe, Transition.TRANSITION_CONFIGURE)
        assert state(probe) == State.PRIMARY_STATE_UNCONFIGURED
    assert ("make model" if mode == "missing" else "KeyError") in node.failure
    assert node.released >= 2
    assert probe.node.count_publishers("output") == 0


def test_parameters_are_described_checked_and_swapped_together(probe, echo):
    node = echo()
    assert node.autostart()
    described = probe.call(
        DescribeParameters, "echo/describe_parameters", DescribeParameters.Request(names=["gain", "mode"])
    ).descriptors
    assert described[0].floating_point_range[0].to_value == 10.0 and described[0].description.endswith("[1]")
    assert described[1].read_only and described[1].additional_constraints == "one of: good, missing, bug"

    def set_parameters(**changes):
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in changes.items()]
        )
        return probe.call(SetParametersAtomically, "echo/set_parameters_atomically", request).result

    assert set_parameters(gain=3.0, offsets=[0.5, 0.0]).successful
    assert (node.parameters.gain, node.parameters.offsets) == (3.0, (0.5, 0.0))
    assert set_parameters(gain=4).successful  # an integer that means a float
    assert node.changes[0] == (1.0, 3.0) and node.parameters.gain == 4.0
    before = node.parameters
    for bad in (
        {"gain": 11.0},
        {"gain": math.nan},
        {"gain": "fast"},
        {"offsets": [0.0, 2.0]},
        {"mode": "bug"},
        {"gain": 7.0},
    ):
        result = set_parameters(**bad)
        assert not result.successful and result.reason and "\n" not in result.reason, bad
        assert node.parameters is before
    assert "forbids" in set_parameters(gain=7.0).reason


def test_an_input_that_may_be_said_once_reaches_a_late_node_from_every_publisher(probe, echo):
    node, heard = echo(), []
    assert node.autostart()
    said_once = probe.node.create_publisher(
        Float64, "calibration", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    said_once.publish(Float64(data=3.0))
    node.subscribe_also_latched(Float64, "calibration", lambda m: heard.append(m.data), qos.SENSOR)
    probe.wait(lambda: heard == [3.0], 20, "what was said before")
    volatile = probe.publisher(Float64, "calibration")
    probe.wait(lambda: 4.0 in heard, 20, "a volatile publisher", each=lambda: volatile.publish(Float64(data=4.0)))


@pytest.mark.parametrize(
    "bad, words",
    [({"gain": 30.0}, "[0, 10]"), ({"gain": "fast"}, "expected float"), ({"mode": "worse"}, "one of: good")],
)
def test_a_bad_override_is_one_line_that_says_what_is_expected(ros, bad, words):
    with pytest.raises(UserError) as caught:
        EchoNode(parameter_overrides=[Parameter(name, value=value) for name, value in bad.items()])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_integer_override_serves_a_float(ros):
    node = EchoNode(parameter_overrides=[Parameter("gain", value=3)])
    assert node.parameters.gain == 3.0 and isinstance(node.parameters.gain, float)
    node.destroy_node()


def test_bad_input_and_bugs_are_counted_logged_once_and_survived(probe, echo):
    node = echo()
    log = probe.collect(Log, "/rosout")
    assert node.autostart()
    answers, publisher = probe.collect(Float64, "output"), probe.publisher(Float64, "input")
    say(probe, answers, 1.0, publisher, 1.0)
    for _ in range(5):
        publisher.publish(Float64(data=-1.0))
        publisher.publish(Float64(data=13.0))
        probe.spin(0.02)
    say(probe, answers, 2.0, publisher, 2.0)
    assert set(values(answers)) == {1.0, 2.0}
    assert node.health.rejected("negative") == 5
    assert node.health.rejected("internal_error") == node.worker.failures > 0
    probe.wait(lambda: probe.diagnostics.get("echo", {}).get("rejected/input/negative") == "5", 5, "diagnostics")
    assert probe.levels["echo"][0] == 1 and "input negative" in probe.levels["echo"][1]
    assert float(probe.diagnostics["echo"]["rate/received/input [Hz]"]) >= 0.0
    # The run of rejections is over after a silence, and the level falls.
    probe.wait(lambda: probe.levels["echo"][0] == 0, 10, "level ok")
    probe.wait(lambda: any("no more negative" in entry.msg for entry in log), 10, "the last line of the log")
    lines = [entry.msg for entry in log if entry.name == "echo"]
    for words in ("rejecting input: negative", "this is a bug", "no more negative"):
        assert len([line for line in lines if words in line]) == 1, words


def test_a_clock_that_jumps_back_resets_the_node(probe, echo):
    node = echo(use_sim_time=True)
    assert node.autostart()
    clock = probe.publisher(Clock, "/clock")

    def tick(seconds):
        clock.publish(Clock(clock=time_msg(seconds)))

    probe.wait(lambda: node.now() == 100.0, 10, "first time", each=lambda: tick(100.0))
    assert node.resets == 0
    probe.wait(lambda: node.now() == 101.0, 10, "second time", each=lambda: tick(101.0))
    assert node.resets == 0
    probe.wait(lambda: node.now() == 1.0, 10, "loop", each=lambda: tick(1.0))
    assert node.resets == 1 and node.health.counted("clock_jumps") == 1


def test_a_worker_that_does_not_end_delivers_nothing_after_deactivation(probe, echo, monkeypatch):
    node = echo()
    begun, go_on = threading.Event(), threading.Event()

    def slow(message):
        begun.set()
        go_on.wait(20)
        return Float64(data=99.0)

    monkeypatch.setattr(node, "process", slow)
    assert node.autostart()
    answers, publisher = probe.collect(Float64, "output"), probe.publisher(Float64, "input")
    probe.wait(begun.is_set, 20, "work", each=lambda: publisher.publish(Float64(data=1.0)))
    probe.wait(lambda: node.output.get_subscription_count() == 1, 10, "probe connected")
    stop = type(node.worker).stop
    monkeypatch.setattr(type(node.worker), "stop", lambda self, timeout=5.0: stop(self, 0.1))
    thread = node.worker._thread
    node.trigger_deactivate()
    assert thread.is_alive()
    go_on.set()
    thread.join(10)
    probe.wait(lambda: SAFE in values(answers), 10, "safe command")
    node.trigger_activate()
    monkeypatch.setattr(node.worker, "_process", lambda message: Float64(data=5.0))
    say(probe, answers, 1.0, publisher, 5.0)
    assert 99.0 not in values(answers)


# ---------------------------------------------------------------- as a process of its own


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, __file__, "--ros-args", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_in_order_with_the_safe_command(probe, number):
    answers, publisher = probe.collect(Float64, "output"), probe.publisher(Float64, "input")
    process = start("-p", "gain:=2")
    try:
        say(probe, answers, 3.0, publisher, 6.0)
        process.send_signal(number)
        probe.wait(lambda: process.poll() is not None, 20, "end of the process")
        probe.wait(lambda: values(answers)[-1] == SAFE, 5, "safe command")
    finally:
        process.kill()
    assert process.wait() == 0
    assert "Traceback" not in process.stderr.read()


@pytest.mark.unhurried
def test_a_bug_at_start_shows_its_traceback_and_has_another_exit_code(ros):
    process = start("-p", "mode:=bug")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1 and "KeyError" in errors and "this is a bug" in errors


@pytest.mark.unhurried
@pytest.mark.parametrize(
    "arguments, words",
    [
        (("-p", "mode:=missing"), "make model"),
        (("-p", "gain:=100.0"), "expected float in [0, 10]"),
    ],
)
def test_a_node_that_cannot_start_exits_with_one_line(ros, arguments, words):
    process = start(*arguments)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2
    assert words in errors and "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1


if __name__ == "__main__":
    sys.exit(run_node(EchoNode))
