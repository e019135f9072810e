"""What USST is trained for: the path of one wrist, its uncertainty and velocity."""

from collections.abc import Sequence

import torch
from torch import nn

from ...data.windows import Cut
from ...errors import UserError
from ...forecast.usst.forecaster import USSTForecaster, blank
from ...forecast.usst.inputs import wrist_points
from ...forecast.usst.objective import USSTWeights, usst_loss
from ...hand.skeleton import WRIST
from .objective import Batch


class USSTObjective(nn.Module):
    """USST's loss on windows with camera poses. Windows have no images: a network that looks at them is refused."""

    Weights = USSTWeights

    def __init__(self, forecaster: USSTForecaster, weights: USSTWeights):
        super().__init__()
        if forecaster.config.sees:
            raise UserError(
                f"{forecaster.preset} looks at images, and windows to train on have none; train usst-small, or give "
                "checkpoint=FILE of the authors"
            )
        self.forecaster, self.weights = forecaster, weights
        self.network = forecaster.network

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: units are those of the picture."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a hand that is seen, and whose wrist is known in every frame ahead."""
        return {"points": torch.cat([self._points(cut) for cut in cuts])}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        points, config = batch["points"], self.forecaster.config
        observed = torch.full((len(points),), config.observed, device=points.device)
        frames = torch.full_like(observed, config.frames)
        output = self.network(blank(len(points), config).to(points), points, observed)
        return usst_loss(output, points, observed, frames, self.weights)

    def _points(self, cut: Cut) -> torch.Tensor:
        window = cut.window
        self.forecaster.spec.check(window)
        keypoints = torch.cat([window.keypoints, torch.from_numpy(cut.future)], dim=1)
        future = torch.from_numpy(cut.future_valid)
        valid = torch.cat([window.valid, future], dim=1)
        points, _ = wrist_points(keypoints, valid, window.camera_pose, self.forecaster.picture)
        rows = window.valid[..., WRIST].any(dim=1) & future[..., WRIST].all(dim=1)
        return points[rows]
