"""`Window`: the aligned, batched observation that a forecaster sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..hand.skeleton import NUM_KEYPOINTS

if TYPE_CHECKING:  # importing it takes seconds, and a window's name is wanted where none is made
    import torch


@dataclass(frozen=True)
class Window:
    """Observations at a fixed rate, oldest first, the last one at `stamp`. B windows, T observations.

    All geometry is in one fixed frame: world where the camera's pose is known, otherwise the tracker's frame.

    stamp          (B,) float64 s, time of the last observation
    keypoints      (B, T, 2, 21, 3) m, sides [left, right]; zero where invalid
    valid          (B, T, 2, 21) bool
    wrist_rotation (B, T, 2, 3, 3) R_frame_palm (see hand/palm.py); identity where unknown
    rotation_valid (B, T, 2) bool
    camera_pose    (B, T, 4, 4) T_frame_camera (optical), or None
    images         (B, V, H, W, 3) uint8 RGB, oldest first, at the spec's image offsets, or None
    depth          (B, V, H, W) float32 m, 0 where unknown, or None
    prompt         B task texts, or None
    camera_matrix  (B, 3, 3) float64 px, the pinhole matrix of `images` at their size here, or None where not known
    """

    stamp: torch.Tensor
    keypoints: torch.Tensor
    valid: torch.Tensor
    wrist_rotation: torch.Tensor
    rotation_valid: torch.Tensor
    camera_pose: torch.Tensor | None = None
    images: torch.Tensor | None = None
    depth: torch.Tensor | None = None
    prompt: tuple[str, ...] | None = None
    camera_matrix: torch.Tensor | None = None

    def __post_init__(self) -> None:
        batch, length = self.keypoints.shape[:2]
        expected = {
            "stamp": (batch,),
            "keypoints": (batch, length, 2, NUM_KEYPOINTS, 3),
            "valid": (batch, length, 2, NUM_KEYPOINTS),
            "wrist_rotation": (batch, length, 2, 3, 3),
            "rotation_valid": (batch, length, 2),
        }
        if self.camera_pose is not None:
            expected["camera_pose"] = (batch, length, 4, 4)
        if self.camera_matrix is not None:
            expected["camera_matrix"] = (batch, 3, 3)
        for name, shape in expected.items():
            given = tuple(getattr(self, name).shape)
            if given != shape:
                raise ValueError(f"window field {name} has shape {given}; expected {shape}")

    @property
    def batch(self) -> int:
        return self.keypoints.shape[0]

    @property
    def length(self) -> int:
        return self.keypoints.shape[1]

    def to(self, device: torch.device | str) -> Window:
        """The same window with every tensor on `device`."""
        import torch

        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **moved)
