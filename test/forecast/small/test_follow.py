"""egohand-follow: the protocol's promises, both sides alike, and better than persistence where it was trained for."""

import numpy as np
import pytest
import torch

from egohand_ros.data.synthetic import generate_scene
from egohand_ros.forecast.common.protocol import Forecaster
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.hand.palm import to_palm_frame
from egohand_ros.hand.skeleton import LEFT, RIGHT, SIDES
from egohand_ros.stream.aligner import WindowBuilder

TIPS = [4, 8, 12, 16, 20]


@pytest.fixture(scope="module")
def forecaster():
    return make_forecaster("egohand-follow")


def windows(spec, keypoints, every=3):
    """(frame, window) of keypoints (T, 2, 21, 3) at 30 Hz."""
    builder = WindowBuilder(spec)
    for i, hands in enumerate(keypoints):
        builder.add_hands(10.0 + i / 30.0, hands, np.isfinite(hands).all(-1))
        if i >= spec.window_length and i % every == 0:
            yield i, builder.window()


def test_it_is_a_forecaster_and_the_same_window_gives_the_same_forecast(forecaster):
    assert isinstance(forecaster, Forecaster)
    keypoints = generate_scene(3, 2.0).keypoints
    _, window = next(windows(forecaster.spec, keypoints))
    one, three = forecaster.forecast(window), forecaster.forecast(window, hypotheses=3)
    assert torch.equal(one.keypoints[:, 0], three.keypoints[:, 0]) and one.valid.all() and forecaster.spec.calibrated
    assert three.keypoints.shape[:3] == (1, 3, forecaster.spec.horizon_steps)
    assert (torch.diff(one.keypoint_std[0, 0, :, RIGHT, TIPS], dim=0) > -2e-3).all(), "doubt grows with time"


def test_a_left_hand_is_forecast_as_its_mirror_image(forecaster):
    """But for one input, the side itself, which makes a difference of less than a millimetre."""
    keypoints = generate_scene(4, 2.0).keypoints
    _, window = next(windows(forecaster.spec, keypoints))
    _, mirrored = next(windows(forecaster.spec, keypoints[:, ::-1] * np.array([1.0, -1.0, 1.0])))
    given, turned = forecaster.forecast(window).keypoints[0, 0], forecaster.forecast(mirrored).keypoints[0, 0]
    np.testing.assert_allclose(turned.flip(1) * torch.tensor([1.0, -1.0, 1.0]), given, rtol=0.0, atol=1e-3)


def test_fingers_of_persons_it_has_not_seen_are_forecast_better_than_by_holding_still(forecaster):
    errors = []
    for seed in (500, 501):  # training began at 10,000,000
        keypoints = generate_scene(seed, 15.0).keypoints
        palm = np.stack([to_palm_frame(keypoints[:, side], SIDES[side]) for side in (LEFT, RIGHT)], axis=1)
        for i, window in windows(forecaster.spec, keypoints[:-6]):
            future = forecaster.forecast(window).keypoints[0, 0, 5].numpy()  # 0.2 s ahead
            for side in (LEFT, RIGHT):
                told = to_palm_frame(future[side][None], SIDES[side])[0]
                errors.append([np.linalg.norm((x - palm[i + 6, side])[TIPS], axis=-1) for x in (told, palm[i, side])])
    ours, held = np.sqrt(np.mean(np.square(errors), axis=(0, 2)))
    assert ours < 0.6 * held


def test_missing_observations_and_missing_hands_are_bridged(forecaster):
    keypoints = generate_scene(5, 2.0).keypoints
    keypoints[15:20, RIGHT] = np.nan
    keypoints[:, LEFT] = np.nan
    for _, window in windows(forecaster.spec, keypoints, every=1):
        out = forecaster.forecast(window)
        assert torch.isfinite(out.keypoints).all() and not out.valid[0, LEFT].any()
