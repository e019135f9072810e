"""EgoMAN as a forecaster: frames, waypoints, thoughts beside a stream, and its training, at tiny sizes."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_egoman import TINY

from egohand_ros.errors import UserError
from egohand_ros.forecast.common.protocol import FINGERS, WAYPOINTS, MissingInput
from egohand_ros.forecast.egoman.forecaster import EgoMANForecaster
from egohand_ros.forecast.egoman.inputs import PALM_WRIST, camera_frames, motion_in, motion_out, past_of
from egohand_ros.forecast.egoman.network import EgoMANNetwork
from egohand_ros.forecast.registry import from_pretrained, presets
from egohand_ros.geometry.rotations import exp_rotation
from egohand_ros.geometry.transforms import make_transform
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.stream.warmup import example_window
from egohand_ros.training.objectives.egoman import JointObjective, MotionObjective, ReasonObjective
from egohand_ros.training.windows.goal_windows import GoalWindowSampler, see_goals
from egohand_ros.training.windows.questions import draw_question, phrase_embedding, query


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EgoMANNetwork(TINY).eval()


@pytest.fixture(scope="module")
def forecaster(network):
    return EgoMANForecaster(TINY, network)


@pytest.fixture(scope="module")
def window(forecaster):
    """Moving hands before a camera that looks somewhere, and a picture with something in it."""
    made = example_window(forecaster.spec)
    pose = torch.from_numpy(make_transform(exp_rotation(np.array([0.3, -0.2, 0.5])), np.array([0.1, 0.2, 1.5])))
    images = torch.randint(0, 255, made.images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return replace(made, images=images, camera_pose=pose.expand(1, 6, 4, 4), prompt=("take the red cup",))


def test_it_forecasts_wrists_and_waypoints_and_holds_the_fingers(forecaster, window):
    given = forecaster.forecast(window, 5)
    assert given.keypoints.shape[1:3] == (5, 49) and given.keypoints.isfinite().all()
    assert FINGERS not in given.gives and WAYPOINTS in given.gives and given.held[..., 1:].all()
    told = given.waypoints
    assert told.labels == ("start", "start", "contact", "contact", "end", "end") and told.side.tolist() == [[0, 1] * 3]
    assert (told.time[:, :2] == 0).all() and (told.time >= 0).all() and told.valid.all()
    assert ((told.contact[:, 2:4] > 0) & (told.contact[:, 2:4] < 1)).all() and told.contact[:, 4:].isnan().all()
    assert given.stage[0] in ("", "approach", "manipulation")
    apart = (given.keypoints[:, 0, :, :, 1:] - given.keypoints[:, 0, :, :, :1]).norm(dim=-1)
    seen = (window.keypoints[:, -1:, :, 1:] - window.keypoints[:, -1:, :, :1]).norm(dim=-1)
    assert torch.allclose(apart, seen.expand_as(apart), atol=1e-6), "a hand keeps its shape"
    again = forecaster.forecast(window, 5)
    assert torch.equal(given.keypoints, again.keypoints)
    assert not torch.equal(given.keypoints[:, 1], given.keypoints[:, 2])


def test_an_anchored_one_begins_where_the_wrists_are(forecaster, network, window):
    """Moved and turned as a whole, and only hands that are seen now."""
    unseen = replace(window, valid=window.valid & (torch.arange(2) == 0)[None, None, :, None])
    anchored = EgoMANForecaster(replace(TINY, anchored=True), network)
    free, moved = forecaster.forecast(unseen, 2), anchored.forecast(unseen, 2)
    away = (moved.keypoints - free.keypoints)[..., 0, WRIST, :]
    assert torch.allclose(away, away[:, :, :1].expand_as(away), atol=1e-6), "the same for every step"
    assert away.abs().max() > 1e-3
    turn = moved.wrist_rotation[..., 0, :, :] @ free.wrist_rotation[..., 0, :, :].mT
    assert torch.allclose(turn, turn[:, :, :1].expand_as(turn), atol=1e-6)
    with torch.inference_mode():
        motion = forecaster.motions(forecaster.reasoner(unseen), unseen, camera_frames(unseen), 1, 0)
    start, _ = motion_out(camera_frames(window)[:, None, None], motion)
    expected = window.keypoints[0, -1, 0, WRIST].numpy() - start[0, 0, 0, 0]
    assert np.allclose(away[0, 0, 0].numpy(), expected, atol=1e-5)


def test_without_an_image_it_says_what_it_needs(forecaster, window):
    with pytest.raises(MissingInput, match="^EgoMAN needs images$"):
        forecaster.forecast(window.without_images())
    assert presets()["egoman"].spec().more_image_sizes == ((448, 448),)


def test_words_pictures_and_past_all_matter_and_windows_of_a_batch_do_not_mix(forecaster, window):
    plain = forecaster.forecast(window).keypoints
    changed = {
        "words": replace(window, prompt=("take the blue cup",)),
        "picture": replace(window, images=255 - window.images),
        "past": replace(window, keypoints=window.keypoints + 0.1),
    }
    for name, other in changed.items():
        assert not torch.allclose(plain, forecaster.forecast(other).keypoints, atol=1e-6), name
    fields = (
        "stamp",
        "keypoints",
        "valid",
        "wrist_rotation",
        "rotation_valid",
        "camera_pose",
        "images",
        "camera_matrix",
    )
    blind = replace(changed["words"], valid=window.valid & (torch.arange(6) == 5)[None, :, None, None])
    both = {name: torch.cat([getattr(window, name), getattr(blind, name)]) for name in fields}
    two = forecaster.forecast(replace(window, **both, prompt=(*window.prompt, *blind.prompt)))
    assert torch.allclose(two.keypoints[:1], plain, atol=1e-5)
    assert torch.allclose(two.keypoints[1:], forecaster.forecast(blind).keypoints, atol=1e-5)


def test_its_frame_is_that_of_a_camera_on_its_side_and_turns_with_the_camera(window):
    frame = camera_frames(window)
    ahead = frame[0] @ [0.0, 0.0, 0.7, 1.0]
    upright = window.camera_pose[0, -1].numpy()
    assert np.allclose(ahead, upright @ [0.0, 0.0, 0.7, 1.0]), "both look the same way"
    assert np.allclose(frame[0, :3, 0], upright[:3, 1]), "its x is the upright camera's down"
    past = past_of(window, frame)
    position, rotation = motion_out(frame[:, None], past.motion)
    assert np.allclose(position, window.keypoints[:, :5, :, WRIST], atol=1e-6) and past.known.all()
    assert np.allclose(rotation, window.wrist_rotation[:, :5], atol=1e-5)
    again = motion_in(frame[:, None], position, rotation)
    assert torch.allclose(again, past.motion, atol=1e-5)
    assert np.isclose(np.linalg.det(PALM_WRIST), 1.0)


def test_an_aria_recording_has_the_wrist_axes_that_are_written_here(shared_data):
    """MPS gives both landmarks and the wrist's rotation; the authors turn the latter by two fixed matrices."""
    from scipy.spatial.transform import Rotation

    from egohand_ros.data.importers.aria_mps import read_columns
    from egohand_ros.hand.conventions import to_canonical
    from egohand_ros.hand.palm import palm_rotation

    table = read_columns(shared_data / "aria_mps" / "hand_tracking_results_v2.csv")
    turned = {"left": np.diag([-1.0, 1.0, -1.0]), "right": np.eye(3)}
    for side in ("left", "right"):
        seen = table[f"{side}_tracking_confidence"] > 0.5
        landmarks = np.array([[table[f"t{a}_{side}_landmark_{i}_device"][seen] for a in "xyz"] for i in range(21)])
        palm = palm_rotation(to_canonical(np.moveaxis(landmarks, -1, 0), "aria_mps"), side)
        quaternion = np.column_stack([table[f"q{a}_{side}_device_wrist"][seen] for a in "xyzw"])
        wrist = Rotation.from_quat(quaternion).as_matrix()
        theirs = wrist @ turned[side] @ [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
        apart = Rotation.from_matrix((palm @ PALM_WRIST).swapaxes(-1, -2) @ theirs).magnitude()
        assert np.degrees(apart).max() < 15.0, side


def wait_for(condition, timeout=60.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "nothing came of it"
        time.sleep(0.01)


def later(window, seconds, **changes):
    return replace(window, stamp=window.stamp + seconds, **changes)


def test_beside_a_stream_it_thinks_when_words_or_scene_change_and_forecasts_all_the_time(network, window):
    live = EgoMANForecaster(TINY, network, reasoning="background", renew=1.0)
    reasoner = live.reasoner
    first = live.forecast(window)
    assert reasoner.thoughts == 1 and first.valid.any()
    live.forecast(later(window, 0.2))
    wait_for(lambda: not reasoner._busy)
    assert reasoner.thoughts == 1, "nothing has changed"
    looked = reasoner._seen
    blue = ("take the blue cup",)
    assert not live.forecast(later(window, 0.3, prompt=blue)).valid.any(), "not thought about yet"
    wait_for(lambda: reasoner.thoughts == 2 and not reasoner._busy)
    assert live.forecast(later(window, 0.4, prompt=blue)).valid.any()
    assert reasoner._seen is looked, "the picture is the same, and not looked at again"
    live.forecast(later(window, 1.5, prompt=blue, images=255 - window.images))
    wait_for(lambda: reasoner.thoughts == 3 and not reasoner._busy)
    assert reasoner._seen is not looked
    live.reset()
    assert not live.forecast(later(window, 1.6, prompt=blue)).valid.any()
    wait_for(lambda: reasoner.thoughts == 4 and not reasoner._busy)


def test_a_thought_stays_where_it_was_thought_and_comes_nearer_in_time(network, window):
    live = EgoMANForecaster(TINY, network, reasoning="background", renew=100.0)
    before = live.forecast(window).waypoints
    moved = torch.from_numpy(make_transform(exp_rotation(np.array([0.0, 0.1, 0.0])), np.array([0.02, 0.0, 0.0])))
    after = live.forecast(later(window, 0.25, camera_pose=window.camera_pose @ moved)).waypoints
    assert torch.allclose(before.position, after.position, atol=1e-6), "in the window's frame"
    expected = (before.time - 0.25).clamp(min=0)
    assert torch.allclose(after.time, expected, atol=1e-6)
    thought = live.reasoner._last
    frame = camera_frames(later(window, 0.25, camera_pose=window.camera_pose @ moved))
    told, steps = thought.waypoints(frame, thought.stamp + 0.25, torch.zeros(1, 18))
    back, _ = motion_out(frame[:, None], told)
    assert np.allclose(back[:, 1:].reshape(-1, 3), after.position[0, 2:], atol=1e-5) and (told[:, 0] == 0).all()
    assert steps[0, 2] == round(float(after.time[0, 4]) / 0.1)


def test_a_failed_thought_stops_nothing(network, window, caplog):
    live = EgoMANForecaster(TINY, network, reasoning="background", renew=0.0)
    live.forecast(window)

    def fail(_):
        raise RuntimeError("a thought that failed")

    live.reasoner._one = fail
    assert live.forecast(later(window, 0.1)).valid.any()
    wait_for(lambda: not live.reasoner._busy)
    assert live.forecast(later(window, 0.2)).valid.any() and "a thought that failed" in caplog.text
    wait_for(lambda: not live.reasoner._busy)


def test_it_is_saved_and_read_again_and_refuses_what_it_does_not_know(forecaster, window, tmp_path):
    forecaster.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert torch.equal(again.forecast(window).keypoints, forecaster.forecast(window).keypoints)
    with pytest.raises(UserError, match="expected wait or background"):
        EgoMANForecaster(TINY, reasoning="never")
    with pytest.raises(ValueError, match="multiples of 28"):
        replace(TINY, picture=(60, 60))
    assert again.network.vlm.model.dtype == torch.float32
    rounded = from_pretrained(tmp_path / "model", precision="bfloat16").forecast(window)
    assert rounded.keypoints.isfinite().all()


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def sampler(forecaster):
    spec = forecaster.spec
    seen = [see_goals(seed, spec.image_size, spec.step, spec.window_length, spec.horizon_steps) for seed in (1, 2)]
    return GoalWindowSampler(seen, spec, 8, 4, blind=0.0, deaf=0.0)


@pytest.mark.parametrize(
    "objective, learns, stays",
    [
        (ReasonObjective, "moments.contact", "expert"),
        (MotionObjective, "expert", "moments.contact"),
        (JointObjective, "expert", "scene"),
    ],
)
def test_a_few_steps_of_each_stage_bring_the_loss_down(sampler, objective, learns, stays):
    torch.manual_seed(0)
    forecaster = EgoMANForecaster(TINY)
    network, training = forecaster.network, objective(forecaster, objective.Weights())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch, losses = training.prepare(sampler.cuts(0)), []
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    for _ in range(25):
        loss, _ = training(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    changed = {name.rsplit(".", 1)[0] for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert any(name.startswith(learns) for name in changed) and not any(name.startswith(stays) for name in changed)


def test_targets_are_where_the_hand_is_at_contact_in_the_frame_of_the_picture(forecaster, sampler):
    (cut, _) = sampler.cuts(1)
    ahead = (cut.moments[:, 0] > 0.2) & (cut.moments[:, 0] < 4.4)
    assert ahead.any()
    batch = JointObjective(forecaster, JointObjective.Weights()).prepare([cut])
    frame = camera_frames(cut.window)
    for row in np.flatnonzero(ahead):
        step = round(float(cut.moments[row, 0]) / 0.1)
        assert batch["steps"][row, 1] == step and batch["read"][row, 2] >= 0
        wrist = cut.future[row, step - 1, cut.side, WRIST]
        found = batch["target_position"][row, 1, cut.side].numpy()
        assert np.allclose(frame[row, :3, :3] @ found + frame[row, :3, 3], wrist, atol=1e-5)
        assert batch["target_position"][row, 1, 1 - cut.side].isnan().all(), "the other hand touches nothing"
        assert float(batch["target_time"][row, 1]) == pytest.approx(step / 45)


def test_questions_are_of_all_kinds_and_a_contact_that_was_is_not_told():
    rng, ahead, past = np.random.default_rng(0), np.array([1.0, 3.0]), np.array([-1.0, 3.0])
    drawn = [draw_question(rng, "take the red cup", "red cup", ahead, 1) for _ in range(300)]
    answers = {question.answer for question in drawn}
    assert {
        "<HAND_RIGHT>",
        "red cup",
        "<ACT>",
        "<START>",
        "<CONTACT>",
        "<END>",
        "<ACT><START><CONTACT><END>",
    } == answers
    assert any(question.past for question in drawn) and any(not question.past for question in drawn)
    assert query("take the red cup", past, 1, True).answer == "<ACT><START><END>"
    assert not any("<CONTACT>" in draw_question(rng, "x", "cup", past, 1).answer for _ in range(100))
    one, other = phrase_embedding("take the cup", 64), phrase_embedding("take the red cup", 64)
    assert np.isclose(np.linalg.norm(one), 1.0) and 0.5 < one @ other < 1.0
