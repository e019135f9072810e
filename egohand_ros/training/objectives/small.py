"""What `egohand-small` is trained for: the correction of each hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ...data.windows import Cut
from ...errors import UserError
from ...forecast.common.observed import Observed, log_rotation
from ...forecast.small.features import HandScene
from ...forecast.small.forecaster import SmallForecaster
from ...forecast.small.network import FARTHEST, Correction, pose
from ...hand.skeleton import WRIST
from .losses import geometry_loss, masked_mean
from .objective import Batch, LossWeights

# m, by which squares become lengths that weigh about as much as distances do.
_USUAL_MISS = 0.02


class SmallObjective(nn.Module):
    """Geometric losses on the one-step forecast, flow matching on the correction's coefficients, their deviation."""

    def __init__(self, forecaster: SmallForecaster, weights: LossWeights):
        super().__init__()
        # Not a submodule: the forecaster is no module, its network is.
        self.forecaster, self.weights = forecaster, weights
        self.network = forecaster.network

    def fit(self, cuts: Sequence[Cut]) -> None:
        batch = self.prepare(cuts)
        complete = batch["complete"]
        if not complete.any():
            raise UserError(
                "no window of the data shows all 21 keypoints of a hand over the whole horizon, which training "
                "from nothing "
                "needs; give data that does, --synthetic N, or fine-tune with --init egohand-small"
            )
        correction = self._actual(batch)
        self.network.fit_bases(*(part[complete] for part in vars(correction).values()))

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a hand that is forecast and whose future is at least partly known."""
        parts = [self._prepare(cut) for cut in cuts]
        return {key: torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in parts[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.loss(self.network.understand(batch["features"], batch["baseline"]), batch, generator)

    def loss(
        self, given: torch.Tensor, batch: Batch, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of what was understood (N, width) of the hands of a batch, and its parts."""
        network, weights = self.network, self.weights
        mean, log_std = network.forecast(given)
        back = network.to_usual(given, batch["usual_turn"], batch["usual_bend"])
        complete = batch["complete"]
        with torch.autocast(mean.device.type, enabled=False):  # metres need all of float32
            mean, log_std = mean.float(), log_std.float()
            correction, actual = network.correction(mean) + back, self._actual(batch)
            # Where the palm's turn is uncertain, a hand that shrinks is nearer to all that it may become. Hands do not:
            # wrist and palm are judged with the fingers that there will be, and the fingers in the palm.
            told = replace(correction, articulation=actual.articulation)
            keypoints, _ = pose(batch["wrist"], batch["rotation"], batch["articulation"], told)
            geometric, parts = geometry_loss(keypoints, batch["future"], batch["valid"], weights.geometry)
            missed_bend = (correction.articulation - actual.articulation).square().sum(-1).add(1e-12).sqrt()
            fingers = masked_mean(missed_bend, batch["bend_known"])
            squares = masked_mean(missed_bend.square(), batch["bend_known"]) / _USUAL_MISS
            missed = network.coefficients(actual - back.map(torch.Tensor.detach)) - mean.detach()
            deviation = self._deviation(missed, log_std, complete)
            away = (missed / network.per_channel(log_std.detach())).clamp(-FARTHEST, FARTHEST).flatten(1)
        flow = self._flow(given, away, complete, generator)
        total = weights.geometric * geometric + weights.fingers * fingers + weights.finger_squares * squares
        total = total + weights.flow * flow + weights.deviation * deviation
        named = {
            "geometric": geometric,
            "fingers": fingers,
            "finger_squares": squares,
            "flow": flow,
            "deviation": deviation,
        }
        return total, named | parts

    def _flow(self, given, away: torch.Tensor, complete: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Flow-matching loss of what the expected coefficients miss, in units of its deviation (N, C A)."""
        flow = self.network.flow
        noise = torch.randn(away.shape, generator=generator, device=away.device)
        time = flow.draw_time(len(away), generator)
        told = self.network.velocity.given(given)
        predicted = self.network.velocity(flow.interpolate(noise, away, time), flow.bucket(time), told)
        return masked_mean((predicted - (away - noise)).square(), complete[:, None])

    @staticmethod
    def _deviation(error: torch.Tensor, log_std: torch.Tensor, complete: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of coefficients under Gaussians around the (fixed) forecast, but for a constant."""
        squared = torch.cat([error[..., :6].square(), error[..., 6:].square().mean(-1, keepdim=True)], dim=-1)
        return masked_mean(0.5 * squared * (-2.0 * log_std).exp() + log_std, complete[:, None, None])

    def _actual(self, batch: Batch) -> Correction:
        return Correction(batch["actual_wrist"], batch["actual_turn"], batch["actual_articulation"])

    def _prepare(self, cut: Cut) -> dict[str, np.ndarray]:
        observed = Observed.from_window(cut.window)
        arrays = self.hands(cut, observed, self.forecaster.observe(cut.window, observed))
        rows = arrays["valid"][..., WRIST].any(axis=1)
        return {key: array[rows] for key, array in arrays.items()}

    def hands(self, cut: Cut, observed: Observed, scene: HandScene) -> dict[str, np.ndarray]:
        """Inputs and targets of all 2 B hands of a cut; `valid` is false throughout for those that take no part."""
        hands = lambda array: np.moveaxis(array, 2, 1).reshape(-1, array.shape[1], *array.shape[3:])  # noqa: E731
        forecast = observed.forecastable(self.forecaster.spec.minimum_observations)
        valid = hands(cut.future_valid & forecast[:, None])
        future = scene.frames.points_in(hands(cut.future))
        turned = hands(cut.future_rotation_valid)
        rotation = scene.frames.rotations_in(hands(cut.future_rotation))
        # Where the future palm is unknown, the row takes part in the geometric losses alone.
        rotation = np.where(turned[..., None, None], rotation, scene.rotation)
        articulation = (future - future[..., WRIST : WRIST + 1, :]) @ rotation
        bend_known = (valid & valid[..., WRIST : WRIST + 1] & turned[..., None])[..., WRIST + 1 :]
        complete = valid.all((1, 2)) & turned.all(1)
        known = lambda array: np.where(complete.reshape(-1, *(1,) * (array.ndim - 1)), array, 0.0)  # noqa: E731
        bend = (articulation - scene.articulation)[..., WRIST + 1 :, :]
        arrays = {
            "features": scene.features,
            "baseline": scene.baseline,
            "wrist": scene.wrist,
            "rotation": scene.rotation,
            "articulation": scene.articulation,
            "usual_turn": scene.usual_turn,
            "usual_bend": scene.usual_bend,
            "future": future,
            "valid": valid,
            "complete": complete,
            "actual_wrist": known(future[..., WRIST, :] - scene.wrist),
            "actual_turn": known(log_rotation(rotation @ scene.rotation.swapaxes(-1, -2))),
            "actual_articulation": np.where(bend_known[..., None], bend, 0.0),
            "bend_known": bend_known,
        }
        return {key: a if a.dtype == bool else a.astype(np.float32) for key, a in arrays.items()}
