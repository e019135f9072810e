"""Whole sessions: every node a real process over DDS, a recording, its metrics and its report.

Three sessions serve all of these: `live` plays the synthetic scene, `replayed` plays the recording of `live` and
records in the other storage, and `restarted` has its retargeter killed on the way.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import foxglove_layout
import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.bags.bag import episode_to_bag, episodes_from_bag
from egohand_ros.data.bags.reading import read_messages
from egohand_ros.data.bags.recording import is_closed, open_bag
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.errors import UserError
from egohand_ros.evaluation.recording import read_recording
from egohand_ros.evaluation.replay import compare_with_live
from egohand_ros.evaluation.session import score_session
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.nodes.session import session as session_module
from egohand_ros.nodes.session.processes import private_domain
from egohand_ros.nodes.session.run import Outputs, make_plans, run_and_score
from egohand_ros.nodes.session.session import Session

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.serialization import deserialize_message
from rclpy.task import Future

SECONDS = 5.0
MANY_PICTURES = 20  # a second and a half of them


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """Folder with bag, metrics.json and report.html of a synthetic session with a simulated hand; metrics; state."""
    folder = tmp_path_factory.mktemp("live")
    outputs = Outputs(str(folder / "bag"), str(folder / "report.html"), str(folder / "metrics.json"))
    options = {
        "synthetic": True,
        "forecaster": "kalman",
        "hand": "allegro_right",
        "sim": True,
        "duration": SECONDS,
        "seed": 3,
    }
    metrics, state = run_and_score(options, outputs)
    return folder, metrics, state


@pytest.fixture(scope="module")
def replayed(live, tmp_path_factory):
    """Bag of a replay of `live` with another forecaster and hand."""
    bag = tmp_path_factory.mktemp("replayed") / "bag"
    options = {"bag": str(live[0] / "bag"), "forecaster": "damped", "hand": "inspire_right", "rate": 2.0}
    run_and_score(options, Outputs(str(bag), storage="sqlite3"))
    return bag


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    """Bag and state of a session whose retargeter and viewer were killed hard; it ends once commands are recorded
    again. By what the recorder says: it may hear a new node later than the session does."""
    bag = tmp_path_factory.mktemp("restarted") / "bag"
    options = {"synthetic": True, "no_images": True, "forecaster": "kalman", "duration": 120.0}
    options |= {"hand": "allegro_right", "sim": True, "viewer": True}
    killed, counts, restarted = [], {}, {}

    def kill_and_wait(state):
        before = dict(counts)
        for data in session.collected["/diagnostics"]:
            counts.update(commands_counted(data))
        session.collected["/diagnostics"].clear()
        sent, written = counts.get("retargeter", 0), counts.get("recorder", 0)
        if not killed and state.received["hand_forecasts"] > 20 and written > 50:
            killed.extend(session.pid(name) for name in ("retargeter", "viewer"))
            for process in killed:
                os.kill(process, signal.SIGKILL)
        elif killed and state.respawns and sent != before.get("retargeter", 0) and not restarted:
            restarted["written"] = written  # it is heard again, at least by the session
        elif restarted and written > restarted["written"] + 300:  # more than it may have told too late
            raise KeyboardInterrupt

    with private_domain() as domain:
        information = {"options": {"hand": "allegro_right"}}
        plans = make_plans(options, bag, "mcap")
        session = Session(
            plans,
            domain,
            bag.parent / "logs",
            information=information,
            on_progress=kill_and_wait,
            collect=("/diagnostics",),
        )
        state = session.run()
    return bag, state


def commands_counted(data):
    """How many commands the retargeter has sent and the recorder has written, from a serialised DiagnosticArray."""
    names = {"retargeter": "count/commands", "recorder": "count/written/joint_commands"}
    for status in deserialize_message(data, DiagnosticArray).status:
        node = status.name.rpartition("/")[2]
        yield from ((node, int(pair.value)) for pair in status.values if pair.key == names.get(node))


def same_inputs(bag):
    """Skips where an overloaded machine kept inputs from the forecaster that the recorder got: nothing to compare
    then.
    """
    recording = read_recording(bag)
    told = recording.diagnostics["forecaster"]
    lost = [f"{key} {value}" for key, value in told.items() if key.startswith("rejected/") and int(value)]
    for name in ("hand_poses", "camera_pose"):
        if int(told.get(f"count/received/{name}", 0)) < recording.count(name):
            lost.append(f"{name} received {told.get(f'count/received/{name}')} of {recording.count(name)}")
    if lost:
        pytest.skip(f"the machine is overloaded: {', '.join(lost)}")


def test_every_pose_that_was_sent_is_recorded(live):
    _, metrics, state = live
    counts, published = metrics["counts"], state.player["published"]
    assert counts["hand_poses"] == published["hand_poses"] == pytest.approx(SECONDS * 30, abs=3)
    assert counts["frames"] == published["image/compressed"] > 0
    assert counts["dropped"]["recorder"] == 0


def test_poses_become_forecasts_and_commands(live):
    folder, metrics, _ = live
    counts = metrics["counts"]
    # Newest wins: on a busy machine some observations are overtaken, and that is reported.
    assert counts["forecasts"] + counts["dropped"]["forecaster"] >= counts["tracked_frames"] - 5
    assert counts["forecasts"] > 0.3 * counts["tracked_frames"] and counts["commands"] > counts["forecasts"]
    recording = read_recording(folder / "bag")
    assert recording.forecaster["preset"] == "kalman" and recording.forecasts[0].frame == "world"
    assert recording.measured is not None and np.ptp(recording.measured.q, axis=0).max() > 0.05, (
        "the simulated hand moved"
    )


def test_commands_keep_the_limits_and_all_of_them_were_checked(live):
    folder, metrics, _ = live
    assert metrics["limit_violations"] == 0
    recording = read_recording(folder / "bag")
    # The recorder may find the one topic some periods before the other.
    since = recording.targets.received[0] - 0.005
    assert metrics["limits"]["checked_commands"] >= (recording.wire_commands.received > since).sum() - 3
    assert metrics["limits"]["checked_commands"] > 0.95 * metrics["counts"]["commands"]
    assert metrics["limits"]["peak_velocity_use"] > 0.05


def test_metrics_have_what_they_promise(live):
    folder, metrics, state = live
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    for name in ("end_to_end", "forecaster/inference", "retargeter/solve"):
        values = metrics["latency_ms"][name]
        assert 0.0 < values["p50"] <= values["p95"] <= values["p99"]
    errors = metrics["forecast"]["forecasters"]
    assert set(errors) == {"kalman", "persistence"} and metrics["forecast"]["windows"] > 30
    assert all(0.0 < errors[name][key] < 0.5 for name in errors for key in ("ADE", "FDE", "MPJPE", "MPJPE-F"))
    assert {"respawns", "cpu"} <= set(metrics["nodes"]["forecaster"]) and metrics["versions"]["numpy"]
    assert not state.respawns and not state.killed


def drawn(bag):
    """How many pictures of the robot. They come last: on a machine that is busy enough their renderer starts after all
    was over."""
    return sum(1 for _ in read_messages(bag, ("sim_hand/image/compressed",)))


def test_the_report_is_one_file_that_needs_no_network(live):
    folder, metrics, _ = live
    page = (folder / "report.html").read_text()
    assert len(page) < 8e6
    assert not re.search(r'(src|href)="(?!data:)', page) and "@import" not in page and "url(http" not in page
    assert page.count('alt="camera at') >= 4, "key frames"
    assert 'alt="simulated hand at' in page or drawn(folder / "bag") < MANY_PICTURES
    assert page.count('class="chart"') >= 5 + 16
    assert f">{metrics['counts']['forecasts']}<" in page and "joint_15.0" in page


def test_scoring_the_bag_again_gives_the_same(live):
    folder, metrics, _ = live
    again = score_session(folder / "bag")
    assert again == {key: metrics[key] for key in again}


def test_recorded_forecasts_are_made_again_offline(live):
    same_inputs(live[0] / "bag")
    count, difference = compare_with_live(live[0] / "bag", make_forecaster("kalman"))
    assert count > 40 and difference < 1e-9


def test_a_recording_is_an_episode_for_evaluation(live):
    folder, metrics, _ = live
    (episode,) = episodes_from_bag(folder / "bag")
    assert len(episode) == metrics["counts"]["hand_poses"] and episode.camera_pose is not None and episode.task


def test_all_that_the_foxglove_layout_shows_is_in_a_recording_made_for_it(live, tmp_path):
    assert main(["convert", str(live[0] / "bag"), "--out", str(tmp_path / "bag"), "--to", "foxglove"]) == 0
    with open_bag(tmp_path / "bag") as reader:
        there = {connection.topic for connection in reader.connections if connection.msgcount}
    none_drawn = set() if drawn(live[0] / "bag") else {"/sim_hand/image/compressed"}
    assert foxglove_layout.topics() <= there | none_drawn
    (episode,) = episodes_from_bag(tmp_path / "bag")
    assert len(episode) == live[1]["counts"]["hand_poses"], "it still is a recording"


def test_a_replay_keeps_the_recorded_time_and_inputs(live, replayed):
    before, after = read_recording(live[0] / "bag"), read_recording(replayed)
    assert after.types["/hand_poses"] == before.types["/hand_poses"]
    np.testing.assert_array_equal(after.hands.stamp, before.hands.stamp)
    np.testing.assert_array_equal(after.hands.keypoints, before.hands.keypoints)
    assert after.forecasts and all(
        before.start <= f.stamp <= before.end and f.model_id == "damped" for f in after.forecasts
    )


def test_forecasts_of_a_replay_are_made_again_from_sqlite(replayed):
    assert list(replayed.glob("*.db3"))
    same_inputs(replayed)
    count, difference = compare_with_live(replayed, make_forecaster("damped"))
    assert count > 40 and difference < 1e-9


def test_a_killed_node_comes_back_and_commands_go_on_within_limits(restarted):
    bag, state = restarted
    killed = ("retargeter", "viewer")
    assert state.respawns == dict.fromkeys(killed, 1) and state.exits == {name: [-9] for name in killed}
    assert state.interrupted and not state.killed
    scores = score_session(bag)
    assert scores["limit_violations"] == 0 and scores["limits"]["checked_commands"] > 100, scores["limits"]
    stamps = read_recording(bag).targets.stamp
    assert np.diff(stamps).max() > 0.4, "silence while the node was away"


# ------------------------------------------------------------------------------------------ processes and errors


def egohand(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "egohand_ros.cli.main", "run", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def children(pid):
    """Process ids of the direct children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in text:
            found.append(int(status.parent.name))
    return found


