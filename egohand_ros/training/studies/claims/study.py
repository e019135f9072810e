"""Variants of a network trained with the same seeds on the same scenes, and claims judged by their held-out errors."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ....errors import UserError
from ....forecast.common.protocol import Forecaster
from ....forecast.registry import system_of, values_of
from ....forecast.system import System
from ...config import TrainingConfig
from ...loop import fingerprint
from ...runs import train_apart
from ...session import read_settings

TRAINING_SEED, TEST_SEED, CALIBRATION_SEED = 70_000_000, 90_000_000, 91_000_000
Scores = dict[str, np.ndarray]  # of one trained network: a number a scene, NaN where there is none, by metric
_DRAWS = 1000

HOLDS, FAILS, OPEN, SAME = "holds", "does not hold", "undecided", "no difference"
EARLY = "trained too little"
_NOTHING = 0.01  # a ratio whose interval is so near to 1 says that the two are the same


@dataclass(frozen=True)
class Variant:
    """A preset with other settings of its model and other weights of its loss."""

    model: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """That `whole`, a variant and one of its metrics, has less of it than `without`. `published` is the paper's ratio
    of the two, "" where it has none. `bar`: the reference that one of the two has to be better than to be judged: what
    is no better than a guess says nothing of what a part is worth."""

    name: str
    whole: tuple[str, str]
    without: tuple[str, str]
    published: str = ""
    bar: str = ""


@dataclass(frozen=True)
class Study:
    """What all variants of a system share. Runs are in folders of their own below `folder`, and go on where they were
    stopped; `report(name, done, total)` is called as they go on."""

    preset: str
    folder: Path
    scenes: int
    test_scenes: int
    seeds: int
    changes: tuple[str, ...] = ()
    device: str = "auto"
    report: Callable[[str, int, int], None] = lambda name, done, total: None

    def system(self, name: str) -> System:
        """The preset's, which has to be this one."""
        system = system_of(self.preset)
        if system.name != name:
            raise UserError(f"preset {self.preset!r} is not of {name}, whose claims these are; give {name}-small")
        return system

    @property
    def data(self) -> dict[str, int]:
        """What is trained and tested on, for the record."""
        return {
            "scenes": self.scenes,
            "seed": TRAINING_SEED,
            "test_scenes": self.test_scenes,
            "test_seed": TEST_SEED,
        }

    def settings(self, variant: Variant, seed: int) -> TrainingConfig:
        """The preset's training with the changes, a variant's loss, and a seed."""
        stage = system_of(self.preset).stage()
        config = read_settings(self.preset, stage, False, self.changes)
        return replace(config, seed=seed, loss=replace(config.loss, **variant.loss))

    def model(self, variant: Variant) -> dict[str, Any]:
        """The preset's YAML with a variant's model."""
        values = values_of(self.preset)
        return {**values, "model": values.get("model", {}) | variant.model}

    def forecaster(self, variant: Variant, seed: int, **options: Any) -> Forecaster:
        """With new weights, those of a seed."""
        torch.manual_seed(seed)
        return system_of(self.preset).new(self.preset, self.model(variant), device=self.device, **options)

    def make(self, first_seed: int, count: int, generate: Callable[[int], Any], name: str = "scenes") -> list[Any]:
        """`count` generated things."""
        made = []
        for i in range(count):
            made.append(generate(first_seed + i))
            self.report(name, i + 1, count)
        return made

    def train(self, name: str, objective: nn.Module, sampler: Any, config: TrainingConfig) -> None:
        """Train the network of an objective, and leave it ready to use."""
        key = fingerprint(self.preset, self.data, name)
        train_apart(name, objective, sampler, config, self.folder, self.device, key, self.report)


def judged(
    study: Study, found: dict[str, list[Scores]], claims: Sequence[Claim], reference: dict[str, float], steps: int
) -> dict[str, Any]:
    """What there is to say of scores by variant, one for each seed: means and each seed's own, and every claim with the
    ratio of its two sides and the 95 % interval of that. `reference`: numbers that no network made."""
    rows = {
        name: {
            metric: {"mean": _mean([run[metric] for run in runs]), "seeds": [_mean([run[metric]]) for run in runs]}
            for metric in runs[0]
        }
        for name, runs in found.items()
    }
    return {
        "preset": study.preset,
        "data": study.data,
        "seeds": study.seeds,
        "steps": steps,
        "rows": rows,
        "reference": reference,
        "claims": [_judge(claim, found, reference) for claim in claims],
    }


def _judge(claim: Claim, found: dict[str, list[Scores]], reference: dict[str, float]) -> dict[str, Any]:
    sides = [np.array([run[metric] for run in found[name]]) for name, metric in (claim.whole, claim.without)]
    ratio = ratio_with_interval(*sides, np.random.default_rng(0))
    each = [_mean([a]) / _mean([b]) for a, b in zip(*sides, strict=True)]
    early = bool(claim.bar) and min(_mean(list(side)) for side in sides) > reference[claim.bar]
    return asdict(claim) | {"ratio": ratio, "seeds": each, "verdict": EARLY if early else _verdict(*ratio[1:])}


def _verdict(low: float, high: float) -> str:
    if low > 1.0 - _NOTHING and high < 1.0 + _NOTHING:
        return SAME
    return HOLDS if high < 1.0 else FAILS if low > 1.0 else OPEN


def ratio_with_interval(above: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Ratio of the means of two sets of numbers (seeds, scenes), and its 95 % interval by the bootstrap over seeds and
    scenes, which both sets share. Scenes for which a run has no number do not count; NaN where none is left."""
    pairs = np.stack([above, below])
    pairs = pairs[..., np.isfinite(pairs).all((0, 1))]
    if not pairs.shape[-1]:
        return [float("nan")] * 3
    drawn = []
    for _ in range(_DRAWS):
        rows = rng.integers(pairs.shape[1], size=pairs.shape[1])
        scenes = rng.integers(pairs.shape[2], size=pairs.shape[2])
        upper, lower = pairs[:, rows][..., scenes].mean((1, 2))
        drawn.append(upper / max(lower, 1e-9))
    upper, lower = pairs.mean((1, 2))
    return [float(upper / max(lower, 1e-9)), *map(float, np.percentile(drawn, (2.5, 97.5)))]


def _mean(values: Sequence[np.ndarray]) -> float:
    """Of all that is known; NaN where nothing is."""
    known = np.concatenate([np.asarray(v, dtype=float).ravel() for v in values])
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")
