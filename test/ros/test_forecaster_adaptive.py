"""The forecaster node with `adaptive`: what it publishes is what `evaluate --stream` scores, and a jump makes it begin
anew.
"""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from forecaster_driver import BOTH, STEP

from egohand_ros.data.episode import Episode
from egohand_ros.data.windows import cut_windows
from egohand_ros.evaluation.stream import in_order
from egohand_ros.forecast.registry import make_forecaster

_COUNT = 30
_PRESET = "adaptive:persistence+damped+kalman"


def _hands(i: int) -> np.ndarray:
    """Both hands go round."""
    turn = 2 * np.pi * i * STEP / 1.5
    return BOTH + np.array([0.1 * np.cos(turn), 0.1 * np.sin(turn), 0.03 * np.sin(2 * turn)])


def _in_order(stamps: list[float], numbers: list[int]) -> np.ndarray:
    """Keypoints (T, S, 2, 21, 3) as the evaluation of a stream has them."""
    keypoints = np.stack([_hands(i) for i in numbers])
    episode = Episode(np.array(stamps), keypoints, np.ones(keypoints.shape[:-1], dtype=bool))
    cut = cut_windows(episode, np.arange(len(stamps)), STEP, 20, 10)
    return in_order(make_forecaster(_PRESET), cut.window).keypoints[:, 0].numpy()


def _play(d, count: int) -> tuple[list[float], np.ndarray]:
    stamps, keypoints = [], []
    for i in range(count):
        futures = d.answer(d.message(_hands(i)))
        stamps.append(d.stamp)
        if futures.hands:
            keypoints.append(np.stack([futures.hand(side).keypoints[0] for side in range(2)], axis=1))
    return stamps, np.stack(keypoints)


def test_the_node_learns_as_the_evaluation_of_a_stream_does_and_begins_anew_after_a_jump(probe, driver):
    d = driver(forecaster=_PRESET)
    stamps, live = _play(d, _COUNT)
    expected = _in_order(stamps, list(range(_COUNT)))
    assert np.abs(live - expected[-len(live) :]).max() < 1e-5
    d.stamp -= 20.0  # the recording begins again
    stamps, again = _play(d, 5)
    assert np.abs(again - _in_order(stamps, list(range(5)))[-len(again) :]).max() < 1e-5
    assert np.abs(again - live[: len(again)]).max() < 1e-5
