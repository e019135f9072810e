"""EgoMAN-small's waypoints from what its grounding finds, and its motions off the path through them, at tiny sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_egoman import TINY

from egohand_ros.errors import UserError
from egohand_ros.forecast.egoman.config import EgoMANConfig
from egohand_ros.forecast.egoman.expert import off_path, on_path, part, path_through
from egohand_ros.forecast.egoman.forecaster import EgoMANForecaster
from egohand_ros.forecast.egoman.inputs import camera_frames, motion_out, past_of
from egohand_ros.forecast.egoman.network import EgoMANNetwork
from egohand_ros.forecast.egoman.objective import EgoMANWeights
from egohand_ros.forecast.egoman.pointing import load_grounding, shipped_grounding
from egohand_ros.forecast.registry import find_preset, from_pretrained, make_forecaster, untrained
from egohand_ros.forecast.small.config import GroundingConfig
from egohand_ros.forecast.small.grounding import Grounding
from egohand_ros.geometry.rotations import exp_rotation
from egohand_ros.geometry.transforms import make_transform
from egohand_ros.hand.skeleton import WRIST
from egohand_ros.stream.warmup import example_window
from egohand_ros.training.objectives.egoman import JointObjective, ReasonObjective
from egohand_ros.training.windows.goal_windows import GoalWindowSampler, see_goals

SMALL = GroundingConfig(TINY.words, 56, 80, (8, 8, 16), 8, 16, 16)
POINTING = replace(TINY, grounding=SMALL, along=True, anchored=True)


@pytest.fixture(scope="module")
def forecaster():
    torch.manual_seed(0)
    return EgoMANForecaster(POINTING)


@pytest.fixture(scope="module")
def window(forecaster):
    made = example_window(forecaster.spec)
    pose = torch.from_numpy(make_transform(exp_rotation(np.array([1.8, -0.2, 0.5])), np.array([0.1, 0.2, 1.5])))
    images = torch.randint(0, 255, made.images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return replace(made, images=images, camera_pose=pose.expand(1, 6, 4, 4), prompt=("take the red cup",))


@pytest.fixture(scope="module")
def sampler(forecaster):
    spec = forecaster.spec
    seen = [see_goals(seed, spec.image_size, spec.step, spec.window_length, spec.horizon_steps) for seed in (1, 2)]
    return GoalWindowSampler(seen, spec, 8, 4, blind=0.0, deaf=0.0)


def pointed_at(forecaster, window):
    frame = camera_frames(window)
    past, look = past_of(window, frame), forecaster.network.look(window, frame)
    return forecaster.network.point(look, past.motion, past.now), look


def test_the_published_size_has_neither():
    config = EgoMANConfig()
    assert config.grounding is None and not config.along
    assert EgoMANNetwork(TINY).pointer is None


def test_the_path_is_at_its_waypoints_at_their_times_and_stays_at_the_last():
    now, waypoints = torch.randn(3, 18), torch.randn(3, 3, 18)
    waypoints[1, 1] = waypoints[1, 2]  # as `without_contact` has it
    steps = torch.tensor([[0, 10, 30], [0, 20, 20], [0, 0, 0]])  # with a contact, without one, and all of it past
    path = path_through(now, waypoints, steps)
    assert torch.allclose(path[:2, 0], now[:2]) and torch.allclose(path[0, 10], waypoints[0, 1], atol=1e-6)
    assert torch.allclose(path[0, 30:], waypoints[0, 2].expand(20, 18), atol=1e-5)
    assert torch.allclose(path[1, 20:], waypoints[1, 2].expand(30, 18), atol=1e-5)
    assert torch.allclose(path[0, 5], (now[0] + waypoints[0, 1]) / 2, atol=1e-5), "half-way in half of the time"
    speed = path.diff(dim=1).norm(dim=-1)
    assert speed[0, 9] < 0.1 * speed[0, 4] and speed[0, 10] < 0.1 * speed[0, 19], "at rest at the contact"
    assert not torch.allclose(path[2, 1], path[2, 3], atol=0.1) and torch.allclose(
        path[2, 6], waypoints[2, 2], atol=1e-5
    )
    assert (path[2, 1] - now[2]).norm() < 0.5 * (waypoints[2, 1] - now[2]).norm(), "what is told for now is no jump"
    motion = torch.randn(3, 50, 18)
    assert torch.allclose(on_path(off_path(motion, path), path), motion, atol=1e-6)


def test_without_steps_of_the_expert_the_forecast_is_the_path_through_its_waypoints(forecaster, window):
    straight = EgoMANForecaster(replace(POINTING, sampling_steps=0))
    straight.network.load_state_dict(forecaster.network.state_dict())
    with torch.no_grad():
        for moment, seconds in (("contact", 1.5), ("end", 3.0)):
            straight.network.moments[moment].time[-1].weight.zero_()
            straight.network.moments[moment].time[-1].bias.fill_(seconds / 4.5)
        # Where no contact is likely, the end stands in for it.
        straight.network.config = straight.config = replace(straight.config, may_not_touch=False)
    given = straight.forecast(window)
    for moment, step in ((1, 15), (2, 30), (2, 49)):
        found, told = given.keypoints[0, 0, step - 1, :, WRIST], given.waypoints.position[0, 2 * moment :][:2]
        assert torch.allclose(found, told.to(found), atol=1e-5)
    moved = EgoMANForecaster(straight.config, straight.network, sampling_steps=3)
    assert not torch.allclose(moved.forecast(window).keypoints, given.keypoints), "the expert moves them off it"
    with pytest.raises(ValueError, match="expected 1 or more"):
        replace(POINTING, sampling_steps=0, along=False)
    with pytest.raises(ValueError, match="waypoints is false"):
        replace(POINTING, waypoints=False)


def test_places_are_those_of_the_goals_as_far_as_wrists_go_there(forecaster, window):
    network = forecaster.network
    with torch.inference_mode():
        pointed, look = pointed_at(forecaster, window)
        assert look.known.all() and 0.0 < float(pointed.found[0, 0]) < 1.0
        frame, goals = camera_frames(window), pointed.goals.points
        level = look.level[0].numpy()
        assert np.allclose(frame[0, :3, :3] @ level @ [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], atol=1e-6), "up stays up"
        assert torch.allclose(pointed.points, goals @ look.level.mT)
        sure = replace(pointed, found=torch.ones(1, 2))
        state, saved = torch.randn(1, TINY.vlm.width), network.pointer.goes.bias.clone()
        head = lambda states: replace(network.moments["end"](states), position=torch.zeros(1, 2, 3))  # noqa: E731
        try:
            for bias, goal in (((-1e4, -1e4), None), ((1e4, -1e4), 0), ((1e4, 1e4), 1)):
                network.pointer.goes.bias.copy_(torch.tensor(bias))
                for side in (0, 1):
                    acts = replace(sure, acts=torch.eye(2)[side][None])
                    found = network.pointer.moment("end", head, state, acts).position
                    place = sure.now[:, side] if goal is None else sure.points[:, goal]
                    assert torch.allclose(found[:, side], place, atol=1e-5)
                    assert torch.equal(found[:, 1 - side], sure.now[:, 1 - side]), "the other hand stays"
                    told = network.pointer.moment("end", head, state, acts, torch.tensor([1 - side])).position
                    assert torch.equal(told[:, side], sure.now[:, side]), "what is known goes before what is guessed"
            assert torch.equal(network.pointer.moment("start", head, state, sure).position, sure.now)
        finally:
            network.pointer.goes.bias.copy_(saved)


def test_pictures_and_words_move_waypoints_and_what_is_missing_points_nowhere(forecaster, window):
    told = lambda given: forecaster.forecast(given).waypoints.position  # noqa: E731
    assert not torch.allclose(told(window), told(replace(window, images=255 - window.images)))
    assert not torch.allclose(told(window), told(replace(window, prompt=("take the blue cup",))))
    for missing in ({"camera_matrix": None}, {"camera_pose": None}, {"prompt": ("fly",)}):
        without = replace(window, **missing)
        pointed, look = pointed_at(forecaster, without)
        assert not look.known.any() and not pointed.found.any()
        assert forecaster.forecast(without).keypoints.isfinite().all()


def test_beside_a_stream_it_points_as_window_by_window(forecaster, window):
    live = EgoMANForecaster(POINTING, forecaster.network, reasoning="background")
    first = live.forecast(window)
    assert torch.allclose(first.waypoints.position, forecaster.forecast(window).waypoints.position, atol=1e-4)


def test_it_begins_with_the_grounding_of_a_trained_one(forecaster, tmp_path):
    grounding = Grounding(SMALL, 12)
    save_file(
        {f"grounding.{name}": value for name, value in grounding.state_dict().items()}, tmp_path / "a.safetensors"
    )
    save_file({"other.weight": torch.zeros(1)}, tmp_path / "b.safetensors")
    network = EgoMANNetwork(POINTING)
    load_grounding(network, tmp_path / "a.safetensors")
    own = network.pointer.pointing.state_dict()
    assert own and all(torch.equal(value, grounding.state_dict()[name]) for name, value in own.items())
    with pytest.raises(UserError, match="holds no grounding; give"):
        load_grounding(network, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match="no place for a grounding"):
        load_grounding(EgoMANNetwork(TINY), tmp_path / "a.safetensors")


def test_a_new_one_of_the_presets_sizes_begins_with_the_grounding_that_is_shipped():
    own = untrained("egoman-small").network.pointer.pointing.state_dict()
    shipped = load_file(find_preset("egohand-small").weights / "model.safetensors")
    assert own and all(torch.equal(value, shipped[f"grounding.{name}"]) for name, value in own.items())
    assert shipped_grounding(POINTING) is None and shipped_grounding(EgoMANConfig()) is None


def test_it_is_saved_and_read_again(forecaster, window, tmp_path):
    forecaster.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert torch.equal(again.forecast(window).keypoints, forecaster.forecast(window).keypoints)
    assert make_forecaster(tmp_path / "model", sampling_steps=0).config.sampling_steps == 0


@pytest.mark.parametrize("objective", [ReasonObjective, JointObjective])
def test_it_learns_and_the_grounding_learns_only_where_it_is_asked_to(sampler, objective):
    for cell in (0.0, 0.1):
        torch.manual_seed(0)
        forecaster = EgoMANForecaster(POINTING)
        training = objective(forecaster, replace(EgoMANWeights(), goal_cell=cell, goal_point=cell, bend=0.05))
        before = {name: value.clone() for name, value in forecaster.network.state_dict().items()}
        batch, losses = training.prepare(sampler.cuts(0)), []
        optimizer = torch.optim.Adam([p for p in forecaster.network.parameters() if p.requires_grad], 3e-3)
        for _ in range(12):
            loss, parts = training(batch, torch.Generator().manual_seed(0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.8 * losses[0] and ("cell" in parts) == (cell > 0.0)
        assert parts["side"].item() < 0.6, "which hand acts is learned"
        changed = {name for name, value in forecaster.network.state_dict().items() if not value.equal(before[name])}
        assert any(name.startswith("pointer.goes") for name in changed)
        assert any(name.startswith("pointer.pointing") for name in changed) == (cell > 0.0)


def test_both_hands_have_places_to_go_through(forecaster, sampler):
    (cut, _) = sampler.cuts(1)
    batch = JointObjective(forecaster, EgoMANWeights()).prepare([cut])
    told = batch["read"][:, 2] >= 0
    assert told.any() and batch["target_position"][told].isfinite().all()
    position, _ = motion_out(camera_frames(cut.window)[:, None], batch["motion"])
    assert np.allclose(position[:, 1:], cut.future[:, :49, :, WRIST], atol=1e-5)
    assert part(batch["motion"])[0].shape == (4, 50, 2, 3)
