"""Which Python runs dex-retargeting: a wrong one is refused in one line."""

import pytest

from egohand_ros.errors import UserError
from egohand_ros.evaluation.bench.dex_comparison import PYTHON_VARIABLE, find_python


def program(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_python_that_says_nothing_is_refused_with_its_exit_status(tmp_path):
    with pytest.raises(UserError, match="printed no reason and ended with exit status 3"):
        find_python(program(tmp_path / "silent", "exit 3"))


def test_the_last_line_of_what_it_said_is_the_reason(tmp_path):
    with pytest.raises(UserError, match="cannot import dex_retargeting: second$"):
        find_python(program(tmp_path / "talking", "echo first >&2; echo second >&2; exit 1"))


def test_what_cannot_be_run_is_refused(tmp_path):
    (tmp_path / "text").write_text("no program")
    for name in ("missing", "text"):
        with pytest.raises(UserError, match=f"{name} cannot be run: .*; expected the path of a Python"):
            find_python(str(tmp_path / name))


def test_one_that_can_import_it_is_taken_also_from_the_environment(tmp_path, monkeypatch):
    able = program(tmp_path / "able", "exit 0")
    assert find_python(able) == able
    monkeypatch.setenv(PYTHON_VARIABLE, able)
    assert find_python() == able
