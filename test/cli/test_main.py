"""The command line as a whole: quick help, one-line errors, every command documented."""

import argparse
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
