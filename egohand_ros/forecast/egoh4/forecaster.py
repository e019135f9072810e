"""`egoh4` as a forecaster: window -> camera poses and wrists in the picture -> denoised joints -> forecast."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ...geometry.canonical import canonical_from_camera
from ...hand.palm import palm_rotations
from ...hand.skeleton import NUM_KEYPOINTS
from ...stream.window import Window
from ..common.diffusion import shared_noise
from ..common.observed import Observed, assemble
from ..common.pretrained import SavedForecaster
from ..common.protocol import Forecast
from .config import KIND, MAX_HYPOTHESES, EgoH4Config, spec_of
from .inputs import BODY_NAMES, condition, joints_in_frame
from .network import BODY_JOINTS, JOINTS, EgoH4Network


class EgoH4Forecaster(SavedForecaster):
    """Samples both hands, and the body where it was trained for that, from noise: hypotheses are equally probable.

    It sees no hand in 3D, only where wrists are in the picture and how the camera moved: its hands do not begin where
    the tracker's end. Hands that the window never shows are not given, although the network has them. Its constructor
    is that of `SavedForecaster`, and takes `sampling_steps` instead of those of the configuration.
    """

    kind, config_class, make_network = KIND, EgoH4Config, staticmethod(EgoH4Network)
    spec_of = staticmethod(spec_of)

    def __init__(self, config: EgoH4Config, *given: Any, sampling_steps: int | None = None, **named: Any):
        config = config if sampling_steps is None else replace(config, sampling_steps=sampling_steps)
        if not 0 <= config.sampling_steps <= config.steps:
            raise UserError(f"sampling_steps is {config.sampling_steps}; expected 0 (all of them) to {config.steps}")
        super().__init__(config, *given, **named)

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to MAX_HYPOTHESES samples; without a seed they are those of seed 0. Raises `MissingInput` without camera
        poses."""
        self.spec.check(window)
        count = max(1, min(hypotheses, MAX_HYPOTHESES))
        frame = canonical_frames(window)
        given = condition(window.keypoints.cpu(), window.valid.cpu(), window.camera_pose.cpu(), frame).to(self.device)
        sampled = self._sample(given.repeat_interleave(count, 0), count, seed or 0).cpu()
        joints = joints_in_frame(self.network, sampled, frame.repeat_interleave(count, 0))
        future = joints[:, self.config.observed :].unflatten(0, (window.batch, count))
        keypoints = future[..., BODY_JOINTS:, :].unflatten(-2, (2, NUM_KEYPOINTS)).flip(3).numpy()
        observed = Observed.from_window(window)
        rotation = palm_rotations(keypoints)
        held = observed.rotation[:, -1][:, None, None]
        rotation = np.where(np.isfinite(rotation), rotation, held)  # a flat palm has no rotation of its own
        forecast = assemble(self.spec, window, observed, keypoints, rotation)
        if self.config.body:
            forecast = replace(forecast, body=future[..., :BODY_JOINTS, :].contiguous(), body_names=BODY_NAMES)
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def _sample(self, given: torch.Tensor, count: int, seed: int) -> torch.Tensor:
        """Joints (B K, F, 171) of a condition repeated K times for each window."""
        noise = shared_noise(seed, count, (self.config.frames, 3 * JOINTS), self.device)
        start, steps = noise(given, 0), self.config.sampling_steps
        if steps:
            return self.network.sample_ddim(given, None, start, steps)
        return self.network.sample(given, None, start, noise)


def canonical_frames(window: Window) -> torch.Tensor:
    """T_frame_canonical (B, 4, 4) float64 of windows with camera poses."""
    return torch.from_numpy(canonical_from_camera(window.camera_pose[:, 0].cpu().numpy()))
