"""EgoMotion's claim in miniature: both ways are run from the same tokenizer, scored, and gone on with."""

import json

import numpy as np
import pytest
import yaml
from tiny_egomotion import TINY

from egohand_ros.cli.main import main
from egohand_ros.config import to_mapping
from egohand_ros.training.studies import staged_or_joint
from egohand_ros.training.studies.staged_or_joint import frechet, shown
from egohand_ros.training.windows.goal_windows import see_goals


def see_here(first, count, size, spec, progress):
    """In this process, whose start costs nothing."""
    shape = (size, spec.step, spec.window_length, spec.horizon_steps)
    return [see_goals(first + i, *shape) for i in range(count)]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    words = ["take", "the", "red", "blue", "cup"]
    training = {"steps": 3, "batch": 8, "group": 4, "learning_rate": 0.001, "save_every": 3}
    path = tmp_path_factory.mktemp("preset") / "thumb.yaml"
    model = to_mapping(TINY) | {"words": words}
    content = {"forecaster": "egomotion", "name": "thumb", "model": model, "training": training}
    path.write_text(yaml.safe_dump(content))
    return path


def test_both_ways_are_trained_from_one_tokenizer_and_compared(preset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(staged_or_joint, "see_many", see_here)
    monkeypatch.setattr("egohand_ros.training.loop._FIT_WINDOWS", 16)
    command = ["ablate", "--system", "egomotion", "--preset", str(preset), "--scenes", "2", "--test-scenes", "4"]
    command += ["--seeds", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    told = json.loads((tmp_path / "out" / "claim.json").read_text())
    assert told["steps"] == {"reason": 3, "generate": 3, "joint": 3}
    names = {"late", "nearest", "contact", "contact, other words", "names", "frechet", "jerk"}
    assert set(told["rows"]["staged"]) == names
    assert len(told["primitives"][0]["perplexity"]) == 3
    real = told["truth"]
    assert real["names"] >= 0.5 and real["late of no motion"] > 0.01, "a real hand goes for what was named"
    ways = [told["rows"][way]["late"]["mean"] for way in ("staged", "joint")]
    assert np.isfinite(ways).all() and ways[0] != ways[1]
    low, high = told["joint to staged"]["late"][1:]
    assert low <= told["joint to staged"]["late"][0] <= high
    assert "real motion, and a hand that stays" in capsys.readouterr().out
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state.pt")}
    assert len(kept) == 4
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state.pt")} == kept, "nothing is trained again"
    assert json.loads((tmp_path / "out" / "claim.json").read_text()) == told


def test_what_cannot_be_compared_is_said_in_one_line(tmp_path, capsys):
    command = ["ablate", "--system", "egomotion", "--preset", "egoman-small", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "is not of EgoMotion, whose claim this is" in capsys.readouterr().err
    assert main(["ablate", "--preset", "egomotion-small", "--out", str(tmp_path / "out")]) == 2
    assert "egomotion-small has no shipped weights" in capsys.readouterr().err


def test_the_distance_of_two_clouds_is_known_by_hand():
    rng = np.random.default_rng(0)
    one = rng.normal(0.0, 1.0, (4000, 3))
    assert frechet(one, one) == pytest.approx(0.0, abs=1e-4)
    assert frechet(one + [2.0, 0.0, 0.0], one) == pytest.approx(4.0, abs=1e-3)
    assert frechet(3.0 * one, one) == pytest.approx(3 * (3.0 - 1.0) ** 2, rel=0.05)


def test_windows_are_shown_what_belongs_to_them(preset):
    from egohand_ros.forecast.registry import untrained

    forecaster = untrained(preset)
    seen = see_goals(5, (56, 84), 0.1, 4, 18)
    cut = shown(forecaster.spec, seen)
    assert len(cut.window.prompt) == len(seen.frames) and cut.window.prompt[0] == seen.scene.scene.task
    assert np.array_equal(cut.window.images[:, 0].numpy(), seen.images)
    assert np.allclose(cut.window.stamp.numpy(), seen.scene.scene.stamp[seen.frames])
