"""A long command says something every few seconds, whatever its steps do."""

import os
import subprocess
import sys
import threading
import time

import pytest

from egohand_ros.cli._heartbeat import HEARTBEAT, Heartbeat
from egohand_ros.cli._progress import SessionProgress
from egohand_ros.cli._tables import progress_bar
from egohand_ros.nodes.session.session import SessionState


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(HEARTBEAT, "period", 0.02)


def wait_for(capsys, text, seconds=30.0):
    """What was said until `text` was among it."""
    said, end = "", time.monotonic() + seconds
    while text not in said and time.monotonic() < end:
        time.sleep(0.01)
        said += capsys.readouterr().err
    assert text in said
    return said


def test_a_step_that_takes_long_is_told_without_a_terminal(quick, capsys):
    with progress_bar("forecasting") as progress:
        wait_for(capsys, "forecasting  (")
        progress(3, 571)
        wait_for(capsys, "forecasting: 3 of 571  (")  # nothing is reported meanwhile
        progress(4, 571, "forecasting, loss 0.1")
        wait_for(capsys, "forecasting, loss 0.1: 4 of 571  (")
    assert not [t for t in threading.enumerate() if t.name == "heartbeat" and not HEARTBEAT._stop.is_set()]


def test_nothing_is_said_over_a_display_that_moves_itself_or_of_what_is_over_soon(capsys):
    beat = Heartbeat(period=0.02)
    with beat.doing(lambda: "outer"), beat.doing(lambda: "inner", live=True):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""
    with progress_bar("quick"):  # 5 s have not passed
        pass
    assert capsys.readouterr().err == ""


def test_a_command_without_progress_of_its_own_says_that_it_is_at_work(quick, capsys, monkeypatch):
    import argparse

    from egohand_ros.cli import main as cli

    def work(_):
        wait_for(capsys, "egohand convert: at work")

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=work, command="convert")
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == 0


def completions(line: str) -> list[str]:
    """What the shell is told after this line."""
    script = "import sys; sys.argv = ['egohand']; from egohand_ros.cli.main import main; main()"
    reading, writing = os.pipe()
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": f"/dev/fd/{writing}",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    done = subprocess.run([sys.executable, "-c", script], env=environment, pass_fds=[writing], timeout=120)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert done.returncode == 0
        return [word.strip() for word in answer.read().split("\n")]


def test_the_shell_is_told_commands_hands_and_forecasters():
    assert {"evaluate", "retarget"} <= set(completions("egohand "))
    assert "allegro_right" in completions("egohand retarget --hand all")
    assert completions("egohand evaluate --forecaster persistence,ka") == ["persistence,kalman"]


def test_what_a_session_does_after_its_source_has_ended_is_told(quick, capsys):
    state = SessionState(phase="running", player={"position": 20.7, "duration": 20.7})
    state.received.update(hand_poses=3, hand_forecasts=2, joint_commands=1)
    with SessionProgress() as progress:
        progress(state)
        state.phase = "stopping"  # without a call: nothing may keep a session from that
        wait_for(capsys, "stopping nodes  (")
        for state.phase, said in (("scoring", "scoring what was recorded"), ("writing", "writing metrics and report")):
            progress(state)
            wait_for(capsys, said)


def test_a_page_that_is_served_says_no_more_that_it_is_at_work(quick, capsys, monkeypatch, tmp_path):
    from egohand_ros.cli import main as cli
    from egohand_ros.viewer import recording_page

    class Page:
        url = "http://127.0.0.1:1/"

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self):
            said.append(capsys.readouterr())
            time.sleep(0.2)  # ten periods
            said.append(capsys.readouterr())

    said = []
    monkeypatch.setattr(recording_page, "RecordingPage", Page)
    assert cli.main(["view", str(tmp_path)]) == 0
    assert "page: http" in said[0].out and said[1].err == ""
