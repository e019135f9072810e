"""MEgoHand's stages: keypoints to hand states, then chunks of states by flow matching from image, depth and words
(arXiv 2505.16602, sections 3 and 4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...data.windows import Cut
from ...forecast.megohand.bones import random_poses
from ...forecast.megohand.config import DEPTH
from ...forecast.megohand.depth import patch_depth
from ...forecast.megohand.forecaster import MEgoHandForecaster
from ...forecast.megohand.inputs import Rows, camera_frames, rows_in, rows_of_window, seen_now, views_of
from ...forecast.megohand.inverse import InverseLosses, inverse_loss, states_from_keypoints
from ...forecast.megohand.network import newest
from ...forecast.megohand.state import SHAPES, HandState, chunk_of, told
from ...hand.skeleton import INDEX_MCP, LITTLE_MCP, WRIST
from .losses import masked_mean
from .objective import Batch

_FRAMES = 4  # of a window and its future, whose keypoints the inverse network reproduces
_LOST, _NOISE = 0.06, 0.002  # of the keypoints of random hands: the share not seen, and m
_STILL = 0.5  # of the hands that do nothing, the share that is trained on
# A sensor's depth, or an estimate: of some rows none, of the others wrong by a factor and noise, with holes.
_WITHOUT, _FACTOR, _DEPTH_NOISE, _HOLES = 0.25, 0.05, 0.01, 0.03


@dataclass(frozen=True)
class MotionLosses:
    """flow: of the chunk's velocity; depth: of each patch's depth, in units of 2 m (the paper's MSE depth supervision,
    whose weight it does not say)."""

    flow: float = 1.0
    depth: float = 1.0


class InverseObjective(nn.Module):
    """The inverse network: hands of the model at random, whose states are known, and hands of data, which it has to
    reproduce."""

    Weights = InverseLosses

    def __init__(self, forecaster: MEgoHandForecaster, weights: InverseLosses):
        super().__init__()
        self.hand, self.weights, self.network = forecaster.hand, weights, forecaster.network
        self.network.requires_grad_(False)
        self.network.inverse.requires_grad_(True)

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: the units of states are fixed."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """A row a hand: keypoints (N, 4, 21, 3) and known (N, 4, 21)."""
        parts = [self._prepare(cut) for cut in cuts]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seen, known = batch["keypoints"].flatten(0, 1), batch["known"].flatten(0, 1)
        drawn, made = self._random(len(seen), generator)
        shown = torch.rand(made.shape[:-1], generator=generator, device=generator.device).to(made) >= _LOST
        noisy = made + _NOISE * torch.randn(made.shape, generator=generator, device=generator.device).to(made)
        shapes = float(torch.rand(1, generator=generator, device=generator.device)) < 0.5  # L1 and L2 in turn
        inverse = self.network.inverse
        everything = torch.ones_like(shown)
        loss, parts = inverse_loss(
            inverse(noisy, shown, self.hand), drawn, made, everything, self.hand, self.weights, shapes
        )
        own, _ = inverse_loss(inverse(seen, known, self.hand), None, seen, known, self.hand, self.weights, shapes)
        return loss + own, {**parts, "own points": own}

    def _random(self, count: int, generator: torch.Generator) -> tuple[HandState, torch.Tensor]:
        """Hands of the model (count,), and their keypoints (count, 21, 3) m."""
        pose = random_poses(self.hand, count, generator)
        betas = torch.randn(count, SHAPES, generator=generator, device=generator.device).clamp(-3.0, 3.0).to(pose)
        still = pose.new_zeros(count, 3)
        with torch.no_grad():
            return HandState.of_pose(pose, betas, still), self.hand(pose, betas, still).keypoints

    def _prepare(self, cut: Cut) -> Batch:
        frame = camera_frames(cut.window)
        keypoints = np.concatenate([cut.window.keypoints.numpy(), cut.future], axis=1)
        valid = np.concatenate([cut.window.valid.numpy(), cut.future_valid], axis=1)
        rng = np.random.default_rng(abs(int(1e6 * float(cut.window.stamp[0]))))
        picked = np.sort(rng.choice(keypoints.shape[1], _FRAMES, replace=False))
        rows = rows_in(keypoints[:, picked], valid[:, picked], frame)
        known = _by_row(valid[:, picked])
        return {"keypoints": rows.keypoints, "known": known & known[..., WRIST : WRIST + 1]}


class MotionObjective(nn.Module):
    """Everything but the inverse network, whose states are the labels: the eye, what joins it to the language model
    (and that, unless it is frozen), the depth encoder, the head."""

    Weights = MotionLosses

    def __init__(self, forecaster: MEgoHandForecaster, weights: MotionLosses):
        super().__init__()
        self.hand, self.weights, self.network = forecaster.hand, weights, forecaster.network
        network = self.network.requires_grad_(True)
        network.inverse.requires_grad_(False)
        if network.config.frozen:
            network.vlm.language.requires_grad_(False)
        if network.estimator is not None:
            network.estimator.requires_grad_(False)
        longest = network.words([" ".join(["the"] * network.config.text_length)], True)[0].shape[1]
        self._length = longest
        self.register_buffer("told", told(), persistent=False)

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: the units of states are fixed."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """A row a hand that is seen."""
        parts = [self._prepare(cut) for cut in cuts]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network, weights = self.network, self.weights
        past = states_from_keypoints(network.inverse, batch["past"], batch["past_known"], self.hand)
        later = states_from_keypoints(network.inverse, batch["future"], batch["future_known"], self.hand)
        first = newest(past)
        valid = batch["future_known"][..., [WRIST, INDEX_MCP, LITTLE_MCP]].all(-1)
        mask = valid[..., None] & self.told
        chunk = chunk_of(first, later)
        images, depth, there = batch.get("images"), batch.get("depth"), batch.get("depth_there")
        words = batch["tokens"], batch["tokens_known"]
        used = int(words[1].any(0).nonzero().max()) + 1
        seen = network.see(images, depth, (words[0][:, :used], words[1][:, :used]), there)
        given = network.condition(seen, past, batch["past_known"][..., WRIST])
        noise = torch.randn((len(chunk), *network.noise_shape()), generator=generator, device=generator.device).to(
            chunk
        )
        time = network.head.config.flow.draw_time(len(chunk), generator).to(chunk)
        parts = {"flow": network.head.flow_loss(given, chunk, mask.to(chunk), noise, time)}
        total = weights.flow * parts["flow"]
        if seen.depth is not None and "depth_target" in batch and weights.depth > 0.0:
            apart = (seen.depth - batch["depth_target"]).square()
            parts["depth"] = masked_mean(apart, batch["depth_known"])
            total = total + weights.depth * parts["depth"]
        return total, parts

    def _prepare(self, cut: Cut) -> Batch:
        network, window, frame = self.network, cut.window, camera_frames(cut.window)
        past: Rows = rows_of_window(window, frame)
        future, known = rows_in(cut.future, cut.future_valid, frame), _by_row(cut.future_valid)
        rng = np.random.default_rng([abs(int(1e6 * t)) for t in window.stamp.tolist()])
        rows = (seen_now(past) & known[..., WRIST].any(-1) & _acting(cut, rng)).nonzero()[:, 0]
        views = views_of(window, rows, network.config.vlm.picture)
        tokens, there = network.words(views.prompts, views.images is not None, self._length)
        made = {
            "past": past.keypoints[rows],
            "past_known": past.known[rows],
            "future": future.keypoints[rows],
            "future_known": known[rows],
            "tokens": tokens,
            "tokens_known": there,
        }
        if views.images is not None:
            made["images"] = views.images
        if views.images is not None and DEPTH in network.config.inputs:
            depth = torch.zeros(views.images.shape[:3]) if views.depth is None else views.depth
            made["depth_target"], made["depth_known"] = patch_depth(depth, network.config.vlm.grid)
            made["depth"], made["depth_there"] = _as_measured(depth, rng)
        return made


def _by_row(valid: np.ndarray) -> torch.Tensor:
    """(B, S, 2, 21) as (2 B, S, 21)."""
    return torch.from_numpy(np.ascontiguousarray(valid.swapaxes(1, 2))).flatten(0, 1)


def _acting(cut: Cut, rng: np.random.Generator) -> torch.Tensor:
    """(2 B,) bool: hands to train on; where it is known which one acts, the others less often."""
    side = getattr(cut, "side", None)
    kept = np.ones((cut.window.batch, 2), dtype=bool)
    if side is not None:
        kept[:, 1 - side] = rng.random(cut.window.batch) < _STILL
    return torch.from_numpy(kept.reshape(-1))


def _as_measured(depth: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth (N, H, W) m as a sensor, or an estimator, would have it, and which rows have any (N,)."""
    exact = depth.numpy()
    factor = np.exp(_FACTOR * rng.standard_normal((len(exact), 1, 1)))
    noisy = exact * (factor + _DEPTH_NOISE * rng.standard_normal(exact.shape))
    noisy[rng.random(exact.shape) < _HOLES] = 0.0
    there = (exact > 0.0).any(axis=(1, 2)) & (rng.random(len(exact)) >= _WITHOUT)
    return torch.from_numpy(noisy.astype(np.float32)), torch.from_numpy(there)