def gone(pid):
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def until(condition, timeout=240.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


@pytest.mark.unhurried
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_from_outside_leaves_a_closed_bag_and_no_orphans(tmp_path, number):
    bag = tmp_path / "bag"
    process = egohand("--synthetic", "--no-images", "--hand", "none", "--duration", 60, "--record", bag)
    until(lambda: any(f.stat().st_size > 200_000 for f in bag.glob("*.mcap")) or process.poll() is not None)
    assert process.poll() is None, process.stderr.read()
    nodes = children(process.pid)
    assert len(nodes) == 3
    process.send_signal(number)
    process.wait(60)
    until(lambda: all(gone(node) for node in nodes))
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    assert is_closed(bag)
    with open_bag(bag) as reader:
        assert {"/hand_poses", "/hand_forecasts"} <= {c.topic for c in reader.connections if c.msgcount}


@pytest.mark.unhurried
def test_a_run_killed_while_it_overwrites_leaves_both_recordings(tmp_path):
    bag = tmp_path / "bag"
    episode_to_bag(observe(generate_scene(3, 4.0)).episode, bag)
    (bag / "notes.md").write_text("keep")
    before = {path.name: path.read_bytes() for path in bag.iterdir()}
    process = egohand("--synthetic", "--no-images", "--hand", "none", "--duration", 60, "--record", bag, "--overwrite")
    new = lambda: list(tmp_path.glob("bag.recording-*/bag"))  # noqa: E731
    until(
        lambda: any(f.stat().st_size > 100_000 for b in new() for f in b.glob("*.mcap")) or process.poll() is not None
    )
    assert process.poll() is None, process.stderr.read()
    nodes = children(process.pid)
    process.kill()
    process.wait(60)
    until(lambda: all(gone(node) for node in nodes))
    assert {path.name: path.read_bytes() for path in bag.iterdir()} == before
    assert is_closed(new()[0])


@pytest.mark.unhurried
def test_a_state_whose_answer_got_lost_is_asked_for_again(monkeypatch):
    class Client:
        asked = []

        def service_is_ready(self):
            return True

        def call_async(self, request):
            self.asked.append(Future())
            return self.asked[-1]

        def remove_pending_request(self, future):
            future.cancel()

    monkeypatch.setattr(session_module, "_ASK_AGAIN", 0.05)
    client = Client()
    asked = session_module._Asked(client)
    assert asked.state() is None and asked.state() is None and len(client.asked) == 1
    time.sleep(0.1)
    assert asked.state() is None and len(client.asked) == 2 and client.asked[0].cancelled()
    client.asked[1].set_result(GetState.Response(current_state=State(id=State.PRIMARY_STATE_ACTIVE)))
    assert asked.state() == State.PRIMARY_STATE_ACTIVE


@pytest.mark.unhurried
def test_a_node_that_cannot_start_is_one_line(tmp_path):
    process = egohand(
        "--synthetic", "--no-images", "--hand", "none", "--forecaster", "crystal_ball", "--record", tmp_path / "bag"
    )
    _, error = process.communicate(timeout=240)
    assert process.returncode == 2
    last = error.strip().splitlines()[-1]
    assert last.startswith("egohand: forecaster 'crystal_ball' is unknown") and "kalman" in last
    assert not (tmp_path / "bag").exists()


@pytest.mark.unhurried
def test_why_a_node_does_not_start_is_said_in_its_own_words_alone(tmp_path):
    episode_to_bag(observe(generate_scene(3, 2.0)).episode, tmp_path / "bag")
    weights = ("--forecaster", "kalman", "--set", "forecaster.checkpoint=nowhere")
    process = egohand("--bag", tmp_path / "bag", "--topic", "/hand_poses:=hand_poses", "--hand", "none", *weights)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 2 and "remap" not in error, "what is for a bag is not for ROS, which reads := too"
    last = error.strip().splitlines()[-1]
    assert last.startswith("egohand: forecaster did not start: checkpoint is 'nowhere'"), last


@pytest.mark.unhurried
@pytest.mark.parametrize(
    "options, said",
    [
        ({"video": "missing.mp4"}, "does not exist"),
        ({"bag": "missing"}, "does not exist"),
        ({"synthetic": True, "hand": "paw"}, "paw"),
    ],
)
def test_wrong_inputs_say_what_is_wrong(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        run_and_score(options, Outputs(str(tmp_path / "bag")))


@pytest.mark.unhurried
def test_a_recording_is_never_written_over_unasked(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(UserError, match="--overwrite"):
        run_and_score({"synthetic": True}, Outputs(str(tmp_path / "bag")))
    with pytest.raises(UserError, match="not a recording"):
        run_and_score({"synthetic": True}, Outputs(str(tmp_path / "bag"), overwrite=True))
