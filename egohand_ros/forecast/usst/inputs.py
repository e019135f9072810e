"""A window's arrays -> USST's images and points, and its points -> metres in the window's frame.

USST knows one hand point, here the wrist, in the camera of the *first* frame: (u / W, v / H, depth / 3 m) - 1/2 in the
picture of EgoPAT3D's Azure Kinect. Points are put into that picture from 3D, so any camera with known poses will do.
"""

from dataclasses import dataclass

import torch

from ...hand.skeleton import WRIST

_MAX_DEPTH = 3.0  # m
_LAST_PIXEL = 1.0 / 960, 1.0 / 540  # of the quarter-size picture in which the authors clip
_STEP = 1e-4


@dataclass(frozen=True)
class Picture:
    """A pinhole picture in px; the default is EgoPAT3D's."""

    fx: float = 1808.20276
    fy: float = 1807.94556
    cx: float = 1942.28662
    cy: float = 1123.82178
    width: int = 3840
    height: int = 2160

    def units(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) m in front of the camera -> (..., 3) the network's units; beside the picture is at its
        edge."""
        x, y, z = points.unbind(-1)
        depth = z.clamp(min=1e-3)
        u = ((x * self.fx / depth + self.cx) / self.width).clamp(0.0, 1.0 - _LAST_PIXEL[0])
        v = ((y * self.fy / depth + self.cy) / self.height).clamp(0.0, 1.0 - _LAST_PIXEL[1])
        return torch.stack([u, v, z / _MAX_DEPTH], dim=-1) - 0.5

    def metres(self, units: torch.Tensor) -> torch.Tensor:
        """The way back of `units`."""
        u, v, z = (units + 0.5).unbind(-1)
        depth = z * _MAX_DEPTH
        x, y = (u * self.width - self.cx) * depth / self.fx, (v * self.height - self.cy) * depth / self.fy
        return torch.stack([x, y, depth], dim=-1)


def observed_count(frames: int | torch.Tensor, share: float = 0.6) -> torch.Tensor:
    """How many of so many frames are observed: the authors' rounding, in float32."""
    return torch.floor(torch.as_tensor(frames) * torch.tensor(share, dtype=torch.float32)).long()


def wrist_points(
    keypoints: torch.Tensor, valid: torch.Tensor, camera_pose: torch.Tensor, picture: Picture = Picture()
) -> tuple[torch.Tensor, torch.Tensor]:
    """The network's points of both wrists (B, 2, T, 3) float32, sides [left, right], and which hands (B, 2) were seen
    at all.

    keypoints (B, T, 2, 21, 3) m and valid (B, T, 2, 21); camera_pose (B, T, 4, 4) T_frame_camera, oldest first. A frame
    in which a wrist is not valid has that of the last one in which it was, or of the first one: the network knows no
    gaps.
    """
    first_frame = torch.linalg.inv(camera_pose[:, 0].double())
    wrists = keypoints[..., WRIST, :].double().transpose(1, 2)
    seen = valid[..., WRIST].transpose(1, 2)
    points = torch.einsum("bij,bstj->bsti", first_frame[:, :3, :3], wrists) + first_frame[:, None, None, :3, 3]
    index = torch.arange(seen.shape[-1], device=seen.device)
    latest = torch.where(seen, index, -1).cummax(dim=-1).values
    first = seen.int().argmax(dim=-1, keepdim=True)
    source = torch.where(latest >= 0, latest, first)
    points = points.gather(2, source[..., None].expand_as(points))
    return picture.units(points).float(), seen.any(-1)


def padded(observations: torch.Tensor, frames: int) -> torch.Tensor:
    """Observations (B, T, ...) with zeros behind them up to `frames`, as the network takes them."""
    if observations.shape[1] > frames:
        raise ValueError(f"USST of {frames} frames cannot take {observations.shape[1]} observations")
    shape = (observations.shape[0], frames - observations.shape[1], *observations.shape[2:])
    return torch.cat([observations, observations.new_zeros(shape)], dim=1)


def picture_input(images: torch.Tensor) -> torch.Tensor:
    """Images (B, T, H, H, 3) uint8 RGB at the network's size -> (B, T, 3, H, H) float32 in -1 to 1."""
    return (images.float() / 127.5 - 1.0).movedim(-1, -3)


@dataclass(frozen=True)
class WristForecast:
    """In the window's frame: wrists (..., S, 3) m, deviation (..., S) m per axis.

    USST's variances weigh its loss more than they are a scale of errors (see `objective.py`): the deviation says which
    steps are less sure than others, and wants calibration before it is a length.
    """

    wrists: torch.Tensor
    deviation: torch.Tensor


def wrists_in_frame(
    points: torch.Tensor, log_variance: torch.Tensor, first_camera: torch.Tensor, picture: Picture = Picture()
) -> WristForecast:
    """The network's points (B, ..., S, 3) and log-variances (B, ..., S, 2) in the window's frame.

    first_camera (B, 4, 4) T_frame_camera of the window's first observation.
    """
    units = points.double()
    metres = picture.metres(units)
    sigma = torch.exp(0.5 * log_variance.double())[..., [0, 0, 1]] * _STEP
    moved = [picture.metres(units + sigma * torch.eye(3, dtype=units.dtype, device=units.device)[i]) for i in range(3)]
    variance = sum((m - metres).square().sum(-1) for m in moved) / _STEP**2 / 3.0
    lead = (len(points), *(1,) * (points.dim() - 2))
    rotation, origin = first_camera[:, :3, :3].double(), first_camera[:, :3, 3].double()
    wrists = (rotation.reshape(*lead, 3, 3) @ metres[..., None])[..., 0] + origin.reshape(*lead, 3)
    return WristForecast(wrists.float(), variance.sqrt().float())
