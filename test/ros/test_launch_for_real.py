"""`ros2 launch egohand_ros …` and the ros2 command line as people type them, where installed."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from robot_graph import Probe, pose_msg

from egohand_ros.msg import HandForecastArray, HandoverState, HandPoseArray
from egohand_ros.nodes.bench.hostile_messages import human_hand

ROS2 = shutil.which("ros2", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
TIMEOUT = 180.0  # s; for a machine that has ten times as much to do as it can

pytestmark = pytest.mark.skipif(
    ROS2 is None or importlib.util.find_spec("launch_ros") is None,
    reason="ros2 launch is not installed here; it comes with a ROS 2 distribution",
)


class Launch:
    """A `ros2 launch` in a process group of its own, as a shell starts it; `with` leaves nothing of it behind."""

    def __init__(self, folder: Path, *arguments: str, file: str = "forecast.launch.py"):
        self._log = folder / "launch.log"
        command = [ROS2, "launch", "egohand_ros", file, *arguments]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def nodes(self) -> dict[str, int]:
        """Process id of each node that was started last under its name."""
        started = re.findall(r"\[(\w+)-\d+\]: process started with pid \[(\d+)\]", self.output)
        return {name: int(pid) for name, pid in started}

    def says(self, text: str, times: int = 1) -> bool:
        return self.output.count(text) >= times

    def are_active(self, *names: str) -> bool:
        return all(self.says(f"{name}]: active") for name in names)

    def send(self, number: int) -> None:
        """To the launch alone, as a service manager does."""
        self._process.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C: to every process of the terminal."""
        os.killpg(self._process.pid, signal.SIGINT)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def nodes_ended(self) -> bool:
        return not any(map(is_alive, self.pids))

    def ended(self) -> bool:
        return not self.running and self.nodes_ended()

    @property
    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", self.output)]

    @property
    def code(self) -> int:
        return self._process.returncode

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *_) -> None:
        for pid in (self._process.pid, *self.pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(condition, launch: Launch, what: str) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {TIMEOUT:g} s:\n{launch.output}"
        time.sleep(0.05)


def ros2(*arguments: str) -> str:
    result = subprocess.run([ROS2, *arguments], capture_output=True, text=True, timeout=TIMEOUT)
    return result.stdout + result.stderr


@pytest.fixture
def probe(ros):
    probe = Probe()
    yield probe
    probe.close()


def test_a_launched_graph_answers_recovers_records_and_ends(probe, tmp_path):
    """One graph for many questions: starting it is what takes time."""
    names = ("forecaster", "retargeter", "sim_hand", "recorder")
    (tmp_path / "mine.yaml").write_text("/**/retargeter: {ros__parameters: {command_lead: 0.07}}")
    arguments = ["tracker:=external", "forecaster:=persistence", "hand:=allegro_right", "sim:=True", "namespace:=ego"]
    arguments += [f"params_file:={tmp_path / 'mine.yaml'}", f"record:={tmp_path / 'bag'}"]
    with Launch(tmp_path, *arguments) as launch:
        wait(lambda: launch.are_active(*(f"ego.{name}" for name in names)), launch, "every node active")
        assert all(launch.output.count(f"ego.{name}]: active") == 1 for name in names), "each says so once"
        assert "The robot does not move yet" in launch.output and "/ego/retargeter/enable" in launch.output

        # The command line gives the graph half a second to be discovered, which a loaded machine may not keep.
        told = lambda *words: lambda: ros2(*words, "--no-daemon")  # noqa: E731
        nodes, topics = told("node", "list"), told("topic", "list")
        wait(lambda: {f"/ego/{name}" for name in names} <= set(nodes().split()), launch, "ros2 node list")
        shown = {"/ego/hand_forecasts", "/ego/joint_commands", "/ego/joint_states", "/diagnostics"}
        wait(lambda: shown <= set(topics().split()), launch, "ros2 topic list")
        state = told("lifecycle", "get", "/ego/retargeter")
        wait(lambda: "active [3]" in state(), launch, "ros2 lifecycle get")
        lead = told("param", "get", "/ego/retargeter", "command_lead")
        wait(lambda: "0.07" in lead(), launch, "ros2 param get: the parameter file's value")

        poses = probe.publisher(HandPoseArray, "/ego/hand_poses")
        forecasts = probe.collect(HandForecastArray, "/ego/hand_forecasts")
        wave = lambda: poses.publish(pose_msg(probe.now(), human_hand(0.4)))  # noqa: E731
        probe.wait(lambda: len(forecasts) > 5, TIMEOUT, "forecasts of what was seen", each=wave)

        killed = launch.nodes["sim_hand"]
        os.kill(killed, signal.SIGKILL)
        wait(lambda: launch.says("ego.sim_hand]: active", times=2), launch, "a killed node active again")
        assert launch.nodes["sim_hand"] != killed

        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN))
        assert probe.call(ChangeState, "/ego/sim_hand/change_state", request, TIMEOUT).success

        launch.interrupt()
        wait(lambda: launch.says("user interrupted with ctrl-c"), launch, "the launch interrupted")
        launch.interrupt()
        # Told twice, ros2 launch itself may stay when all its processes have ended; they are what is looked at here.
        wait(launch.nodes_ended, launch, "the end of every node")
        assert "Traceback" not in launch.output and "process has died" not in launch.output.split("ctrl-c")[-1]
    assert list((tmp_path / "bag").glob("*.mcap")) and (tmp_path / "bag" / "metadata.yaml").is_file()


