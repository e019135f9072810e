"""The training loop: it learns, it goes on after a kill as if nothing had been, and its pieces keep their promises."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import forked_training
import numpy as np
import pytest
import torch
from tiny_egghand import EGOVIDEO, HEAD

from egohand_ros.data.synthetic.free_motion import generate_free_motion
from egohand_ros.errors import UserError
from egohand_ros.forecast.egghand.forecaster import EggHandForecaster
from egohand_ros.forecast.egghand.model import EggHandConfig, EggHandNetwork
from egohand_ros.forecast.small.forecaster import SmallForecaster
from egohand_ros.forecast.small.network import SmallConfig
from egohand_ros.training import loop
from egohand_ros.training.buffer import RowBuffer
from egohand_ros.training.checkpoint import StepLog, read_log
from egohand_ros.training.config import TrainingConfig
from egohand_ros.training.loop import Trainer, learning_rate
from egohand_ros.training.objectives.egghand import EggHandObjective, EggHandWeights
from egohand_ros.training.objectives.objective import LossWeights
from egohand_ros.training.objectives.small import SmallObjective
from egohand_ros.training.windows.augment import NONE
from egohand_ros.training.windows.batches import WindowSampler

TINY = SmallConfig(width=32, layers=1, flow_layers=1, observation_width=8, dropout=0.1)
SETTINGS = TrainingConfig(
    steps=40,
    batch=16,
    group=8,
    learning_rate=3e-3,
    buffer=3,
    reuse=2,
    save_every=10,
    validate_every=40,
    loss=LossWeights(flow=0.01, deviation=0.005),
)


pytestmark = pytest.mark.usefixtures("quickly_fitted")


def make_episodes():
    return [generate_free_motion(seed, 8.0) for seed in range(3)]


@pytest.fixture(scope="module")
def episodes():
    return make_episodes()


def small_trainer(folder: Path, episodes, settings: TrainingConfig = SETTINGS, **options) -> Trainer:
    torch.manual_seed(0)
    forecaster = SmallForecaster(TINY)
    sampler = WindowSampler(
        episodes, forecaster.spec, settings.batch, settings.group, settings.seed, settings.augmentation
    )
    return Trainer(SmallObjective(forecaster, settings.loss), sampler, settings, folder, "cpu", **options)


def test_killed_and_started_again_it_gives_the_same_losses_and_weights(tmp_path, episodes):
    whole = small_trainer(tmp_path / "whole", episodes)
    whole.run()
    killed = tmp_path / "killed"
    for step in (4, 27):  # before anything was saved, and between two savings
        process = forked_training.start(forked_training.killed_after, step, killed)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert read_log(killed)[-1]["step"] == 27
    (killed / ".state.pt.half").write_bytes(b"what a kill during a save leaves behind")
    resumed = small_trainer(killed, episodes)
    assert resumed.step == 20
    resumed.run()
    assert read_log(killed) == read_log(tmp_path / "whole")
    for kept, expected in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(kept, expected)


def test_a_finished_run_is_not_trained_further(tmp_path, episodes):
    small_trainer(tmp_path, episodes).run()
    log = read_log(tmp_path)
    again = small_trainer(tmp_path, episodes)
    again.run()
    assert read_log(tmp_path) == log and len(log) == 40


def test_other_settings_do_not_go_on_from_a_run(tmp_path, episodes):
    small_trainer(tmp_path, episodes).run()
    other = TrainingConfig(**{**vars(SETTINGS), "learning_rate": 1e-4})
    with pytest.raises(UserError, match="other settings"):
        small_trainer(tmp_path, episodes, other)


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path, episodes):
    """Without anything random in the network and the loss, four quarters of a batch teach what the whole batch does."""
    plain = dict(vars(SETTINGS), steps=2, loss=LossWeights(), augmentation=NONE)
    without = SmallConfig(**{**vars(TINY), "dropout": 0.0})

    def weights(name: str, accumulate: int) -> list[torch.Tensor]:
        settings = TrainingConfig(**{**plain, "accumulate": accumulate})
        torch.manual_seed(0)
        forecaster = SmallForecaster(without)
        sampler = WindowSampler(episodes, forecaster.spec, 16, 8, 0, NONE)
        trainer = Trainer(SmallObjective(forecaster, settings.loss), sampler, settings, tmp_path / name, "cpu")
        trainer.run()
        return list(trainer.network.parameters())

    for whole, parts in zip(weights("whole", 1), weights("parts", 4), strict=True):
        assert torch.allclose(whole, parts, atol=2e-4)


SHARED = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent / "forecast")]
from test_loop import SHARDED, loop, make_episodes, small_trainer
loop._FIT_WINDOWS = int(sys.argv[3])
small_trainer(Path(sys.argv[2]), make_episodes(), SHARDED).run()
"""
SHARDED = TrainingConfig(**{**vars(SETTINGS), "steps": 5, "shards": 2, "batch": 16, "group": 8})


