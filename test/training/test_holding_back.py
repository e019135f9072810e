"""What is held back of recordings: spread over them, never trained on, enough to judge by, or said."""

import numpy as np
import pytest

from egohand_ros.data.episode import Episode
from egohand_ros.data.windows import cut_windows
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.training.holding_back import ENOUGH, MOST, SPARE, hold_back, seconds, with_unseen_before

SPEC = make_forecaster("kalman").spec


def recording(duration: float, begin: float = 0.0) -> Episode:
    stamp = begin + np.arange(int(duration * 30) + 1) / 30.0
    return Episode(stamp, np.zeros((len(stamp), 2, 21, 3)), np.ones((len(stamp), 2, 21), dtype=bool))


def recordings(*durations: float) -> dict[str, Episode]:
    """Each at a time of its own, so that frames tell where they are from."""
    return {f"{i}": recording(duration, 1000.0 * i) for i, duration in enumerate(durations)}


def frames(episodes) -> list[float]:
    return sorted(float(stamp) for episode in episodes for stamp in episode.stamp)


@pytest.mark.parametrize("durations", [(60.0,), (20.0, 30.0, 25.0), (20.0,) * 5, (12.0,) * 30, (60.0, 5.0, 2.0)])
def test_every_frame_is_trained_on_or_held_back_and_none_is_both(durations):
    given = recordings(*durations)
    parts = hold_back(given, SPEC)
    assert frames([*parts.training, *parts.held_back.values()]) == frames(given.values())


def test_of_five_recordings_whole_ones_are_held_back():
    given = recordings(20.0, 20.0, 20.0, 20.0, 20.0)
    parts = hold_back(given, SPEC)
    assert set(parts.held_back) < set(given) and len(parts.training) + len(parts.held_back) == 5
    assert all(len(episode) == len(given[name]) for name, episode in parts.held_back.items())
    assert parts.windows >= ENOUGH and parts.warning is None
    assert sum(e.duration for e in parts.held_back.values()) <= MOST * 100.0 + 1e-6


def test_of_fewer_blocks_are_held_back_that_are_not_all_at_the_end():
    parts = hold_back(recordings(60.0, 60.0), SPEC)
    places = np.array([(e.stamp.mean() % 1000.0) / 60.0 for e in parts.held_back.values()])
    assert len(places) >= 4 and (places < 0.5).any() and (places > 0.5).any() and np.ptp(places % 0.5) > 0.05
    assert all(e.duration >= seconds(SPEC) + SPARE - 0.1 for e in parts.held_back.values())
    assert parts.windows >= ENOUGH


def test_little_that_is_held_back_is_said():
    parts = hold_back(recordings(20.0), SPEC)
    assert 0 < parts.windows < ENOUGH
    assert f"{parts.windows} windows are held back, and {ENOUGH} are needed" in parts.warning


def test_a_clip_shorter_than_a_window_serves_as_a_hand_that_just_came():
    clip = recording(1.8)
    longer = with_unseen_before(clip, SPEC)
    assert longer.duration > seconds(SPEC) and not longer.valid[: len(longer) - len(clip)].any()
    assert np.array_equal(longer.stamp[-len(clip) :], clip.stamp)
    cut = cut_windows(longer, np.array([len(longer) - 31]), SPEC.step, SPEC.window_length, SPEC.horizon_steps)
    assert cut.window.valid[0, -1].all() and not cut.window.valid[0, 0].any() and cut.future_valid.all()


def test_what_is_long_enough_or_too_short_for_a_future_stays_as_it_is():
    for duration in (1.1, 20.0):
        episode = recording(duration)
        assert with_unseen_before(episode, SPEC) is episode
