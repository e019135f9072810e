"""The newest-wins worker and the health that nodes report, without a ROS graph."""

import os
import platform
import threading
import time

import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time

from egohand_ros.nodes.base.diagnostics import EDGE_QUIET, ERROR, ERROR_AFTER, OK, WARN, WARN_AFTER, Health
from egohand_ros.nodes.base.realtime import AUTOMATIC, ThreadPriority, realtime_threads
from egohand_ros.nodes.base.worker import LatestWorker


def wait(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_newest_wins_and_what_it_replaces_is_counted():
    gate, seen, out = threading.Event(), [], []

    def process(item):
        seen.append(item)
        gate.wait(10)
        return item

    worker = LatestWorker(process, out.append)
    assert not worker.submit("before start")
    worker.start()
    worker.submit(0)
    wait(lambda: seen == [0])
    assert [worker.submit(i) for i in (1, 2, 3)] == [False, True, True]
    gate.set()
    wait(lambda: out == [0, 3])
    assert (worker.dropped, worker.processed) == (2, 2)
    assert worker.stop()


def test_an_exception_is_reported_and_the_worker_lives_on():
    errors, out = [], []
    worker = LatestWorker(lambda item: 1 / item, out.append, errors.append)
    worker.start()
    worker.submit(0)
    wait(lambda: errors)
    worker.submit(2)
    wait(lambda: out == [0.5])
    assert worker.failures == 1 and isinstance(errors[0], ZeroDivisionError)
    worker.stop()


def test_after_stop_nothing_is_delivered_and_a_new_start_waits_for_the_old_thread():
    gate, out, inside = threading.Event(), [], []

    def process(item):
        inside.append(item)
        assert len(inside) == 1  # never two threads in the model
        gate.wait(10)
        inside.clear()
        return item

    worker = LatestWorker(process, out.append)
    worker.start()
    worker.submit("old")
    wait(lambda: inside)
    assert not worker.stop(timeout=0.01)
    worker.start()
    worker.submit("new")
    gate.set()
    wait(lambda: out)
    assert worker.stop() and out == ["new"] and worker.failures == 0


def test_a_delivery_may_submit_and_stop():
    done = threading.Event()

    def deliver(item):
        worker.submit(item + 1)
        if item == 3:
            worker.stop()
            done.set()

    worker = LatestWorker(lambda item: item, deliver)
    worker.start()
    worker.submit(0)
    assert done.wait(10) and not worker.submit(9)


def test_rejections_are_edges_not_a_flood():
    health = Health()
    assert [health.reject("topic", "nan", t) for t in (0.0, 0.1, 0.2)] == [True, False, False]
    assert health.reject("topic", "other", 0.2)
    assert health.ended(1.0) == []
    assert sorted(health.ended(0.2 + EDGE_QUIET + 0.01)) == [("topic", "nan", 3), ("topic", "other", 1)]
    assert health.ended(10.0) == []
    assert health.reject("topic", "nan", 10.0)
    assert (health.rejected(), health.rejected("nan")) == (5, 4)


def test_the_level_rises_with_consecutive_overruns_and_falls_with_one_good_cycle():
    health = Health()
    levels = [health.condition("overrun", True) for _ in range(ERROR_AFTER)]
    assert levels[0] == OK and levels[WARN_AFTER - 1] == WARN and levels[-1] == ERROR
    assert health.condition("overrun", False) == OK
    assert health.condition("gpu", True, "no memory", WARN) == WARN
    status = health.array("/node", Time(), time.monotonic()).status[0]
    assert (status.level, status.message) == (WARN, "gpu: no memory")


def test_the_message_shows_counts_rates_rejections_and_percentiles():
    health = Health()
    begin = time.monotonic()
    health.array("/node", Time(), begin)
    health.count("forecasts", 20)
    health.reject("input", "nan", begin)
    for i in range(101):
        health.latency({"inference": i / 1000.0})
    status = health.array("/node", Time(), begin + 2.0).status[0]
    values = {pair.key: pair.value for pair in status.values}
    assert values["count/forecasts"] == "20" and values["rate/forecasts [Hz]"] == "10.0"
    assert values["rejected/input/nan"] == "1"
    shown = [float(values[f"latency/inference p{percentile} [ms]"]) for percentile in (50, 95, 99)]
    assert shown == [50.0, 95.0, 99.0], "a number each, so that rqt and Foxglove can plot them"
    assert status.level == WARN and status.message == "rejecting input nan"
    assert status.hardware_id == platform.node()


def scheduled_while(notes, priority=AUTOMATIC):
    """The calling thread's policy after each processor time that is noted, s, in a thread of its own."""
    seen = []

    def run():
        realtime = ThreadPriority(priority)
        realtime.begin()
        for used in notes:
            realtime.note(used)
            seen.append((os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, realtime.words))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return seen


def may_have_priority():
    with realtime_threads(15) as allowed:
        return allowed


def test_a_thread_has_priority_while_what_it_does_is_brief():
    raised = os.SCHED_FIFO if may_have_priority() else os.SCHED_OTHER
    policies = [policy for policy, _ in scheduled_while([0.002] * 20 + [0.02] * 40 + [0.002] * 60)]
    assert set(policies[:20]) == {raised}
    assert policies[59] == os.SCHED_OTHER and policies[-1] == raised
    assert policies[20] == raised  # one that takes long is none yet


def test_a_thread_whose_work_takes_long_never_has_priority():
    seen = scheduled_while([0.02] * 30)
    assert {policy for policy, _ in seen} == {os.SCHED_OTHER} and "20.0 ms at a time" in seen[-1][1]


def test_a_priority_that_is_asked_for_by_number_is_not_taken_away():
    raised = os.SCHED_FIFO if may_have_priority() else os.SCHED_OTHER
    assert {policy for policy, _ in scheduled_while([0.02] * 30, priority=7)} == {raised}
    assert set(scheduled_while([0.002] * 3, priority=0)) == {(os.SCHED_OTHER, "off")}


def test_what_is_between_brief_and_long_changes_nothing():
    between = [0.0075] * 40
    assert {words for _, words in scheduled_while([0.002] + between)} == {scheduled_while([0.002])[0][1]}
    assert all(words.startswith("no") for _, words in scheduled_while([0.02] * 5 + between)[-5:])


def test_a_worker_times_what_it_does_anew_in_every_thread():
    worker = LatestWorker(lambda item: sum(range(100)), priority=AUTOMATIC)
    for _ in range(2):
        worker.start()
        wait(lambda: worker.realtime.words.startswith("not yet:"))
        worker.submit(1)
        wait(lambda: not worker.realtime.words.startswith("not yet"))
        assert worker.realtime.words == "yes" or not may_have_priority()
        assert worker.stop()
    assert LatestWorker(print).realtime.words == "off"
