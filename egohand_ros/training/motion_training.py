"""What `egohand-motion` learns from recordings of hands: samples of their points, and a network trained on them.

Every recording is also there slower and faster and as noisier trackers see it, which keeps the physics of a hand.
What a forecast misses counts by how much the better of persistence and `kalman` misses of its source at that step: what
is trained is the ratio that is judged.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from ..data.episode import Episode
from ..data.synthetic import generate_scene, observe
from ..data.synthetic.free_motion import generate_free_motion
from ..data.synthetic.tracker import correlated_noise
from ..data.windows import Cut, cut_windows
from ..evaluation.stream import stream_frames
from ..forecast.common.observed import Observed
from ..forecast.motion.features import NUMBERS, VECTORS, look_back
from ..forecast.motion.forecaster import FLOORS, KINDS, Points, by_hand, by_point
from ..forecast.motion.network import CLIP, COUNTED
from ..forecast.naive.kalman import Kalman
from ..geometry.rotations import log_rotation
from ..hand.skeleton import WRIST

WIDTH, DROPOUT = 128, 0.1
LEARNING_RATE, WEIGHT_DECAY, BATCH = 2e-3, 1e-3, 512
WINDOW_RATE, BESIDE_RATE = 15.0, 10.0  # Hz of windows: as recorded, and changed or generated
_STREAMS = (30.0, 15.0, 60.0)  # Hz of the stream that is seen, at most; the first as recorded
_PACE = (0.6, 2.2)  # times as long
_NOISE, _NOISE_FRAMES = (0.0, 0.0005, 0.0015, 0.004), (1, 2, 4)  # m; correlated over as many frames
_BLIND = 0.15  # share of samples without what is denser than the window
_FINGERS = 0.15  # share of a hand's points, drawn
_LEAST_SEEN = 2
BESIDE = 0.6  # what changed motion counts of its source
_COUNT, _STEP, _LENGTH, _STEPS = 128, 0.1, 20, 10
GENERATED, GENERATED_SEED = "generated", 30_000_000


@dataclass(frozen=True)
class Samples:
    """N points of one kind: what is looked at, the Kalman forecast (N, S, 3), what came (N, S, 3), and where that is
    known (N, S).
    """

    vectors: np.ndarray
    numbers: np.ndarray
    kalman: np.ndarray
    target: np.ndarray
    known: np.ndarray

    def norms(self) -> np.ndarray:
        """(S,) mean miss of the better of persistence and `kalman`."""
        count = np.maximum(self.known.sum(axis=0), 1)
        missed = [(np.linalg.norm(self.target - told, axis=-1) * self.known).sum(axis=0) for told in (0, self.kalman)]
        return np.minimum(*missed) / count + 1e-6


def join(parts: list[Samples]) -> Samples:
    return Samples(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Samples)))


def collect(
    episodes: list[Episode], rate: float, seed: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Samples]:
    """Samples of every kind of some recordings."""
    rng, kalman = np.random.default_rng(seed), Kalman(_STEP, _LENGTH, _STEPS)
    found: dict[str, list[Samples]] = {kind: [] for kind in KINDS}
    for done, episode in enumerate(episodes):
        stream = stream_frames(episode.stamp, _STREAMS[0] if rate == WINDOW_RATE else float(rng.choice(_STREAMS)))
        frames = stream[stream_frames(episode.stamp[stream], rate)]
        for start in range(0, len(frames), _COUNT):
            ends = frames[start : start + _COUNT]
            cut = cut_windows(episode, ends, _STEP, _LENGTH, _STEPS)
            observed = Observed.from_window(cut.window)
            points, recent = Points.of(observed), _recent(episode, stream, ends)
            expected = points.displacements(kalman.extrapolate(observed))
            for kind, past, seen, told, true, known, dense in zip(
                KINDS, points.past, points.seen, expected, *came(cut, points), (*recent, None), strict=True
            ):
                chosen = _chosen(seen, known, kind == "fingers", rng)
                if dense is not None:
                    dense = np.where(rng.random(len(dense))[:, None, None] < _BLIND, np.nan, dense)[chosen]
                looked = look_back(past[chosen], seen[chosen], FLOORS[kind], dense)
                arrays = (looked.vectors, looked.numbers, told[chosen], true[chosen])
                found[kind].append(Samples(*(array.astype(np.float32) for array in arrays), known[chosen]))
        if progress is not None:
            progress(done + 1, len(episodes))
    return {kind: join(parts) for kind, parts in found.items() if parts}


def _chosen(seen: np.ndarray, known: np.ndarray, fingers: bool, rng: np.random.Generator) -> np.ndarray:
    """Indices of points that are seen now and before, and of which something that came is known; of `fingers` a few."""
    usable = np.flatnonzero(seen[:, -1] & (seen.sum(axis=1) >= _LEAST_SEEN) & known.any(axis=1))
    return np.sort(rng.permutation(usable)[: int(np.ceil(len(usable) * _FINGERS))]) if fingers else usable


def came(cut: Cut, points: Points) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Displacements from now of every kind, and where they are known."""
    relative = cut.future[..., WRIST + 1 :, :] - cut.future[..., WRIST : WRIST + 1, :]
    bent = cut.future_valid[..., WRIST + 1 :] & cut.future_valid[..., WRIST : WRIST + 1]
    return (
        by_hand(cut.future[..., WRIST, :]) - points.wrist[:, None],
        log_rotation(by_hand(cut.future_rotation) @ points.rotation[:, None].swapaxes(-1, -2)),
        by_point(relative @ cut.future_rotation) - points.fingers[:, None],
    ), (
        by_hand(cut.future_valid[..., WRIST]),
        by_hand(cut.future_rotation_valid),
        by_point(bent & cut.future_rotation_valid[..., None]),
    )


