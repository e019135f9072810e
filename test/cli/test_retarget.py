"""`egohand retarget`, as a user calls it."""

import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.limits.audit import audit_limits


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    episode = generate_scene(5, duration=6.0).episode
    keypoints = episode.keypoints.copy()
    keypoints[60:66, 1] = np.nan
    path = tmp_path_factory.mktemp("retarget") / "episode.npz"
    np.savez(path, stamp=episode.stamp, keypoints=keypoints, valid=np.isfinite(keypoints).all(-1))
    return path


@pytest.mark.parametrize("name", ["allegro_right", "inspire_right"])
def test_the_motion_keeps_every_limit_and_moves(recording, tmp_path, name, capsys):
    out = tmp_path / "new" / "q.npz"
    assert main(["retarget", str(recording), "--hand", name, "--side", "right", "--out", str(out)]) == 0
    assert "6 held (the hand was not seen in 6)" in capsys.readouterr().out
    hand, motion = load_hand(name), np.load(out)
    assert motion["joint_names"].tolist() == list(hand.joint_names)
    assert motion["q"].shape == (len(motion["stamp"]), hand.n) and motion["solve_ms"].shape == motion["stamp"].shape
    assert audit_limits(hand, motion["stamp"], motion["q"]).violations == 0
    assert np.ptp(motion["q"], axis=0).max() > 0.5  # it did follow the hand
    assert not motion["solved"][60:66].any() and motion["solved"].sum() == len(motion["stamp"]) - 6


def test_a_name_with_dots_keeps_them(recording, tmp_path):
    """As an episode's does: `take.2` is not `take.1`, nor the other way round."""
    assert main(["retarget", str(recording), "--hand", "inspire_right", "--out", str(tmp_path / "take.2")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["take.2.npz"]


def test_mistakes_are_one_line(recording, tmp_path, capsys):
    assert main(["retarget", str(recording), "--hand", "no_such_hand", "--out", str(tmp_path / "q.npz")]) == 2
    error = capsys.readouterr().err
    assert "no_such_hand" in error and "allegro_right" in error and len(error.strip().splitlines()) == 1
