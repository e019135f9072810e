"""What is let into windows, in which frame, and how one-hand messages are paired."""

import numpy as np
import pytest

from egohand_ros.forecast.common.protocol import ForecasterSpec
from egohand_ros.geometry.camera import Camera
from egohand_ros.geometry.rotations import matrix_from_rotation_vector
from egohand_ros.geometry.transforms import invert_transform, make_transform, transform_points
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.messages.hands import hands_of_sides
from egohand_ros.stream.intake import Intake
from egohand_ros.stream.pairing import SidePairer
from egohand_ros.stream.warmup import example_hand, example_window

BOTH = np.stack([example_hand() * (1, -1, 1), example_hand()]) + (0.3, 0.0, 0.5)
VALID = np.ones((2, 21), dtype=bool)
UNKNOWN = np.full((2, 3, 3), np.nan)
CAMERA = Camera.from_horizontal_fov(640, 480, 90.0)
SPEC = ForecasterSpec("test", step=0.1, window_length=5)


@pytest.fixture
def refused():
    return []


@pytest.fixture
def make(refused):
    reject = lambda source, error: refused.append((source, error.reason))  # noqa: E731
    return lambda spec=SPEC, **options: Intake(spec, reject, **options)


def see(intake, stamp, keypoints=BOTH, frame="camera", valid=VALID):
    return intake.hands(stamp, frame, keypoints, valid, UNKNOWN, now=stamp)


def camera(stamp):
    return make_transform(matrix_from_rotation_vector(np.array([0.0, 0.1 * stamp, 0.2])), np.array([stamp, 0.0, 1.0]))


def test_without_camera_poses_windows_are_in_the_trackers_frame(make, refused):
    intake = make()
    assert intake.observation() is None
    assert all(see(intake, 10.0 + 0.1 * i) for i in range(5))
    observation = intake.observation()
    assert observation.frame_id == "camera" and observation.last_seen == (10.4, 10.4)
    assert observation.window.valid.all() and np.allclose(observation.window.keypoints[0, -1], BOTH)
    assert not refused


@pytest.mark.parametrize("fixed_frame", ["", "odom"])
def test_camera_poses_move_hands_to_their_frame(make, fixed_frame):
    intake = make(fixed_frame=fixed_frame)
    for i in range(5):
        stamp = 10.0 + 0.1 * i
        seen = transform_points(invert_transform(camera(stamp)), BOTH)
        assert not intake.camera_pose(stamp, "odom", camera(stamp), stamp, "camera_pose")
        assert see(intake, stamp, seen)
    observation = intake.observation()
    assert observation.frame_id == "odom"
    assert np.allclose(observation.window.keypoints[0], BOTH, atol=1e-9)
    assert np.allclose(observation.window.camera_pose[0, -1], camera(10.4))


def test_hands_already_in_the_fixed_frame_are_not_moved(make):
    intake = make()
    intake.camera_pose(10.0, "odom", camera(10.0), 10.0, "camera_pose")
    assert see(intake, 10.0, frame="odom")
    assert np.allclose(intake.observation().window.keypoints[0, -1], BOTH) and not intake.waits_for_camera


def test_the_first_camera_pose_switches_frames_and_forgets_the_other_ones(make):
    intake = make()
    for i in range(5):
        see(intake, 10.0 + 0.1 * i)
    intake.camera_pose(10.5, "odom", camera(10.5), 10.5, "camera_pose")
    assert see(intake, 10.5)
    observation = intake.observation()
    assert observation.frame_id == "odom" and observation.window.valid[0].any(-1).any(-1).tolist() == [False] * 4 + [
        True
    ]


@pytest.mark.parametrize(
    "options, hand_frame, pose_frame, wanted",
    [
        (dict(camera_frame="camera"), "elsewhere", None, ("hand_poses", "unknown_frame")),
        (dict(fixed_frame="odom"), None, "elsewhere", ("camera_pose", "unknown_frame")),
    ],
)
def test_frames_that_were_named_are_insisted_on(make, refused, options, hand_frame, pose_frame, wanted):
    intake = make(**options)
    if hand_frame:
        assert not see(intake, 10.0, frame=hand_frame)
    if pose_frame:
        intake.camera_pose(10.0, pose_frame, np.eye(4), 10.0, "camera_pose")
    assert refused == [wanted]


def test_another_frame_is_refused_while_the_first_is_alive_and_begins_anew_after_it(make, refused):
    intake = make()
    see(intake, 10.0)
    assert not see(intake, 10.1, frame="other")
    assert refused == [("hand_poses", "unknown_frame")]
    see(intake, 10.2)
    epoch = intake.epoch
    assert see(intake, 11.5, frame="other")
    assert intake.epoch == epoch + 1 and intake.observation().frame_id == "other"
    assert intake.observation().window.valid[0, :-1].sum() == 0


def test_refusals_have_reasons_and_leave_no_trace(make, refused):
    intake = make()
    for i in range(5):
        see(intake, 10.0 + 0.1 * i)
    before = intake.observation().window.keypoints.clone()
    nan, huge = BOTH.copy(), BOTH * 1e7
    nan[:, 4] = np.nan
    no_wrist = VALID.copy()
    no_wrist[:, WRIST] = False
    assert not see(intake, 10.5, nan)
    assert not see(intake, 10.5, huge)
    assert not see(intake, 10.5, BOTH * 30)
    assert not see(intake, 10.5, valid=no_wrist)
    for stamp, now in ((0.0, 10.5), (10.5, 20.0), (30.0, 10.5), (10.3, 10.5), (10.4, 10.5)):
        assert not intake.hands(stamp, "camera", BOTH, VALID, UNKNOWN, now)
    intake.camera_pose(10.5, "odom", np.full((4, 4), np.nan), 10.5, "camera_pose")
    hands = ["non_finite_keypoint"] * 2 + ["huge_value"] * 2 + ["implausible_hand"] * 2 + ["wrist_missing"] * 2
    stamps = ["zero_stamp", "stale_stamp", "future_stamp", "out_of_order", "out_of_order", "non_finite_pose"]
    assert [reason for _, reason in refused] == hands + stamps
    assert (intake.observation().window.keypoints == before).all()


