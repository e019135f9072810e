"""The experiment on personal data: the same person throughout, and nothing scored that was trained on."""

import numpy as np
import pytest
import torch

from egohand_ros.data.synthetic.free_motion import generate_free_motion
from egohand_ros.forecast.registry import system_of
from egohand_ros.training.checkpoint import read_log
from egohand_ros.training.curves import plot
from egohand_ros.training.session import start
from egohand_ros.training.studies import personal_check


def bones(episode) -> np.ndarray:
    """Lengths of the first hand's phalanges, m."""
    points = episode.keypoints[:, 0]
    return np.nanmedian(np.linalg.norm(points[:, 6] - points[:, 5], axis=-1))


def test_a_generated_person_keeps_their_hands(monkeypatch):
    monkeypatch.setattr(personal_check, "_TRAINED", 2)
    monkeypatch.setattr(personal_check, "_SCORED", 1)
    (first, second), others = personal_check.recordings_of(1)
    (other,) = others.values()
    assert bones(first) == pytest.approx(bones(second), rel=0.05) == bones(other)
    assert not np.array_equal(first.keypoints[:20], second.keypoints[:20], equal_nan=True)


def test_a_recording_is_split_with_a_gap_and_tuning_is_compared(tmp_path):
    path = tmp_path / "mine.npz"
    generate_free_motion(3, 40.0).save(path)
    training, others = personal_check.parts_of(str(path), 30.0)
    (other,) = others.values()
    assert training[0].stamp[-1] < 30.0 and other.stamp[0] >= 33.0
    small = ["steps=3", "batch=16", "group=8", "buffer=2", "validate_every=3", "save_every=3"]
    errors = personal_check.check(training, others, small)
    assert set(errors) >= {"shipped", "tuned", "kalman"} and errors["tuned"] != errors["shipped"]
    assert all(np.isfinite(list(values.values())).all() for values in errors.values())


def test_a_new_network_is_drawn_by_the_seed():
    stage = system_of("egohand-small").stage()
    weights = [start("egohand-small", stage, None, "cpu", seed).network.window.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_curves_of_a_run_are_drawn(tmp_path):
    log = [{"step": i + 1, "absolute": 0.1 / (i + 1), "relative": 0.02} for i in range(250)]
    log[99] |= {"validation ADE": 0.05, "validation FDE": 0.08}
    plot(log, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000 and read_log(tmp_path) == []
