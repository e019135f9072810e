"""Trains the weights of `egohand-follow` on synthetic episodes: many persons, tempos and qualities of tracking.

    python -m egohand_ros.training.train_follow --out egohand_ros/forecast/weights/egohand-follow.safetensors

Seeds from 10,000 on, so that benchmarks on smaller ones are on persons and stories that were not seen.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from ..data.synthetic import Scene, TrackerModel, generate_scene, observe
from ..forecast.follow import HORIZON, LENGTH, STEP, features_size, mirror_to_right
from ..hand.palm import to_palm_frame
from ..hand.skeleton import NUM_KEYPOINTS, SIDES

_FIRST_SEED = 10_000
_HIDDEN = 192
_BATCH = 512
_QUALITIES = (0.0, 0.0, 0.15, 0.4, 1.0)  # of the tracker's usual errors
_UNIT = 0.02  # m, of what the network gives


class FollowNetwork(nn.Module):
    """Windows (B, LENGTH, 63) m, newest first -> futures (B, HORIZON, 63) m and log deviations (B, HORIZON, 21)."""

    def __init__(self):
        super().__init__()
        sizes = (features_size(), _HIDDEN, _HIDDEN, _HIDDEN)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.mean = nn.Linear(_HIDDEN, HORIZON * 3 * NUM_KEYPOINTS)
        self.spread = nn.Linear(_HIDDEN, HORIZON * NUM_KEYPOINTS)
        nn.init.zeros_(self.mean.weight)
        nn.init.zeros_(self.spread.weight)

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([windows[:, 0] / 0.05, (windows[:, :-1] - windows[:, 1:]).flatten(1) / 0.005], dim=1)
        for layer in self.hidden:
            x = nn.functional.relu(layer(x))
        mean = windows[:, :1] + _UNIT * self.mean(x).view(-1, HORIZON, 3 * NUM_KEYPOINTS)
        return mean, self.spread(x).view(-1, HORIZON, NUM_KEYPOINTS)

    def arrays(self) -> dict[str, np.ndarray]:
        """As `forecast/follow.py` reads them."""
        return {name: value.detach().numpy().astype(np.float16) for name, value in self.state_dict().items()}


def sequences(seed: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """(truth, seen) (T, 63) m each in the palm frame of a right hand, of both hands of one scene at a random tempo."""
    scene = _at_tempo(generate_scene(seed, 30.0, 1.0 / STEP), float(np.exp(rng.uniform(np.log(0.6), np.log(3.0)))))
    quality, size = rng.choice(_QUALITIES), rng.uniform(0.85, 1.15)
    tracker = TrackerModel()
    tracker = replace(
        tracker,
        keypoint_std=quality * tracker.keypoint_std,
        depth_std=quality * tracker.depth_std,
        keypoint_time=float(rng.choice((0.02, 0.1, 0.3))),
    )
    seen = observe(scene, tracker, seed=seed).episode.keypoints if quality else scene.keypoints
    out = []
    for side, name in enumerate(SIDES):
        pair = (to_palm_frame(k[:, side], name) for k in (scene.keypoints, seen))
        out.append(tuple((size * mirror_to_right(k, side)).reshape(len(scene), -1).astype(np.float32) for k in pair))
    return out


def _at_tempo(scene: Scene, tempo: float) -> Scene:
    """The same motion `tempo` times as fast, at the same frame rate."""
    at = np.arange(0.0, len(scene) - 1.0, tempo)
    before, share = at.astype(int), (at % 1.0)[:, None, None, None]
    keypoints = (1.0 - share) * scene.keypoints[before] + share * scene.keypoints[before + 1]
    camera = scene.T_world_camera[before]
    return replace(scene, stamp=np.arange(len(at)) / scene.rate, keypoints=keypoints, T_world_camera=camera)


class Windows:
    """Draws windows at random from sequences."""

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]]):
        self._truth, self._seen = (torch.from_numpy(np.concatenate(x)) for x in zip(*pairs, strict=True))
        starts = np.cumsum([0, *(len(truth) for truth, _ in pairs)])
        known = torch.isfinite(self._seen).all(1).numpy()
        newest = []
        for first, end in zip(starts, starts[1:]):
            unseen = np.flatnonzero(~known[first:end])
            usable = np.ones(end - first, dtype=bool)
            usable[: LENGTH - 1], usable[max(end - first - HORIZON, 0) :] = False, False
            for lost in unseen:
                usable[lost : lost + LENGTH] = False
            newest.append(first + np.flatnonzero(usable))
        self._newest = torch.from_numpy(np.concatenate(newest))
        self._past, self._future = -torch.arange(LENGTH), 1 + torch.arange(HORIZON)

    def __len__(self) -> int:
        return len(self._newest)

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows (B, LENGTH, 63), newest first, and futures (B, HORIZON, 63)."""
        newest = self._newest[torch.randint(0, len(self), (count,))][:, None]
        return self._seen[newest + self._past], self._truth[newest + self._future]


def loss_of(network: FollowNetwork, windows: torch.Tensor, futures: torch.Tensor) -> torch.Tensor:
    """Huber loss of the futures, and the likelihood of their errors under the deviations."""
    mean, spread = network(windows)
    error = (mean - futures) / _UNIT
    squares = (error.detach() ** 2).unflatten(-1, (NUM_KEYPOINTS, 3)).mean(-1)
    likelihood = (spread + 0.5 * (squares + 1e-6) * torch.exp(-2.0 * spread)).mean()
    return nn.functional.huber_loss(error, torch.zeros_like(error), delta=2.0) + 0.1 * likelihood


def train(scenes: int, steps: int, seed: int = 0) -> FollowNetwork:
    """Generate and train; prints as it goes."""
    torch.manual_seed(seed)
    rng, begin, pairs = np.random.default_rng(seed), time.monotonic(), []
    for number in range(scenes):
        pairs += sequences(_FIRST_SEED + number, rng)
    windows = Windows(pairs)
    print(f"{len(windows)} windows after {time.monotonic() - begin:.0f} s", flush=True)
    network = FollowNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        loss = loss_of(network, *windows.draw(_BATCH))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step} loss {float(loss.detach()):.4f} {time.monotonic() - begin:.0f} s", flush=True)
    return network


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--scenes", type=int, default=240)
    parser.add_argument("--steps", type=int, default=9_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    save_file(train(args.scenes, args.steps).arrays(), args.out)


if __name__ == "__main__":
    main()
