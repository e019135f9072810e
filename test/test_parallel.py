"""Work shared among processes: the same results in the same order, and nothing lost where one is killed."""

import os
import subprocess
import sys
from pathlib import Path

import parallel_work
import pytest
from parallel_work import doubled, refused

from egohand_ros.errors import UserError
from egohand_ros.parallel import Workers, run_all

# From which the other processes import.
PATHS = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
WHERE = [Workers(1), Workers(2), pytest.param(Workers(2, "local"), id="ray")]


@pytest.fixture(autouse=True)
def ray_where_it_is_wanted(request, monkeypatch):
    if "ray" in request.node.name:
        pytest.importorskip("ray")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(PATHS))  # its workers import from here, too


@pytest.mark.parametrize("workers", WHERE)
def test_results_are_in_the_order_of_the_items(workers):
    seen = []
    assert run_all(doubled, range(7), workers, lambda *of: seen.append(of)) == [0, 2, 4, 6, 8, 10, 12]
    assert seen == [(i, 7) for i in range(1, 8)]


@pytest.mark.parametrize("workers", WHERE[1:])
def test_a_process_that_is_killed_loses_nothing_and_what_kills_every_one_is_named(tmp_path, workers):
    """In a program of its own: killing is not for those who run the tests."""
    told = subprocess.run(
        [sys.executable, parallel_work.__file__, workers.cluster, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert told.stdout.splitlines()[:1] == ["[0, 1, 2, 3, 4, 5]"], told.stderr[-2000:]
    assert (tmp_path / "killed").exists()
    assert "worked on 2 was killed 3 times" in told.stdout


@pytest.mark.parametrize("workers", WHERE)
def test_the_first_error_ends_the_work(workers):
    with pytest.raises(UserError, match="is not wanted"):
        run_all(refused, range(3), workers)


def test_senseless_numbers_are_refused():
    with pytest.raises(UserError, match="--jobs -1"):
        Workers(-1)
