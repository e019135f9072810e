import numpy as np
import pytest
from hand_scene import HAND_LENGTH, hand_model, palm_size, random_hand, report, rotation

from egohand_ros.errors import RejectedInput
from egohand_ros.geometry.camera import Camera
from egohand_ros.hand.palm import palm_rotation
from egohand_ros.tracking.localize import _PALM_PER_HAND_LENGTH, locate_hand

MATRIX = np.array([[900.0, 0, 650], [0, 905, 350], [0, 0, 1]])
CAMERAS = {
    "pinhole": Camera(MATRIX, 1280, 720),
    "plumb_bob": Camera(MATRIX, 1280, 720, "plumb_bob", np.array([-0.28, 0.09, 1e-3, -5e-4, -0.01])),
    "rational": Camera(
        MATRIX, 1280, 720, "rational_polynomial", np.array([0.4, -0.2, 5e-4, -3e-4, -0.02, 0.7, -0.15, -0.05])
    ),
    "fisheye": Camera(
        np.array([[420.0, 0, 640], [0, 420, 360], [0, 0, 1]]),
        1280,
        720,
        "equidistant",
        np.array([0.03, -0.01, 2e-3, -1e-3]),
    ),
}


def located_length(keypoints):
    """The hand_length whose palm has the size of these keypoints' palm, so that the scale is known exactly."""
    return palm_size(keypoints) / _PALM_PER_HAND_LENGTH


@pytest.fixture(params=CAMERAS.values(), ids=CAMERAS.keys())
def camera(request):
    return request.param


def test_exact_landmarks_give_the_exact_pose_through_every_distortion(camera):
    rng = np.random.default_rng(1)
    for _ in range(50):
        truth = random_hand(rng)
        location = locate_hand(*report(truth, camera), camera, located_length(truth))
        assert np.abs(location.keypoints - truth).max() < 1e-3
        assert location.reprojection_rms < 1e-3


def test_noisy_landmarks_and_tilted_world_landmarks_stay_near_and_never_flip(camera):
    rng = np.random.default_rng(2)
    lateral, depth, turn = [], [], []
    for i in range(150):
        side = ("left", "right")[i % 2]
        truth = random_hand(rng, side)
        world, landmarks = report(truth, camera, rng, pixel_noise=2.0, tilt=0.12)
        found = locate_hand(world, landmarks, camera, located_length(truth)).keypoints
        along = truth[0] / np.linalg.norm(truth[0])
        error = found[0] - truth[0]
        depth.append(abs(error @ along) / np.linalg.norm(truth[0]))
        lateral.append(np.linalg.norm(error - (error @ along) * along))
        cosine = (np.trace(palm_rotation(found, side).T @ palm_rotation(truth, side)) - 1) / 2
        turn.append(np.arccos(np.clip(cosine, -1, 1)))
    assert np.percentile(depth, 95) < 0.05
    assert np.percentile(lateral, 95) < 0.01
    assert np.max(turn) < np.radians(45)


def test_a_flat_small_hand_keeps_its_orientation_because_the_view_is_known():
    """The hardest case for perspective-n-point: without the prior the 95th percentile here is 25 degrees."""
    camera, rng = CAMERAS["pinhole"], np.random.default_rng(0)
    turn = []
    for _ in range(200):
        truth = hand_model("right", curl=0.0) @ rotation(*(0.2 * rng.normal(size=3))).T
        truth += np.array([*rng.uniform(-0.2, 0.2, 2), 0.8]) - truth.mean(0)
        world, landmarks = report(truth, camera, rng, pixel_noise=4.0, tilt=0.12)
        found = locate_hand(world, landmarks, camera, located_length(truth), max_reprojection=1.0).keypoints
        cosine = (np.trace(palm_rotation(found, "right").T @ palm_rotation(truth, "right")) - 1) / 2
        turn.append(np.arccos(np.clip(cosine, -1, 1)))
    assert np.percentile(turn, 95) < np.radians(16)