def test_two_processes_have_the_losses_of_one(tmp_path, episodes, monkeypatch):
    """Over gloo, as `torchrun --nproc-per-node 2`: the same rows, noise and dropout, whoever works them out."""
    pytest.importorskip("accelerate")
    small_trainer(tmp_path / "one", episodes, SHARDED).run()
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(script), str(Path(__file__).parent), str(tmp_path / "two"), str(loop._FIT_WINDOWS)]
    told = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-2000:]
    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in two] == [1, 2, 3, 4, 5]
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-5)
    with pytest.raises(UserError, match=r"--set shards=2"):
        monkeypatch.setattr(loop, "make_runtime", lambda *_: SimpleNamespace(world=2, rank=0))
        small_trainer(tmp_path / "odd", episodes, replace(SHARDED, shards=1))


def test_it_learns(tmp_path, episodes):
    """The same 32 windows again and again."""
    changes = {
        "steps": 100,
        "batch": 32,
        "reuse": 10**6,
        "augmentation": NONE,
        "learning_rate": 1e-2,
        "validate_every": 100,
    }
    settings = TrainingConfig(**{**vars(SETTINGS), **changes})
    seen = []
    small_trainer(tmp_path, episodes, settings, validate=lambda: seen.append(1) or {"checked": 1.0}).run()
    losses = [line["geometric"] for line in read_log(tmp_path)]
    assert np.mean(losses[-20:]) < 0.75 * np.mean(losses[:20])
    assert read_log(tmp_path)[-1]["checked"] == 1.0 and len(seen) == 1


def test_egghand_learns_where_the_hands_are(tmp_path, episodes):
    head = replace(HEAD, layers=2, context_width=32, categories=1)
    encoder = replace(EGOVIDEO, feed_forward=32, text_feed_forward=32)
    config = EggHandConfig(image_size=28, category=0, egovideo=encoder, head=head)
    torch.manual_seed(0)
    forecaster = EggHandForecaster(config, EggHandNetwork(config), device="cpu")
    settings = TrainingConfig(
        steps=40, batch=16, group=8, learning_rate=3e-3, reuse=10**6, loss=EggHandWeights(flow=0.1), augmentation=NONE
    )
    frozen = {k: v.clone() for k, v in forecaster.network.encoder.state_dict().items()}
    sampler = WindowSampler(episodes, forecaster.spec, 16, 8)
    Trainer(EggHandObjective(forecaster, settings.loss), sampler, settings, tmp_path, "cpu").run()
    losses = [line["absolute"] for line in read_log(tmp_path)]
    assert np.mean(losses[-5:]) < 0.65 * np.mean(losses[:5])
    assert (forecaster.network.maximum > forecaster.network.minimum).all()
    assert all(torch.equal(v, frozen[k]) for k, v in forecaster.network.encoder.state_dict().items())


def test_learning_rate_rises_and_falls():
    config = TrainingConfig(steps=100, batch=32, learning_rate=1.0, warmup=0.1, final_rate=0.1)
    rates = [learning_rate(i, config) for i in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)]) and max(rates) == 1.0
    assert rates[55] == pytest.approx(0.55, abs=0.01) and rates[-1] == pytest.approx(0.1, abs=0.01)


def test_buffer_mixes_batches_and_may_begin_anywhere():
    made = []

    def make(index: int) -> dict[str, torch.Tensor]:
        made.append(index)
        return {"row": torch.full((10,), index)}

    buffer = RowBuffer(make, 20, length=3, reuse=2, seed=1)
    steps = [buffer.batch(step)["row"] for step in range(12)]
    assert made == list(range(6)), "each batch is made once"
    assert set(steps[11].tolist()) == {3, 4, 5} and set(steps[0].tolist()) == {0}
    late = RowBuffer(make, 20, length=3, reuse=2, seed=1)
    assert torch.equal(late.batch(11)["row"], steps[11])


def test_sampler_gives_each_process_its_part_of_the_same_batch(episodes):
    sampler = WindowSampler(episodes, SmallForecaster(TINY).spec, 32, 8, 3)
    whole = sampler.cuts(5)
    parts = [sampler.cuts(5, rank, 2) for rank in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    for i, cut in enumerate(whole):
        assert torch.equal(cut.window.keypoints, parts[i % 2][i // 2].window.keypoints)
    assert not torch.equal(whole[0].window.keypoints, sampler.cuts(6)[0].window.keypoints)


def test_too_short_episodes_are_named(episodes):
    short = episodes[0].slice(0, 60)
    with pytest.raises(UserError, match="a window and its future need 3 s, the longest of 1 episodes lasts 1.97 s"):
        WindowSampler([short], SmallForecaster(TINY).spec, 32, 8)


def test_a_log_cut_in_half_is_read_up_to_there(tmp_path):
    log = StepLog(tmp_path, 0)
    for step in range(1, 4):
        log.add(step, {"loss": float(step)})
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3]
    StepLog(tmp_path, 2).close()
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    "wrong",
    [{"precision": "int8"}, {"batch": 17}, {"accumulate": 3}, {"steps": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        TrainingConfig(**{**vars(SETTINGS), **wrong})
