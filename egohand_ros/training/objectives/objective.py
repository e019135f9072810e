"""What a network is trained for: an objective turns cut windows into a batch of tensors, and a batch into a loss.

An objective is a module that owns the network, so that one wrapper (mixed precision, several GPUs) covers both. To
train another system, write one and let `make_objective` know it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ...data.windows import Cut
from ...errors import UserError
from ...forecast.common.frames import canonical_frame
from ...forecast.common.observed import Observed, log_rotation
from ...forecast.egghand.forecaster import EggHandForecaster, actions_of
from ...forecast.egghand.model import ACTION_WIDTH, EggHandInputs
from ...forecast.small.features import HandScene
from ...forecast.small.forecaster import SmallForecaster
from ...forecast.small.network import FARTHEST, Correction, pose
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from .losses import GeometryWeights, geometry_loss, masked_mean

Batch = dict[str, torch.Tensor]

# m, by which squares become lengths that weigh about as much as distances do.
_USUAL_MISS = 0.02


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
    """See the module's docstring; `parts` of a loss are for the log."""

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Set the network's normalisation from training windows, before training."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch: ...

    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...


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
                "no window of the data shows all 21 keypoints of a hand over the whole horizon, which training from nothing "
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


class EggHandObjective(nn.Module):
    """EggHand's supervision: geometric losses on what sampling gives, noise and all (paper section 3.4), and optionally
    GR00T's flow-matching loss."""

    def __init__(self, forecaster: EggHandForecaster, weights: LossWeights):
        super().__init__()
        self.forecaster, self.weights = forecaster, weights
        self.network = forecaster.network

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Range of every coordinate over past and future keypoints."""
        rows = [self._prepare(cut) for cut in cuts]
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
            predicted, valid = network.denormalize(sampled.float()), split(batch["action_valid"]).all(-1)
            total, parts = geometry_loss(split(predicted), split(action), valid, weights.geometry)
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
        action = actions_of(frame.points_in(cut.future) * cut.future_valid[..., None])
        valid = actions_of(np.repeat(cut.future_valid[..., None], 3, axis=-1))
        given = {name: value for name, value in vars(inputs).items() if value is not None}
        return {
            **given,
            "action": torch.from_numpy(np.ascontiguousarray(action)).float(),
            "action_valid": torch.from_numpy(np.ascontiguousarray(valid)),
        }


def make_objective(forecaster: SmallForecaster | EggHandForecaster, weights: LossWeights) -> Objective:
    """The objective of a forecaster's kind."""
    return (SmallObjective if isinstance(forecaster, SmallForecaster) else EggHandObjective)(forecaster, weights)
