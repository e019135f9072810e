"""EgoMAN with waypoints against its motion expert alone: both are trained from one language model, and compared."""

import json

import numpy as np
import pytest
import torch
import yaml
from tiny_egoman import TINY

from egohand_ros.cli.main import main
from egohand_ros.config import to_mapping
from egohand_ros.forecast.egoman.inputs import motion_out
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.training.studies import waypoints
from egohand_ros.training.windows.goal_windows import see_goals


def see_here(first, count, size, spec, progress):
    """In this process, whose start costs nothing."""
    return [see_goals(first + i, size, spec.step, spec.window_length, spec.horizon_steps) for i in range(count)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Whatever `egohand ablate --system egoman` says of two steps of training, and its folder."""
    folder = tmp_path_factory.mktemp("claim")
    training = {"steps": 2, "batch": 8, "group": 4, "learning_rate": 0.001, "save_every": 2}
    training["augmentation"] = {"only": {}}
    content = {"forecaster": "egoman", "name": "thumb", "model": to_mapping(TINY), "training": training}
    (folder / "thumb.yaml").write_text(yaml.safe_dump(content))
    command = ["ablate", "--system", "egoman", "--preset", str(folder / "thumb.yaml"), "--goals", "2", "--seeds", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waypoints, "see_many", see_here)
        assert main([*command, "--test-scenes", "2", "--device", "cpu", "--out", str(folder / "out")]) == 0
    return json.loads((folder / "out" / "waypoints.json").read_text()), folder / "out"


def test_the_expert_alone_is_trained_as_long_and_everything_is_compared_with_it(found):
    told, folder = found
    assert told["steps"] == {"reason": 2, "motion": 2, "joint": 2}
    assert len((folder / "alone_1" / "log.jsonl").read_text().splitlines()) == 4
    ratio = told["to the expert alone"]["with waypoints"]["FDE best of 10"]
    rows = {name: row["FDE best of 10"][0] for name, row in told["rows"].items() if "FDE best of 10" in row}
    assert ratio[0] == pytest.approx(rows["with waypoints"] / rows["motion expert alone"])
    assert ratio[1] <= ratio[0] <= ratio[2] and len(set(rows.values())) == 3
    assert set(told["to the whole"]) == {"another image", "other words", "neither", "no past motion"}
    assert told["rows"]["persistence"]["ADE"][0] > 0.0


def test_the_expert_alone_is_told_nothing_and_says_nothing_of_contact(found):
    folder = found[1]
    alone = make_forecaster(str(folder / "motion_expert_alone_1" / "model"))
    seen = see_goals(7, alone.spec.image_size, 0.1, alone.spec.window_length, alone.spec.horizon_steps)
    window = waypoints.shown(waypoints._cut(alone, seen).window, seen)
    given = alone.forecast(window, 2, seed=0)
    assert given.waypoints is None and "waypoints" not in alone.spec.gives
    with torch.inference_mode():
        reasoning = alone.reasoner(window)
        other = waypoints._truth(reasoning, waypoints._cut(alone, seen), seen)
    assert torch.equal(alone.go_by(other, window, 2, 0).keypoints, given.keypoints)
    told = make_forecaster(str(folder / "with_waypoints_1" / "model"))
    assert not torch.equal(told.go_by(other, window, 2, 0).keypoints, told.forecast(window, 2, seed=0).keypoints)


def test_true_waypoints_are_where_the_wrist_will_be(found):
    told = make_forecaster(str(found[1] / "with_waypoints_1" / "model"))
    seen = see_goals(8, told.spec.image_size, 0.1, told.spec.window_length, told.spec.horizon_steps)
    cut = waypoints._cut(told, seen)
    with torch.inference_mode():
        truth = waypoints._truth(told.reasoner(waypoints.shown(cut.window, seen)), cut, seen)
    points = motion_out(truth.frame[:, None], truth.thought.waypoints)[0]
    steps = truth.thought.steps.numpy()
    for row in np.flatnonzero((steps[:, 1] > 0) & cut.future_valid[:, :, seen.scene.side, 0].all(1)):
        actual = cut.future[row, steps[row, 1] - 1, seen.scene.side, 0]
        np.testing.assert_allclose(points[row, 1, seen.scene.side], actual, atol=1e-4)


def test_another_system_is_one_line(tmp_path, capsys):
    command = ["ablate", "--system", "egoman", "--preset", "megohand-small", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "is not of EgoMAN, whose claim this is" in capsys.readouterr().err
