from dataclasses import replace

import numpy as np
import pytest
import torch

from egohand_ros.errors import RejectedInput
from egohand_ros.forecast.common.protocol import ForecasterSpec
from egohand_ros.geometry.camera import Camera
from egohand_ros.geometry.transforms import invert_transform, make_transform, transform_points
from egohand_ros.hand.plausibility import HandLimits, check_hand
from egohand_ros.stream.aligner import WindowBuilder
from egohand_ros.stream.resample import resample
from egohand_ros.stream.stamps import StampGuard, StampLimits
from egohand_ros.stream.window import pixels_of

REST = np.random.default_rng(0).normal(scale=0.05, size=(2, 21, 3))
VALID = np.ones((2, 21), dtype=bool)
SPEC = ForecasterSpec(
    "test", step=0.1, window_length=5, modalities=("keypoints", "images"), image_offsets=(-4, 0), image_size=(6, 8)
)


CAMERA = Camera(np.array([[420.0, 0, 330], [0, 410, 235], [0, 0, 1]]), 640, 480, "plumb_bob", [0.1, 0, 0, 0, 0])


def moving(stamp):
    """Hands that move at 0.3 m/s along x."""
    return REST + np.array([0.3 * stamp, 0.0, 0.0])


def yaw(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def camera_pose(stamp):
    return make_transform(yaw(0.5 * stamp), np.array([0.1 * stamp, 0.2, 1.6]))


def test_window_interpolates_an_uneven_stream_exactly_when_motion_is_linear():
    builder = WindowBuilder(SPEC)
    stamps = 10.0 + np.cumsum(np.random.default_rng(1).uniform(0.01, 0.05, size=60))
    for stamp in stamps:
        assert builder.add_hands(stamp, moving(stamp), VALID)
    window = builder.window()
    times = stamps[-1] - 0.1 * np.arange(4, -1, -1)
    assert window.stamp.item() == stamps[-1]
    assert window.valid.all()
    np.testing.assert_allclose(window.keypoints[0].numpy(), [moving(t) for t in times], atol=1e-12)


def test_window_masks_what_lies_before_the_first_observation_and_inside_long_gaps():
    builder = WindowBuilder(SPEC)
    for stamp in (10.0, 10.05, 10.35, 10.4):
        builder.add_hands(stamp, moving(stamp), VALID)
    window = builder.window()  # asks for 10.0, 10.1, 10.2, 10.3, 10.4; 10.05 to 10.35 is a gap of 0.3 s
    assert window.valid[0, :, 0, 0].tolist() == [True, False, False, False, True]
    assert (window.keypoints[~window.valid] == 0).all()


def test_hands_in_the_camera_frame_wait_for_their_pose_and_end_in_the_world_frame():
    builder = WindowBuilder(SPEC, camera_frame=True)
    stamps = 10.0 + np.arange(12) * 0.05
    for stamp in stamps:
        local = transform_points(invert_transform(camera_pose(stamp)), moving(stamp))
        assert not builder.add_hands(stamp, local, VALID)
        assert builder.window() is None or builder.window().stamp.item() < stamp
        assert builder.add_camera_pose(stamp, camera_pose(stamp))
    window = builder.window()
    times = stamps[-1] - 0.1 * np.arange(4, -1, -1)
    np.testing.assert_allclose(window.keypoints[0].numpy(), [moving(t) for t in times], atol=1e-9)
    np.testing.assert_allclose(window.camera_pose[0].numpy(), [camera_pose(t) for t in times], atol=1e-9)


def test_arrival_order_does_not_change_the_window():
    early, late = WindowBuilder(SPEC, camera_frame=True), WindowBuilder(SPEC, camera_frame=True)
    stamps = 5.0 + np.arange(20) * 0.03
    hands = [(t, transform_points(invert_transform(camera_pose(t)), moving(t)), VALID) for t in stamps]
    poses = [(t, camera_pose(t)) for t in 5.0 - 0.01 + np.arange(40) * 0.017]
    for pose in poses:
        early.add_camera_pose(*pose)
    for hand in hands:
        early.add_hands(*hand)
        late.add_hands(*hand)
    for pose in poses:
        late.add_camera_pose(*pose)
    np.testing.assert_array_equal(early.window().keypoints.numpy(), late.window().keypoints.numpy())


def test_images_are_picked_at_their_offsets_and_resized_once():
    builder = WindowBuilder(SPEC)
    for i in range(11):
        stamp = 10.0 + 0.1 * i
        builder.add_image(stamp, np.full((12, 16, 3), i, dtype=np.uint8))
        builder.add_hands(stamp, moving(stamp), VALID)
    images = builder.window().images
    assert images.shape == (1, 2, 6, 8, 3)
    assert images[0, :, 0, 0, 0].tolist() == [6, 10]


def see_image(builder, stamp, size=(12, 16)):
    fits = builder.add_image(stamp, np.zeros((*size, 3), dtype=np.uint8))
    builder.add_hands(stamp, moving(stamp), VALID)
    return fits


def test_the_camera_matrix_is_that_of_the_resized_image():
    builder = WindowBuilder(SPEC)
    assert see_image(builder, 10.0) and builder.window().camera_matrix is None, "images without calibration work"
    builder.set_calibration(CAMERA)
    assert builder.window().camera_matrix is None, "it is that of the images that come after it"
    assert see_image(builder, 10.1)
    window = builder.window()
    assert window.camera_matrix.shape == (1, 2, 3, 3) and window.camera_matrix.dtype == torch.float64
    assert window.camera_matrix[0, 0].isnan().all(), "the older one came before the calibration"
    # Where a point is seen, as a share of the image's sides, does not depend on the size.
    point = np.array([0.1, -0.2, 0.8])
    seen, before = window.camera_matrix[0, -1].numpy() @ point, CAMERA.matrix @ point
    np.testing.assert_allclose(seen[:2] / seen[2] / (8, 6), before[:2] / before[2] / (640, 480))
    assert not see_image(builder, 10.2, size=(12, 12)), "cropped: not the whole image of this camera"
    assert builder.window().camera_matrix is None and builder.window().images is not None
    builder.reset()
    assert see_image(builder, 10.3)
    assert (builder.window().camera_matrix == window.camera_matrix[:, -1:]).all()


def test_the_images_of_a_camera_that_has_stopped_are_not_shown():
    builder = WindowBuilder(SPEC)
    builder.set_calibration(CAMERA)
    see_image(builder, 10.0)
    for stamp, shown in ((10.4, True), (10.6, False)):
        builder.add_hands(stamp, moving(stamp), VALID)
        window = builder.window()
        assert (window.images is not None, window.camera_matrix is not None) == (shown, shown)
        assert builder.image_stamp() == (10.0 if shown else None)
    see_image(builder, 10.7)
    assert builder.window().images is not None and builder.image_stamp() == 10.7


def test_a_model_that_needs_a_prompt_with_images_wants_none_without():
    builder = WindowBuilder(replace(SPEC, images_need_prompt=True))
    assert not builder.wants_image(10.0)
    see_image(builder, 10.0)
    assert builder.window().images is None
    builder.set_prompt("pick up the mug")
    assert builder.wants_image(10.1)
    see_image(builder, 10.1)
    assert not builder.wants_image(10.1) and builder.window().images is not None


def test_memory_is_bounded_at_any_rate():
    builder = WindowBuilder(SPEC)
    for i in range(5000):
        builder.add_hands(1.0 + i * 1e-4, REST, VALID)
    assert len(builder._hands) <= 2 + builder._span * builder.limits.max_rate


def test_resample_on_the_samples_returns_them_bit_for_bit():
    stamp = 3.0 + np.arange(30) * 0.01
    keypoints = np.random.default_rng(2).normal(size=(30, 2, 21, 3))
    valid = np.random.default_rng(3).random((30, 2, 21)) > 0.1
    valid[:, :, 0] = True
    rotation = np.tile(np.eye(3), (30, 2, 1, 1))
    samples = resample(stamp, keypoints, valid, rotation, stamp[::10], max_gap=0.05)
    np.testing.assert_array_equal(samples.valid, valid[::10])
    np.testing.assert_array_equal(samples.keypoints[samples.valid], keypoints[::10][valid[::10]])


@pytest.mark.parametrize(
    ("stamp", "now", "reason"),
    [(0.0, 10.0, "zero_stamp"), (np.nan, 10.0, "zero_stamp"), (11.0, 10.0, "future_stamp"), (5.0, 10.0, "stale_stamp")],
)
def test_stamps_are_refused_by_reason(stamp, now, reason):
    with pytest.raises(RejectedInput) as error:
        StampGuard().check(stamp, now)
    assert error.value.reason == reason


def test_a_repeated_stamp_is_refused_and_a_bag_loop_is_a_restart():
    guard = StampGuard(StampLimits())
    assert guard.check(10.0, 10.0) is False
    with pytest.raises(RejectedInput, match="out_of_order"):
        guard.check(10.0, 10.01)
    with pytest.raises(RejectedInput, match="out_of_order"):
        guard.check(9.9, 10.01)
    assert guard.check(2.0, 2.0) is True
    assert guard.check(2.1, 2.1) is False


def test_hands_are_refused_by_reason():
    def reason(keypoints, valid=VALID[0]):
        with pytest.raises(RejectedInput) as error:
            check_hand(keypoints, valid, HandLimits())
        return error.value.reason

    check_hand(REST[0] - REST[0, :1], VALID[0])
    broken = REST[0].copy()
    broken[3, 1] = np.nan
    assert reason(broken) == "non_finite_keypoint"
    assert reason(REST[0] * 1000.0) == "implausible_hand"
    assert reason(REST[0] + 1e6) == "huge_value"
    assert reason(np.zeros((21, 3))) == "implausible_hand"
    assert reason(REST[0], np.arange(21) > 0) == "wrist_missing"


def test_pictures_come_at_every_size_that_is_wanted():
    builder = WindowBuilder(replace(SPEC, more_image_sizes=((3, 4), (9, 5))))
    see_image(builder, 10.0)
    window = builder.window()
    assert window.images.shape == (1, 2, 6, 8, 3)
    assert [tuple(images.shape) for images in window.more_images] == [(1, 2, 3, 4, 3), (1, 2, 9, 5, 3)]
    builder.add_hands(11.0, moving(11.0), VALID)
    assert builder.window().images is None and builder.window().more_images is None


def test_keypoints_in_pixels_are_the_detectors_or_else_projected():
    builder = WindowBuilder(SPEC)
    camera = Camera(CAMERA.matrix, 640, 480)
    builder.set_calibration(camera)
    builder.add_camera_pose(9.0, np.eye(4))
    builder.add_camera_pose(11.0, np.eye(4))
    builder.add_image(10.0, np.zeros((12, 16, 3), dtype=np.uint8))
    points = np.broadcast_to([0.1, -0.05, 0.8], (2, 21, 3)) + np.zeros((2, 1, 1))
    valid = VALID.copy()
    valid[1, 3] = False
    builder.add_hands(10.0, points, valid)
    window = builder.window()
    expected = camera.scaled(8, 6).project(points[0, 0])
    pixels = pixels_of(window, (6, 8))
    np.testing.assert_allclose(pixels[0, -1, 0, 5], expected)
    assert pixels[0, -1, 1, 3].isnan().all() and pixels[0, 0].isnan().all(), "not seen, and before the first hands"
    np.testing.assert_allclose(pixels_of(window, (12, 24))[0, -1, 0, 5], expected * (3, 2))
    detected = torch.full((1, 5, 2, 21, 2), 3.0, dtype=torch.float64)
    assert (pixels_of(replace(window, pixels=detected), (12, 16)) == 6.0).all()
    behind = replace(window, camera_pose=torch.diag(torch.tensor([1.0, -1, -1, 1])).double().expand(1, 5, 4, 4))
    assert pixels_of(behind, (6, 8)).isnan().all()
    with pytest.raises(ValueError, match="camera matrix"):
        pixels_of(window.without_images(), (6, 8))
