"""Network, forecaster and objective of `wrist-mlp`."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from egohand_ros.config import from_mapping, to_mapping
from egohand_ros.forecast.common.observed import Observed, assemble, last_index, take
from egohand_ros.forecast.common.pretrained import choose_device, find_pretrained, save_pretrained
from egohand_ros.hand.skeleton import WRIST

from .system import KIND, WristConfig, spec_of


class WristNetwork(nn.Module):
    """Wrists of N hands, relative to the last one, (N, T, 3) m -> displacements (N, S, 3) m. New, it stays put."""

    def __init__(self, config: WristConfig):
        super().__init__()
        self.steps = config.horizon_steps
        self.register_buffer("scale", torch.tensor(0.1))  # m; normalisation is part of the weights
        self.layers = nn.Sequential(
            nn.Linear(3 * config.window_length, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, 3 * self.steps),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, wrist: torch.Tensor) -> torch.Tensor:
        return self.layers(wrist.flatten(1) / self.scale).unflatten(1, (self.steps, 3)) * self.scale


class WristForecaster:
    """What `System.forecaster` asks for: spec, forecast, save_pretrained, from_pretrained, and the attributes below."""

    def __init__(self, config, network, calibration=None, preset=KIND, checkpoint_hash="", device="cpu"):
        self.config, self.calibration, self.preset = config, calibration, preset
        self.device = choose_device(device)
        self.network = network.to(self.device).eval()
        self.spec = spec_of(config, preset, calibration is not None, checkpoint_hash)

    @classmethod
    def from_pretrained(cls, path_or_id, device="cpu"):
        found = find_pretrained(path_or_id, KIND)
        config = from_mapping(WristConfig, found.config, str(found.folder / "config.json"))
        network = WristNetwork(config)
        found.load_into(network)
        return cls(config, network, found.calibration, found.preset, found.hash, device)

    def save_pretrained(self, folder):
        save_pretrained(folder, KIND, self.preset, to_mapping(self.config), self.network, self.calibration)

    @torch.inference_mode()
    def forecast(self, window, hypotheses=1, seed=None):
        """One hypothesis: each hand moves as its wrist does."""
        observed = Observed.from_window(window)
        moved = self.network(torch.from_numpy(inputs(observed)).to(self.device)).double().cpu().numpy()
        moved = np.moveaxis(moved.reshape(window.batch, 2, *moved.shape[1:]), 1, 2)  # (B, S, 2, 3)
        held = take(observed.keypoints, last_index(observed.valid))
        keypoints = held[:, None] + moved[..., None, :]
        forecast = assemble(self.spec, window, observed, keypoints[:, None], observed.rotation[:, -1][:, None, None])
        return forecast if self.calibration is None else self.calibration.apply(forecast)


def inputs(observed: Observed) -> np.ndarray:
    """(2 B, T, 3) float32 m: wrists relative to the last one seen, zero where not seen; row 2 b + side."""
    last = take(observed.wrist, last_index(observed.wrist_valid))
    relative = np.where(observed.wrist_valid[..., None], observed.wrist - last[:, None], 0.0)
    return np.moveaxis(relative, 2, 1).reshape(-1, relative.shape[1], 3).astype(np.float32)


class WristObjective(nn.Module):
    """Mean distance of forecast wrists. Its `Weights` are what `loss:` of a preset may hold."""

    @dataclass(frozen=True)
    class Weights:
        """`far`: how much more the last step counts than the first."""

        far: float = 0.0

    def __init__(self, forecaster: WristForecaster, weights: "WristObjective.Weights"):
        super().__init__()
        self.network, self.weights = forecaster.network, weights

    def fit(self, cuts):
        """The scale of what is seen, before training."""
        seen = self.prepare(cuts)["wrist"]
        self.network.scale.copy_(seen.square().mean().sqrt().clamp(min=1e-3))

    def prepare(self, cuts):
        """One row a hand that is seen, and in the future too."""
        rows = {"wrist": [], "future": []}
        for cut in cuts:
            observed = Observed.from_window(cut.window)
            last = take(observed.wrist, last_index(observed.wrist_valid))
            future = np.moveaxis(cut.future[..., WRIST, :] - last[:, None], 2, 1).reshape(-1, cut.future.shape[1], 3)
            known = observed.wrist_valid.any(axis=1) & cut.future_valid[..., WRIST].all(axis=1)
            rows["wrist"].append(inputs(observed)[known.ravel()])
            rows["future"].append(future[known.ravel()].astype(np.float32))
        return {key: torch.from_numpy(np.concatenate(parts)) for key, parts in rows.items()}

    def forward(self, batch, generator):
        missed = (self.network(batch["wrist"]) - batch["future"]).norm(dim=-1)
        weight = 1.0 + self.weights.far * torch.linspace(0.0, 1.0, missed.shape[1], device=missed.device)
        return (missed * weight).mean(), {"wrist": missed.mean()}
