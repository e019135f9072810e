"""What EgoH4 is trained for: the clean joints of all frames from noised ones, and who is out of view."""

from collections.abc import Sequence

import torch
from torch import nn

from ...data.windows import Cut
from ...forecast.egoh4.forecaster import EgoH4Forecaster, canonical_frames
from ...forecast.egoh4.inputs import BODY_NAMES, condition, targets, to_picture, wrists_in_picture
from ...forecast.egoh4.objective import EgoH4Batch, EgoH4Weights, egoh4_loss
from ...hand.skeleton import LEFT, RIGHT, WRIST
from .objective import Batch

_PICTURE = 512.0  # px, of `inputs.Picture`
_ORDER = [RIGHT, LEFT]


class EgoH4Objective(nn.Module):
    """EgoH4's loss on windows with camera poses. Of data without a body that part is masked."""

    Weights = EgoH4Weights

    def __init__(self, forecaster: EgoH4Forecaster, weights: EgoH4Weights):
        super().__init__()
        self.forecaster, self.weights = forecaster, weights
        self.network = forecaster.network

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: the range of coordinates is part of the configuration."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a window."""
        rows = [self._prepare(cut) for cut in cuts]
        return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network, joints = self.network, batch["joints"]
        time = network.diffusion.draw_time(len(joints), generator).to(joints.device)
        noise = torch.randn(joints.shape, generator=generator, device=generator.device).to(joints)
        predicted, out_of_view = network(network.diffusion.add_noise(joints, time, noise), time, batch["condition"])
        names = ("joints", "known", "wrists", "wrists_known", "to_picture", "out_of_view")
        actual = EgoH4Batch(**{name: batch[name] for name in names}, picture_size=_PICTURE)
        with torch.autocast(joints.device.type, enabled=False):
            return egoh4_loss(network, predicted.float(), out_of_view.float(), actual, self.weights)

    def _prepare(self, cut: Cut) -> Batch:
        window = cut.window
        self.forecaster.spec.check(window)
        frame = canonical_frames(window)
        keypoints = torch.cat([window.keypoints, torch.from_numpy(cut.future)], dim=1)
        valid = torch.cat([window.valid, torch.from_numpy(cut.future_valid)], dim=1)
        joints, known = targets(self.network, keypoints, valid, frame, *_body(cut))
        seen, pixels = wrists_in_picture(window.keypoints, window.valid, window.camera_pose)
        away = torch.where(window.valid[..., WRIST], (~seen).float(), 0.5)  # 0.5: nobody knows
        return {
            "condition": condition(window.keypoints, window.valid, window.camera_pose, frame),
            "joints": joints,
            "known": known,
            "wrists": (torch.where(seen[..., None], pixels, 0.0) / _PICTURE)[:, :, _ORDER].float(),
            "wrists_known": seen[:, :, _ORDER],
            "to_picture": to_picture(window.camera_pose, frame),
            "out_of_view": away[:, :, _ORDER],
        }


def _body(cut: Cut) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """EgoH4's joints of the body (B, F, 15, 3) m and which are known (B, F, 15); None for data without."""
    if cut.body is None:
        return None, None
    joints = torch.full((*cut.body.shape[:2], len(BODY_NAMES), 3), torch.nan, dtype=torch.float64)
    for i, name in enumerate(BODY_NAMES):
        if name in cut.body_names:
            joints[:, :, i] = torch.from_numpy(cut.body[:, :, cut.body_names.index(name)])
    known = joints.isfinite().all(-1)
    return torch.where(known[..., None], joints, 0.0), known
