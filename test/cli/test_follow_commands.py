"""`egohand bench follow`, `egohand calibrate latency`: what they print and write, and what they say when used
wrongly.
"""

import json
import sys

import numpy as np

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.hand.poses import posed_hand
from egohand_ros.hand.skeleton import FINGERS


def test_bench_follow_compares_and_writes(tmp_path, capsys):
    stamp = np.arange(300) / 30.0
    keypoints = np.full((300, 2, 21, 3), np.nan)
    keypoints[:, 1] = [posed_hand(dict.fromkeys(FINGERS, 0.5 + 0.25 * np.sin(3.0 * t)), 0.6, 0.5) for t in stamp]
    Episode(stamp, keypoints, np.isfinite(keypoints).all(-1)).save(tmp_path / "hand.npz")
    outputs = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    options = ["--input", str(tmp_path / "hand.npz"), "--synthetic", "0", "--forecaster", "kalman", *outputs]
    assert main(["bench", "follow", "--recency", "0.03", *options]) == 0
    table = capsys.readouterr().out
    assert "no prediction" in table and "kalman, temporal" in table and "identified by cross-correlation" in table
    content = json.loads((tmp_path / "out.json").read_text())
    scores = {score["method"]: score for score in content["scores"]}
    assert scores["perfect forecast"]["error_mm"] < scores["kalman"]["error_mm"] < scores["no prediction"]["error_mm"]
    averaged = scores["kalman, temporal"]["error_mm"] / scores["kalman"]["error_mm"]
    assert content["recency_s"] == 0.03 and 0.9 < averaged < 1.1, "old forecasts hardly count"
    assert 0.15 < content["lead_s"] < 0.18 and all(score["violations"] == 0 for score in scores.values())
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_wrong_use_is_told_in_one_line(tmp_path, capsys):
    for arguments, message in (
        (["bench", "follow", "--duration", "2"], "--duration needs at least 8"),
        (["bench", "follow", "--recency", "-1"], "--recency at least 0"),
        (["bench", "follow", "--input", "nowhere.pkl"], "nowhere.pkl does not exist"),
        (["bench", "follow", "--compare-python", sys.executable], "cannot import dex_retargeting"),
        (["bench", "soak", "--duration", "5"], "less than 30 s says nothing"),
        (["calibrate", "latency", str(tmp_path / "nowhere")], "nowhere"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") <= 2, error
