"""EggHand's ablations (its tables 2 to 5) on synthetic data: what each part of the system is worth.

- Table 2: losses. Trained with the absolute loss alone, with the pairwise and with the relative one beside it, and with
  all.
- Table 3: inputs. "Ours" with Gaussian noise for images, random words of the task vocabulary for the task, and both.
- Table 4: the tenth of windows with the most camera motion, beside all.
- Table 5: action head from its pretraining, or from random weights ("initialized").

The paper's head is GR00T's. Where no such file is given, the head is pretrained on generated free motion without images
and tasks, as long as each variant is then trained. Every run is in a folder of its own, and goes on where it was
stopped.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...config import to_mapping
from ...data.synthetic.free_motion import generate_free_motion
from ...data.windows import Cut
from ...errors import UserError
from ...evaluation.ego_motion import TOP_SHARE
from ...evaluation.image_and_text_inputs import (
    BASELINES,
    INPUTS,
    OURS,
    Pictures,
    Seeing,
    see_story,
    with_inputs,
    words_of,
)
from ...evaluation.protocol import Result, evaluate, forecaster_for, get_protocol
from ...forecast.egghand.config import KIND as EGGHAND
from ...forecast.egghand.forecaster import EggHandForecaster
from ...forecast.registry import system_of, values_of
from ..config import TrainingConfig
from ..objectives.egghand import EggHandObjective
from ..objectives.losses import GeometryWeights
from ..windows.batches import WindowSampler
from .study import Study, drawn

TRAINING_SEED, TEST_SEED, PRETRAINING_SEED = 30_000_000, 40_000_000, 50_000_000
_DURATION = 30.0

PRETRAINING = "pretraining"
_ABSOLUTE = GeometryWeights().absolute
# Table 2: the part of the loss that each run keeps; the full loss is that of the preset.
LOSSES = {
    "Ours w. L_abs": GeometryWeights(_ABSOLUTE, 0.0, 0.0),
    "Ours w. L_abs + L_pair": replace(GeometryWeights(), relative=0.0),
    "Ours w. L_abs + L_rel": replace(GeometryWeights(), pairwise=0.0),
}
INITIALIZED = "Ours (initialized Action Head)"
TABLES = {"2": (*LOSSES, OURS), "3": (*INPUTS, OURS), "4": (OURS,), "5": (INITIALIZED, OURS)}


@dataclass(frozen=True)
class SeenWindowSampler(WindowSampler):
    """Windows with the images that belong to them."""

    pictures: Pictures | None = None

    def _group(self, rng: np.random.Generator) -> Cut:
        cut = super()._group(rng)
        return cut if self.pictures is None else replace(cut, window=self.pictures.show(cut.window))


class Ablations:
    """All runs of a study, one seed each, with what there is of public weights."""

    def __init__(self, study: Study, action_head: str | None = None, egovideo: str | None = None):
        if system_of(study.preset).name != EGGHAND:
            raise UserError(
                f"preset {study.preset!r} is not of EggHand, whose ablations these are; give egghand-tiny, egghand-hf "
                "or egghand"
            )
        data = {"scenes": study.scenes, "seconds": _DURATION, "seed": TRAINING_SEED}
        self.study, self.config = replace(study, data=data), study.settings()
        self.action_head, self.egovideo = action_head, egovideo
        model = values_of(study.preset)["model"]
        rate, size = 1.0 / model["step"], model["image_size"]
        seeds = [TRAINING_SEED + i for i in range(study.scenes)] + [TEST_SEED + i for i in range(study.test_scenes)]
        seen = []
        for number, seed in enumerate(seeds):
            seen.append(see_story(seed, number, _DURATION, rate, size))
            study.report("rendering", number + 1, len(seeds))
        self.training, self.test = seen[: study.scenes], seen[study.scenes :]
        self.words = words_of(seen)

    def run(self) -> Result:
        """Train every variant and score all on the same held-out scenes."""
        head = None if self.action_head else self._pretrained_head()
        spec, made = self._new().spec, {}
        made[OURS] = self._train(OURS, self.config, head)
        for name, geometry in LOSSES.items():
            made[name] = self._train(
                name, replace(self.config, loss=replace(self.config.loss, geometry=geometry)), head
            )
        made[INITIALIZED] = self._train(INITIALIZED, self.config, None, public_head=False)
        pictures = Pictures(self.test, spec)
        forecasters = {name: Seeing(forecaster, pictures) for name, forecaster in made.items()}
        forecasters |= with_inputs(made[OURS], pictures, self.words)
        protocol = replace(get_protocol("egoexo4d"), hypotheses=1)
        baselines = {name: forecaster_for(name, protocol) for name in BASELINES}
        episodes = {f"scene {s.scene.seed}": s.scene.episode for s in self.test}
        return evaluate(episodes, baselines | forecasters, protocol, ego_motion=TOP_SHARE)

    def to_json(self, result: Result) -> dict:
        """Settings, and the rows of each table: metrics in m of all windows, and of those with the most camera
        motion.
        """
        moved = result.ego_motion.scores
        rows = {
            name: {
                **result.metrics(name),
                **{f"{k} top 10 %": v for k, v in moved[name].values(("ADE", "MPJPE")).items()},
            }
            for name in result.scores
        }
        return {
            "preset": self.study.preset,
            "data": self.study.data | {"test_scenes": len(self.test), "windows": result.windows},
            "action_head": self.action_head or f"pretrained on free motion, {self.config.steps} steps",
            "training": to_mapping(self.config),
            "baselines": {name: rows[name] for name in BASELINES},
            "tables": {number: {name: rows[name] for name in names} for number, names in TABLES.items()},
        }

    def _new(self, public_head: bool = True) -> EggHandForecaster:
        public = {"egovideo": self.egovideo, "action_head": self.action_head if public_head else None}
        forecaster = self.study.new(self.config.seed, **public)
        forecaster.learn_words(seen.scene.task for seen in (*self.training, *self.test))
        return forecaster

    def _pretrained_head(self) -> dict[str, torch.Tensor]:
        """Weights of an action head that was trained to forecast free motion from hands alone."""
        forecaster, count = self._new(), 2 * len(self.training)
        rate = 1.0 / forecaster.spec.step
        episodes = [generate_free_motion(PRETRAINING_SEED + i, _DURATION, rate) for i in range(count)]
        self._fit(PRETRAINING, forecaster, self.config, drawn(WindowSampler, episodes, forecaster, self.config))
        return forecaster.network.head.state_dict()

    def _train(
        self, name: str, config: TrainingConfig, head: dict[str, torch.Tensor] | None, public_head: bool = True
    ) -> EggHandForecaster:
        forecaster = self._new(public_head)
        if head is not None:
            forecaster.network.head.load_state_dict(head)
        episodes = [s.scene.episode for s in self.training]
        pictures = Pictures(self.training, forecaster.spec)
        sampler = drawn(SeenWindowSampler, episodes, forecaster, config, pictures=pictures)
        self._fit(name, forecaster, config, sampler)
        return forecaster

    def _fit(self, name: str, forecaster: EggHandForecaster, config: TrainingConfig, sampler: WindowSampler) -> None:
        key = (self.action_head, self.egovideo, name)
        objective = EggHandObjective(forecaster, config.loss)
        self.study.run(name, objective, config, sampler, key, fit=True, place=_folder_name(name))


def _folder_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_").lower()
