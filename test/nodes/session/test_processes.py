"""Node processes: stopped in order, restarted when they die, never left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from egohand_ros.nodes.session.processes import NodeProcess, private_domain, ros_environment

# Prints what ends it, and does not die of the first signal.
OBEDIENT = """
import signal, sys, time
def end(number, frame):
    print("ended by", number, flush=True)
    sys.exit(0)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)
print("up", flush=True)
time.sleep(600)
"""
STUBBORN = OBEDIENT.replace("sys.exit(0)", "pass").replace("time.sleep(600)", "\nwhile True: time.sleep(600)")


def until(condition, timeout=120.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def started(tmp_path, script):
    process = NodeProcess("n", [sys.executable, "-c", script], dict(os.environ), tmp_path / "n.log")
    process.start()
    until(lambda: "up" in process.last_lines())
    return process


def test_stopping_lets_it_end_in_order(tmp_path):
    process = started(tmp_path, OBEDIENT)
    assert process.stop(20.0) and not process.running
    assert process.last_lines(1) == f"ended by {int(signal.SIGINT)}"
    assert not process.died() and process.respawns == 0, "a wanted end is no death"


def test_what_does_not_end_is_ended(tmp_path):
    process = started(tmp_path, STUBBORN)
    assert not process.stop(0.2) and not process.running


def test_a_death_is_noticed_once_and_it_can_start_again(tmp_path):
    process = started(tmp_path, OBEDIENT)
    os.kill(process.pid, signal.SIGKILL)
    until(process.died)
    assert process.exits == [-9] and not process.died()
    process.start()
    until(lambda: process.log.read_text().count("up") == 2)  # an interpreter that still starts may lose a signal
    assert process.stop(20.0) and process.respawns == 1


def test_it_ends_when_the_session_is_killed(tmp_path):
    log = tmp_path / "n.log"
    session = f"""
import os, sys, time
from pathlib import Path
from egohand_ros.nodes.session.processes import NodeProcess
process = NodeProcess("n", [sys.executable, "-c", {OBEDIENT!r}], dict(os.environ), Path({str(log)!r}))
process.start()
print(process.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", session], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    until(lambda: log.exists() and "up" in log.read_text())
    parent.kill()
    parent.wait()
    until(lambda: f"ended by {int(signal.SIGTERM)}" in log.read_text())
    until(lambda: not os.path.exists(f"/proc/{child}") or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])


def test_private_domains_differ_and_stay_on_this_machine():
    with private_domain() as first, private_domain() as second:
        assert first != second
        environment = ros_environment(first)
    assert environment["ROS_DOMAIN_ID"] == str(first) and environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
