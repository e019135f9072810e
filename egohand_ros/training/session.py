"""`egohand train` from end to end: data, network, training, calibration, and how the result compares with naive
forecasters."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ..config import from_mapping, to_mapping
from ..data.episode import Episode
from ..data.load import load_labelled
from ..data.synthetic import generate_scene, observe
from ..data.synthetic.free_motion import generate_free_motion
from ..data.synthetic.scene_images import with_pictures
from ..data.windows import cut_windows, window_ends, with_images
from ..errors import UserError
from ..evaluation.image_and_text_inputs import Pictures, Seeing, SeenScene, goal_scenes
from ..evaluation.protocol import NAIVE, Protocol, Result, evaluate, forecaster_for
from ..forecast.common.calibration import Calibration, calibrate, score
from ..forecast.common.pretrained import CALIBRATION, CONFIG, WEIGHTS, kind_of
from ..forecast.common.protocol import Forecaster, ForecasterSpec
from ..forecast.registry import (
    find_system,
    from_pretrained,
    make_forecaster,
    options_of,
    system_of,
    untrained,
    values_of,
)
from ..forecast.system import Stage, resolve
from ..outputs import check_not_input, check_page, check_writable, new_folder, resolved, write_text
from .checkpoint import STATE
from .config import TrainingConfig
from .holding_back import ENOUGH, LEAST_PARTS, SHARE, SPARE, hold_back, seconds, with_unseen_before
from .loop import Trainer, fingerprint
from .objectives.objective import weights_of
from .windows.augment import NONE
from .windows.batches import GroupSampler, WindowSampler
from .windows.goal_windows import GOAL_SEED, GoalWindowSampler, see_many

# Synthetic episodes to train on begin at this seed, those to validate and calibrate on at the other. `egohand synth`
# counts from 0, so that what it makes was seen in neither.
TRAINING_SEED, VALIDATION_SEED = 10_000_000, 20_000_000
GOAL_VALIDATION_SEED = 65_000_000
_VALIDATION_SCENES, _VALIDATION_GOALS = 24, 48
# Shares of what fine-tuning changed, of which the best on what is held back is kept.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
MODEL, SUMMARY = "model", "training.json"


@dataclass(frozen=True)
class Data:
    """What `sampler` draws windows to train on from, and by name the episodes to validate and calibrate on, with their
    pictures where there are any; `warning` where that is little.
    """

    training: list[Any]
    validation: dict[str, Episode]
    description: dict[str, Any]
    sampler: type[GroupSampler] = WindowSampler
    pictures: list[SeenScene] = field(default_factory=list)
    warning: str | None = None


def gather(
    recordings: Sequence[str],
    synthetic: int,
    spec: ForecasterSpec,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Recordings, of which some is held back, and `synthetic` episodes of 30 s: scenes and free motion by halves, or
    scenes alone, with pictures, where the forecaster needs images. Recordings then need them too."""
    need, given = seconds(spec), load_labelled(recordings)
    for label, episode in given.items():
        if spec.lacks(episode):
            raise UserError(f"{spec.lacks(episode)}, and {label!r} has none; leave that recording out")
    parts = hold_back(given, spec)
    training, validation = parts.training, parts.held_back
    pictured = any(need.modality == "images" for need in spec.needs)  # free motion has nothing to see
    if not pictured and any(episode.duration > need for episode in training):
        training = [with_unseen_before(episode, spec) for episode in training]
    for i in range(synthetic):
        seed = TRAINING_SEED + i
        training.append(generate_free_motion(seed) if i % 2 and not pictured else _scene(seed, spec, pictured))
        if progress is not None:
            progress(i + 1, synthetic)
    if synthetic:
        for i in range(_VALIDATION_SCENES):
            validation[f"synthetic {i}"] = _scene(VALIDATION_SEED + i, spec, pictured, tracked=True)
    training = [episode for episode in training if episode.duration > need]
    if not training:
        longest = max((episode.duration for episode in given.values()), default=0.0)
        shown = f"the longest of {len(given)} recordings lasts {longest:.1f} s; " if given else ""
        raise UserError(
            f"nothing to train on: {shown}give --data recordings longer than {need / (1 - SHARE):.1f} s, or "
            "--synthetic N"
        )
    longest = max(episode.duration for episode in validation.values())
    if longest <= need:
        raise UserError(
            f"too little to validate and calibrate on: {longest:.1f} s of the longest recording would be held back, "
            f"and a window needs {need:g} s; give one of at least {LEAST_PARTS * (need + SPARE):.0f} s"
        )
    warning = parts.warning if recordings and not synthetic else None
    return Data(training, validation, {"recordings": list(recordings), "synthetic": synthetic}, warning=warning)


