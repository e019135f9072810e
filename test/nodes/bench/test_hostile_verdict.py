"""What a hostile run forgives the middleware, and what it does not."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from egohand_ros.nodes.bench.hostile_verdict import TARGETS, HostileReport, judge_commands, judge_counts, most_lost
from egohand_ros.nodes.messages.joints import build_joint_command_msg, build_joint_state_msg
from egohand_ros.robot.follow.braking import stop_from
from egohand_ros.robot.hands.library import load_hand


def judged(lost, refused_short=0, attacks=300, kinds=15):
    """The failures of a run in which of 300 attacks on `prompt` some were lost, and some were not refused."""
    report = HostileReport()
    report.sent["prompt"] = {f"kind {i}": attacks // kinds for i in range(kinds)}
    report.must_be_refused["prompt"] = attacks
    counts = {node: {} for node in TARGETS.values()}
    counts["forecaster"] = {
        "count/received/prompt": attacks - lost,
        "rejected/prompt/too_long": attacks - lost - refused_short,
    }
    published = dict.fromkeys(TARGETS, 0) | {"prompt": attacks}
    judge_counts(report, counts, published, dict.fromkeys(TARGETS, kinds))
    assert report.lost["prompt"] == lost
    return report.failures


def test_a_few_messages_lost_on_the_way_are_counted_and_forgiven():
    assert judged(0) == judged(3) == []


def test_one_that_arrived_and_was_not_refused_is_a_failure():
    assert judged(0, refused_short=1) and judged(3, refused_short=1)


def test_a_kind_that_never_arrives_is_a_failure():
    assert judged(20) == ["prompt: of 300 messages 280 arrived"]
    assert judged(11)


def test_of_many_messages_no_more_than_a_thousandth_is_forgiven():
    assert most_lost(100_000, 90_000, 15) == 100.0
    assert most_lost(0, 0, 0) == 0.0


def commanded(wire_of):
    """The report on 200 commands of a hand at rest, of which `wire_of(messages)` came to the bench."""
    hand = load_hand("allegro_right")
    mapping = hand.command_mapping("joint_cmd")
    q = np.zeros(hand.n) + hand.rest_q
    stamps = [1e3 + 0.01 * i for i in range(200)]
    targets = [build_joint_state_msg(stamp, hand.joint_names, q) for stamp in stamps]
    wire = [build_joint_command_msg(mapping, stamp, q, 0.0 * q, 0.01, stop_from(hand, q, 0.0 * q)) for stamp in stamps]
    report = HostileReport()
    judge_commands(report, hand, mapping, targets, wire_of(wire))
    return report


def test_commands_that_did_not_come_are_counted_and_others_than_were_meant_are_failures():
    assert commanded(list).failures == []
    busy = commanded(lambda wire: wire[::2] + wire[1::4])
    assert busy.failures == [] and busy.unseen_commands == 50

    def moved(wire):
        wire[7].position[0] += 1e-3
        return wire

    assert commanded(moved).failures == ["1 commands were not on the wire as they were meant"]
    (failure,) = commanded(lambda wire: wire[:90]).failures
    assert "110 of 200 commands never came here" in failure
