"""`Window`: the aligned, batched observation that a forecaster sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..hand.skeleton import NUM_KEYPOINTS

if TYPE_CHECKING:  # importing it takes seconds, and a window's name is wanted where none is made
    import torch

SHAPES = 10  # numbers of MANO's shape


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
    camera_matrix  (B, V, 3, 3) float64 px, the pinhole matrix of each of `images` at its size here, NaN for an older
                   one that came before the calibration; None where that of the newest is not known
    more_images    the same V pictures at the spec's `more_image_sizes`, a tensor (B, V, H, W, 3) uint8 each, or None
    pixels         (B, T, 2, 21, 2) float64 px of a picture of the size of `images`, where the detector saw keypoints
                   (x to the right, y down, each in the picture of its own time), NaN where it did not; None where the
                   tracker tells none: `pixels_of` then projects the keypoints
    betas          (B, 2, 10) MANO's shapes of the hands, sides [left, right], or None where not known
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
    more_images: tuple[torch.Tensor, ...] | None = None
    pixels: torch.Tensor | None = None
    betas: torch.Tensor | None = None

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
            views = (self.camera_matrix if self.images is None else self.images).shape[1]
            expected["camera_matrix"] = (batch, views, 3, 3)
        if self.pixels is not None:
            expected["pixels"] = (batch, length, 2, NUM_KEYPOINTS, 2)
        if self.betas is not None:
            expected["betas"] = (batch, 2, SHAPES)
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

        moved: dict = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        if self.more_images is not None:
            moved["more_images"] = tuple(images.to(device) for images in self.more_images)
        return replace(self, **moved)

    def without_images(self) -> Window:
        """The same window without its images, and what belongs to them."""
        return replace(self, images=None, more_images=None, camera_matrix=None)


def pixels_of(window: Window, size: tuple[int, int]) -> torch.Tensor:
    """Where keypoints are in the pictures of their own times: (B, T, 2, 21, 2) float64 px of a picture of `size`
    (height, width), NaN where they are not seen.

    The detector's pixels where the window has them, otherwise its keypoints projected. Those need the camera's matrix,
    and its poses unless the window's frame is that of the camera; a camera is taken to have one matrix all the time,
    that of the newest image. What is out of the picture, or behind it, is not seen. Raises ValueError without a matrix.
    """
    import torch

    if window.camera_matrix is None and window.pixels is None:
        raise ValueError("keypoints in pixels need the detector's, or a camera matrix to project by")
    height, width = size if window.images is None else window.images.shape[2:4]
    scale = torch.tensor([size[1] / width, size[0] / height], dtype=torch.float64, device=window.keypoints.device)
    if window.pixels is not None:
        return window.pixels * scale
    assert window.camera_matrix is not None, "one of the two is there"
    points, matrix = window.keypoints.double(), window.camera_matrix[:, -1].double()
    if window.camera_pose is not None:
        camera_frame = torch.linalg.inv(window.camera_pose.double())
        points = torch.einsum("btij,btskj->btski", camera_frame[..., :3, :3], points)
        points = points + camera_frame[:, :, None, None, :3, 3]
    ahead = points[..., 2] > 1e-3
    plane = points / torch.where(ahead, points[..., 2], 1.0)[..., None]
    pixels = torch.einsum("bij,btskj->btski", matrix, plane)[..., :2] * scale
    inside = (pixels >= 0).all(-1) & (pixels <= pixels.new_tensor([size[1], size[0]])).all(-1)
    return torch.where((window.valid & ahead & inside)[..., None], pixels, torch.nan)


def last_observations(window: Window, length: int) -> Window:
    """The window without all but its last `length` observations."""
    if length == window.length:
        return window
    tail = slice(window.length - length, None)
    return replace(
        window,
        keypoints=window.keypoints[:, tail],
        valid=window.valid[:, tail],
        wrist_rotation=window.wrist_rotation[:, tail],
        rotation_valid=window.rotation_valid[:, tail],
        camera_pose=None if window.camera_pose is None else window.camera_pose[:, tail],
    )
