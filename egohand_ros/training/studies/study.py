"""Trainings that are to be compared: variants of a preset with the same seeds on the same generated data, each run in a
folder of its own, where it goes on when it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from ...data.episode import Episode
from ...errors import UserError
from ...forecast.common.protocol import Forecaster
from ...forecast.registry import system_of, values_of
from ...forecast.system import resolve
from ..config import TrainingConfig
from ..loop import Trainer, fingerprint
from ..session import read_settings
from ..windows.batches import GroupSampler, WindowSampler
from ..windows.goal_windows import GoalWindowSampler, SeenGoals

TRAINING_SEED, TEST_SEED, CALIBRATION_SEED = 70_000_000, 90_000_000, 91_000_000
Scores = dict[str, np.ndarray]  # of one trained network: a number a scene, NaN where there is none, by metric
Scored = TypeVar("Scored")


@dataclass(frozen=True)
class Variant:
    """A preset with other settings of its model and other weights of its loss."""

    model: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)


AS_IS = Variant()


@dataclass(frozen=True)
class Study:
    """What all variants of a system share. Runs are in folders of their own below `folder`, and go on where they were
    stopped; `report(name, done, total)` is called as they go on. `changes` are KEY=VALUE over the preset's settings of
    training, or STAGE.KEY=VALUE over those of one stage. `data` tells runs of other data apart (see `of`)."""

    preset: str
    folder: Path
    scenes: int
    test_scenes: int
    seeds: int
    changes: tuple[str, ...] = ()
    device: str = "auto"
    report: Callable[[str, int, int], None] = lambda name, done, total: None
    data: Mapping[str, Any] = field(default_factory=dict)

    def of(self, system: str, data: Mapping[str, Any]) -> Study:
        """Of a system by its name as its authors write it, with what tells runs of other data apart. Raises `UserError`
        for a preset of another one, and for changes that cannot be."""
        record = system_of(self.preset)
        if record.name != system.lower():
            raise UserError(
                f"preset {self.preset!r} is not of {system}, whose claim this is; give {system.lower()}-small"
            )
        for stage in record.stages:
            self.settings(stage=stage.name)
        return replace(self, data=data)

    def seeded(self, first_seed: int = TRAINING_SEED) -> dict[str, int]:
        """What is trained and tested on, where scenes are all that there is to tell."""
        return {
            "scenes": self.scenes,
            "seed": first_seed,
            "test_scenes": self.test_scenes,
            "test_seed": TEST_SEED,
        }

    def make(self, first_seed: int, count: int, generate: Callable[[int], Any], name: str = "scenes") -> list[Any]:
        """`count` generated things."""
        made = []
        for i in range(count):
            made.append(generate(first_seed + i))
            self.report(name, i + 1, count)
        return made

    def settings(self, seed: int | None = None, variant: Variant = AS_IS, stage: str = "") -> TrainingConfig:
        """The preset's training in a stage (by default its first) with the changes, a variant's loss, and a seed (by
        default its own)."""
        system = system_of(self.preset)
        chosen = system.stage(stage)
        others = tuple(f"{other.name}." for other in system.stages if other.name != chosen.name)
        own = [change.removeprefix(f"{chosen.name}.") for change in self.changes if not change.startswith(others)]
        config = read_settings(self.preset, chosen, False, own)
        seed = config.seed if seed is None else seed
        return replace(config, seed=seed, loss=replace(config.loss, **variant.loss))

    def values(self, variant: Variant = AS_IS) -> dict[str, Any]:
        """The preset's YAML with a variant's model."""
        values = values_of(self.preset)
        return {**values, "model": values.get("model", {}) | variant.model}

    def new(self, seed: int, variant: Variant = AS_IS, **options: Any) -> Forecaster:
        """With new weights, those of a seed."""
        torch.manual_seed(seed)
        values = self.values(variant)
        name = values.get("name", Path(self.preset).stem)
        return system_of(self.preset).new(name, values, device=self.device, **options)

    def train(
        self,
        name: str,
        forecaster: Forecaster,
        config: TrainingConfig,
        sampler: GroupSampler,
        stage: str = "",
        key: Sequence[str | None] = (),
        fit: bool = False,
    ) -> None:
        """Train a forecaster in place by the objective of a stage, by default the first; see `run`."""
        objective = resolve(system_of(self.preset).stage(stage).objective)(forecaster, config.loss)
        self.run(name, objective, config, sampler, key, fit)

    def train_on_goals(
        self, name: str, stage: str, forecaster: Forecaster, config: TrainingConfig, scenes: Sequence[SeenGoals]
    ) -> Forecaster:
        """The forecaster, trained in place by a stage on scenes with pictures and words."""
        sampler = drawn(GoalWindowSampler, scenes, forecaster, config)
        self.train(name, forecaster, config, sampler, stage, (name, stage))
        return forecaster

    def run(
        self,
        name: str,
        objective: nn.Module,
        config: TrainingConfig,
        sampler: GroupSampler,
        key: Sequence[str | None] = (),
        fit: bool = False,
        place: str = "",
    ) -> None:
        """Train the network of an objective and leave it ready to use.

        It goes on in a folder where `key` was the same; that is the name, unless more has to be said. `fit`: whether
        the network has a normalisation. `place`: of the folder, by default the name and the seed.
        """
        Trainer(
            objective,
            sampler,
            config,
            self.folder / (place or f"{name.replace(' ', '_')}_{config.seed}"),
            self.device,
            fingerprint(self.preset, self.data, *(key or (name,))),
            fit=fit,
            report=lambda step, _: self.report(f"{name}, seed {config.seed}", step, config.steps),
        ).run()
        objective.network.eval()

    def over_seeds(self, scored: Callable[[int], Iterable[tuple[str, Scored]]]) -> dict[str, list[Scored]]:
        """What trainings of every seed give, by name and one for each seed: `scored(seed)` trains, and yields the score
        of each variant."""
        found: dict[str, list[Scored]] = {}
        for seed in range(1, self.seeds + 1):
            for name, score in scored(seed):
                found.setdefault(name, []).append(score)
        return found

    def compare(
        self, variants: Mapping[str, Variant], episodes: Sequence[Episode], score: Callable[[Forecaster], Scores]
    ) -> dict[str, list[Scores]]:
        """Scores of every variant, trained with every seed on windows of the same episodes."""

        def scored(seed: int) -> Iterable[tuple[str, Scores]]:
            for name, variant in variants.items():
                config, forecaster = self.settings(seed, variant), self.new(seed, variant)
                self.train(name, forecaster, config, drawn(WindowSampler, episodes, forecaster, config))
                yield name, score(forecaster)

        return self.over_seeds(scored)


def drawn(
    kind: Callable[..., GroupSampler],
    sources: Sequence[Any],
    forecaster: Forecaster,
    config: TrainingConfig,
    **more: Any,
) -> GroupSampler:
    """A sampler of windows of `sources` for a forecaster, as its training is set."""
    return kind(sources, forecaster.spec, config.batch, config.group, config.seed, config.augmentation, **more)
