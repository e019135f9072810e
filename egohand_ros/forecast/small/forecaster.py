"""`egohand-small` as a forecaster: window -> hands in their own frames -> network -> forecast."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...config import from_mapping
from ...errors import UserError
from ...hand.skeleton import WRIST
from ...stream.window import Window
from ..common.hypotheses import cluster_means, quantize
from ..common.observed import Observed, assemble
from ..common.pretrained import SavedForecaster
from ..common.protocol import Forecast
from ..naive.kalman import Kalman
from .config import KIND, MAX_HYPOTHESES, GroundingConfig, SmallConfig, spec_of
from .features import HandScene, observe
from .grounding import Goals
from .network import Correction, SmallNetwork, pose
from .sight import Sight, Vocabulary, look

# Futures drawn, for as many hypotheses as are asked for.
SAMPLES = 20
# A wrist that moved less in the whole window (m) is not tracked in space: tremor alone is more.
_MOVES = 2e-4


class SmallForecaster(SavedForecaster):
    """Corrects the Kalman forecast of each hand by a network; untrained, it is that forecast.

    With grounding and `goals`, an image and a task move the correction towards what the task names. Without either,
    with an uncalibrated camera, or where it finds nothing in the image, the forecast is that of the hands alone. What
    ships was trained on painted scenes, and finds goals in pictures of cameras that are not there: so `goals` is off
    unless asked for.

    The first hypothesis is the expected future, in one pass of the network. Further ones stand for clusters of many
    futures drawn by flow matching, and `probability` is their share of those.
    """

    kind, config_class, make_network = KIND, SmallConfig, staticmethod(SmallNetwork)
    spec_of = staticmethod(spec_of)

    def __init__(self, config: SmallConfig, *given: Any, goals: bool = False, **named: Any):
        super().__init__(config, *given, **named)
        self.baseline = Kalman(config.step, config.window_length, config.horizon_steps)
        self._vocabulary = Vocabulary(config.grounding.words) if config.grounding and goals else None
        if goals:
            self.spec = spec_of(config, self.preset, self.spec.calibrated, self.spec.checkpoint_hash, goals)

    def observe(self, window: Window, observed: Observed) -> HandScene:
        """What the network sees of the hands of a window; training uses it too."""
        return observe(window, observed, self.baseline)

    def look(self, window: Window, observed: Observed) -> Sight | None:
        """What it sees of the image and reads of the task; None without grounding, and where something is missing."""
        if self._vocabulary is None:
            return None
        return look(window, observed, self._vocabulary, self.config.grounding.size)

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to MAX_HYPOTHESES futures; without a seed the samples are those of seed 0."""
        observed = Observed.from_window(window)
        scene = self.observe(window, observed)
        shown = np.flatnonzero(observed.forecastable(self.spec.minimum_observations)[..., WRIST].ravel())
        count = max(1, min(hypotheses, MAX_HYPOTHESES))
        total, config = len(scene.features), self.config
        mean = torch.zeros(total, config.time_components, config.channels, device=self.device)
        log_std = torch.zeros(total, config.time_components, 7, device=self.device)
        given, goals = None, {}
        back = Correction(*(torch.zeros(shape, device=self.device) for shape in _shapes(scene)))
        if len(shown):
            inputs = (torch.from_numpy(array[shown]).to(self.device) for array in (scene.features, scene.baseline))
            given = self.network.understand(*inputs)
            sight = self.look(window, observed)
            if sight is not None:
                found = self._find(sight)
                given = given + self._moved_by(found, sight, scene, given, shown)
                goals = _in_window(found, sight)
            mean[shown], log_std[shown] = self.network.forecast(given)
            mean[..., 6:] *= config.finger_share
            usual = (
                torch.from_numpy(array[shown]).float().to(self.device) for array in (scene.usual_turn, scene.usual_bend)
            )
            for whole, part in zip(
                vars(back).values(), vars(self.network.to_usual(given, *usual)).values(), strict=True
            ):
                whole[shown] = part
        coefficients, probability = mean[:, None], None
        if count > 1:
            samples = self._draw(given, mean, log_std, shown, seed or 0)
            coefficients, probability = self._represent(mean, samples, count)
        coefficients[..., :3] *= torch.from_numpy(_in_space(observed)).float().to(self.device)[:, None, None, None]
        forecast = replace(self._assemble(window, observed, scene, coefficients, back, log_std, probability), **goals)
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def _find(self, sight: Sight) -> Goals:
        seen = (sight.images, sight.rays, sight.words, sight.wrists)
        return self.network.grounding.find(*(torch.from_numpy(array).to(self.device) for array in seen))

    def _moved_by(
        self, goals: Goals, sight: Sight, scene: HandScene, given: torch.Tensor, shown: np.ndarray
    ) -> torch.Tensor:
        """What goals change of what was understood of the hands `shown`."""
        tensor = lambda array: torch.from_numpy(array).to(self.device)  # noqa: E731
        whole = given.new_zeros(len(scene.features), given.shape[1])
        whole[shown] = given
        moved = self.network.grounding.move(whole, goals, *map(tensor, sight.hand_maps(scene.frames)))
        return (moved * tensor(np.repeat(sight.known, 2))[:, None])[shown]

    def _draw(
        self, given: torch.Tensor | None, mean: torch.Tensor, log_std: torch.Tensor, shown: np.ndarray, seed: int
    ) -> torch.Tensor:
        """SAMPLES futures of every hand (N, SAMPLES, C, A); those of hands that are not shown are zero."""
        # Drawn for all hands, so that a hand's samples do not depend on whether the other one is seen.
        noise = torch.randn(len(mean), SAMPLES, *mean.shape[1:], generator=torch.Generator().manual_seed(seed))
        samples = torch.zeros_like(noise, device=self.device)
        if len(shown):
            away = self.network.draw(given, noise[shown].to(self.device))
            std = self.network.per_channel(log_std[shown])[:, None]
            samples[shown] = mean[shown, None] + away * std
        return samples

    def _represent(self, mean: torch.Tensor, samples: torch.Tensor, count: int) -> tuple[torch.Tensor, np.ndarray]:
        """Coefficients (N, count, C, A) of the hypotheses that stand for the samples, and probabilities (B, count).

        Both hands of a window are clustered together, by the paths of their wrists.
        """
        basis = self.network.time_basis[0].cpu().numpy()
        together = lambda tensor: tensor.cpu().numpy().reshape(len(mean) // 2, 2, *tensor.shape[1:])  # noqa: E731
        expected, drawn = together(mean), np.swapaxes(together(samples), 1, 2)  # (B, 2, C, A), (B, M, 2, C, A)
        path = lambda coefficients: basis @ coefficients[..., :3]  # noqa: E731
        cluster, probability = quantize(
            path(expected).reshape(len(expected), -1), path(drawn).reshape(*drawn.shape[:2], -1), count
        )
        means = cluster_means(drawn, cluster, count, expected)  # (B, count, 2, C, A)
        means[:, 0] = expected
        chosen = np.swapaxes(means, 1, 2).reshape(len(mean), count, *mean.shape[1:])
        return torch.from_numpy(chosen).float().to(self.device), probability

    def _assemble(
        self,
        window: Window,
        observed: Observed,
        scene: HandScene,
        coefficients: torch.Tensor,
        back: Correction,
        log_std: torch.Tensor,
        probability: np.ndarray | None,
    ) -> Forecast:
        """Back to the window's frame: (2 B, K, ...) of all hands become (B, K, S, 2, ...)."""
        total, count = coefficients.shape[:2]
        again = lambda tensor: tensor.float().repeat_interleave(count, 0)  # noqa: E731
        correction = (self.network.correction(coefficients.flatten(0, 1)) + back.map(again)).map(torch.Tensor.cpu)
        expected = (again(torch.from_numpy(array)) for array in (scene.wrist, scene.rotation, scene.articulation))
        keypoints, rotation = pose(*expected, correction)
        deviation = [tensor.double().cpu().numpy() for tensor in self.network.deviation(log_std)]

        def hands(array: np.ndarray) -> np.ndarray:  # (2 B, K, S, ...) -> (B, K, S, 2, ...)
            return np.moveaxis(array.reshape(window.batch, 2, *array.shape[1:]), 1, 3)

        split = lambda tensor: tensor.double().numpy().reshape(total, count, *tensor.shape[1:])  # noqa: E731
        variance, covariance = _uncertainty(scene, keypoints[::count].double().numpy(), *deviation)
        forecast = assemble(
            self.spec,
            window,
            observed,
            hands(scene.frames.points_out(split(keypoints))),
            hands(scene.frames.rotations_out(split(rotation))),
            hands(np.sqrt(variance)[:, None]),
            hands(covariance[:, None]),
        )
        return forecast if probability is None else replace(forecast, probability=torch.from_numpy(probability))


def with_grounding(forecaster: SmallForecaster, values: Mapping[str, Any], device: str) -> SmallForecaster:
    """The forecaster with a grounding to be trained: its own, or a new one as a preset's YAML describes it."""
    described, name = values.get("grounding"), values.get("name", forecaster.preset)
    if described is None or not isinstance(forecaster, SmallForecaster):
        raise UserError(f"preset {name!r} has no `grounding` to be trained; egohand-small has")
    kept = dict(calibration=forecaster.calibration, preset=forecaster.preset, device=device, goals=True)
    if forecaster.config.grounding is not None:
        return SmallForecaster(forecaster.config, forecaster.network, **kept)
    grounding = from_mapping(GroundingConfig, described, f"{name}: grounding")
    grounded = SmallForecaster(replace(forecaster.config, grounding=grounding), **kept)
    grounded.network.load_state_dict(forecaster.network.state_dict(), strict=False)
    return grounded


def _in_space(observed: Observed) -> np.ndarray:
    """(2 B,) from 0 to 1: whether a wrist moves at all. Some trackers know no place, and give every hand from its
    wrist.
    """
    seen, wrist = observed.wrist_valid[..., None], observed.wrist
    span = np.where(seen, wrist, -np.inf).max(axis=1) - np.where(seen, wrist, np.inf).min(axis=1)
    return np.clip(np.where(observed.wrist_valid.any(axis=1), span.max(axis=-1), 0.0) / _MOVES, 0.0, 1.0).ravel()


def _shapes(scene: HandScene) -> tuple[tuple[int, ...], ...]:
    """Of the parts of a correction of all hands."""
    return scene.wrist.shape, scene.usual_turn.shape, scene.usual_bend.shape


def _in_window(goals: Goals, sight: Sight) -> dict[str, torch.Tensor]:
    """The fields of a forecast that tell the goals, in the window's frame."""
    points = sight.frame.points_out(goals.points.double().cpu().numpy())
    known = torch.from_numpy(sight.known)[:, None]
    return {"goal_points": torch.from_numpy(points), "goal_probability": goals.found.double().cpu() * known}


def _uncertainty(
    scene: HandScene, keypoints: np.ndarray, wrist_std: np.ndarray, rotation_std: np.ndarray, finger_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variance per axis of keypoints (N, S, 21) m^2 and covariance of wrist poses (N, S, 6, 6) in the window's frame.

    keypoints (N, S, 21, 3) are those of the first hypothesis, in each hand's frame, as the deviations are.
    """
    lever = ((keypoints - keypoints[..., WRIST : WRIST + 1, :]) ** 2).sum(axis=-1)
    wrist, rotation = (wrist_std**2).mean(-1)[..., None], (rotation_std**2).mean(-1)[..., None]
    # A rotation error moves a point at distance r by r times the angle in each of two directions of three.
    variance = wrist + finger_std**2 + (2.0 / 3.0) * lever * rotation
    variance[..., WRIST : WRIST + 1] = wrist
    covariance = np.zeros((*wrist_std.shape[:-1], 6, 6))
    for block, std in ((slice(0, 3), wrist_std), (slice(3, 6), rotation_std)):
        covariance[..., block, block] = scene.frames.covariances_out((std**2)[..., None] * np.eye(3))
    return variance, covariance
