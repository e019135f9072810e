"""The command line as a whole: quick help, one-line errors, every command documented."""

import argparse
import json
import os
import signal
import subprocess
import sys

import pytest

from egohand_ros.cli import main as cli
from egohand_ros.errors import UserError


def every_parser():
    """(command words, parser) of every command, groups followed."""
    found, queue = [], [((), cli.build_parser())]
    while queue:
        words, parser = queue.pop()
        groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        for group in groups:
            queue += [((*words, name), child) for name, child in group.choices.items()]
        if not groups:
            found.append((words, parser))
    return found


def test_help_imports_nothing_slow():
    script = (
        "import sys\n"
        "from egohand_ros.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as done:\n    assert done.code == 0\n"
        "slow = {'torch', 'rclpy', 'mujoco', 'mediapipe', 'transformers', 'matplotlib', 'cv2', 'scipy'} & "
        "set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "egohand run" in done.stdout


def test_every_command_names_its_function_and_documents_its_arguments():
    commands = every_parser()
    assert ("run",) in [words for words, _ in commands]
    for words, parser in commands:
        assert callable(parser.get_default("run")), f"{words}: set_defaults(run=...) is missing"
        for action in parser._actions:
            assert action.help, f"egohand {' '.join(words)}: {action.dest} has no help"


def test_user_errors_are_one_line_and_exit_2(monkeypatch, capsys):
    def fail(_):
        raise UserError("hand 'paw' is unknown; known hands: allegro_right")

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=fail)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == "egohand: hand 'paw' is unknown; known hands: allegro_right\n"


def test_interrupt_is_quiet(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=interrupt)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_bugs_keep_their_traceback(monkeypatch):
    def crash(_):
        raise ZeroDivisionError

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=crash)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    with pytest.raises(ZeroDivisionError):
        cli.main([])


def test_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["walk"])
    assert stop.value.code == 2
    assert "run" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "expected"), [("hands", "allegro_right"), ("forecasters", "persistence")])
def test_lists_are_written_as_json(name, expected, capsys, tmp_path):
    file = tmp_path / "list.json"
    assert cli.main([name, "--json", str(file)]) == 0 and capsys.readouterr().out == ""
    listed = json.loads(file.read_text())
    assert listed[expected]["description"] and listed[expected].get("usable", True)


def test_a_result_has_one_place_by_its_option_or_as_it_was_given_before(tmp_path, capsys):
    few = ["--episodes", "1", "--duration", "1"]
    assert cli.main(["synth", "--out", str(tmp_path / "a"), *few]) == 0
    assert cli.main(["synth", str(tmp_path / "b"), *few]) == 0
    assert sorted(path.parent.name for path in tmp_path.rglob("*.npz")) == ["a", "b"]
    assert cli.main(["synth", *few]) == 2 == cli.main(["synth", "c", "--out", "d", *few])
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "egohand: --out is missing: where is the result to go?",
        "egohand: --out d and c: give one place for the result",
    ]


def test_every_command_calls_figures_json_and_results_out():
    wanted = {
        "--json": {"run", "report", "evaluate", "hands", "forecasters"},
        "--out": {"synth", "convert", "retarget", "report", "train", "ablate"},
        "--prompt": {"run"},
    }
    options = {words[0]: set(parser._option_string_actions) for words, parser in every_parser() if len(words) == 1}
    hands = next(a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices["hands"]
    options["hands"] = set(hands._option_string_actions)
    for option, commands in wanted.items():
        assert not [name for name in commands if option not in options[name]], option


def test_a_process_that_died_is_told_and_an_output_that_nobody_reads_is_not(tmp_path):
    mute = tmp_path / "mute.sh"
    mute.write_text("exec 0<&-; sleep 1\n")  # it never reads: what is written to it finds nobody
    words = ["-m", "egohand_ros.cli.main", "evaluate", str(tmp_path / "e.npz"), "--forecaster", f"external:sh {mute}"]
    assert cli.main(["synth", "--out", str(tmp_path / "s"), "--episodes", "1", "--duration", "5"]) == 0
    (tmp_path / "s" / "episode_000000.npz").rename(tmp_path / "e.npz")
    died = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert died.returncode == 2 and died.stderr.count("\n") == 1 and "external command" in died.stderr
    read, write = os.pipe()
    os.close(read)
    listed = subprocess.run(
        [sys.executable, "-m", "egohand_ros.cli.main", "arms"], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert listed.stderr == b"" and listed.returncode == 128 + signal.SIGPIPE
