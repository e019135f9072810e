"""Trainings that are to be compared: the stages of one preset on the same generated scenes, each run in a folder of its
own, where it goes on when it was stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..forecast.common.protocol import Forecaster
from ..forecast.registry import system_of, values_of
from ..forecast.system import resolve
from .config import TrainingConfig
from .loop import Trainer, fingerprint
from .session import read_settings
from .windows.goal_windows import GoalWindowSampler, SeenGoals


def train_apart(
    name: str,
    objective: nn.Module,
    sampler: Any,
    config: TrainingConfig,
    folder: Path,
    device: str,
    key: str,
    report: Callable[[str, int, int], None],
) -> None:
    """Train the network of an objective that has no normalisation, in a folder of its own below `folder`, where it goes
    on if `key` is that of before; and leave it ready to use."""
    Trainer(
        objective,
        sampler,
        config,
        folder / f"{name.replace(' ', '_')}_{config.seed}",
        device,
        key,
        fit=False,
        report=lambda step, _: report(f"{name}, seed {config.seed}", step, config.steps),
    ).run()
    objective.network.eval()


@dataclass(frozen=True)
class Runs:
    """Of `preset`, below `folder`. `data` tells runs of other data apart; `changes` are KEY=VALUE over its settings, or
    STAGE.KEY=VALUE over those of one stage; `report(run, step, steps)` is called as they go on."""

    preset: str
    folder: Path
    scenes: Sequence[SeenGoals]
    data: dict[str, Any]
    changes: Sequence[str] = ()
    device: str = "auto"
    report: Callable[[str, int, int], None] = lambda name, step, steps: None

    def settings(self, stage: str, seed: int) -> TrainingConfig:
        """Of a stage."""
        system = system_of(self.preset)
        others = tuple(f"{other.name}." for other in system.stages if other.name != stage)
        own = [change.removeprefix(f"{stage}.") for change in self.changes if not change.startswith(others)]
        return replace(read_settings(self.preset, system.stage(stage), False, own), seed=seed)

    def new(self, seed: int, **model: Any) -> Forecaster:
        """With new weights, those of one seed; `model` over the preset's sizes."""
        torch.manual_seed(seed)
        values = values_of(self.preset)
        changed = {**values, "model": values["model"] | model}
        return system_of(self.preset).new(self.preset, changed, device=self.device)

    def train(self, name: str, stage: str, config: TrainingConfig, forecaster: Forecaster) -> Forecaster:
        """The forecaster, trained in place by a stage of a system that has no normalisation."""
        sampler = GoalWindowSampler(
            self.scenes, forecaster.spec, config.batch, config.group, config.seed, config.augmentation
        )
        objective = resolve(system_of(self.preset).stage(stage).objective)(forecaster, config.loss)
        key = fingerprint(self.preset, self.data, name, stage)
        train_apart(name, objective, sampler, config, self.folder, self.device, key, self.report)
        return forecaster
