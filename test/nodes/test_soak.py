"""The verdict of a long run, from made-up courses of memory and latency."""

import numpy as np
import pytest

from egohand_ros.nodes.soak import SoakResult, resident_bytes


def result(growth=0.0, drift=1.0, restarts=None, duration=3600.0):
    time = np.arange(0.0, duration, 5.0)
    rng = np.random.default_rng(0)
    warm = 1.0 - 0.2 * np.exp(-time / 20.0)  # what fills at the beginning does not count
    memory = 300e6 * warm * (1.0 + growth * time / duration)
    stamps = np.arange(0.0, duration, 1 / 60)
    latency = rng.gamma(9.0, 1e-3, len(stamps)) * (1.0 + (drift - 1.0) * stamps / duration)
    return SoakResult(time, {"forecaster": memory}, stamps, latency, len(stamps), restarts or {}, duration)


def test_a_flat_run_passes():
    assert result().failures == []
    assert abs(result().growth("forecaster")) < 1e-3


@pytest.mark.parametrize(
    "course, failure",
    [
        (dict(growth=0.02), "forecaster's memory grew by 1"),
        (dict(drift=1.8), "p99 went from"),
        (dict(restarts={"forecaster": 2}), "forecaster was restarted 2 times"),
    ],
)
def test_growth_drift_and_restarts_fail(course, failure):
    failures = result(**course).failures
    assert len(failures) == 1 and failures[0].startswith(failure)


def test_memory_is_that_of_a_process_that_is_there():
    import os

    assert resident_bytes(os.getpid()) > 1e6
    assert np.isnan(resident_bytes(None)) and np.isnan(resident_bytes(2**22 + 1))
