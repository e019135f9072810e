"""What a network is trained for: an objective turns cut windows into a batch of tensors, and a batch into a loss.

An objective is a module that owns the network, so that one wrapper (mixed precision, several GPUs) covers both. A stage
of a system's record (`forecast/system.py`) names its class; that may stand here or in the system's own folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ...data.windows import Cut
from ...forecast.common.protocol import Forecaster
from .losses import GeometryWeights

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class LossWeights:
    """Weights of a loss: geometry of the forecast (EggHand equation 12), its fingers in the palm's frame, by distance
    and by the square of it, flow matching, and its predicted deviation; where goals are labelled, the cell of the image
    in which each is seen, and its point in space.

    Where the moment of a motion is not known, distances are least for a forecast that waits until it is more likely
    than not, squares for one that sets out as far as it is likely.
    """

    geometry: GeometryWeights = field(default_factory=GeometryWeights)
    geometric: float = 1.0
    fingers: float = 0.0
    finger_squares: float = 0.0
    flow: float = 0.0
    deviation: float = 0.0
    goal_cell: float = 0.0
    goal_point: float = 0.0


class Objective(Protocol):
    """See the module's docstring; `parts` of a loss are for the log.

    `Weights` is the dataclass of the `loss:` of a preset's training settings; the one above where a class has none.
    """

    def __init__(self, forecaster: Forecaster, weights: Any): ...

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Set the network's normalisation from training windows, before training."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch: ...

    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...


def weights_of(objective: type[Objective]) -> type:
    """The dataclass of an objective's weights."""
    return getattr(objective, "Weights", LossWeights)
