"""`usst` as a forecaster: window -> each wrist in the first camera's picture -> its path ahead -> forecast."""

from typing import Any

import numpy as np
import torch

from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.window import Window
from ..common.observed import Observed, assemble, last_index, pose_hand, take
from ..common.pretrained import SavedForecaster
from ..common.protocol import Forecast
from .config import KIND, USSTConfig, spec_of
from .inputs import Picture, WristForecast, padded, picture_input, wrist_points, wrists_in_frame
from .network import USSTNetwork


class USSTForecaster(SavedForecaster):
    """Runs USST once a hand, on its wrist. The palm keeps the turn, and fingers the place in it, that were seen last;
    `gives` and `held` of the forecast say so.

    Variances are lengths only once they are calibrated (`spec.calibrated`), as training does; of the authors' file they
    tell no more than which steps are less sure. That of rotation is 1 rad^2 before: it is not forecast.
    """

    kind, config_class, make_network = KIND, USSTConfig, staticmethod(USSTNetwork)
    spec_of = staticmethod(spec_of)

    def __init__(self, config: USSTConfig, *given: Any, **named: Any):
        super().__init__(config, *given, **named)
        self.picture = picture_of(config)

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for. Raises `MissingInput` without camera poses, or without images
        where it looks at them."""
        self.spec.check(window)
        paths = self._wrists(window)
        observed = Observed.from_window(window)
        articulation, known = observed.articulation()
        shape = take(articulation, last_index(known))[:, None]  # (B, 1, 2, 21, 3)
        rotation = observed.rotation[:, None, -1]
        wrists = paths.wrists.double().movedim(1, 2).cpu().numpy()  # (B, S, 2, 3)
        keypoints = pose_hand(wrists, np.broadcast_to(rotation, (*wrists.shape, 3)), shape)
        keypoints[..., WRIST, :] = wrists
        deviation = paths.deviation.double().movedim(1, 2).cpu().numpy()
        std = np.full((*deviation.shape, NUM_KEYPOINTS), np.nan)
        std[..., WRIST] = deviation
        covariance = np.broadcast_to(np.eye(6), (*deviation.shape, 6, 6)).copy()
        covariance[..., :3, :3] *= deviation[..., None, None] ** 2
        forecast = assemble(
            self.spec, window, observed, keypoints[:, None], rotation[:, None], std[:, None], covariance[:, None]
        )
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def _wrists(self, window: Window) -> WristForecast:
        """Wrists (B, 2, S, 3) m and their deviation (B, 2, S), in the window's frame."""
        config = self.config
        camera = window.camera_pose.cpu()
        points, _ = wrist_points(window.keypoints.cpu(), window.valid.cpu(), camera, self.picture)
        points = padded(points.flatten(0, 1), config.frames).to(self.device)
        count = torch.full((len(points),), config.observed, device=self.device)
        output = self.network(self._images(window), points, count)
        ahead = slice(config.observed, None)
        units, spread = (part[:, ahead].cpu().unflatten(0, (-1, 2)) for part in (output.points, output.log_variance))
        return wrists_in_frame(units, spread, camera[:, 0], self.picture)

    def _images(self, window: Window) -> torch.Tensor:
        """(2 B, frames, 3, H, H): the same for both hands; nothing but the shape without a backbone."""
        config = self.config
        if not config.sees:
            return blank(2 * window.batch, config).to(self.device)
        images = padded(picture_input(window.images.to(self.device)), config.frames)
        return images.repeat_interleave(2, 0)


def picture_of(config: USSTConfig) -> Picture:
    """The picture in which wrists are told to the network."""
    whole = Picture()
    return Picture(whole.fx * config.focal_scale, whole.fy * config.focal_scale)


def blank(batch: int, config: USSTConfig) -> torch.Tensor:
    """Pictures (batch, frames, 3, 1, 1) for a network that does not look."""
    return torch.zeros(batch, config.frames, 3, 1, 1)
