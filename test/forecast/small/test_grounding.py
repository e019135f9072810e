"""The grounding of egohand-small: it needs all of its inputs, sees the same wherever the world is, and without it the
forecast is that of the hands alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egohand_ros.data.synthetic.goals import OBJECT
from egohand_ros.forecast.small.forecaster import SmallForecaster
from egohand_ros.forecast.small.grounding import GroundingConfig
from egohand_ros.forecast.small.network import SmallConfig
from egohand_ros.forecast.small.sight import CELL, cell_of, cell_rays, level_frame
from egohand_ros.training.windows.goal_windows import GoalWindowSampler, see_goals

WORDS = (
    "red",
    "cup",
    "take",
    "the",
    "green",
    "blue",
    "ball",
    "block",
    "box",
    "put",
    "yellow",
    "white",
    "orange",
    "bottle",
)
SIZE = (48, 64)
GROUNDING = GroundingConfig(WORDS, *SIZE, channels=(8, 8, 16), word_width=8, map_width=16, goal_width=32)
HANDS = SmallConfig(width=64, layers=1, flow_width=32, flow_layers=1, observation_width=16)


@pytest.fixture(scope="module")
def seen():
    return see_goals(5, SIZE, 0.1, 20, 10)


@pytest.fixture(scope="module")
def cut(seen):
    spec = SmallForecaster(HANDS).spec
    return GoalWindowSampler([seen], spec, batch=4, group=4, blind=0.0, deaf=0.0).cuts(0)[0]


@pytest.fixture(scope="module")
def window(cut):
    return replace(cut.window, prompt=("take the red cup",) * cut.window.batch)


@pytest.fixture(scope="module")
def forecaster():
    """Random weights everywhere, so that nothing is hidden behind a zero."""
    torch.manual_seed(0)
    made = SmallForecaster(replace(HANDS, grounding=GROUNDING), goals=True)
    made.network.time_basis.normal_(std=0.05)
    made.network.finger_basis.normal_(std=0.01)
    for parameter in made.network.parameters():
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    return made


@pytest.fixture(scope="module")
def hands_alone(forecaster):
    made = SmallForecaster(HANDS)
    state = {k: v for k, v in forecaster.network.state_dict().items() if not k.startswith("grounding.")}
    made.network.load_state_dict(state)
    return made


def test_says_what_it_looks_at(forecaster, hands_alone):
    assert set(forecaster.spec.modalities) == {"keypoints", "camera_pose", "images", "prompt"}
    assert forecaster.spec.image_size == SIZE and forecaster.spec.image_offsets == (0,)
    assert hands_alone.spec.modalities == ("keypoints",)


@pytest.mark.parametrize("count", [1, 3])
def test_image_and_words_change_the_forecast(forecaster, hands_alone, window, count):
    told, alone = forecaster.forecast(window, count), hands_alone.forecast(window, count)
    assert (told.keypoints - alone.keypoints).abs().max() > 1e-3
    again = forecaster.forecast(replace(window, prompt=("put the blue ball",) * window.batch), count)
    assert (told.keypoints - again.keypoints).abs().max() > 1e-5


@pytest.mark.parametrize(
    "missing",
    [
        {"images": None},
        {"camera_matrix": None},
        {"camera_pose": None},
        {"prompt": None},
        {"prompt": ("fly",) * 4},
        {"prompt": ("",) * 4},
    ],
    ids=["image", "calibration", "camera pose", "task", "known word", "word"],
)
def test_without_one_of_them_the_hands_alone_are_forecast(forecaster, hands_alone, window, missing):
    given = replace(window, **missing)
    assert torch.equal(forecaster.forecast(given).keypoints, hands_alone.forecast(given).keypoints)


def test_a_window_with_a_task_does_not_change_those_without(forecaster, hands_alone, window):
    mixed = replace(window, prompt=("take the red cup", "", "fly", "take the red cup"))
    told, alone = forecaster.forecast(mixed), hands_alone.forecast(mixed)
    differs = (told.keypoints - alone.keypoints).abs().amax((1, 2, 3, 4, 5)) > 0
    assert differs.tolist() == [True, False, False, True]


def test_untrained_it_says_nothing(window):
    torch.manual_seed(1)
    made = SmallForecaster(replace(HANDS, grounding=GROUNDING), goals=True)
    blind = replace(window, images=None)
    assert torch.equal(made.forecast(window).keypoints, made.forecast(blind).keypoints)


def test_sees_the_same_wherever_the_world_is(forecaster, window):
    turn, shift = Rotation.from_euler("z", 1.1).as_matrix(), np.array([2.0, -1.0, 0.5])
    camera = window.camera_pose.clone()
    camera[..., :3, :] = torch.from_numpy(turn) @ camera[..., :3, :]
    camera[..., :3, 3] += torch.from_numpy(shift)
    moved = replace(
        window,
        keypoints=(window.keypoints @ torch.from_numpy(turn.T) + torch.from_numpy(shift)) * window.valid[..., None],
        wrist_rotation=torch.from_numpy(turn) @ window.wrist_rotation,
        camera_pose=camera,
    )
    here, there = (forecaster.forecast(w).keypoints.numpy() for w in (window, moved))
    assert np.allclose(here @ turn.T + shift, there, atol=2e-4)


def test_the_forecast_says_what_it_found_and_where(forecaster, window):
    forecast = forecaster.forecast(replace(window, prompt=("take the red cup", "fly", "put the ball", "cup")))
    assert forecast.goal_points.shape == (4, 2, 3) and torch.isfinite(forecast.goal_points).all()
    assert forecast.goal_probability[1].tolist() == [0.0, 0.0] and (forecast.goal_probability[[0, 2, 3]] > 0).all()
    away = forecast.goal_points[:, 0] - window.camera_pose[:, -1, :3, 3]
    assert (torch.linalg.norm(away, dim=-1) < 6.0).all()
    assert forecaster.forecast(replace(window, images=None)).goal_points is None


def test_an_image_of_another_size_is_resized_with_its_calibration(forecaster, window):
    twice = window.images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    larger = replace(
        window, images=twice, camera_matrix=torch.diag(torch.tensor([2.0, 2.0, 1.0])).double() @ window.camera_matrix
    )
    assert torch.allclose(forecaster.forecast(larger).keypoints, forecaster.forecast(window).keypoints, atol=1e-6)


def test_a_cells_ray_leads_to_what_is_seen_in_it(window):
    pose, matrix = window.camera_pose[:, -1].numpy(), window.camera_matrix[:, -1].numpy()
    frame = level_frame(window.camera_pose.numpy())
    rays = cell_rays(matrix, frame.basis.swapaxes(-1, -2) @ pose[:, :3, :3], SIZE)
    height, width = (n // CELL for n in SIZE)
    for row, column in ((0, 0), (2, 5), (height - 1, width - 1)):
        points = frame.points_out(0.7 * rays[:, row, column].astype(float))
        assert (cell_of(points, matrix, pose, SIZE) == row * width + column).all()
    behind = frame.points_out(-0.7 * rays[:, 2, 5].astype(float))
    assert (cell_of(behind, matrix, pose, SIZE) == -1).all()
    assert (cell_of(np.full((len(pose), 3), np.nan), matrix, pose, SIZE) == -1).all()


def test_the_level_frame_is_level_and_looks_ahead(window):
    pose = window.camera_pose.numpy()
    frame = level_frame(pose)
    assert np.allclose(frame.basis[:, :, 2], [0, 0, 1]) and np.allclose(frame.origin, pose[:, -1, :3, 3])
    assert ((frame.basis[:, :, 0] * pose[:, -1, :3, 2]).sum(-1) > 0.5).all()


def test_labels_are_where_the_object_is(seen, cut):
    """Training turns the world about Z, and labels are level and from the camera: distance and height stay."""
    scene = seen.scene.scene
    frames = np.searchsorted(scene.stamp, cut.window.stamp.numpy() - 1e-6)
    away = seen.scene.goals[frames, OBJECT] - scene.T_world_camera[frames, :3, 3]
    told = np.isfinite(cut.goals[:, OBJECT]).all(-1)
    assert told.any()
    assert np.allclose(np.linalg.norm(cut.goals[told, OBJECT], axis=-1), np.linalg.norm(away[told], axis=-1), atol=1e-6)
    assert np.allclose(cut.goals[told, OBJECT, 2], away[told, 2], atol=1e-6)


@pytest.mark.parametrize("changes", [{"image_height": 50}, {"channels": (8, 8)}])
def test_sizes_that_cannot_be_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        replace(GROUNDING, **changes)