def _recent(episode: Episode, stream: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (N, 2, 3) of wrists and rotations to now since one and two thirds of an observation ago, NaN where
    not known; as the frames `stream` show them, of which `ends` are some."""
    stamp, wrist = episode.stamp[stream], episode.keypoints[stream][:, :, WRIST]
    seen, turn = episode.valid[stream][..., WRIST], episode.wrist_rotation[stream]
    now, found = np.searchsorted(stream, ends), ([], [])
    for share in (1, 2):
        at = stamp[now] - share * _STEP / 3.0
        after = np.clip(np.searchsorted(stamp, at), 1, len(stamp) - 1)
        gap = stamp[after] - stamp[after - 1]
        weight = np.clip((at - stamp[after - 1]) / gap, 0.0, 1.0)[:, None, None]
        known = seen[after - 1] & seen[after] & ((gap < 2.5 * _STEP) & (at >= stamp[0] - 1e-6))[:, None]
        back = [log_rotation(turn[now] @ turn[i].swapaxes(-1, -2)) for i in (after - 1, after)]
        between = (1.0 - weight) * wrist[after - 1] + weight * wrist[after]
        for part, value in zip(found, (wrist[now] - between, (1.0 - weight) * back[0] + weight * back[1]), strict=True):
            part.append(np.where(known[..., None], value, np.nan).reshape(-1, 3))
    return np.stack(found[0], axis=1), np.stack(found[1], axis=1)


def changed(episode: Episode, rng: np.random.Generator) -> Episode:
    """The same motion slower or faster, as a noisier tracker sees it."""
    pace, std = np.exp(rng.uniform(*np.log(_PACE))), rng.choice(_NOISE)
    noise = std * correlated_noise((len(episode.stamp), 2, 1, 3), rng.choice(_NOISE_FRAMES), rng)
    return replace(
        episode,
        stamp=episode.stamp[0] + pace * (episode.stamp - episode.stamp[0]),
        keypoints=np.where(episode.valid[..., None], episode.keypoints + noise, episode.keypoints),
    )


def generated(count: int) -> list[Episode]:
    """As many episodes of 30 s, half of scenes as a tracker sees them and half of free motion."""
    scenes = [observe(generate_scene(GENERATED_SEED + i)).episode for i in range((count + 1) // 2)]
    return scenes + [generate_free_motion(GENERATED_SEED + i) for i in range(count // 2)]


def gather(source: str, episodes: list[Episode], seed: int = 0) -> dict[str, dict[str, Samples]]:
    """Samples by set and kind of one source: as recorded, and changed."""
    rng = np.random.default_rng(seed)
    times = 2 if sum(episode.duration for episode in episodes) < 600.0 else 1
    beside = [changed(episode, rng) for _ in range(times) for episode in episodes]
    return {source: collect(episodes, WINDOW_RATE, seed), f"{source} changed": collect(beside, BESIDE_RATE, seed)}


class MotionTrainee(nn.Module):
    """As `MotionNetwork`, to be trained."""

    def __init__(self, numbers: np.ndarray):
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(numbers.mean(axis=0)))
        self.register_buffer("deviation", torch.from_numpy(numbers.std(axis=0) + 1e-3))
        sizes = (NUMBERS, WIDTH, WIDTH, _STEPS * (VECTORS + 1))
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.drop, self.bend = nn.Dropout(DROPOUT), nn.GELU(approximate="tanh")
        last = self.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        with torch.no_grad():  # it begins as the Kalman forecast, a little shorter
            last.bias.view(_STEPS, VECTORS + 1)[:, -1] = 0.8

    def forward(self, vectors: torch.Tensor, numbers: torch.Tensor, kalman: torch.Tensor) -> torch.Tensor:
        x = ((numbers - self.mean) / self.deviation).clamp(-CLIP, CLIP)
        for layer in self.layers[:-1]:
            x = self.drop(self.bend(layer(x)))
        counts = self.layers[-1](x).view(len(x), _STEPS, VECTORS + 1)
        return COUNTED * counts[..., :VECTORS] @ vectors + counts[..., VECTORS:] * kalman

    @classmethod
    def of(cls, arrays: dict[str, torch.Tensor], kind: str) -> "MotionTrainee":
        """The way back of `arrays`."""
        network = cls(np.zeros((2, NUMBERS), np.float32))
        state = {"mean": arrays[f"{kind}.mean"], "deviation": arrays[f"{kind}.deviation"]}
        for i in range(len(network.layers)):
            state |= {f"layers.{i}.weight": arrays[f"{kind}.weight{i}"], f"layers.{i}.bias": arrays[f"{kind}.bias{i}"]}
        network.load_state_dict(state)
        return network.eval()

    def arrays(self, kind: str) -> dict[str, torch.Tensor]:
        """As `read_networks` has them."""
        found = {f"{kind}.mean": self.mean, f"{kind}.deviation": self.deviation}
        for i, layer in enumerate(self.layers):
            found |= {f"{kind}.weight{i}": layer.weight.detach(), f"{kind}.bias{i}": layer.bias.detach()}
        return {name: array.contiguous() for name, array in found.items()}


def train(
    sets: dict[str, Samples],
    weights: dict[str, float],
    steps: int,
    seed: int,
    begin: MotionTrainee | None = None,
    learning_rate: float = LEARNING_RATE,
    batch: int = BATCH,
) -> MotionTrainee:
    """A network of one kind, new or fine-tuned from another; each set gives as much of a batch as any other, and counts
    by its weight."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    norms = {}
    for name, samples in sets.items():
        own = name.removesuffix(" changed")
        norms[name] = (weights.get(own, 1.0) * (BESIDE if own != name else 1.0)) / samples.norms()
    count = {name: len(samples.known) for name, samples in sets.items()}
    starts = dict(zip(sets, np.cumsum([0, *count.values()])[:-1]))
    scales = np.concatenate([np.broadcast_to(norms[name], samples.known.shape) for name, samples in sets.items()])
    whole = join(list(sets.values()))
    arrays = [torch.from_numpy(a) for a in (whole.vectors, whole.numbers, whole.kalman, whole.target)]
    scale = torch.from_numpy((scales * whole.known).astype(np.float32))
    network = MotionTrainee(whole.numbers) if begin is None else copy.deepcopy(begin).train()
    each = batch // len(sets)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / 50) * 0.5 * (1.0 + np.cos(np.pi * k / steps))
    )
    for _ in range(steps):
        rows = torch.from_numpy(np.concatenate([starts[n] + rng.integers(0, count[n], each) for n in sets]))
        vectors, numbers, kalman, target = (array[rows] for array in arrays)
        missed = network(vectors, numbers, kalman) - target
        loss = (((missed * missed).sum(-1) + 1e-10).sqrt() * scale[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        pace.step()
    return network.eval()


def train_all(sets: dict[str, dict[str, Samples]], weights: dict[str, float], steps: int, seed: int) -> dict:
    """Arrays of the networks of every kind, from samples by set and kind."""
    arrays: dict[str, torch.Tensor] = {}
    for kind in KINDS:
        some = {name: kinds[kind] for name, kinds in sets.items() if len(kinds[kind].known)}
        arrays |= train(some, weights, steps, seed).arrays(kind)
    return arrays
