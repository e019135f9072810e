"""The thread behind a command stream: it goes on whatever happens, and stops when it is told to."""

import threading
import time

from egohand_ros.nodes.base.steady_thread import Beat


def test_calls_until_stopped_and_never_after():
    calls, enough = [], threading.Event()

    def call():
        calls.append(time.monotonic())
        if len(calls) == 20:
            enough.set()

    beat = Beat(0.002, call, lambda error: None)
    beat.start()
    beat.start()
    assert enough.wait(120.0)
    beat.stop()
    count = len(calls)
    second = threading.Event()
    other = Beat(0.002, second.set, lambda error: None)
    other.start()
    assert second.wait(120.0)
    other.stop()
    assert len(calls) == count
    beat.start()  # again
    while len(calls) == count:
        time.sleep(0.001)
    beat.stop()


def test_a_bug_is_reported_and_the_beat_goes_on():
    errors, calls, enough = [], [], threading.Event()

    def call():
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("bug")
        if len(calls) == 4:
            enough.set()

    beat = Beat(0.001, call, errors.append)
    beat.start()
    assert enough.wait(120.0)
    beat.stop()
    assert [str(error) for error in errors] == ["bug"]


def test_what_was_missed_is_left_out_and_counted():
    calls, enough = [], threading.Event()

    def call():
        calls.append(time.monotonic())
        if len(calls) == 1:
            time.sleep(0.05)  # ten periods
        if len(calls) == 5:
            enough.set()

    beat = Beat(0.005, call, lambda error: None)
    beat.start()
    assert enough.wait(120.0)
    beat.stop()
    assert beat.missed >= 9
    # A burst would have made up the ten periods at once.
    assert calls[4] - calls[1] > 0.01


def test_it_may_stop_itself():
    done = threading.Event()

    def call():
        beat.stop()
        done.set()

    beat = Beat(0.001, call, lambda error: None)
    beat.start()
    assert done.wait(120.0)


def test_what_was_done_meanwhile_postpones_the_next_call_by_a_period():
    calls, done = [], threading.Event()
    beat = Beat(0.2, lambda: (calls.append(time.monotonic()), done.set()), lambda error: None)
    beat.start()
    try:
        assert done.wait(10.0)
        done.clear()
        for _ in range(5):
            time.sleep(0.02)
            beat.postpone()
            postponed = time.monotonic()
        assert 0.0 < beat.remaining <= 0.2
        assert done.wait(10.0)
    finally:
        beat.stop()
    assert calls[1] >= postponed + 0.2 - 1e-3


def test_what_diagnostics_say_of_its_priority():
    assert Beat(0.1, lambda: None, lambda error: None).allowed == "off"
    beat = Beat(0.1, lambda: None, lambda error: None, 20)
    assert beat.allowed.startswith("no: ") and "rtprio 20" in beat.allowed
    beat.realtime = True  # as its thread finds out
    assert beat.allowed == "yes"
