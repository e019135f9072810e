"""Training of `egohand-small`'s grounding alone: what was learned of hands stays as it is, bit for bit."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ...data.windows import Cut
from ...forecast.common.observed import Observed
from ...forecast.small.forecaster import SmallForecaster
from ..windows.goal_windows import GoalCut
from .losses import masked_mean
from .objective import Batch, LossWeights
from .small import SmallObjective


class GroundingObjective(nn.Module):
    """The loss of `SmallObjective` with the goals in view; and beside it, cells and points of the goals themselves."""

    def __init__(self, forecaster: SmallForecaster, weights: LossWeights):
        super().__init__()
        self.forecaster, self.weights, self.network = forecaster, weights, forecaster.network
        self.small = SmallObjective(forecaster, weights)
        self.network.requires_grad_(False)
        self.network.grounding.requires_grad_(True)

    def train(self, mode: bool = True) -> "GroundingObjective":
        """Of the network, only the grounding: what is not trained has no dropout."""
        super().train(mode)
        self.network.eval()
        self.network.grounding.train(mode)
        return self

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: the normalisation is that of the hands."""

    def prepare(self, cuts: Sequence[GoalCut]) -> Batch:
        """One row a window, both hands in it."""
        parts = [self._prepare(cut) for cut in cuts]
        return {key: torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in parts[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        grounding, weights = self.network.grounding, self.weights
        hands = {key: batch[key].flatten(0, 1) for key in batch if key not in _OF_WINDOWS}
        given = self.network.understand(hands["features"], hands["baseline"])
        goals = grounding.find(*(batch[key] for key in ("images", "rays", "words", "wrists")))
        moved = grounding.move(given, goals, hands["rotation_map"], hands["offset_map"])
        total, parts = self.small.loss(given + moved, hands, generator)
        cell = nn.functional.cross_entropy(goals.logits.flatten(0, 1), batch["cells"].flatten())
        told = batch["goals"].isfinite().all(-1)
        missed = (goals.points - batch["goals"].nan_to_num()).abs().sum(-1)
        point = masked_mean(missed, told)
        hit = (goals.logits.argmax(-1) == batch["cells"]).float().mean(0)
        total = total + weights.goal_cell * cell + weights.goal_point * point
        return total, {**parts, "cell": cell, "point": point, "hit object": hit[0], "hit destination": hit[1]}

    def _prepare(self, cut: GoalCut) -> dict[str, np.ndarray]:
        observed = Observed.from_window(cut.window)
        scene, sight = self.forecaster.observe(cut.window, observed), self.forecaster.look(cut.window, observed)
        rotation, offset = sight.hand_maps(scene.frames)
        arrays = self.small.hands(cut, observed, scene) | {"rotation_map": rotation, "offset_map": offset}
        windows = {key: array.reshape(-1, 2, *array.shape[1:]) for key, array in arrays.items()}
        return windows | {
            "images": sight.images,
            "rays": sight.rays,
            "words": sight.words,
            "wrists": sight.wrists,
            "goals": cut.goals.astype(np.float32),
            "cells": cut.cells,
        }


_OF_WINDOWS = ("images", "rays", "words", "wrists", "goals", "cells")