def test_distance_follows_the_hand_length_and_not_the_size_of_the_world_landmarks():
    camera = CAMERAS["pinhole"]
    truth = random_hand(np.random.default_rng(3))
    length = located_length(truth)
    reference = locate_hand(*report(truth, camera), camera, length).keypoints
    inflated = locate_hand(*report(truth, camera, scale=1.3), camera, length).keypoints
    larger_hand = locate_hand(*report(truth, camera), camera, 1.1 * length).keypoints
    np.testing.assert_allclose(inflated, reference, atol=1e-6)
    np.testing.assert_allclose(larger_hand, 1.1 * reference, atol=1e-6)


def test_an_unknown_hand_length_is_an_average_one_and_less_sure():
    camera = CAMERAS["pinhole"]
    world, landmarks = report(random_hand(np.random.default_rng(4)), camera)
    unknown = locate_hand(world, landmarks, camera)
    known = locate_hand(world, landmarks, camera, HAND_LENGTH)
    np.testing.assert_allclose(unknown.keypoints, known.keypoints)
    distance = np.linalg.norm(known.keypoints[0])
    spread = [np.sqrt(np.linalg.eigvalsh(location.wrist_covariance[:3, :3])[-1]) for location in (known, unknown)]
    assert 0.05 * distance < spread[0] < spread[1] < 0.15 * distance


def test_depth_is_the_uncertain_axis_and_the_covariance_covers_the_error():
    camera, rng = CAMERAS["pinhole"], np.random.default_rng(5)
    normalised = []
    for _ in range(200):
        truth = random_hand(rng)
        world, landmarks = report(truth, camera)
        extent = np.linalg.norm(np.ptp(landmarks, axis=0))
        noisy = landmarks + rng.normal(scale=0.025 * extent, size=landmarks.shape)  # the noise that it assumes
        location = locate_hand(world, noisy, camera, located_length(truth))
        covariance = location.wrist_covariance
        assert np.allclose(covariance, covariance.T) and np.linalg.eigvalsh(covariance).min() > 0
        axes = np.linalg.eigh(covariance[:3, :3])[1]
        ray = truth[0] / np.linalg.norm(truth[0])
        assert abs(axes[:, -1] @ ray) > 0.9
        error = location.keypoints[0] - truth[0]
        normalised.append(error @ np.linalg.solve(covariance[:3, :3], error) / 3)
    assert 0.05 < np.mean(normalised) < 1.5


def test_an_outlying_fingertip_hardly_moves_the_wrist():
    camera = CAMERAS["pinhole"]
    truth = random_hand(np.random.default_rng(6))
    world, landmarks = report(truth, camera)
    landmarks[8] += 80.0
    found = locate_hand(world, landmarks, camera, located_length(truth), max_reprojection=1.0)
    assert np.linalg.norm(found.keypoints[0] - truth[0]) < 0.02 * np.linalg.norm(truth[0])
    assert found.reprojection.argmax() == 8


def with_nan(points):
    points = points.copy()
    points[3] = np.nan
    return points


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda w, p: (with_nan(w), p), "non_finite_landmark"),
        (lambda w, p: (w, with_nan(p)), "non_finite_landmark"),
        (lambda w, p: (0 * w, p), "degenerate_hand"),
        (lambda w, p: (w, 0 * p), "degenerate_hand"),
        (lambda w, p: (w, p[::-1]), "reprojection"),
        (lambda w, p: (w, np.random.default_rng(0).uniform(0, 700, (21, 2))), "reprojection"),
    ],
)
def test_what_is_no_hand_is_rejected_with_a_reason(spoil, reason):
    camera = CAMERAS["pinhole"]
    world, landmarks = report(hand_model() + [0, 0, 0.5], camera)
    with pytest.raises(RejectedInput) as error:
        locate_hand(*spoil(world, landmarks), camera)
    assert error.value.reason == reason


def test_random_landmarks_never_raise_anything_else():
    camera, rng = CAMERAS["fisheye"], np.random.default_rng(7)
    for _ in range(300):
        world = rng.normal(scale=10.0 ** rng.uniform(-4, 2), size=(21, 3))
        landmarks = rng.normal(scale=10.0 ** rng.uniform(-2, 5), size=(21, 2))
        try:
            location = locate_hand(world, landmarks, camera, max_reprojection=10.0)
        except RejectedInput:
            continue
        assert np.isfinite(location.keypoints).all() and np.isfinite(location.wrist_covariance).all()
        assert np.isfinite(location.reprojection).all()