def _scene(seed: int, spec: ForecasterSpec, pictured: bool, tracked: bool = False) -> Episode:
    """A generated scene as it is, or as a tracker sees it, with pictures where they are needed."""
    scene = generate_scene(seed)
    episode = observe(scene).episode if tracked else scene.episode
    return with_pictures(episode, scene, spec.image_size[0]) if pictured else episode


def gather_goals(count: int, spec, progress: Callable[[int, int], None] | None = None, first: int = 0) -> Data:
    """`count` generated scenes with one instruction each, from the `first` on, and others to validate on, all with
    pictures."""
    goals = see_many(GOAL_SEED + first, count, spec.image_size, spec, progress)
    pictures = goal_scenes(GOAL_VALIDATION_SEED, _VALIDATION_GOALS, spec)
    needed = any(need.modality == "images" for need in spec.needs)
    validation = {
        f"goal scene {i}": with_pictures(s.scene.episode, s.scene, spec.image_size[0]) if needed else s.scene.episode
        for i, s in enumerate(pictures)
    }
    described = {"goals": count, **({"first": first} if first else {})}
    return Data(goals, validation, described, GoalWindowSampler, pictures)


def read_settings(preset: str, stage: Stage, fine_tune: bool, changes: Sequence[str]) -> TrainingConfig:
    """The preset's `training`, with the stage's settings or `finetune` over it, and KEY=VALUE changes (dots reach
    inside)."""
    values = values_of(preset)
    settings = dict(values.get("training", {})) | values.get(stage.settings or ("finetune" if fine_tune else ""), {})
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {change!r}: expected KEY=VALUE")
        *path, last = key.split(".")
        inside = settings
        for name in path:
            inside = inside.setdefault(name, {})
        inside[last] = yaml.safe_load(text)
    where, weights = f"{preset}: training", weights_of(resolve(stage.objective))
    augmentation = settings.get("augmentation", {})
    if isinstance(augmentation, dict) and "only" in augmentation:
        if len(augmentation) > 1:
            raise UserError(f"{where}.augmentation: beside `only` nothing else; put it inside")
        settings["augmentation"] = to_mapping(NONE) | augmentation["only"]
    loss = from_mapping(weights, settings.pop("loss", {}), f"{where}.loss")
    return from_mapping(TrainingConfig, settings | {"loss": loss}, where)


