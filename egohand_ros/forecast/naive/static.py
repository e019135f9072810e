"""`static`: the mean pose of the training set, whatever the hand does now (EgoH4, EggHand: baseline "Static").

The training set is the project's own synthetic generator, and the mean is one of keypoints in the canonical egocentric
frame; `static_pose.json` holds it, made by `python -m egohand_ros.training.studies.mean_pose`. Without a camera pose
there is no such frame: then the mean is that of the observed window.
"""

import json
from pathlib import Path

import numpy as np

from ...geometry.canonical import canonical_from_camera
from ...geometry.transforms import transform_points
from ...hand.palm import palm_rotations
from ...stream.window import Window
from ..common.observed import Observed, assemble
from ..common.protocol import Forecast, ForecasterSpec
from ..registry import register

POSE_FILE = Path(__file__).with_name("static_pose.json")


@register("static", "holds the mean pose of synthetic training data, or of the window where no camera pose is known")
class Static:
    """Holds the mean pose: of the training set where the camera's pose is known, otherwise of the window."""

    def __init__(self, step: float = 0.1, window_length: int = 20, horizon_steps: int = 10):
        self.spec = ForecasterSpec("static", step, window_length, horizon_steps)
        self._pose = np.array(json.loads(POSE_FILE.read_text())["keypoints"])  # (2, 21, 3) m, canonical frame
        self._rotation = palm_rotations(self._pose)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for."""
        observed = Observed.from_window(window)
        if window.camera_pose is None:
            keypoints, rotation = self._mean_of_window(observed)
        else:
            T_frame_canonical = canonical_from_camera(window.camera_pose[:, 0].cpu().numpy())
            keypoints = transform_points(T_frame_canonical[:, None], self._pose)
            rotation = T_frame_canonical[:, None, :3, :3] @ self._rotation
        return assemble(self.spec, window, observed, keypoints[:, None, None], rotation[:, None, None])

    @staticmethod
    def _mean_of_window(observed: Observed) -> tuple[np.ndarray, np.ndarray]:
        """Mean keypoints (B, 2, 21, 3) m, and the rotation (B, 2, 3, 3) of the middle observation."""
        count = np.maximum(observed.valid.sum(axis=1), 1)
        mean = observed.keypoints.sum(axis=1) / count[..., None]
        return mean, observed.rotation[:, observed.rotation.shape[1] // 2]
