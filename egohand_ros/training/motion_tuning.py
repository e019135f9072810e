"""Fine-tunes `adaptive` on a few recordings of a person or a tracker: what it believes before anything is known, and
the weights of `egohand-motion`.

Seconds or minutes of one person teach little, so what is learned of them is small. Beliefs have a number by kind,
expert and step: those of a stream that has followed the recordings, for as long as makes what came in each of them
least surprising to beliefs of the others. Of the weights, that share of what fine-tuning changes is kept which errs
least on recordings that were left out in turn (after Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR
2022); none, where that gains next to nothing.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..data.episode import Episode
from ..data.windows import cut_windows
from ..errors import UserError
from ..evaluation.stream import RATE, in_order, stream_frames
from ..forecast.adaptive.beliefs import FILE, Beliefs, write_beliefs
from ..forecast.adaptive.forecaster import AdaptiveForecaster
from ..forecast.adaptive.learner import HALF_LIFE
from ..forecast.adaptive.learner import RATE as BELIEF_RATE
from ..forecast.adaptive.system import MOTION, NAME
from ..forecast.common.pretrained import CONFIG
from ..forecast.motion.forecaster import KINDS, WEIGHTS, MotionForecaster
from ..forecast.motion.system import SHIPPED
from ..forecast.naive.kalman import Kalman
from ..outputs import new_folder, resolved, write_text
from .motion_training import BESIDE_RATE, WINDOW_RATE, MotionTrainee, Samples, changed, collect, join, train
from .session import MODEL, SUMMARY

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of what fine-tuning changes
STEPS, LEARNING_RATE, BATCH = 150, 5e-4, 128
LEAST_GAIN = 0.01  # of the error on what was left out, or the weights stay
LEAST_SECONDS = 30.0  # of recordings: less taught nothing that held on others
LEAST_RECORDINGS = 3  # with a kind, to leave one out in turn
KEPT_BELIEF = 0.2  # in what was believed before
FOLLOWED = (0.0, 0.1, 0.25, 0.5, 1.0)  # of what a stream remembers
_CHANGED = 3  # times each recording is there at another pace, with noise
_WINDOWS = 128  # cut at a time


@dataclass(frozen=True)
class Tuned:
    """What was learned: beliefs, weights by name, by kind the share of the change that was kept, and the errors on what
    was left out by share, relative to those before."""

    beliefs: Beliefs
    weights: dict[str, torch.Tensor]
    kept: dict[str, float]
    errors: dict[str, dict[float, float]]

    def save(self, folder: Path) -> None:
        """A folder that `make_forecaster` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.weights, folder / WEIGHTS, metadata={"format": "pt"})
        write_beliefs(folder / FILE, self.beliefs)
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


@dataclass(frozen=True)
class Seen:
    """Of one kind: loss (E, S) of every expert over the mean of all, times seconds, and the seconds (S,)."""

    loss: np.ndarray
    seconds: np.ndarray

    def remembered(self) -> np.ndarray:
        """Loss (E, S) of as many seconds as a stream remembers."""
        return self.loss * np.minimum(self.seconds, HALF_LIFE / np.log(2.0)) / np.maximum(self.seconds, 1e-9)


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
    weights, kept, errors = dict(load_file(base / WEIGHTS)), {}, {}
    for done, kind in enumerate(KINDS):
        own, beside = ([pair[i][kind] for pair in pairs] for i in (0, 1))
        usable = [i for i, samples in enumerate(own) if len(samples.known) and len(beside[i].known)]
        errors[kind] = {}
        network, kept[kind] = MotionTrainee.of(weights, kind), 0.0
        if len(usable) >= LEAST_RECORDINGS:
            chosen = [own[i] for i in usable], [beside[i] for i in usable]
            network, kept[kind], errors[kind] = _tune_kind(*chosen, network, seed)
        weights |= network.arrays(kind)
        progress(len(recordings) + done + 1, parts)
    beliefs = learn_beliefs(recordings, base)
    progress(parts, parts)
    return Tuned(beliefs, weights, kept, errors)


def _tune_kind(
    own: list[Samples], beside: list[Samples], before: MotionTrainee, seed: int
) -> tuple[MotionTrainee, float, dict[float, float]]:
    """Samples by recording, as they are and changed. The network, the share that was kept, and relative errors."""
    missed = dict.fromkeys(SHARES, 0.0)
    for left_out in range(len(own)):
        some = [i for i in range(len(own)) if i != left_out]
        after = _fit([own[i] for i in some], [beside[i] for i in some], before, seed)
        for share in SHARES:
            missed[share] += _missed(_between(before, after, share), own[left_out])
    errors = {share: value / missed[0.0] for share, value in missed.items()}
    best = min(errors, key=errors.get)
    kept = best if errors[best] < 1.0 - LEAST_GAIN else 0.0
    return (_between(before, _fit(own, beside, before, seed), kept) if kept else before), kept, errors


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


def learn_beliefs(recordings: list[Episode], base: Path = SHIPPED) -> Beliefs:
    """Beliefs of a stream that has followed the recordings, `KEPT_BELIEF` of them as they were; for so long, of
    `FOLLOWED`, as makes what came in each recording most likely by beliefs of the others."""
    kalman = Kalman()
    forecaster = AdaptiveForecaster(kalman, MotionForecaster(Path(base) / WEIGHTS, kalman), {}, half_life=np.inf)
    spec, seen = forecaster.spec, []
    for episode in recordings:
        forecaster.reset()
        frames = stream_frames(episode.stamp, RATE)
        for start in range(0, len(frames), _WINDOWS):
            cut = cut_windows(episode, frames[start : start + _WINDOWS], spec.step, spec.window_length, 0)
            in_order(forecaster, cut.window)
        seen.append([Seen(*hedge.seen) for hedge in forecaster.learner.hedges])
    beliefs, names = {}, (forecaster.names, forecaster.names, forecaster.finger_names)
    for place, (kind, experts) in enumerate(zip(KINDS, names, strict=True)):
        told = [recording[place] for recording in seen]
        learned = _followed(told, forecaster.beliefs[place], _how_long(told, forecaster.beliefs[place]))
        beliefs[kind] = dict(zip(experts, learned, strict=True))
    return beliefs


def _how_long(seen: list[Seen], before: np.ndarray) -> float:
    """The share of `FOLLOWED` by which each recording was least surprising to beliefs of the others: by the mixed loss
    -ln sum p exp(-rate loss), of which the loss of the average is made up (Cesa-Bianchi and Lugosi, section 3)."""
    if len(seen) < LEAST_RECORDINGS:
        return FOLLOWED[1]

    def surprise(share: float) -> float:
        total = 0.0
        for i, one in enumerate(seen):
            belief = _followed([other for j, other in enumerate(seen) if j != i], before, share)
            total -= np.log((belief * np.exp(-BELIEF_RATE * one.remembered())).sum(axis=0)).sum()
        return total

    return min(FOLLOWED, key=surprise)


def _followed(seen: list[Seen], before: np.ndarray, share: float) -> np.ndarray:
    """Beliefs (E, S) after following some recordings for this share of what is remembered."""
    whole = Seen(sum(one.loss for one in seen), sum(one.seconds for one in seen))
    score = -BELIEF_RATE * share * whole.remembered()
    learned = before[:, None] * np.exp(score - score.max(axis=0))
    return KEPT_BELIEF * before[:, None] + (1.0 - KEPT_BELIEF) * learned / learned.sum(axis=0)
