"""Work shared among processes: the same results in the same order, and nothing lost where one is killed."""

import os
from functools import partial
from pathlib import Path

import pytest
from parallel_work import deadly, doubled, killed_once, refused

from egohand_ros.errors import UserError
from egohand_ros.parallel import Workers, run_all

WHERE = [Workers(1), Workers(2), pytest.param(Workers(2, "local"), id="ray")]


@pytest.fixture(autouse=True)
def ray_where_it_is_wanted(request, monkeypatch):
    if "ray" in request.node.name:
        pytest.importorskip("ray")
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))  # its workers import from here, too


@pytest.mark.parametrize("workers", WHERE)
def test_results_are_in_the_order_of_the_items(workers):
    seen = []
    assert run_all(doubled, range(7), workers, lambda *of: seen.append(of)) == [0, 2, 4, 6, 8, 10, 12]
    assert seen == [(i, 7) for i in range(1, 8)]


@pytest.mark.parametrize("workers", WHERE[1:])
def test_a_process_that_is_killed_loses_nothing(tmp_path, workers):
    assert run_all(partial(killed_once, str(tmp_path)), range(6), workers) == list(range(6))
    assert (tmp_path / "killed").exists()


@pytest.mark.parametrize("workers", WHERE[1:])
def test_what_kills_every_process_is_named(workers):
    with pytest.raises(UserError, match="worked on 2 was killed 3 times"):
        run_all(deadly, range(4), workers)


@pytest.mark.parametrize("workers", WHERE)
def test_the_first_error_ends_the_work(workers):
    with pytest.raises(UserError, match="is not wanted"):
        run_all(refused, range(3), workers)


def test_senseless_numbers_are_refused():
    with pytest.raises(UserError, match="--jobs -1"):
        Workers(-1)
