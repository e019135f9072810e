"""What EggHand is trained for: the forecast that sampling gives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ...data.windows import Cut
from ...forecast.common.frames import canonical_frame
from ...forecast.common.observed import Observed
from ...forecast.egghand.forecaster import EggHandForecaster, actions_of
from ...forecast.egghand.model import ACTION_WIDTH, EggHandInputs
from ...hand.skeleton import NUM_KEYPOINTS
from .losses import geometry_loss
from .objective import Batch, LossWeights


@dataclass(frozen=True)
class EggHandWeights(LossWeights):
    """`in_range`: geometry is compared in the units that the network works in, -1 to 1 over each coordinate's range, as
    the authors' code does; otherwise in metres (paper, equations 13 to 15)."""

    in_range: bool = False


class EggHandObjective(nn.Module):
    """EggHand's supervision: geometric losses on what sampling gives, noise and all (paper section 3.4), and optionally
    GR00T's flow-matching loss."""

    Weights = EggHandWeights

    def __init__(self, forecaster: EggHandForecaster, weights: EggHandWeights):
        super().__init__()
        self.forecaster, self.weights = forecaster, weights
        self.network = forecaster.network

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Range of every coordinate over past and future keypoints."""
        rows = [self._prepare(replace(cut, window=replace(cut.window, images=None, prompt=None))) for cut in cuts]
        values, known = [], []
        for row in rows:
            hands = slice(0, ACTION_WIDTH)
            values += [row["state"][..., hands].flatten(0, 1), row["action"].flatten(0, 1)]
            known += [row["state_valid"][..., hands].flatten(0, 1), row["action_valid"].flatten(0, 1)]
        values, known = torch.cat(values), torch.cat(known)
        low = torch.where(known, values, torch.inf).amin(0)
        high = torch.where(known, values, -torch.inf).amax(0)
        seen = low < high
        self.network.minimum.copy_(torch.where(seen, low, -1.0))
        self.network.maximum.copy_(torch.where(seen, high, 1.0))

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a window."""
        rows = [self._prepare(cut) for cut in cuts]
        return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network, weights = self.network, self.weights
        inputs = EggHandInputs(**{name: batch.get(name) for name in EggHandInputs.__annotations__})
        given, action = network.condition(inputs), batch["action"]
        noise = torch.randn(
            (*action.shape[:2], network.head.latent_action_width), generator=generator, device=action.device
        )
        sampled = network.head.sample(given, noise)
        with torch.autocast(action.device.type, enabled=False):
            split = lambda actions: actions.unflatten(-1, (2, NUM_KEYPOINTS, -1))  # noqa: E731
            predicted, actual = sampled.float(), action
            if weights.in_range:
                actual = network.normalize(action)
            else:
                predicted = network.denormalize(predicted)
            valid = split(batch["action_valid"]).all(-1)
            total, parts = geometry_loss(split(predicted), split(actual), valid, weights.geometry)
        total = weights.geometric * total
        if weights.flow > 0:
            time = network.head.config.flow.draw_time(len(action), generator)
            known = batch["action_valid"].float()
            parts["flow"] = network.head.flow_loss(given, network.normalize(action), known, noise, time)
            total = total + weights.flow * parts["flow"]
        return total, parts

    def _prepare(self, cut: Cut) -> Batch:
        observed, frame = Observed.from_window(cut.window), canonical_frame(cut.window)
        inputs = self.forecaster.inputs(cut.window, observed, frame)
        future, known = cut.future, cut.future_valid
        if self.forecaster.config.includes_now:
            future = np.concatenate([observed.keypoints[:, -1:], future], axis=1)
            known = np.concatenate([observed.valid[:, -1:], known], axis=1)
        action = actions_of(frame.points_in(future) * known[..., None])
        valid = actions_of(np.repeat(known[..., None], 3, axis=-1))
        given = {name: value for name, value in vars(inputs).items() if value is not None}
        return {
            **given,
            "action": torch.from_numpy(np.ascontiguousarray(action)).float(),
            "action_valid": torch.from_numpy(np.ascontiguousarray(valid)),
        }