class Session:
    """One training run in `folder`, which holds the model, the log, and the state that a killed run goes on from."""

    def __init__(
        self,
        preset: str,
        folder: Path,
        config: TrainingConfig,
        data: Data,
        forecaster: Forecaster,
        stage: Stage,
        fine_tune: bool,
        device: str,
        restart: bool = False,
    ):
        self.restart = restart
        self.preset, self.folder, self.config, self.data = preset, folder, config, data
        self.forecaster, self.stage, self.fine_tune, self.device = forecaster, stage, fine_tune, device
        if hasattr(forecaster, "learn_words"):
            forecaster.learn_words([episode.task for episode in data.training])
        self.kept: dict[float, float] = {}  # of fine-tuning: errors by share, the share that was kept first
        self.protocol = Protocol(
            "validation", "", 1.0 / forecaster.spec.step, forecaster.spec.window_length, forecaster.spec.horizon_steps
        )

    def train(self, report: Callable[[int, dict[str, float]], None] | None = None) -> bool:
        """Train, calibrate and save; `report(step, numbers)` after every step. Whether this is the process that
        saved.

        A few minutes of one person teach less of what is rare in them than the weights knew before. Weights between the
        two often do better than both (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022), so of what
        fine-tuning changed that share is kept which is best on what is held back.
        """
        spec, config, data = self.forecaster.spec, self.config, self.data
        before = _weights(self.forecaster) if self.fine_tune and self.stage.whole else None
        trainer = Trainer(
            resolve(self.stage.objective)(self.forecaster, config.loss),
            data.sampler(data.training, spec, config.batch, config.group, config.seed, config.augmentation),
            config,
            self.folder,
            self.device,
            fingerprint(f"{self.preset}, {self.stage.name}", self.data.description),
            fit=not self.fine_tune,
            validate=self._validate,
            report=report,
            restart=self.restart,
        )
        trainer.run()
        main = trainer.runtime.rank == 0
        if main:
            if before is not None:
                self.kept = self._keep_what_helps(before)
            if self.stage.whole and self._may_calibrate():
                self.forecaster.calibration = calibration_on(self.forecaster, list(self.data.validation.values()))
            with new_folder(self.folder / MODEL, files_of_model) as part:
                self.forecaster.save_pretrained(part)
        return main

    def compare(self) -> Result:
        """The result and every naive forecaster on what was not trained on; also written to training.json."""
        looks = self.data.pictures and "goals" in options_of(str(self.folder / MODEL))
        trained = from_pretrained(self.folder / MODEL, **({"goals": True} if looks else {}))
        learned = {self.forecaster.preset: self._shown(trained)}
        if self.data.pictures and not any(need.modality == "images" for need in trained.spec.needs):
            learned[f"{self.forecaster.preset}, hands alone"] = trained
        naive = {name: forecaster_for(name, self.protocol) for name in NAIVE}
        result = evaluate(self.data.validation, learned | naive, self.protocol)
        summary = {
            "preset": self.preset,
            "stage": self.stage.name,
            "data": self.data.description,
            "seen": [str(resolved(path)) for path in self.data.description.get("recordings", ())],
            "training": to_mapping(self.config),
            "weights": trained.spec.checkpoint_hash,
            **(
                {"errors_by_share_kept": {str(share): error for share, error in self.kept.items()}} if self.kept else {}
            ),
            "validation": result.to_json(),
        }
        write_text(self.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
        return result

    def _may_calibrate(self) -> bool:
        """Whether what is held back is enough to say how far off forecasts are; else what was known before stays.

        A part of the network says nothing new of that, so it does not ask.
        """
        spec = self.forecaster.spec
        count = sum(
            len(window_ends(episode.stamp, spec.step, spec.window_length, spec.horizon_steps))
            for episode in self.data.validation.values()
        )
        return not self.fine_tune or self.forecaster.calibration is None or count >= ENOUGH

    def _keep_what_helps(self, before: dict[str, torch.Tensor]) -> dict[float, float]:
        """Leave that mixture of the weights before and after in the network which errs least on what is held back; the
        errors of all, each the mean of ADE and MPJPE relative to those before, the best one first."""
        after, errors, first = _weights(self.forecaster), {}, None
        names = ("validation ADE", "validation MPJPE")
        mixed = lambda share: {name: _between(before[name], after[name], share) for name in after}  # noqa: E731
        for share in _SHARES:
            self.forecaster.network.load_state_dict(mixed(share))
            try:
                told = self._validate(stride=2, hypotheses=1)
                now = np.array([told[name] for name in names])
            except np.linalg.LinAlgError:  # weights that training has blown up forecast nothing that is a number
                now = np.full(len(names), np.inf)
            first = now if first is None else first
            ratio = float(np.nanmean(now / first))
            errors[share] = ratio if np.isfinite(ratio) else np.inf
        ranked = dict(sorted(errors.items(), key=lambda item: item[1]))
        self.forecaster.network.load_state_dict(mixed(next(iter(ranked))))
        return ranked

    def _validate(self, stride: int = 5, hypotheses: int = 5) -> dict[str, float]:
        protocol = replace(self.protocol, stride=stride, hypotheses=hypotheses)
        scores = evaluate(self.data.validation, {"": self._shown(self.forecaster)}, protocol).scores[""]
        return {f"validation {name}": mean.value for name, mean in scores.metrics.items()}

    def _shown(self, forecaster: Forecaster) -> Forecaster:
        """The forecaster, with the pictures of the validation episodes before it where there are any."""
        return Seeing(forecaster, Pictures(self.data.pictures, forecaster.spec)) if self.data.pictures else forecaster


def trained_on(forecaster: str, inputs: Sequence[str]) -> list[str]:
    """Which of `inputs` a forecaster was trained on, so that its errors there say little of new motion; that is known
    of the folders of `egohand train`."""
    try:
        seen = set(json.loads((Path(forecaster).parent / SUMMARY).read_text())["seen"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [path for path in inputs if str(resolved(path)) in seen]


def check_folder(folder: Path, inputs: Sequence[str], restart: bool = False) -> None:
    """Refuse a folder to train in that cannot be written, holds an input, or holds a model that no run here will go on
    from.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; give a folder")
    check_not_input(folder, inputs, f"--out {folder}")
    for place in (folder / STATE, folder / MODEL / WEIGHTS):
        check_writable(place, folder)
    check_page(folder / SUMMARY, "JSON")
    if (folder / MODEL).exists() and not (folder / STATE).is_file() and not restart:
        raise UserError(
            f"{folder} holds a model without the state of its run; give another --out, or --restart to begin anew"
        )
    if (folder / MODEL).exists() and not (folder / MODEL / CONFIG).is_file():
        raise UserError(f"{folder / MODEL} exists and is no model; give another --out")


def files_of_model(folder: Path) -> set[str]:
    """What a new model in its place makes obsolete."""
    if not (folder / CONFIG).is_file():
        return set()
    return {WEIGHTS, CONFIG, CALIBRATION, *find_system(kind_of(folder), str(folder)).saves}


def _weights(forecaster: Forecaster) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in forecaster.network.state_dict().items()}


def _between(before: torch.Tensor, after: torch.Tensor, share: float) -> torch.Tensor:
    return torch.lerp(before, after, share) if after.is_floating_point() else after


def calibration_on(forecaster: Forecaster, episodes: Sequence[Episode]) -> Calibration:
    """Conformal factors from every window of episodes that were not trained on."""
    spec, scores = forecaster.spec, []
    bare = forecaster.calibration
    forecaster.calibration = None
    try:
        for episode in episodes:
            ends = window_ends(episode.stamp, spec.step, spec.window_length, spec.horizon_steps)
            if episode.images is not None and any(need.modality == "images" for need in spec.needs):
                ends = ends[episode.images.covers(episode.stamp[ends])]
            for start in range(0, len(ends), 256):
                cut = cut_windows(episode, ends[start : start + 256], spec.step, spec.window_length, spec.horizon_steps)
                given = forecaster.forecast(with_images(cut.window, episode, spec))
                scores.append(
                    score(given, cut.future, cut.future_valid, cut.future_rotation, cut.future_rotation_valid)
                )
    finally:
        forecaster.calibration = bare
    return calibrate(scores)


def start(
    preset: str, stage: Stage, init: str | None, device: str, seed: int = 0, public: Sequence[str] = ()
) -> Forecaster:
    """The forecaster to train: new, its weights drawn by `seed`, or from a checkpoint; a preset's name stands for its
    shipped weights. `public`: NAME=PATH of public weights that new ones begin with. Made ready for the stage."""
    torch.manual_seed(seed)
    weights = _public_weights(preset, public)
    if init and weights:
        raise UserError("--public is where new weights begin, and --init has its own; leave one out")
    forecaster = make_forecaster(init, device=device) if init else untrained(preset, device=device, **weights)
    return forecaster if stage.prepare is None else resolve(stage.prepare)(forecaster, values_of(preset), device)


def _public_weights(preset: str, given: Sequence[str]) -> dict[str, str]:
    """Options of a new network by NAME=PATH; `UserError` lists those that the preset's system has."""
    known = {public.option: public.what for public in system_of(preset).public}
    weights = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or name not in known:
            listed = "; ".join(f"{option} ({what})" for option, what in known.items()) or "none"
            raise UserError(f"--public {text!r}: expected NAME=PATH, NAME of: {listed}")
        weights[name] = path
    return weights
