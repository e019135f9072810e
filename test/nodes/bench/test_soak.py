"""The verdict of a long run, from made-up courses of memory and latency."""

import json
import os
import subprocess
import time

import numpy as np
import pytest

from egohand_ros.cli.bench_soak import plot, summary
from egohand_ros.nodes.bench.soak import SoakResult
from egohand_ros.nodes.session.process_usage import children, cpu_seconds, stolen_seconds, usage


def result(growth=0.0, own=0.0, drift=1.0, restarts=None, duration=3600.0, asked=None):
    times = np.arange(0.0, duration, 5.0)
    rng = np.random.default_rng(0)
    warm = 1.0 - 0.2 * np.exp(-times / 60.0)  # what fills at the beginning does not count
    memory = 300e6 * warm * (1.0 + growth * times / duration)
    stamps = np.arange(0.0, duration, 1 / 60)
    latency = rng.gamma(9.0, 1e-3, len(stamps)) * (1.0 + (drift - 1.0) * stamps / duration)
    private = 0.5 * 300e6 * warm * (1.0 + own * times / duration)
    rss, private = {"forecaster": memory, "session": 2.0 * times}, {"forecaster": private, "session": times}
    cpu = {"forecaster": 0.4 * times, "session": 0.1 * times**2 / duration}
    load, stolen, work = np.full(len(times), 1.5), 0.02 * times, np.where(times < 0.5 * duration, 4e-3, 5e-3)
    return SoakResult(
        times,
        rss,
        private,
        cpu,
        load,
        stolen,
        work,
        stamps,
        latency,
        len(stamps),
        restarts or {},
        duration,
        asked or duration,
    )


def test_a_flat_run_passes():
    assert result().failures == []
    assert abs(result().growth("forecaster")) < 1e-3


@pytest.mark.parametrize(
    "course, failure",
    [
        (dict(growth=0.02), "forecaster's memory grew by 1.7 %"),
        (dict(own=0.02), "forecaster's memory grew by 1.7 %"),
        (dict(drift=1.8), "p99 went from"),
        (dict(restarts={"forecaster": 2}), "forecaster was restarted 2 times"),
        (dict(duration=2000.0, asked=3600.0), "ended after 2000 of 3600 s"),
    ],
)
def test_growth_drift_and_restarts_fail(course, failure):
    failures = result(**course).failures
    assert len(failures) == 1 and failures[0].startswith(failure)


def test_what_is_compared_lies_after_the_warm_up_and_at_the_end():
    whole = result()
    assert whole.warm_up == 300.0 and whole.parts == ((300.0, 900.0), (3000.0, 3600.0))
    start, begin, end = whole.memory("forecaster")
    assert start == pytest.approx(240e6) and begin == pytest.approx(300e6, rel=1e-3) == pytest.approx(end)
    assert result(duration=240.0).warm_up == 20.0


def test_a_process_that_was_never_seen_has_not_passed():
    whole = result()
    whole.rss["forecaster"][:] = np.nan
    assert whole.failures == ["forecaster's memory grew by nan %"]


def test_memory_is_that_of_a_process_that_is_there():
    own = usage(os.getpid())
    assert own.rss > own.private > 1e6
    assert np.isnan([usage(None).rss, usage(2**22 + 1).private, usage(None).cpu, cpu_seconds(2**22 + 1)]).all()


def test_processor_time_is_what_was_used():
    before, begin = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - begin < 0.2:
        pass
    assert usage(os.getpid()).cpu - before >= 0.15
    assert stolen_seconds() >= 0.0


def test_processor_time_tells_a_process_that_needs_more_and_more_from_a_slower_machine():
    whole = result()
    first, last = whole.parts
    assert (
        whole.processor("forecaster", *first)
        == pytest.approx(0.4)
        == pytest.approx(whole.processor("forecaster", *last))
    )
    assert whole.processor("session", *last) > 3.0 * whole.processor("session", *first)
    assert (whole.work_time(*first), whole.work_time(*last)) == (4e-3, 5e-3)
    assert whole.stolen_part(*last) == pytest.approx(0.02)
    whole.cpu["forecaster"][100] = np.nan
    assert np.isnan(whole.processor("forecaster", *first))
    assert whole.processor("forecaster", *last) == pytest.approx(0.4)


def test_what_a_process_started_is_found_by_its_name():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:  # ends when its input does
        deadline = time.monotonic() + 120.0
        while "cat" not in children(os.getpid()) and time.monotonic() < deadline:
            time.sleep(0.01)  # its command line comes into being a little after the process
        assert children(os.getpid())["cat"] == process.pid
        process.stdin.close()
    assert children(2**22 + 1) == {}


def test_figures_of_every_process_are_written_and_drawn(tmp_path):
    whole = result(growth=0.02)
    numbers = json.loads(json.dumps(summary(whole)))
    assert numbers["memory"]["forecaster"]["growth"] == pytest.approx(0.0166, abs=1e-3)
    assert numbers["memory"]["forecaster"]["private"]["end_mb"] == pytest.approx(150e6 / 2**20, rel=1e-3)
    assert len(numbers["latency"]["parts"]) == 6 and numbers["latency"]["end"]["to_s"] == 3600.0
    assert len(numbers["by_minute"]["memory_mb"]["session"]) == 60 == len(numbers["by_minute"]["load"])
    assert len(numbers["by_minute"]["processors"]["session"]) == 60 == len(numbers["by_minute"]["yardstick_ms"])
    assert numbers["machine"]["yardstick_ms"] == {"begin": 4.0, "end": 5.0}
    assert not numbers["passed"]
    plot(whole, str(tmp_path / "soak.png"))
    assert (tmp_path / "soak.png").stat().st_size > 10_000