def test_one_bad_hand_leaves_the_other(make, refused):
    intake = make()
    broken = BOTH.copy()
    broken[0] *= 30
    assert see(intake, 10.0, broken)
    assert refused == [("hand_poses", "implausible_hand")]
    assert intake.observation().window.valid[0, -1].all(-1).tolist() == [False, True]
    assert intake.observation().last_seen == (-np.inf, 10.0)


def test_stamps_that_restart_begin_a_new_history_and_keep_the_prompt(make):
    intake = make()
    intake.prompt("pour")
    for i in range(5):
        see(intake, 100.0 + 0.1 * i)
    epoch = intake.epoch
    assert intake.hands(10.0, "camera", BOTH + 1.0, VALID, UNKNOWN, now=10.0)
    observation = intake.observation()
    assert intake.epoch == epoch + 1 and observation.window.prompt == ("pour",)
    assert observation.window.valid[0, :-1].sum() == 0 and np.allclose(observation.window.keypoints[0, -1], BOTH + 1.0)


def test_images_keep_their_calibration_over_a_restart_and_lose_one_that_is_not_theirs(make, refused):
    spec = ForecasterSpec(
        "test", window_length=5, modalities=("keypoints", "images"), image_offsets=(0,), image_size=(6, 8)
    )
    intake, decoded = make(spec=spec), []

    def show(stamp, shape=(12, 16, 3)):
        intake.image(stamp, lambda: decoded.append(stamp) or np.zeros(shape, dtype=np.uint8), now=stamp)
        see(intake, stamp)
        return intake.observation()

    intake.camera_info(CAMERA)
    assert show(100.0).window.camera_matrix is not None
    see(intake, 100.1)
    assert intake.observation().image_stamp == 100.0
    intake.image(100.001, None, now=100.001)  # too soon after the one before: not decoded
    restarted = show(10.0)
    assert restarted.window.camera_matrix is not None and restarted.image_stamp == 10.0 and decoded == [100.0, 10.0]
    cropped = show(10.1, (12, 12, 3))
    assert cropped.window.camera_matrix is None and cropped.window.images is not None
    assert refused == [("camera_info", "camera_mismatch")]


def test_the_example_window_has_what_the_spec_wants():
    spec = ForecasterSpec(
        "test",
        window_length=6,
        modalities=("keypoints", "images", "depth", "camera_pose", "prompt"),
        image_offsets=(-3, 0),
        image_size=(24, 32),
    )
    window = example_window(spec)
    assert window.valid.all() and window.rotation_valid.all()
    assert window.images.shape == (1, 2, 24, 32, 3) and window.depth.shape == (1, 2, 24, 32)
    assert window.camera_matrix.shape == (1, 2, 3, 3)
    assert window.camera_pose.shape == (1, 6, 4, 4) and window.prompt == ("warm up",)


def one(side, stamp, frame="tracker"):
    return side, hands_of_sides(stamp, frame, {side: BOTH[side]})


def sides(observations):
    return [(round(o.stamp, 3), o.valid.all(-1).tolist()) for o in observations]


def test_sides_of_one_stamp_are_one_observation():
    pairer = SidePairer()
    out = [pairer.add(*one(side, 10.0 + 0.01 * i)) for i in range(3) for side in (0, 1)]
    assert [sides(o) for o in out] == [o for i in range(3) for o in ([], [(10.0 + 0.01 * i, [True, True])])]


def test_sides_of_different_stamps_are_not_held_back():
    pairer = SidePairer()
    out = [o for i in range(20) for side in (0, 1) for o in pairer.add(*one(side, 10.0 + 0.02 * i + 0.007 * side))]
    stamps = [o.stamp for o in out]
    assert stamps == sorted(stamps) and len(out) == 40
    # Once learnt, each comes out at once.
    assert len(pairer.add(*one(0, 20.0))) == 1


def test_a_tracker_of_one_hand_waits_only_for_its_second_message():
    pairer = SidePairer()
    out = [sides(pairer.add(*one(1, 10.0 + 0.02 * i))) for i in range(4)]
    only = [False, True]
    assert out == [[], [(10.0, only), (10.02, only)], [(10.04, only)], [(10.06, only)]]


def test_a_hand_that_vanishes_holds_the_other_back_only_for_a_moment():
    pairer = SidePairer()
    for i in range(5):
        for side in (0, 1):
            pairer.add(*one(side, 10.0 + 0.02 * i))
    out = [o.stamp for i in range(5, 40) for o in pairer.add(*one(0, 10.0 + 0.02 * i))]
    assert np.allclose(out, 10.0 + 0.02 * np.arange(5, 40))  # all of them, in order
    # It comes back: no stamp comes out twice, and from its second frame on it is there.
    out = [o for i in range(40, 44) for side in (0, 1) for o in pairer.add(*one(side, 10.0 + 0.02 * i))]
    assert sides(out) == [(10.8, [True, False]), (10.82, [True, True]), (10.84, [True, True]), (10.86, [True, True])]
