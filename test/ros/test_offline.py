"""Offline sessions: every frame under any load, and the same hands and forecasts as live and as without a graph."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.bags.bag import episodes_from_bag
from egohand_ros.data.tracked_video import track_video
from egohand_ros.data.video import Video
from egohand_ros.evaluation.recording import read_recording
from egohand_ros.evaluation.replay import compare_with_live
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.nodes.session.run import Outputs, run_and_score

pytest.importorskip("rclpy")
pytest.importorskip("mediapipe")

FRAMES, RATE = 11, 6.0
TURN = 0.05  # s
BASE = {"forecaster": "kalman", "hand": "allegro_right"}
# Frames as they are, since JPEG moves what MediaPipe finds.
LIVE = ["player.image_transport=raw", "hand_tracker.image_transport=raw"]


@pytest.fixture(scope="module")
def video(shared_data, tmp_path_factory):
    """Every fourth frame of the real hand, six a second."""
    path = tmp_path_factory.mktemp("video") / "hand.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (640, 360))
    for i, frame in enumerate(Video.open(shared_data / "hand_video" / "human_hand_video.mp4").read(640)):
        if i % 4 == 0:
            writer.write(frame)
        if i == 4 * (FRAMES - 1):
            break
    writer.release()
    return path


class Starved:
    """A session whose nodes each get a third of the time, in pieces, as on a machine that has three times as much to do
    as it can; it takes nothing from the tests beside this one. Until all frames are played."""

    def __init__(self):
        self._thread = threading.Thread(target=self._starve, daemon=True)
        self._fed = threading.Event()

    def __call__(self, state):
        if state.phase == "running" and self._thread.ident is None:
            self._thread.start()
        if state.player.get("word") == "finished":
            self._fed.set()

    def end(self):
        self._fed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _starve(self):
        rng, self.turns = np.random.default_rng(1), 0
        while not self._fed.wait(TURN):
            for pid in node_processes():
                signal_to(pid, signal.SIGCONT if rng.random() < 1 / 3 else signal.SIGSTOP)
            self.turns += 1
        for pid in node_processes():
            signal_to(pid, signal.SIGCONT)


def node_processes():
    """Process ids of the nodes that this process has started."""
    children = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    for pid in map(int, children.split()):
        with contextlib.suppress(OSError):
            if b"egohand_ros.nodes." in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid


def signal_to(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@pytest.fixture(scope="module")
def offline(video, tmp_path_factory):
    """Bag and metrics of an offline session whose nodes are starved."""
    bag = tmp_path_factory.mktemp("offline") / "bag"
    starved = Starved()
    try:
        metrics, _ = run_and_score({"video": str(video), "offline": True, **BASE}, Outputs(str(bag)), starved)
    finally:
        starved.end()
    assert starved.turns > 20, "it was too late to starve them"
    return bag, metrics


def test_every_frame_is_tracked_forecast_and_followed_on_a_busy_machine(offline):
    bag, metrics = offline
    facts = metrics["verdict"]["facts"]
    assert metrics["verdict"]["level"] == "good", metrics["verdict"]
    assert facts["frames"] == facts["poses"] == facts["tracked"] == FRAMES
    assert metrics["counts"]["forecasts"] == FRAMES and facts["followed"] == facts["driven"] >= FRAMES - 4
    assert facts["motion"] > 0.1 and facts["offline"] and metrics["limit_violations"] == 0
    assert read_recording(bag).player["unanswered"] == 0


def test_it_sees_what_egohand_track_sees(offline, video):
    (recorded,), tracked = episodes_from_bag(offline[0]), track_video(Video.open(video))
    assert np.diff(recorded.stamp) == pytest.approx(np.diff(tracked.stamp), abs=1e-6)
    np.testing.assert_array_equal(recorded.valid, tracked.valid)
    np.testing.assert_allclose(recorded.keypoints, tracked.keypoints, atol=1e-6)
    np.testing.assert_allclose(recorded.wrist_rotation, tracked.wrist_rotation, atol=1e-5)


def test_its_forecasts_are_those_of_a_replay(offline):
    count, difference = compare_with_live(offline[0], make_forecaster("kalman"))
    assert count == FRAMES and difference < 1e-6


def test_it_is_what_a_live_session_sees_and_forecasts_where_that_drops_nothing(offline, video, tmp_path):
    bag = tmp_path / "live"
    run_and_score({"video": str(video), "set": LIVE, **BASE, "hand": "none"}, Outputs(str(bag)))
    live, still = read_recording(bag), read_recording(offline[0])
    first = live.image_stamps[0]
    numbers = np.rint((live.hands.stamp - first) * RATE).astype(int)
    kept = int(np.cumprod(numbers == np.arange(len(numbers))).sum())  # up to the first frame that was dropped
    if kept < 4:
        pytest.skip(f"the machine is overloaded: frame {kept} was dropped already")
    np.testing.assert_allclose(live.hands.keypoints[:kept], still.hands.keypoints[:kept], atol=1e-6)
    forecasts = {round((f.stamp - still.image_stamps[0]) * RATE): f for f in still.forecasts}
    compared = 0
    for forecast in live.forecasts:
        number = round((forecast.stamp - first) * RATE)
        if number < kept and len(forecast.step_times):
            np.testing.assert_allclose(forecast.keypoints, forecasts[number].keypoints, atol=1e-5)
            compared += 1
    assert compared or kept < 6


def test_a_video_without_hands_is_bad_and_writes_nothing(tmp_path, capsys):
    writer = cv2.VideoWriter(str(tmp_path / "wall.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (320, 240))
    for _ in range(5):
        writer.write(np.full((240, 320, 3), 90, np.uint8))
    writer.release()
    assert main(["track", str(tmp_path / "wall.mp4"), "--out", str(tmp_path / "wall.npz")]) == 1
    assert "bad: 0 of 5 frames have a hand" in capsys.readouterr().out and not (tmp_path / "wall.npz").exists()


@pytest.mark.parametrize("words", ["--synthetic --offline", "--bag nowhere --offline"])
def test_offline_is_for_videos(words, capsys):
    assert main(["run", *words.split()]) == 2
    assert "--offline is for --video" in capsys.readouterr().err
