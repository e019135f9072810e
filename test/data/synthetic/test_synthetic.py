"""The synthetic generator: repeatable, anatomically constant, moving like people do, seen like trackers do."""

from dataclasses import replace

import numpy as np
import pytest

from egohand_ros.data.synthetic import TrackerModel, generate_scene, observe
from egohand_ros.data.synthetic.actions import ACTIONS, move_hand
from egohand_ros.data.synthetic.motion import Steps, fitts_time, smooth_noise
from egohand_ros.data.synthetic.render import SceneRenderer
from egohand_ros.data.synthetic.tracker import correlated_noise, default_camera
from egohand_ros.data.synthetic.world import POSITION, TABLE_HEIGHT, World
from egohand_ros.geometry.transforms import invert_transform, transform_points
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.hand.skeleton import BONES, LEFT, RIGHT, WRIST

SEEDS = range(6)


@pytest.fixture(scope="module")
def scenes():
    return [generate_scene(seed, 30.0) for seed in SEEDS]


def test_the_seed_decides_everything(scenes):
    again, other = generate_scene(0, 30.0), scenes[1]
    for name in ("keypoints", "T_world_camera", "T_world_object", "partner"):
        assert (getattr(scenes[0], name) == getattr(again, name)).all(), name
    assert again.task == scenes[0].task != other.task
    view, same = observe(scenes[0]), observe(again)
    assert np.array_equal(view.keypoints, same.keypoints, equal_nan=True) and (view.arrival == same.arrival).all()
    assert (SceneRenderer(scenes[0]).render(30) == SceneRenderer(again).render(30)).all()


def test_bones_never_change_length_and_people_differ(scenes):
    lengths = []
    for scene in scenes:
        bones = np.stack(
            [np.linalg.norm(scene.keypoints[:, :, b] - scene.keypoints[:, :, a], axis=-1) for a, b in BONES]
        )
        assert np.ptp(bones, axis=1).max() < 1e-9
        assert np.allclose(bones[:, 0, LEFT], bones[:, 0, RIGHT])
        lengths.append(bones[:, 0, RIGHT])
    assert np.std(lengths, axis=0).min() > 1e-4
    hand = np.sum(np.array(lengths)[:, [8, 9, 10, 11]], axis=1)  # wrist to the middle finger's tip
    assert (0.15 < hand).all() and (hand < 0.23).all()


def test_hands_are_hands(scenes):
    for scene in scenes:
        rotation = palm_rotations(scene.keypoints)
        assert np.isfinite(rotation).all()
        # The thumb is on the +y side of a right palm and on the -y side of a left one; fingers bend away from z.
        for side, sign in ((LEFT, -1), (RIGHT, 1)):
            local = np.einsum(
                "tij,tki->tkj", rotation[:, side], scene.keypoints[:, side] - scene.keypoints[:, side, :1]
            )
            assert (sign * local[:, 2, 1] > 0).all()
            assert np.median(local[:, 12, 2]) < -0.005
        assert scene.keypoints[..., 2].min() > TABLE_HEIGHT, "nothing goes through the table"


def test_speeds_and_reaches_are_human(scenes):
    wrists = np.concatenate([scene.keypoints[:, :, WRIST] for scene in scenes])
    speed = np.concatenate(
        [np.linalg.norm(np.diff(s.keypoints[:, :, WRIST], axis=0), axis=-1) * s.rate for s in scenes]
    )
    assert 0.3 < np.percentile(speed, 95) < 1.0 and speed.max() < 2.5
    assert (wrists.min((0, 1)) > [0.0, -0.6, TABLE_HEIGHT]).all() and (wrists.max((0, 1)) < [0.8, 0.6, 1.5]).all()
    for scene in scenes:
        for side in (LEFT, RIGHT):
            reach = np.linalg.norm(scene.keypoints[:, side, WRIST] - scene.person.shoulder(side), axis=-1)
            assert reach.max() < 0.75


def test_no_jumps_at_any_rate():
    """Accelerations stay bounded when the rate goes up: the path is smooth, not only sampled coarsely."""
    fast = generate_scene(2, 10.0, 240.0)
    acceleration = np.diff(fast.keypoints[:, :, WRIST], n=2, axis=0) * fast.rate**2
    assert np.percentile(np.linalg.norm(acceleration, axis=-1), 99) < 15.0
    slow = generate_scene(2, 10.0, 30.0)
    assert np.abs(fast.keypoints[::8] - slow.keypoints).max() < 0.01


def test_objects_go_with_the_hand_that_holds_them(scenes):
    carried = 0
    for scene in scenes:
        moved = np.linalg.norm(np.diff(scene.T_world_object[:, :, :3, 3], axis=0), axis=-1) * scene.rate > 0.15
        for t, index in zip(*np.nonzero(moved)):
            tips = scene.keypoints[t, :, [4, 8, 12]]
            place = scene.T_world_object[t, index, :3, 3]
            if place[0] > 0.62:  # with the other person
                continue
            carried += 1
            assert np.linalg.norm(tips - place, axis=-1).min() < 0.14
    assert carried > 100


