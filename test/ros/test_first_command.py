"""Who is waited for before a stream of commands sets off, over real DDS; the time is the tests' own."""

import signal

import pytest
from rclpy.duration import Duration
from robot_graph import Probe, Process
from sensor_msgs.msg import JointState

from egohand_ros.nodes.base import qos
from egohand_ros.nodes.first_command import FirstCommand


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


@pytest.fixture
def commands(probe):
    return probe.node.create_publisher(JointState, "joint_targets", qos.profile(qos.COMMANDS))


@pytest.fixture
def recorder(probe, commands, tmp_path, monkeypatch):
    """Listens reliably, and is known to; by sockets, since nobody may wait for a lock of one that is frozen."""
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    with Process("recorder", folder=str(tmp_path / "bag"), autostart=True) as recorder:
        probe.wait(commands.get_subscription_count, what="a recorder that listens")
        yield recorder


def test_motion_begins_once_all_who_listen_have_the_first_command(probe, commands, recorder):
    first = FirstCommand(commands)
    first.look(90.0)
    first.look(100.0)
    first.begin(100.0)
    assert first.due(100.0) and not first.reached(100.0), "none was sent yet"

    def send():
        if first.due(100.5):
            commands.publish(JointState())
            first.sent(100.5)

    probe.wait(lambda: first.reached(100.5), what="an acknowledgement", each=send)
    assert first.reached(100.6), "and is not asked again"


def test_one_that_is_new_and_says_nothing_is_waited_for_and_one_that_has_listened_for_long_is_not(commands, recorder):
    recorder.send_signal(signal.SIGSTOP)
    first = FirstCommand(commands)
    first.look(100.0)
    first.begin(101.0)
    commands.publish(JointState())
    first.sent(101.0)
    assert not first.due(101.05) and first.due(101.2)
    assert not first.reached(102.9) and first.reached(103.1)
    first.begin(110.0)
    commands.publish(JointState())
    first.sent(110.0)
    assert first.reached(110.01)


def test_one_who_is_there_may_not_be_known_yet_while_the_sender_is_new(probe, commands, recorder):
    first = FirstCommand(commands)
    first.look(100.0)
    first.begin(100.0)
    commands.publish(JointState())
    first.sent(100.0)
    probe.wait(lambda: commands.wait_for_all_acked(Duration()), what="an acknowledgement of the one who is known")
    assert not first.reached(102.9) and first.reached(103.1)


def test_nobody_is_waited_for_as_long(probe, commands):
    first = FirstCommand(commands)
    first.look(100.0)
    first.begin(110.0)
    first.sent(110.0)
    assert not first.reached(112.9) and first.reached(113.1)
