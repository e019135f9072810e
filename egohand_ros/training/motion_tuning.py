"""Fine-tunes `adaptive` on a few recordings of a person or a tracker: what it believes before anything is known, and
the weights of `egohand-motion`.

Seconds or minutes of one person teach little, so what is learned of them is small: beliefs, a number by kind, expert
and step, and the coefficients with which `person` begins (`motion_beliefs.py`). Of the weights, that share of what
fine-tuning changes is kept which errs least on recordings that were left out in turn (after Wortsman et al., *Robust
fine-tuning of zero-shot models*, CVPR 2022); none, where that gains next to nothing, be it alone or in the average.
Beliefs and coefficients are learned of what weights say that have not seen the recording (D. H. Wolpert, *Stacked
generalization*, Neural Networks 5(2), 1992).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..data.episode import Episode
from ..errors import UserError
from ..forecast.adaptive.beliefs import FILE, write_beliefs
from ..forecast.adaptive.forecaster import AdaptiveForecaster
from ..forecast.adaptive.system import MOTION, NAME
from ..forecast.common.pretrained import CONFIG
from ..forecast.motion.forecaster import KINDS, WEIGHTS, MotionForecaster
from ..forecast.motion.system import SHIPPED
from ..forecast.naive.kalman import Kalman
from ..outputs import new_folder, resolved, write_text
from .motion_beliefs import LEAST_RECORDINGS, Begin, learn_beliefs
from .motion_training import BESIDE_RATE, WINDOW_RATE, MotionTrainee, Samples, changed, collect, join, train
from .session import MODEL, SUMMARY

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of what fine-tuning changes
STEPS, LEARNING_RATE, BATCH = 150, 5e-4, 128
LEAST_GAIN = 0.01  # of the error on what was left out, or the weights stay
LEAST_SECONDS = 15.0  # of recordings: 11 s taught nothing, 21 s did
_CHANGED = 3  # times each recording is there at another pace, with noise


@dataclass(frozen=True)
class Tuned:
    """What was learned: what it begins with, weights by name, by kind the share of the change that was kept, and the
    errors of those networks alone on what was left out by share, relative to those before."""

    begin: Begin
    weights: dict[str, torch.Tensor]
    kept: dict[str, float]
    errors: dict[str, dict[float, float]]

    def save(self, folder: Path) -> None:
        """A folder that `make_forecaster` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.weights, folder / WEIGHTS, metadata={"format": "pt"})
        write_beliefs(folder / FILE, self.begin.beliefs, self.begin.starts)
        described = {"forecaster": NAME, "preset": NAME, "kept": self.kept}
        (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n")

    def save_run(self, folder: Path, inputs: Sequence[str]) -> None:
        """`save` in folder / "model", exchanged whole, with what was learned from beside it."""
        with new_folder(folder / MODEL, lambda _: {WEIGHTS, FILE, CONFIG}) as part:
            self.save(part)
        summary = {
            "preset": NAME,
            "data": {"recordings": list(inputs)},
            "seen": [str(resolved(path)) for path in inputs],
            "kept": self.kept,
            "errors_by_share_kept": self.errors,
            "begins_with": {kind: asdict(choice) for kind, choice in self.begin.choices.items()},
        }
        write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def base_of(init: str | None) -> Path:
    """The folder with weights to begin with: those that are shipped, or what an earlier run wrote."""
    if init in (None, NAME, MOTION):
        return SHIPPED
    if not (Path(init) / WEIGHTS).is_file():
        raise UserError(
            f"--init {init} has no {WEIGHTS}; give a folder that `egohand train adaptive` wrote, or leave it out"
        )
    return Path(init)


def tune(
    recordings: list[Episode],
    base: Path = SHIPPED,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    least: float = LEAST_SECONDS,
) -> Tuned:
    """Learn from recordings, beginning with the weights in folder `base`; `progress(done, total)` counts parts of the
    work. Raises `UserError` where they are shorter than `least` s together, or show nothing that can be forecast and
    checked."""
    seconds = sum(episode.duration for episode in recordings)
    if seconds < least:
        raise UserError(
            f"the recordings are {seconds:.0f} s together, which teaches nothing that holds for others; "
            f"give {least:.0f} s or more"
        )
    parts, rng = len(recordings) + len(KINDS) + 1, np.random.default_rng(seed)
    pairs = []
    for done, episode in enumerate(recordings):
        beside = [changed(episode, rng) for _ in range(_CHANGED)]
        pairs.append((collect([episode], WINDOW_RATE, seed), collect(beside, BESIDE_RATE, seed)))
        progress(done + 1, parts)
    if not any(len(own["wrist"].known) for own, _ in pairs):
        raise UserError("the recordings show no wrist in two frames and again 0.1 s later; give longer ones")
    before = dict(load_file(base / WEIGHTS))
    weights, kept, errors = dict(before), {}, {}
    unseen: list[dict[str, torch.Tensor]] = [{} for _ in recordings]  # weights that have not seen each
    for done, kind in enumerate(KINDS):
        own, beside = ([pair[i][kind] for pair in pairs] for i in (0, 1))
        usable = [i for i, samples in enumerate(own) if len(samples.known) and len(beside[i].known)]
        errors[kind] = {}
        network, kept[kind] = MotionTrainee.of(weights, kind), 0.0
        if len(usable) >= LEAST_RECORDINGS:
            chosen = [own[i] for i in usable], [beside[i] for i in usable]
            network, without, kept[kind], errors[kind] = _tune_kind(*chosen, network, seed)
            for i, one in zip(usable, without, strict=True):
                unseen[i] |= one.arrays(kind)
        weights |= network.arrays(kind)
        progress(len(recordings) + done + 1, parts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        after = (lambda i: _forecaster(weights | unseen[i], path)) if any(kept.values()) else None
        begin = learn_beliefs(recordings, lambda i: _forecaster(before, path), after)
    for kind, choice in begin.choices.items():
        if not choice.tuned:
            kept[kind] = 0.0
            weights |= {name: array for name, array in before.items() if name.startswith(f"{kind}.")}
    progress(parts, parts)
    return Tuned(begin, weights, kept, errors)


def _forecaster(weights: dict[str, torch.Tensor], path: Path) -> AdaptiveForecaster:
    """`adaptive` with some weights, which pass through a file."""
    save_file(weights, path, metadata={"format": "pt"})
    kalman = Kalman()
    return AdaptiveForecaster(kalman, MotionForecaster(path, kalman), {})


def _tune_kind(
    own: list[Samples], beside: list[Samples], before: MotionTrainee, seed: int
) -> tuple[MotionTrainee, list[MotionTrainee], float, dict[float, float]]:
    """Samples by recording, as they are and changed. The network, those that have not seen each recording, the share of
    the change that was kept, and relative errors."""
    missed, fitted = dict.fromkeys(SHARES, 0.0), []
    for left_out in range(len(own)):
        some = [i for i in range(len(own)) if i != left_out]
        fitted.append(_fit([own[i] for i in some], [beside[i] for i in some], before, seed))
        for share in SHARES:
            missed[share] += _missed(_between(before, fitted[-1], share), own[left_out])
    errors = {share: value / missed[0.0] for share, value in missed.items()}
    best = min(errors, key=errors.get)
    kept = best if errors[best] < 1.0 - LEAST_GAIN else 0.0
    without = [_between(before, after, kept) for after in fitted]
    return (_between(before, _fit(own, beside, before, seed), kept) if kept else before), without, kept, errors


def _fit(own: list[Samples], beside: list[Samples], before: MotionTrainee, seed: int) -> MotionTrainee:
    return train({NAME: join(own), f"{NAME} changed": join(beside)}, {}, STEPS, seed, before, LEARNING_RATE, BATCH)


def _missed(network: MotionTrainee, samples: Samples) -> float:
    """Sum over steps of the mean miss relative to the better of persistence and `kalman`, times how many there are."""
    arrays = (torch.from_numpy(array) for array in (samples.vectors, samples.numbers, samples.kalman))
    with torch.no_grad():
        told = network(*arrays).numpy()
    away = np.linalg.norm(told - samples.target, axis=-1) * samples.known
    return float((away / samples.norms()).sum())


def _between(before: MotionTrainee, after: MotionTrainee, share: float) -> MotionTrainee:
    """Weights that went this share of the way."""
    network = MotionTrainee.of(before.arrays(""), "")
    one, other = before.state_dict(), after.state_dict()
    network.load_state_dict({name: torch.lerp(one[name], other[name], share) for name in one})
    return network.eval()
