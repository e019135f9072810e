import numpy as np
import pytest
import torch

from egohand_ros.geometry.camera import Camera
from egohand_ros.geometry.canonical import canonical_from_camera
from egohand_ros.geometry.minimum_jerk import minimum_jerk
from egohand_ros.geometry.rotations import (
    geodesic_angle,
    matrix_from_quaternion,
    matrix_from_rotation_vector,
    matrix_from_sixd,
    nearest_rotation,
    quaternion_from_matrix,
    rotation_vector,
    sixd_from_matrix,
    slerp,
)
from egohand_ros.geometry.transforms import invert_transform, make_transform, transform_points

ROTATIONS = matrix_from_rotation_vector(np.random.default_rng(0).normal(size=(5, 2, 3)))


def test_every_rotation_form_returns_the_rotation():
    np.testing.assert_allclose(matrix_from_quaternion(quaternion_from_matrix(ROTATIONS)), ROTATIONS, atol=1e-12)
    np.testing.assert_allclose(matrix_from_rotation_vector(rotation_vector(ROTATIONS)), ROTATIONS, atol=1e-12)
    tensor = torch.from_numpy(ROTATIONS)
    torch.testing.assert_close(matrix_from_sixd(sixd_from_matrix(tensor)), tensor)
    assert sixd_from_matrix(tensor)[0, 0].tolist() == [*ROTATIONS[0, 0][:, 0], *ROTATIONS[0, 0][:, 1]]


def test_slerp_and_the_geodesic_angle_agree():
    a, b = ROTATIONS[:, 0], ROTATIONS[:, 1]
    part = slerp(a, b, np.full(5, 0.3))
    np.testing.assert_allclose(geodesic_angle(a, part), 0.3 * geodesic_angle(a, b), atol=1e-9)
    np.testing.assert_array_equal(slerp(a, b, np.zeros(5)), a)


def test_nearest_rotation_is_closer_than_any_rotation_near_it():
    rng = np.random.default_rng(1)
    matrix = ROTATIONS[0, 0] + rng.normal(scale=0.2, size=(3, 3))
    best = nearest_rotation(matrix)
    assert np.linalg.det(best) == pytest.approx(1.0)
    for vector in rng.normal(scale=0.05, size=(50, 3)):
        other = best @ matrix_from_rotation_vector(vector)
        assert np.linalg.norm(matrix - best) <= np.linalg.norm(matrix - other)
    assert np.linalg.det(nearest_rotation(np.diag([1.0, 1.0, -0.9]))) == pytest.approx(1.0)


def test_transforms_invert_and_compose():
    transform = make_transform(ROTATIONS, np.ones((5, 2, 3)))
    np.testing.assert_allclose(
        invert_transform(transform) @ transform, np.broadcast_to(np.eye(4), (5, 2, 4, 4)), atol=1e-12
    )
    points = np.random.default_rng(2).normal(size=(5, 2, 7, 3))
    np.testing.assert_allclose(
        transform_points(invert_transform(transform), transform_points(transform, points)), points
    )


def test_canonical_frame_keeps_gravity_and_removes_yaw_and_position():
    # Optical axes of a camera that looks along world yaw 0.7, 20 degrees down.
    yaw, pitch = 0.7, np.radians(20)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    camera = make_transform(np.stack([right, np.cross(forward, right), forward], axis=-1), np.array([3.0, 4.0, 1.6]))
    canonical = canonical_from_camera(camera)
    np.testing.assert_allclose(canonical[:3, 2], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(canonical[:3, 0], [np.cos(yaw), np.sin(yaw), 0], atol=1e-12)
    np.testing.assert_allclose(canonical[:3, 3], [3.0, 4.0, 1.6])
    straight_down = make_transform(np.stack([[0, -1, 0], [-1, 0, 0], [0, 0, -1]], axis=-1).astype(float), np.zeros(3))
    np.testing.assert_allclose(canonical_from_camera(straight_down)[:3, 0], [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", [-0.3, 0.1, 1e-3, -1e-3, 0.0]),
        ("equidistant", [0.05, -0.01, 0.002, 0.0]),
        ("rational_polynomial", [0.1, 0.02, 1e-4, 1e-4, 0.0, 0.1, 0.02, 0.0]),
    ],
)
def test_undistort_reverses_project(model, coefficients):
    camera = Camera(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 640, 480, model, np.array(coefficients))
    points = np.array([[0.1, -0.05, 0.5], [-0.2, 0.1, 0.9], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(camera.undistort(camera.project(points)), points[:, :2] / points[:, 2:], atol=1e-5)


def test_camera_scales_refuses_nonsense_and_hides_what_is_behind_it():
    camera = Camera.from_horizontal_fov(1280, 720, 90.0)
    assert camera.matrix[0, 0] == pytest.approx(640.0)
    half = camera.scaled(640, 360)
    np.testing.assert_allclose(half.project(np.array([0.1, 0.2, 1.0])), camera.project(np.array([0.1, 0.2, 1.0])) / 2)
    assert np.isnan(camera.project(np.array([0.0, 0.0, -1.0]))).all()
    with pytest.raises(ValueError, match="calibrated"):
        Camera(np.zeros((3, 3)), 640, 480)
    with pytest.raises(ValueError, match="'banana'"):
        Camera(np.eye(3), 640, 480, "banana")


def test_minimum_jerk_is_that():
    phase = np.linspace(0, 1, 2001)
    assert minimum_jerk(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])) == pytest.approx([0, 0, 0.5, 1, 1])
    velocity = np.gradient(minimum_jerk(phase), phase)
    assert velocity.max() == pytest.approx(1.875, rel=1e-3)  # Flash & Hogan: peak is 1.875 times the mean speed
    assert abs(velocity[0]) < 1e-2 and abs(velocity[-1]) < 1e-2
    phase = torch.linspace(-0.5, 1.5, 21, dtype=torch.float64)
    assert minimum_jerk(phase).numpy() == pytest.approx(minimum_jerk(phase.numpy()), abs=1e-12)
