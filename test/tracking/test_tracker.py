import numpy as np
import pytest

from egohand_ros.errors import RejectedInput, UserError
from egohand_ros.geometry.camera import Camera
from egohand_ros.hand.palm import palm_rotation
from egohand_ros.hand.skeleton import BONES
from egohand_ros.images.drawing import SIDE_COLOURS, draw_path
from egohand_ros.tracking.drawing import draw_hands
from egohand_ros.tracking.tracker import HandTracker, TrackerConfig, TrackingState
from egohand_ros.tracking.warmup import drawn_hand

CAMERA = Camera.from_horizontal_fov(480, 480, 60.0)
VIDEO_CAMERA = Camera.from_horizontal_fov(1280, 720, 65.0)
EMPTY = np.full((480, 480, 3), 90, np.uint8)
DT = 1 / 30


@pytest.fixture(scope="module")
def loaded():
    made = HandTracker()
    yield made
    made.close()


@pytest.fixture
def tracker(loaded):
    loaded.config = TrackerConfig()
    loaded.reset()
    return loaded


def shifted(image, dx):
    return np.roll(image, dx, axis=1)


def test_a_drawn_hand_becomes_a_metric_hand(tracker):
    tracked = tracker.process(drawn_hand(), 1.0, CAMERA)
    (hand,) = tracked.hands
    assert (hand.side, hand.state, tracked.stamp) == ("left", TrackingState.MEASURED, 1.0)
    assert 0.3 < hand.confidence <= 1.0 and hand.valid.all()
    assert ((hand.keypoint_confidence >= 0) & (hand.keypoint_confidence <= 1)).all()
    # 154 px from wrist to fingertip of an average hand, focal length 416 px
    assert hand.keypoints[0, 2] == pytest.approx(0.187 * CAMERA.matrix[0, 0] / 154, rel=0.15)
    np.testing.assert_allclose(CAMERA.project(hand.keypoints), hand.landmarks, atol=15)
    np.testing.assert_allclose(hand.wrist_rotation, palm_rotation(hand.keypoints, "left"))
    assert hand.wrist_rotation[1, 0] < -0.9 and hand.wrist_rotation[2, 2] > 0.8  # fingers up, back of the hand away
    assert np.linalg.eigvalsh(hand.wrist_covariance).min() > 0
    assert set(tracked.timings) == {"detect", "locate", "identify"}


def test_a_resized_image_of_the_same_camera_gives_the_same_hand(tracker):
    reference = tracker.process(drawn_hand(480), 1.0, CAMERA).hands[0].keypoints
    tracker.reset()
    found = tracker.process(drawn_hand(960), 1.0, CAMERA).hands[0].keypoints
    np.testing.assert_allclose(found, reference, atol=0.02)


def test_a_gap_is_bridged_with_growing_doubt_then_lost_then_over(tracker):
    hand_image = drawn_hand()
    frames = [shifted(hand_image, 3 * i) for i in range(12)] + [EMPTY] * 10 + [shifted(hand_image, 60)] * 2
    tracked = [tracker.process(frame, 1.0 + i * DT, CAMERA) for i, frame in enumerate(frames)]
    hands = [t.hand("left") for t in tracked]
    assert "".join(h.state.value[0] for h in hands) == "m" * 12 + "e" * 6 + "l" * 4 + "m" * 2
    assert {h.track_id for h in hands} == {hands[0].track_id}
    gap = hands[11:18]
    assert all(np.diff([h.confidence for h in gap]) < 0)
    assert all(np.diff([np.trace(h.wrist_covariance[:3, :3]) for h in gap]) > 0)
    assert all(np.diff([h.wrist_covariance[5, 5] for h in gap]) > 0)
    assert all(np.diff([h.keypoints[0, 0] for h in gap]) > 0)  # it goes on moving to the right
    lost = hands[18]
    assert lost.confidence == 0 and not lost.valid.any() and np.isnan(lost.keypoints).all()


def test_time_that_restarts_forgets_and_time_that_stutters_is_refused(tracker):
    first = tracker.process(drawn_hand(), 100.0, CAMERA)
    for stamp in (100.0, 99.9):
        with pytest.raises(RejectedInput, match="out_of_order"):
            tracker.process(drawn_hand(), stamp, CAMERA)
    with pytest.raises(RejectedInput, match="bad_stamp"):
        tracker.process(drawn_hand(), float("nan"), CAMERA)
    assert not tracker.process(EMPTY, 100.1, CAMERA).restarted
    again = tracker.process(EMPTY, 5.0, CAMERA)
    assert again.restarted and again.hands == ()
    assert tracker.process(drawn_hand(), 5.1, CAMERA).hands[0].track_id > first.hands[0].track_id


@pytest.mark.parametrize(
    ("image", "camera", "reason"),
    [
        (np.zeros((480, 480), np.uint8), CAMERA, "not_rgb"),
        (np.zeros((480, 480, 3), np.float32), CAMERA, "not_uint8"),
        (EMPTY[:300], CAMERA, "camera_mismatch"),
        (EMPTY, Camera(np.eye(3), 0, 0), "camera_mismatch"),
    ],
)
def test_refused_images_change_nothing(tracker, image, camera, reason):
    before = tracker.process(drawn_hand(), 1.0, CAMERA).hands[0]
    with pytest.raises(RejectedInput) as error:
        tracker.process(image, 50.0, camera)
    assert error.value.reason == reason
    after = tracker.process(drawn_hand(), 1.0 + DT, CAMERA).hands[0]
    assert after.track_id == before.track_id


