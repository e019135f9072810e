"""Every node under hostile messages; `egohand bench hostile` sends a hundred thousand, this a few."""

import json
import subprocess
import sys

from egohand_ros.nodes.bench.hostile_messages import attacks
from egohand_ros.robot.hands.library import load_hand

MESSAGES = 2000


def test_hostile_messages_kill_no_node_break_no_limit_and_are_counted_by_reason(tmp_path):
    out = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "egohand_ros.cli.main",
        "bench",
        "hostile",
        "--messages",
        str(MESSAGES),
        "--hands",
        "none",
        "--json",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert sum(sum(kinds.values()) for kinds in report["sent"].values()) == MESSAGES
    assert report["exits"] == {} and report["failures"] == []
    assert report["commands"]["commands"] > 100
    assert report["commands"]["position"] == report["commands"]["velocity"] == report["commands"]["acceleration"] == 0
    reasons = {r for topics in report["refused"].values() for counts in topics.values() for r in counts}
    assert {
        "zero_stamp",
        "stale_stamp",
        "future_stamp",
        "bad_stamp",
        "empty_frame",
        "non_finite_keypoint",
        "wrong_count",
    } <= reasons
    assert {"unsupported_encoding", "truncated_image", "huge_image", "non_unit_quaternion", "huge_value"} <= reasons
    assert "internal_error" not in reasons


def test_there_is_an_attack_of_each_kind_on_every_input():
    found = attacks(load_hand("allegro_right").command_mapping("joint_cmd"))
    assert len({(a.topic, a.kind) for a in found}) == len(found) > 150