@pytest.mark.parametrize("how", ["terminated", "killed", "interrupted"])
def test_a_launch_that_ends_while_its_nodes_import_leaves_none_behind(tmp_path, how):
    with Launch(tmp_path, "tracker:=external", "forecaster:=persistence", "hand:=allegro_right") as launch:
        wait(lambda: len(launch.pids) == 2 and all(map(imports, launch.pids)), launch, "two processes")
        if how == "interrupted":
            launch.interrupt()
        else:
            launch.send(signal.SIGTERM if how == "terminated" else signal.SIGKILL)
        wait(launch.ended, launch, "the end of every process")
        assert ": active" not in launch.output, "it was too late to see what was to be seen"
        of_nodes = "\n".join(
            line for line in launch.output.splitlines() if re.match(r"\[(forecaster|retargeter)-", line)
        )
        assert "Traceback" not in of_nodes and "KeyboardInterrupt" not in of_nodes


def imports(pid: int) -> bool:
    """Whether a process is a node that has begun to import what takes time."""
    try:
        command, maps = Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
    return b"lib/egohand_ros/" in command and "numpy" in maps


def test_what_cannot_run_is_refused_and_not_started_again_and_again(tmp_path):
    with Launch(tmp_path, "tracker:=external", "hand:=allegro_rihgt") as launch:
        wait(launch.ended, launch, "a refusal")
        assert launch.code == 1 and "hand 'allegro_rihgt' is unknown; known hands: " in launch.output
        assert not launch.pids and "Traceback" not in launch.output
    (tmp_path / "mine.yaml").write_text("retargeter: {ros__parameters: {hand: allegro_rihgt}}")
    with Launch(tmp_path, "tracker:=external", f"params_file:={tmp_path / 'mine.yaml'}") as launch:
        wait(launch.ended, launch, "the end of a launch with a node that cannot run")
        assert launch.says("retargeter cannot run as it was asked to") and "known hands" in launch.output
        assert len(launch.pids) == 2, "started once each"


def test_forecasts_only_can_be_typed(tmp_path):
    understood = ("tracker:=external", "hand:=none", "viewer:=0", "forecaster:=persistence")
    with Launch(tmp_path, *understood, "forcaster:=kalman", "mine:=1") as launch:
        wait(lambda: launch.pids, launch, "a process")
        assert list(launch.nodes) == ["forecaster"]
        assert launch.says("'forcaster' is not an argument") and launch.says("did you mean 'forecaster'?")
        assert not launch.says("'mine'"), "whoever includes this file may have it"
        launch.interrupt()
        wait(launch.ended, launch, "the end")
        assert len(launch.pids) == 1


def test_a_handover_is_launched_tells_its_state_and_ends(probe, tmp_path):
    arguments = ["forecaster:=minimum-jerk", "without_goal:=never", "namespace:=arm"]
    with Launch(tmp_path, *arguments, file="handover.launch.py") as launch:
        names = ("sim_handover", "forecaster", "handover")
        wait(lambda: launch.are_active(*(f"arm.{name}" for name in names)), launch, "every node active")
        states = probe.collect(HandoverState, "/arm/handover_state")
        probe.wait(lambda: len(states) > 3, TIMEOUT, "the state of a handover")
        assert states[-1].phase == HandoverState.IDLE, "nobody asked for one"
        launch.interrupt()
        wait(launch.nodes_ended, launch, "the end of every node")
        assert "Traceback" not in launch.output
