"""The public door: its three lines, its names, and what importing it costs."""

import subprocess
import sys

import numpy as np
import pytest

import egohand_ros.api as api
from egohand_ros.data.synthetic import generate_scene

_LIGHT = """
import sys
import egohand_ros.api as api
heavy = [name for name in ("torch", "scipy", "cv2", "numpy") if name in sys.modules]
assert not heavy, heavy
specs = api.list_forecasters()
assert specs["egohand-small"].calibrated and specs["egghand"].image_size == (224, 224)
api.Window, api.Forecast, api.Episode, api.System
heavy = [name for name in ("torch", "scipy", "cv2") if name in sys.modules]
assert not heavy, heavy
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "episode.npz"
    generate_scene(0, 6.0).episode.save(path)
    return path


def test_neither_importing_it_nor_listing_forecasters_imports_torch():
    subprocess.run([sys.executable, "-c", _LIGHT], check=True)


def test_the_three_lines_of_the_door(path):
    from egohand_ros.api import load_episode, load_forecaster, load_retargeter

    f = load_forecaster("egohand-small")
    w = load_episode(path).last_window(f.spec)
    q = load_retargeter("allegro_right").at(f.forecast(w), 0.4).q
    hand = api.load_hand("allegro_right")
    assert q.shape == (hand.n,) and (q >= hand.lower).all() and (q <= hand.upper).all()


def test_every_promised_name_is_there():
    assert all(getattr(api, name) is not None for name in api.__all__) and sorted(api.__all__) == api.__all__
    assert set(api._FOUND_IN) < set(api.__all__)
    with pytest.raises(AttributeError, match="load_everything"):
        api.load_everything  # noqa: B018


def test_the_pose_of_a_moment_does_not_depend_on_what_was_asked_before(path):
    forecaster, retargeter = api.load_forecaster("persistence"), api.load_retargeter("allegro_right")
    forecast = forecaster.forecast(api.load_episode(path).last_window(forecaster.spec))
    first, again = (retargeter.at(forecast, time) for time in (0.1, 0.75))
    assert first.solved and np.allclose(first.q, again.q, atol=5e-3), "a hand that holds still"
    with pytest.raises(api.UserError, match=r"time 1\.2 s is not in the forecast; expected 0 to 1 s"):
        retargeter.at(forecast, 1.2)
    forecast.valid[0, 1] = False
    with pytest.raises(api.UserError, match="the right hand is not forecast"):
        retargeter.at(forecast, 0.4)


def test_the_last_window_ends_where_a_wrist_was_last_seen(path):
    episode, spec = api.load_episode(path), api.load_forecaster("persistence").spec
    lost = episode.valid.copy()
    lost[-10:] = False
    window = type(episode)(episode.stamp, episode.keypoints, lost).last_window(spec)
    assert window.stamp[0] == episode.stamp[-11] and window.length == spec.window_length
    short = episode.slice(0, 5).last_window(spec)
    assert short.valid[0, -1].any() and not short.valid[0, 0].any(), "before the recording nothing is known"
    with pytest.raises(api.UserError, match="no wrist is seen"):
        type(episode)(episode.stamp, episode.keypoints, np.zeros_like(lost)).last_window(spec)


def test_a_folder_of_several_episodes_is_not_one(path):
    generate_scene(1, 3.0).episode.save(path.with_name("other.npz"))
    with pytest.raises(api.UserError, match="holds 2 episodes; load_episodes gives all"):
        api.load_episode(path.parent)
    path.with_name("other.npz").unlink()
