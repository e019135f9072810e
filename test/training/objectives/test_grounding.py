"""Training of the grounding: it alone changes, it learns what is labelled, and a seed tells its batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egohand_ros.cli.main import main
from egohand_ros.config import read_preset
from egohand_ros.forecast.small.forecaster import SmallForecaster
from egohand_ros.forecast.small.grounding import GroundingConfig
from egohand_ros.forecast.small.network import SmallConfig
from egohand_ros.training.objectives.grounding import GroundingObjective
from egohand_ros.training.objectives.objective import LossWeights
from egohand_ros.training.windows.goal_windows import GoalWindowSampler, see_goals

SIZE = (48, 64)
WORDS = tuple(read_preset("egohand-small")["grounding"]["words"])
GROUNDING = GroundingConfig(WORDS, *SIZE, channels=(16, 16, 32), word_width=16, map_width=32, goal_width=32)
CONFIG = SmallConfig(width=64, layers=1, flow_width=32, flow_layers=1, observation_width=16, grounding=GROUNDING)
WEIGHTS = LossWeights(flow=0.01, deviation=0.005, goal_cell=0.02, goal_point=0.1)
NOWHERE = (SIZE[0] // 8) * (SIZE[1] // 8)


@pytest.fixture(scope="module")
def scenes():
    return [see_goals(seed, SIZE, 0.1, 20, 10) for seed in (1, 2, 3)]


@pytest.fixture
def objective():
    torch.manual_seed(0)
    forecaster = SmallForecaster(CONFIG, goals=True)
    forecaster.network.time_basis.normal_(std=0.05)
    forecaster.network.finger_basis.normal_(std=0.01)
    for head in (forecaster.network.expected, forecaster.network.spread):
        torch.nn.init.normal_(head.weight, std=0.05)
    return GroundingObjective(forecaster, WEIGHTS)


def sampler(scenes, objective, **options):
    return GoalWindowSampler(
        scenes, objective.forecaster.spec, batch=12, group=4, **{"blind": 0.0, "deaf": 0.0, **options}
    )


def test_batches_are_told_by_seed_and_number(scenes, objective):
    made = sampler(scenes, objective)
    a, b, c = objective.prepare(made.cuts(7)), objective.prepare(made.cuts(7)), objective.prepare(made.cuts(8))
    assert all(torch.equal(a[key].nan_to_num(), b[key].nan_to_num()) for key in a)
    assert not torch.equal(a["images"], c["images"])
    parts = [cut.window.stamp for rank in range(3) for cut in made.cuts(7, rank, 3)]
    whole = [cut.window.stamp for cut in made.cuts(7)]
    assert torch.equal(torch.cat(parts), torch.cat(whole))


@pytest.mark.parametrize("option", ["blind", "deaf"])
def test_where_there_is_nothing_to_find_nowhere_is_the_answer(scenes, objective, option):
    cuts = sampler(scenes, objective, **{option: 1.0}).cuts(0)
    assert all((cut.cells == NOWHERE).all() and np.isnan(cut.goals).all() for cut in cuts)
    usual = sampler(scenes, objective).cuts(0)
    assert any((cut.cells < NOWHERE).any() for cut in usual)


def test_what_was_learned_of_hands_stays_as_it_is_and_the_labels_are_learned(scenes, objective):
    network = objective.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    objective.train()
    assert not network.blocks.training and network.grounding.training
    batch = objective.prepare(sampler(scenes, objective).cuts(0))
    losses, hits = [], []
    for step in range(40):
        loss, parts = objective(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(parts["cell"].detach()))
        hits.append(float(parts["hit object"]))
    assert losses[-1] < 0.4 * losses[0] and hits[-1] > 0.8
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("grounding."), name


def test_mistakes_are_explained(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    for arguments, complaint in (
        (["egohand-small", "--goals", "2"], "give --init"),
        (["egohand-small", "--goals", "-1"], "expected 0 or more"),
        (["egohand-small", "--init", "egohand-small", "--goals", "2", "--synthetic", "3"], "no --data"),
        (["egghand-tiny", "--init", "egohand-small", "--goals", "2"], "egghand has no stage that is trained on goals"),
        (["egohand-follow", "--init", "egohand-follow", "--goals", "2"], "'egohand-follow' has no `grounding`"),
        (["egohand-small", "--stage", "grounding"], "give --goals N and --init MODEL"),
    ):
        assert main(["train", *arguments, *out]) == 2
        assert complaint in capsys.readouterr().err


def test_time_is_scaled_as_far_as_the_scene_lasts(scenes, objective):
    from egohand_ros.training.windows.augment import NONE

    made = sampler(scenes, objective, augmentation=replace(NONE, time_scale=(3.0, 3.0)))
    assert all(cut.future_valid.all() for cut in made.cuts(0))