def test_the_camera_looks_at_the_hands_and_moves(scenes):
    for scene in scenes:
        view = observe(scene, TrackerModel(lost_every=1e9))
        assert view.valid[..., WRIST].any(axis=1).mean() > 0.8
        assert np.ptp(scene.T_world_camera[:, :3, 3], axis=0).min() > 0.005
        assert (scene.T_world_camera[:, 2, 1] < 0).all(), "the image is the right way up"


def test_steps_overlap_and_end_where_they_should():
    path = Steps(np.zeros(2))
    path.move(np.array([1.0, np.nan]), 0.0, 1.0)
    path.move(np.array([0.5, 2.0]), 0.5, 1.0)
    assert path.at(np.array([-1.0, 10.0])) == pytest.approx(np.array([[0, 0], [0.5, 2.0]]))


def test_fitts_law_and_noise():
    assert fitts_time(0.4, 0.02) - fitts_time(0.4, 0.04) == pytest.approx(0.11)
    times = np.arange(3000) / 100
    noise = smooth_noise(times, 40, 8, 12, 0.5, np.random.default_rng(0))
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    spectrum = np.abs(np.fft.rfft(noise, axis=0)).sum(axis=1)
    assert 8 <= np.fft.rfftfreq(len(times), 0.01)[spectrum.argmax()] <= 12


def test_reaches_end_at_their_goal():
    world = World.sample(np.random.default_rng(0))
    goal = np.array([0.45, -0.1, 0.85])
    end = move_hand(world, RIGHT, 1.0, goal, np.zeros(3), 0.05, lift=0.1)
    assert world.hands[RIGHT].at(np.array([end + 0.2]))[0, POSITION] == pytest.approx(goal)
    middle = world.hands[RIGHT].at(np.array([(1.0 + end) / 2]))[0, 2]
    assert middle > max(goal[2], world.hands[RIGHT].start[2]), "it goes over what is in between"


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_ends_after_it_began(name):
    world = World.sample(np.random.default_rng(5))
    done = ACTIONS[name][1](world, RIGHT, 2.0)
    assert 2.3 < done.end < 20.0
    assert ("give" in done.phrase) == (name == "give")


def test_the_tracker_errs_as_its_model_says():
    scene = generate_scene(3, 60.0)
    model = TrackerModel(depth_std=0.0, keypoint_std=0.004, lost_every=5.0, lost_for=0.2)
    view = observe(scene, model)
    actual = transform_points(invert_transform(scene.T_world_camera)[:, None], scene.keypoints)
    error = (view.keypoints - actual)[view.valid]
    assert error.std() == pytest.approx(0.004, rel=0.05) and abs(error.mean()) < 3e-4
    along = view.keypoints[:, RIGHT, 8, 0] - actual[:, RIGHT, 8, 0]
    pairs = np.isfinite(along[1:]) & np.isfinite(along[:-1])
    correlation = np.corrcoef(along[1:][pairs], along[:-1][pairs])[0, 1]
    assert correlation == pytest.approx(np.exp(-1 / (model.keypoint_time * scene.rate)), abs=0.08)
    assert 0.6 < view.valid.mean() < 1.0
    assert (view.arrival - view.stamp >= model.latency).all() and (np.diff(view.arrival) >= 0).all()
    exact = observe(scene, replace(model, keypoint_std=0.0, lost_every=1e9)).episode
    assert np.allclose(exact.keypoints[exact.valid], scene.keypoints[exact.valid])


def test_correlated_noise_has_unit_variance_from_the_start():
    noise = correlated_noise((50, 4000), 5.0, np.random.default_rng(0))
    assert np.allclose(noise.std(axis=1), 1.0, atol=0.06)


def test_pictures_show_hands_where_they_project(scenes):
    scene, camera = scenes[0], default_camera()
    renderer = SceneRenderer(scene)
    image, depth = renderer.render_with_depth(60)
    assert image.shape == (480, 640, 3) and image.dtype == np.uint8 and depth.dtype == np.float32
    assert (image == renderer.render(60)).all()
    keypoints = transform_points(invert_transform(scene.T_world_camera[60]), scene.keypoints[60])
    pixels = camera.project(keypoints)
    inside = ((pixels > 2) & (pixels < [637, 477])).all(axis=-1)
    assert inside.any()
    u, v = np.round(pixels[inside]).astype(int).T
    seen = depth[v, u]
    # A keypoint is at its depth, or behind something nearer.
    assert (seen < keypoints[inside][:, 2] + 0.05).all()
    assert (np.abs(seen - keypoints[inside][:, 2]) < 0.05).mean() > 0.5
    centre = np.array([0.5, 0.0, TABLE_HEIGHT])
    corner = transform_points(invert_transform(scene.T_world_camera[60]), centre[None])[0]
    assert depth.min() > 0.05 and depth.max() <= 3.2 and corner[2] > 0
