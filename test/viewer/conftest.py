"""Fixtures of the viewer's tests; the page's own are skipped where viser, an extra, is missing."""

import socket
import time

import pytest


@pytest.fixture
def port() -> int:
    """A port that was free just now, away from where people look at pages."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def wait():
    """Until a condition holds."""

    def until(condition, what: str, timeout: float = 60.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"{what} did not come true"
            time.sleep(0.02)

    return until
