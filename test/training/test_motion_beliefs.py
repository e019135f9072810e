"""What `adaptive` begins with: what is gone through again is what was forecast, coefficients that recordings taught are
there from the first forecast on, and what gains next to nothing changes nothing.
"""

from dataclasses import replace

import numpy as np
import pytest

from egohand_ros.data.synthetic.free_motion import generate_free_motion
from egohand_ros.data.windows import cut_windows
from egohand_ros.errors import UserError
from egohand_ros.evaluation.stream import in_order, stream_frames
from egohand_ros.forecast.adaptive.beliefs import FILE, Beliefs, read_beliefs, write_beliefs
from egohand_ros.forecast.adaptive.learner import Learner
from egohand_ros.forecast.motion.forecaster import WEIGHTS
from egohand_ros.forecast.motion.system import SHIPPED
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.training import motion_beliefs
from egohand_ros.training.motion_beliefs import Choice, follow, replay, times_of


@pytest.fixture(scope="module")
def episode():
    """3 s, as often as forecasts are learned from, so that every forecast is kept."""
    return generate_free_motion(5, 3.0, rate=15.0)


def test_a_recording_that_is_gone_through_again_has_the_errors_of_the_forecasts(episode):
    forecaster = make_forecaster("adaptive")
    frames = stream_frames(episode.stamp)
    cut = cut_windows(episode, frames, 0.1, 20, 10)
    told = in_order(forecaster, cut.window).keypoints[:, 0, :, :, WRIST].numpy()
    hand = cut.window.valid[:, -1, :, WRIST] & (cut.window.valid[..., WRIST].sum(1) > 1)
    known = cut.future_valid[..., WRIST] & hand.numpy()[:, None]
    missed = (np.linalg.norm(told - cut.future[..., WRIST, :], axis=-1) * known).sum(axis=(0, 2))
    heard = follow(episode, make_forecaster("adaptive"))
    learner = Learner(forecaster.beliefs[:2], times_of(forecaster), forecaster.starts)
    assert heard.known[0].sum() == known.sum() > 100
    assert replay(heard, learner)[0] == pytest.approx(missed, rel=1e-4)


def test_coefficients_of_recordings_add_up(episode):
    parts = [follow(episode, make_forecaster("adaptive")) for _ in range(2)]
    forecaster = make_forecaster("adaptive")
    once, twice = (motion_beliefs._taught(parts[:n], times_of(forecaster), forecaster.starts) for n in (1, 2))
    away = [np.linalg.norm(found[0] - forecaster.starts[0]) for found in (once, twice)]
    assert 0.0 < away[0] < away[1], "twice the same is believed more"


def test_person_begins_with_what_was_taught(episode, tmp_path):
    forecaster = make_forecaster("adaptive")
    given = _of(forecaster)
    for rows in (given["wrist"], given["rotation"]):
        for name, row in rows.items():
            row[:] = 0.99 if name == "person" else 0.01 / (len(rows) - 1)
    starts = {kind: np.zeros_like(forecaster.starts[0]) for kind in ("wrist", "rotation")}
    folder = tmp_path / "model"
    _save(folder, given, starts)
    beliefs, read = read_beliefs(folder / FILE)
    assert set(beliefs) == {"wrist", "rotation", "fingers"} and (read["wrist"] == 0.0).all()
    told = make_forecaster("adaptive", checkpoint=folder)
    window = cut_windows(episode, np.array([2]), 0.1, 20, 10).window
    away = told.forecast(window).keypoints[:, 0, :, :, WRIST] - window.keypoints[:, -1:, :, WRIST]
    usual = forecaster.forecast(window).keypoints[:, 0, :, :, WRIST] - window.keypoints[:, -1:, :, WRIST]
    assert away.norm(dim=-1).mean() < 0.1 * usual.norm(dim=-1).mean(), "all zero: hands stay"


@pytest.mark.parametrize("shape", [(3, 11), (10, 4)])
def test_coefficients_of_something_else_are_refused(tmp_path, shape):
    folder = tmp_path / "model"
    _save(folder, _of(make_forecaster("adaptive")), {kind: np.zeros(shape) for kind in ("wrist", "rotation")})
    with pytest.raises(UserError, match="learn them again"):
        make_forecaster("adaptive", checkpoint=folder)


def test_what_gains_next_to_nothing_changes_nothing():
    before = np.ones(10)
    missed = {(False, 0.0, 0.0): [before], (False, 0.3, 0.0): [0.995 * before], (True, 0.0, 1.0): [1.2 * before]}
    assert motion_beliefs._best(missed, 0) == Choice()
    missed[True, 0.1, 0.3] = [0.9 * before]
    assert replace(motion_beliefs._best(missed, 0), error=0.9) == Choice(True, 0.1, 0.3, 0.9)


def _of(forecaster) -> Beliefs:
    names = (forecaster.names, forecaster.names, forecaster.finger_names)
    return {
        kind: {name: np.full(10, belief) for name, belief in zip(experts, rows, strict=True)}
        for kind, experts, rows in zip(("wrist", "rotation", "fingers"), names, forecaster.beliefs, strict=True)
    }


def _save(folder, beliefs, starts) -> None:
    """A folder with the weights that are shipped."""
    folder.mkdir()
    (folder / WEIGHTS).write_bytes((SHIPPED / WEIGHTS).read_bytes())
    write_beliefs(folder / FILE, beliefs, starts)
