"""The shipped weights: they load by themselves, are small, beat the naive forecasters, and keep what they promise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import egohand_ros.forecast
from egohand_ros.data.importers.mocap import load_qualisys
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.evaluation.protocol import evaluate, get_protocol
from egohand_ros.forecast.registry import find_preset, make_forecaster

FOLDER = Path(egohand_ros.forecast.__file__).parent / "weights" / "egohand-small"
METRICS = ("ADE", "FDE", "MPJPE", "MPJPE-F")
# `egohand synth` counts from 0: nothing of it was trained, validated or calibrated on.
SEEDS = range(500, 512)


def test_they_come_with_the_package():
    forecaster = make_forecaster("egohand-small")
    assert forecaster.spec.name == "egohand-small" and forecaster.spec.calibrated
    assert {file.name for file in FOLDER.iterdir()} >= {"config.json", "model.safetensors", "calibration.json"}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 20e6


@pytest.fixture(scope="module")
def held_out():
    """What a tracker with default noise sees of scenes that were never trained on, scored every half second."""
    episodes = {str(seed): observe(generate_scene(seed)).episode for seed in SEEDS}
    names = ["egohand-small", "persistence", "damped", "kalman"]
    return evaluate(episodes, names, replace(get_protocol("egoexo4d"), stride=5))


@pytest.mark.parametrize("metric", METRICS)
def test_they_beat_the_naive_forecasters_on_held_out_synthetic_episodes(held_out, metric):
    errors = {name: score.metrics[metric].value for name, score in held_out.scores.items()}
    ours = errors.pop("egohand-small")
    assert ours < 0.97 * min(errors.values())


def test_their_regions_hold_what_they_promise(held_out):
    covered = held_out.scores["egohand-small"].metrics["wrist coverage of 90 %"].value
    assert covered == pytest.approx(0.9, abs=0.03)


def test_they_beat_the_naive_forecasters_on_a_real_recording(shared_data):
    episode = load_qualisys(shared_data / "hand_mocap" / "recording.tsv")
    result = evaluate({"capture": episode}, ["egohand-small", "persistence", "damped", "kalman"])
    errors = {name: [score.metrics[m].value for m in METRICS] for name, score in result.scores.items()}
    ours = np.array(errors.pop("egohand-small"))
    assert (ours < np.min(list(errors.values()), axis=0)).all()


def test_it_looks_for_goals_only_where_it_is_told_to():
    """It was trained on painted scenes, and sees goals in pictures of cameras that are not there."""
    plain, looking = make_forecaster("egohand-small"), make_forecaster("egohand-goals")
    assert not plain.spec.looks and looking.spec.looks and looking.spec.images_need_prompt
    assert find_preset("egohand-goals").spec().looks and not find_preset("egohand-small").spec().looks
