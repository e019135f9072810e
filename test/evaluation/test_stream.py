"""Recordings scored in order: every one begins anew, nothing that comes later is known, and what is compared with is
stated.
"""

import json

import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.errors import UserError
from egohand_ros.evaluation.stream import evaluate_stream, stream_frames
from egohand_ros.forecast.naive.persistence import Persistence
from egohand_ros.hand.skeleton import NUM_KEYPOINTS


def wave(period: float, seconds: float = 4.0, rate: float = 15.0, lift: float = 0.0) -> Episode:
    """A right wrist that goes to and fro 20 cm."""
    stamp = np.arange(int(seconds * rate)) / rate
    keypoints = np.full((len(stamp), 2, NUM_KEYPOINTS, 3), np.nan)
    keypoints[:, 1, 0] = np.stack([0.1 * np.sin(2 * np.pi * stamp / period), 0 * stamp, 0 * stamp + lift], axis=1)
    return Episode(stamp, keypoints, np.isfinite(keypoints).all(-1))


class Remembering(Persistence):
    """Holds what it saw first of a recording, and counts how often it forgot."""

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self):
        self.first, self.stamps = None, []

    def forecast(self, window, hypotheses=1, seed=None):
        assert window.batch == 1
        self.stamps.append(float(window.stamp[0]))
        assert self.stamps == sorted(self.stamps)
        forecast = super().forecast(window)
        if self.first is None:
            self.first = forecast.keypoints.clone()
        forecast.keypoints[:] = self.first
        return forecast


def test_each_step_is_scored_where_the_recording_shows_what_came():
    episode = wave(1.3)
    result = evaluate_stream({"waves": [episode]}, ["persistence"], regions=False)
    source = result.sources["waves"]
    x = episode.keypoints[:, 1, 0, 0]
    frames = np.arange(1, len(x))  # the first has been seen only once in its window
    at = episode.stamp[frames] + 0.3
    inside = at <= episode.stamp[-1] + 1e-9
    seen_twice = episode.stamp[frames] >= 0.1 - 1e-9
    expected = np.abs(np.interp(at, episode.stamp, x) - x[frames])[inside & seen_twice].mean()
    assert source.value("persistence", "0.3 s") == pytest.approx(expected, rel=1e-6)
    assert source.ratio("persistence", "0.3 s")[0] >= 1.0
    assert source.best_naive("0.1 s") in ("cvm", "kalman", "damped")
    assert np.isnan(source.value("persistence", "MPJPE"))  # no fingers


def test_what_remembers_begins_anew_with_each_recording():
    lifted = wave(1.3, lift=1.0)
    apart = [evaluate_stream({"s": [e]}, {"r": Remembering()}, regions=False).sources["s"] for e in (wave(1.3), lifted)]
    together = evaluate_stream({"s": [wave(1.3), lifted]}, {"r": Remembering()}, regions=False).sources["s"]
    assert apart[0].value("r", "ADE") == pytest.approx(apart[1].value("r", "ADE"), rel=1e-9)
    assert together.value("r", "ADE") == pytest.approx(apart[0].value("r", "ADE"), rel=1e-9)
    assert (together.units, apart[0].units) == ("recordings", "blocks of 5 s")


def test_intervals_hold_the_ratio_and_are_narrower_with_more_recordings():
    periods = np.linspace(0.9, 2.0, 8)
    few = evaluate_stream({"s": [wave(p) for p in periods[::4]]}, ["damped"], regions=False).sources["s"]
    many = evaluate_stream({"s": [wave(p) for p in periods]}, ["damped"], regions=False).sources["s"]
    value, low, high = many.ratio("damped", "1 s")
    assert low <= value <= high and high > low
    assert len(few.sums["damped"].error[0]) == 2 and len(many.sums["damped"].error[0]) == 8


def test_at_most_thirty_frames_a_second_are_forecast():
    assert len(stream_frames(np.arange(200) / 100.0)) == pytest.approx(2.0 * 30, abs=11)
    assert len(stream_frames(np.arange(20) / 10.0)) == 20


def test_a_source_in_which_nothing_can_be_scored_is_an_error():
    empty = wave(1.0)
    empty = Episode(empty.stamp, empty.keypoints, np.zeros_like(empty.valid))
    with pytest.raises(UserError, match="nothing to score"):
        evaluate_stream({"nobody": [empty]}, ["persistence"], regions=False)


def test_the_command_prints_sources_beside_each_other(tmp_path, capsys):
    for name, period in (("slow", 2.0), ("fast", 0.9)):
        (tmp_path / name).mkdir()
        for i in range(2):
            wave(period + 0.1 * i, seconds=2.0).save(tmp_path / name / f"{i}.npz")
    out = tmp_path / "stream.json"
    inputs = [str(tmp_path / name) for name in ("slow", "fast")]
    assert main(["evaluate", *inputs, "--stream", "--forecaster", "kalman", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "slow: 2 recordings" in shown and "geometric mean over sources" in shown
    found = json.loads(out.read_text())
    assert found["sources"]["fast"]["best_naive"]["0.1 s"] in ("kalman", "cvm", "damped")
    assert set(found["geometric_mean"]) == {"kalman"}
    assert main(["evaluate", *inputs, "--stream", "--ego-motion", "0.1"]) != 0


def test_forecasters_of_another_rate_are_scored_at_the_same_times():
    episode = generate_scene(3, 8.0).episode
    made = {"slow": Persistence(), "fast": Persistence(step=1 / 30, window_length=5, horizon_steps=40)}
    source = evaluate_stream({"scene": [episode]}, made, regions=False).sources["scene"]
    assert source.value("fast", "ADE") == pytest.approx(source.value("slow", "ADE"), rel=0.05)
    short = {"slow": Persistence(), "short": Persistence(step=1 / 30, window_length=5, horizon_steps=20)}
    with pytest.raises(UserError, match="'short' forecasts 0.667 s, and the first one.*1 s; name the one"):
        evaluate_stream({"scene": [episode]}, short, regions=False)
