"""Images and words: what they are worth is measured on what the forecaster is shown, and the shipped weights use
both.
"""

import json

import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.evaluation.image_and_text_inputs import (
    GOAL_TEST_SEED,
    HANDS_ALONE,
    INPUTS,
    OURS,
    evaluate_inputs,
    goal_scenes,
)
from egohand_ros.evaluation.pages.image_and_text_pictures import draw_forecasts
from egohand_ros.forecast.registry import make_forecaster


@pytest.fixture(scope="module")
def forecaster():
    return make_forecaster("egohand-goals")


@pytest.fixture(scope="module")
def scenes(forecaster):
    return goal_scenes(GOAL_TEST_SEED + 500, 8, forecaster.spec)


def test_both_images_and_words_pay_where_goals_have_look_alikes(forecaster, scenes):
    result = evaluate_inputs(forecaster, scenes)
    errors = {name: result.metrics(name)["ADE"] for name in result.scores}
    ours = errors.pop(OURS)
    assert set(errors) == {"persistence", "kalman", HANDS_ALONE, *INPUTS}
    assert all(error > 1.1 * ours for error in errors.values()), errors


def test_what_it_finds_is_what_is_named(forecaster, scenes):
    from egohand_ros.data.synthetic.goals import OBJECT, generate_goal_scene
    from egohand_ros.data.windows import cut_windows
    from egohand_ros.evaluation.image_and_text_inputs import Pictures

    missed = []
    for seen in scenes:
        cut = cut_windows(seen.scene.episode, np.array([22, 26]), 0.1, 20, 10)
        forecast = forecaster.forecast(Pictures(scenes, forecaster.spec).show(cut.window))
        truth = generate_goal_scene(seen.scene.seed, rate=10.0, start=seen.scene.stamp[0]).goals[[22, 26], OBJECT]
        missed += np.linalg.norm(forecast.goal_points[:, OBJECT].numpy() - truth, axis=-1).tolist()
    assert np.median(missed) < 0.06


def test_moments_are_drawn(forecaster, scenes):
    picture = draw_forecasts(forecaster, scenes[:2])
    assert picture.shape == (480, 3 * 640, 3) and picture.dtype == np.uint8
    assert (picture[:, 1280:] == 255).all() and picture[:, :1280].std() > 10


def test_the_command_writes_figures_and_pictures(tmp_path, capsys):
    out = tmp_path / "inputs"
    assert main(["ablate", "--preset", "egohand-small", "--test-scenes", "1", "--out", str(out)]) == 0
    content = json.loads((out / "inputs.json").read_text())
    assert content["rows"].keys() >= {OURS, HANDS_ALONE, *INPUTS} and content["cost"][OURS] == 0.0
    assert (
        out / "inputs.jpg"
    ).stat().st_size > 10_000 and "held-out scenes with distractors" in capsys.readouterr().out
