"""`forehand4d` as a forecaster: one image -> denoised MANO motion of both hands -> keypoints in the window's frame."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...hand.mano import mano_folder
from ...hand.mano_layer import load_mano_layers
from ...hand.palm import palm_rotations
from ...stream.window import Window
from ..common.diffusion import shared_noise
from ..common.observed import Observed, assemble
from ..common.pretrained import SavedForecaster
from ..common.protocol import Forecast, ManoForecast
from .config import KIND, MAX_HYPOTHESES, ForeHand4DSettings, make_network, spec_of
from .inputs import hands_in_frame, image_input
from .state import CHANNELS

_AT_A_TIME = 32  # samples of one pass; meshes of more are not kept, they would be gigabytes


class ForeHand4DForecaster(SavedForecaster):
    """Samples the motion of both hands from noise, told one image: hypotheses are equally probable.

    It sees no keypoint, so its hands do not begin where the tracker's end; one that the tracker does not see at the
    last observation is not given, although the network has it. Without camera poses the window's frame is taken to be
    the camera's. Vertices are given for up to 32 samples at a time, MANO's parameters always. `mano` is the folder of
    the user's MANO files, by default that of EGOHAND_MANO. Raises `UserError` without.
    """

    kind, config_class, make_network = KIND, ForeHand4DSettings, staticmethod(make_network)
    spec_of = staticmethod(spec_of)

    def __init__(
        self,
        config: ForeHand4DSettings,
        *given: Any,
        mano: str | Path = "",
        sampling_steps: int | None = None,
        **named: Any,
    ):
        config = config if sampling_steps is None else replace(config, sampling_steps=sampling_steps)
        layers = load_mano_layers(mano_folder(mano))
        super().__init__(config, *given, **named)
        self.mano = {side: layer.to(self.device) for side, layer in layers.items()}

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to MAX_HYPOTHESES samples, without a seed those of seed 0. Raises `MissingInput` without images."""
        self.spec.check(window)
        count = max(1, min(hypotheses, MAX_HYPOTHESES))
        rows = max(1, _AT_A_TIME // count)
        parts = [self._hands(window, slice(i, i + rows), count, seed or 0) for i in range(0, window.batch, rows)]
        keypoints, pose, translation, vertices = (torch.cat(part) for part in zip(*parts, strict=True))
        points = keypoints.double().numpy()
        observed = Observed.from_window(window)
        rotation = palm_rotations(points)
        held = observed.rotation[:, -1][:, None, None]
        rotation = np.where(np.isfinite(rotation), rotation, held)  # a flat palm has no rotation of its own
        forecast = assemble(self.spec, window, observed, points, rotation)
        meshes = vertices if len(parts) == 1 else None
        forecast = replace(forecast, mano=ManoForecast(pose, translation, window.betas), vertices=meshes)
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def _hands(self, window: Window, rows: slice, count: int, seed: int) -> tuple[torch.Tensor, ...]:
        """Keypoints, MANO's pose and translation, and vertices, (B, K, S, 2, ...), of some windows of a batch."""
        tokens = self.network.tokens(image_input(window.images[rows].to(self.device))).repeat_interleave(count, 0)
        noise = shared_noise(seed, count, (self.config.frames, CHANNELS), self.device)
        start, steps = noise(tokens, 0), self.config.sampling_steps
        if steps:
            state = self.network.sample_ddim(tokens, start, steps)
        else:
            state = self.network.sample(tokens, start, noise)
        state = state[:, 1 : 1 + self.config.horizon_steps]
        camera = _camera_poses(window)[rows].to(self.device).repeat_interleave(count, 0)
        betas = None if window.betas is None else window.betas[rows].to(state).repeat_interleave(count, 0)
        hands = hands_in_frame(state, self.mano, camera, betas)
        made = (hands.keypoints, *hands.mano_in_frame(self.mano, betas), hands.vertices)
        return tuple(tensor.unflatten(0, (-1, count)).cpu() for tensor in made)


def _camera_poses(window: Window) -> torch.Tensor:
    """T_frame_camera (B, 4, 4) of the last observation; the identity without camera poses."""
    if window.camera_pose is None:
        return torch.eye(4, dtype=torch.float64).expand(window.batch, 4, 4)
    return window.camera_pose[:, -1]
