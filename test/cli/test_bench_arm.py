"""`egohand bench arm`: what it prints and writes, and what it says when used wrongly."""

import json

import numpy as np

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.hand.skeleton import WRIST


def swinging(folder):
    """A wrist that swings by a few centimetres for 8 s, and nothing else of the hand."""
    stamp = np.arange(240) / 30.0
    keypoints, rotation = np.full((240, 2, 21, 3), np.nan), np.full((240, 2, 3, 3), np.nan)
    way = np.sin(2.5 * stamp[:, None] * [1.0, 0.7, 0.4]) * [0.1, 0.08, 0.05]
    keypoints[:, 1, WRIST], rotation[:, 1] = way + (0.3, 0.0, 1.0), np.eye(3)
    Episode(stamp, keypoints, np.isfinite(keypoints).all(-1), wrist_rotation=rotation).save(folder / "wrist.npz")
    return str(folder / "wrist.npz")


def test_it_compares_and_writes(tmp_path, capsys):
    options = ["--input", swinging(tmp_path), "--forecaster", "kalman", "--json", str(tmp_path / "out.json")]
    assert main(["bench", "arm", *options]) == 0
    assert "no prediction" in capsys.readouterr().out
    scores = {s["method"]: s for s in json.loads((tmp_path / "out.json").read_text())["scores"]}
    assert scores["perfect forecast"]["error_mm"] < scores["kalman"]["error_mm"] < scores["no prediction"]["error_mm"]
    assert abs(scores["perfect forecast"]["lag_ms"]) < 20.0 and scores["no prediction"]["lag_ms"] > 100.0
    assert all(score["violations"] == 0 and score["commands"] > 700 for score in scores.values())


def test_wrong_use_is_told_in_one_line(tmp_path, capsys):
    still = tmp_path / "short.npz"
    stamp, keypoints = np.arange(30) / 30.0, np.full((30, 2, 21, 3), np.nan)
    keypoints[:, 1, WRIST] = 0.0
    Episode(stamp, keypoints, np.isfinite(keypoints).all(-1)).save(still)
    for arguments, message in (
        (["--input", str(still)], "no recording shows a wrist"),
        (["--input", str(still), "--lead", "3"], "expected 0 to 1 s"),
        (["--input", str(still), "--arm", "ur6"], "known arms: "),
    ):
        assert main(["bench", "arm", *arguments]) == 2
        said = capsys.readouterr().err
        assert message in said and "Traceback" not in said