def test_hands_that_are_too_far_are_counted_and_not_followed(tracker):
    tracker.config = TrackerConfig(max_distance=0.2)
    tracked = tracker.process(drawn_hand(), 1.0, CAMERA)
    assert tracked.hands == () and tracked.rejected == {"too_far": 1}


def test_the_hand_length_scales_the_distance(tracker):
    average = tracker.process(drawn_hand(), 1.0, CAMERA).hands[0].keypoints
    tracker.reset()
    tracker.config = TrackerConfig(hand_length=0.187 * 0.8)
    small = tracker.process(drawn_hand(), 1.0, CAMERA).hands[0].keypoints
    np.testing.assert_allclose(small, 0.8 * average, rtol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"max_hands": 3}, {"model_complexity": 2}, {"hand_length": 0.5}, {"max_gap": 2.0, "memory": 1.0}]
)
def test_a_config_that_cannot_work_is_a_user_error(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        TrackerConfig(**wrong)


def test_drawing_shows_the_hand_and_leaves_the_image_alone(tracker):
    image = drawn_hand()
    original = image.copy()
    tracked = tracker.process(image, 1.0, CAMERA)
    for size in (480, 240):
        canvas = np.full((size, size, 3), 90, np.uint8)
        drawn = draw_hands(canvas, tracked, CAMERA)
        coloured = np.argwhere((drawn == SIDE_COLOURS["left"]).all(-1))[:, ::-1] * 480 / size
        for point in tracked.hands[0].landmarks:
            assert np.linalg.norm(coloured - point, axis=1).min() < 5
    np.testing.assert_array_equal(image, original)
    path = np.array([[0, 0, 0.5], [0.1, 0, 0.5], [0, 0, -1.0], [np.nan, 0, 0], [1e9, 0, 1e-9]])
    drawn = canvas.copy()
    draw_path(drawn, path, CAMERA, SIDE_COLOURS["right"])
    assert (drawn != canvas).any()


def test_the_real_hand_has_one_identity_steady_bones_and_a_plausible_place(tracker, right_hand_video):
    tracked = [tracker.process(f, 10.0 + i * 0.1, VIDEO_CAMERA) for i, f in enumerate(right_hand_video)]
    hands = [t.hand("right") for t in tracked]
    assert all(t.hand("left") is None for t in tracked)
    assert np.mean([h is not None and h.state is TrackingState.MEASURED for h in hands]) >= 0.98
    assert len({h.track_id for h in hands}) == 1
    keypoints = np.array([h.keypoints for h in hands])
    assert 0.4 < np.median(keypoints[:, 0, 2]) < 0.9 and np.std(keypoints[:, 0, 2]) < 0.08
    lengths = np.array([np.linalg.norm(keypoints[:, b] - keypoints[:, a], axis=1) for a, b in BONES])
    palm = [i for i, (a, b) in enumerate(BONES) if a == 0 and b != 1]
    assert (lengths.std(1) / lengths.mean(1))[palm].max() < 0.06
    # The palm faces the camera for most of the video: the back of a right hand, and not of a left one, points away.
    assert np.median([h.wrist_rotation[2, 2] for h in hands]) > 0.8
    errors = [np.linalg.norm(VIDEO_CAMERA.project(h.keypoints) - h.landmarks, axis=1).mean() for h in hands]
    assert np.percentile(errors, 95) < 12  # px


def test_the_scale_of_a_flat_real_hand_is_its_given_length(tracker, right_hand_video):
    tracker.config = TrackerConfig(hand_length=0.2)
    tracked = [tracker.process(f, 10.0 + i * 0.1, VIDEO_CAMERA) for i, f in enumerate(right_hand_video)]
    keypoints = np.array([t.hand("right").keypoints for t in tracked])
    chain = np.linalg.norm(np.diff(keypoints[:, [0, 9, 10, 11, 12]], axis=1), axis=2).sum(1)
    straight = np.linalg.norm(keypoints[:, 12] - keypoints[:, 0], axis=1) > 0.97 * chain
    assert straight.sum() > 5
    assert np.median(chain[straight]) == pytest.approx(0.2, rel=0.05)


def test_two_drawn_hands_that_pass_in_front_of_each_other_stay_who_they_are(tracker):
    """MediaPipe loses the hand behind; it has to come back as itself."""
    camera = Camera.from_horizontal_fov(960, 540, 70.0)
    hands = {side: drawn_hand(side=side) for side in ("left", "right")}
    background = hands["left"][0, 0].astype(int)
    masks = {side: np.abs(image - background).sum(-1) > 12 for side, image in hands.items()}
    rng = np.random.default_rng(0)
    ids, states = {"left": set(), "right": set()}, []
    for i in range(50):
        travel = int(440 * np.clip((i - 10) / 30, 0, 1))
        image = np.tile(background.astype(np.uint8), (540, 960, 1))
        places = {"right": 460 - travel, "left": 20 + travel}
        for side, x in places.items():
            image[30:510, x : x + 480][masks[side]] = hands[side][masks[side]]
        image = np.clip(image + rng.normal(scale=3, size=image.shape), 0, 255).astype(np.uint8)
        tracked = tracker.process(image, 1.0 + i * DT, camera)
        for hand in tracked.hands:
            ids[hand.side].add(hand.track_id)
            states.append(hand.state)
            if hand.state is TrackingState.MEASURED:
                assert abs(hand.landmarks[0, 0] - (places[hand.side] + 240)) < 60
    assert [len(found) for found in ids.values()] == [1, 1]
    assert states.count(TrackingState.EXTRAPOLATED) > 0 and states.count(TrackingState.MEASURED) > 85
