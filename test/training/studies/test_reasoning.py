"""What reasoning is worth with the weights that ship, on a few scenes that neither training nor the documentation's
figures have seen."""

import pytest

from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.training.studies.reasoning import PATH, WHOLE, study

SEED, SCENES = 85_000_000, 8


@pytest.fixture(scope="module")
def result():
    forecaster, path = make_forecaster("egoman-small"), make_forecaster("egoman-small", sampling_steps=0)
    return study(forecaster, SCENES, SEED, path)


def test_shipped_waypoints_are_nearer_than_the_wrist_and_go_by_image_and_words(result):
    places = result["median error of places"]
    for moment in ("contact", "end"):
        assert places[WHOLE][moment] < 0.8 * places["where it is now"][moment]
    assert places[WHOLE]["end"] < 0.9 * places["other words"]["end"]
    assert places[WHOLE]["end"] < 0.9 * places["another image"]["end"]


def test_shipped_forecasts_are_better_than_naive_ones_late_and_worse_without_what_they_go_by(result):
    late = {name: mean for name, (mean, *_) in result["late"].items()}
    assert late[WHOLE] < late[result["best naive"]] and late[PATH] < late[result["best naive"]]
    assert late[WHOLE] < min(late["another image"], late["other words"], late["neither"])
    assert result["ratio"][WHOLE][0] == pytest.approx(late[WHOLE] / late[result["best naive"]])
    contact = result["contact"]
    assert contact["windows"] > 20 and contact["median error"] < contact["of the median"]
