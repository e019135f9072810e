"""What USST is trained for: the path of one wrist, its uncertainty and velocity."""

from collections.abc import Sequence

import torch
from torch import nn

from ...data.windows import Cut
from ...forecast.usst.forecaster import USSTForecaster, blank
from ...forecast.usst.inputs import padded, picture_input, wrist_points
from ...forecast.usst.objective import USSTWeights, usst_loss
from ...hand.skeleton import WRIST
from .objective import Batch


class USSTObjective(nn.Module):
    """USST's loss on windows with camera poses, and with images for a network that looks at them."""

    Weights = USSTWeights

    def __init__(self, forecaster: USSTForecaster, weights: USSTWeights):
        super().__init__()
        self.forecaster, self.weights = forecaster, weights
        self.network = forecaster.network

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: units are those of the picture."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a hand that is seen, and whose wrist is known in every frame ahead."""
        parts = [self._rows(cut) for cut in cuts]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        points, config = batch["points"], self.forecaster.config
        observed = torch.full((len(points),), config.observed, device=points.device)
        frames = torch.full_like(observed, config.frames)
        images = batch.get("images")
        seen = blank(len(points), config).to(points) if images is None else padded(picture_input(images), config.frames)
        output = self.network(seen, points, observed)
        return usst_loss(output, points, observed, frames, self.weights)

    def _rows(self, cut: Cut) -> Batch:
        window = cut.window
        self.forecaster.spec.check(window)
        keypoints = torch.cat([window.keypoints, torch.from_numpy(cut.future)], dim=1)
        future = torch.from_numpy(cut.future_valid)
        valid = torch.cat([window.valid, future], dim=1)
        points, _ = wrist_points(keypoints, valid, window.camera_pose, self.forecaster.picture)
        rows = window.valid[..., WRIST].any(dim=1) & future[..., WRIST].all(dim=1)
        if not self.forecaster.config.sees:
            return {"points": points[rows]}
        return {"points": points[rows], "images": window.images[rows.nonzero()[:, 0]]}
