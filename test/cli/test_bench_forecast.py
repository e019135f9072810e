"""`egohand bench forecast` says how long a forecast takes; the numbers themselves are no test's business."""

import json
from dataclasses import replace

import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.evaluation.bench.forecast_bench import live_stream, live_window
from egohand_ros.forecast.naive.persistence import Persistence
from egohand_ros.forecast.registry import make_forecaster


def test_every_case_is_timed(capsys):
    assert (
        main(
            [
                "bench",
                "forecast",
                "--forecaster",
                "damped,kalman",
                "--hypotheses",
                "1,3",
                "--repeats",
                "5",
                "--json",
                "-",
            ]
        )
        == 0
    )
    timings = json.loads(capsys.readouterr().out)["timings"]
    assert list(timings) == ["damped, K = 1", "kalman, K = 1", "kalman, K = 3"]
    assert all(0 < t["p50_ms"] <= t["p95_ms"] <= t["p99_ms"] for t in timings.values())


def test_what_learns_is_timed_on_a_stream_and_in_turns(capsys):
    words = ["bench", "forecast", "--forecaster", "adaptive,damped", "--hypotheses", "1", "--repeats", "4"]
    assert main([*words, "--rounds", "2", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["load"] >= 0 and all(len(t["p95_ms_by_round"]) == 2 for t in told["timings"].values())
    adaptive = make_forecaster("adaptive")
    windows = live_stream(adaptive, 50)
    assert np.diff([float(w.stamp[0]) for w in windows]) == pytest.approx(1 / 30, abs=1e-6)
    for window in windows:
        adaptive.forecast(window)
    assert adaptive.learner.hedges[0].seen[1][0] > 1.0, "it learned of what followed"


@pytest.mark.parametrize(
    "wrong", [["--hypotheses", "one"], ["--repeats", "0"], ["--option", "device"], ["--forecaster", "nobody"]]
)
def test_mistakes_are_told_in_one_line(wrong, capsys):
    assert main(["bench", "forecast", "--forecaster", "damped", *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("need_prompt", [True, False])
def test_a_window_with_images_has_all_that_a_model_needs_to_look_at_them(need_prompt):
    model, modalities = Persistence(), ("keypoints", "images", "prompt")
    model.spec = replace(
        model.spec, modalities=modalities, image_offsets=(0,), image_size=(24, 32), images_need_prompt=need_prompt
    )
    window = live_window(model, images=True)
    assert window.images.shape == (1, 1, 24, 32, 3) and window.camera_matrix[0, 0, :2, 2].tolist() == [16.0, 12.0]
    assert window.camera_pose is not None and bool(window.prompt) == need_prompt
    blind = live_window(model, images=False)
    assert (blind.images, blind.camera_matrix, blind.prompt) == (None, None, None)
    assert live_window(model, images=True, prompt="pour").prompt == ("pour",)
