"""A window's arrays -> what ForeHand4D's networks take, and their motions -> keypoints and wrists in the window's
frame.

The networks know one frame: that of the camera at the image's time (optical), which is the window's last observation.
"""

from dataclasses import dataclass

import torch

from ...hand.mano_layer import ManoLayer, turn
from ...hand.skeleton import SIDES
from ..common.vit import normalised
from .conditioning import IMAGE_SIZE, Lifting, lifting
from .state import HandGeometry, HandMotion, geometry_of, motion_from_pose, motion_from_state


def image_input(images: torch.Tensor) -> torch.Tensor:
    """The newest of a window's images (B, V, 224, 224, 3) uint8 RGB as the forecaster takes it, (B, 3, 224, 224)
    float32."""
    if images.shape[2:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ValueError(f"ForeHand4D takes images of {IMAGE_SIZE} x {IMAGE_SIZE} px; given {tuple(images.shape[2:])}")
    return normalised(images[:, -1])


@dataclass(frozen=True)
class Pixels:
    """2D keypoints of T frames: pixels (B, T, 2, 21, 2) px of the 224 px image and valid (B, T, 2, 21)."""

    pixels: torch.Tensor
    valid: torch.Tensor


def projected(
    keypoints: torch.Tensor, valid: torch.Tensor, camera_pose: torch.Tensor, camera_matrix: torch.Tensor
) -> Pixels:
    """2D keypoints of 3D ones, for trackers that give no pixels.

    keypoints (B, T, 2, 21, 3) m and camera_pose (B, T, 4, 4) T_frame_camera in the window's frame; valid (B, T, 2, 21);
    camera_matrix (B, 3, 3) px of the 224 px image. What is out of the image, or behind it, is not valid.
    """
    camera_frame = torch.linalg.inv(camera_pose.double())
    points = torch.einsum("btij,btskj->btski", camera_frame[..., :3, :3], keypoints.double())
    points = points + camera_frame[:, :, None, None, :3, 3]
    ahead = points[..., 2] > 1e-3
    plane = points / torch.where(ahead, points[..., 2], 1.0)[..., None]
    pixels = torch.einsum("bij,btskj->btski", camera_matrix.double(), plane)[..., :2]
    inside = (pixels >= 0).all(-1) & (pixels <= IMAGE_SIZE).all(-1)
    valid = valid & ahead & inside
    return Pixels(torch.where(valid[..., None], pixels, 0.0).float(), valid)


def lifter_input(
    seen: Pixels, camera_pose: torch.Tensor, camera_matrix: torch.Tensor, frames: torch.Tensor | None = None
) -> Lifting:
    """The lifter's conditions; camera poses and matrix as `projected`. `frames` (B, T) bool is False for padding.

    The *first* frame is the current camera: the lifter gives the motion of all T frames in its frame.
    """
    camera_current = camera_from_first(camera_pose)
    frames = torch.ones(seen.valid.shape[:2], dtype=torch.bool, device=seen.valid.device) if frames is None else frames
    return lifting(seen.pixels, seen.valid, camera_current, camera_matrix.float(), frames)


def camera_from_first(camera_pose: torch.Tensor) -> torch.Tensor:
    """T_camera_first (B, T, 4, 4) float32 of camera poses T_frame_camera (B, T, 4, 4)."""
    return (torch.linalg.inv(camera_pose.double()) @ camera_pose.double()[:, :1]).float()


def motion_in_camera(
    pose: torch.Tensor, translation: torch.Tensor, mano: dict[str, ManoLayer], camera_frame: torch.Tensor
) -> HandMotion:
    """MANO parameters of a data set in the current camera's frame: what networks are trained on.

    pose (B, T, 2, 16, 3) rad and translation (B, T, 2, 3) m in some frame; camera_frame (B, 4, 4) T_camera_frame. The
    wrist's rest position is taken into account, which the authors' transform leaves out (docs/systems.md).
    """
    turned = [
        turn(pose[:, :, i], translation[:, :, i], mano[side].rest_wrist(), camera_frame[:, None])
        for i, side in enumerate(SIDES)
    ]
    return motion_from_pose(torch.stack([p for p, _ in turned], 2), torch.stack([t for _, t in turned], 2))


@dataclass(frozen=True)
class Hands:
    """In the window's frame, sides [left, right]: keypoints (B, T, 2, 21, 3) m, vertices (B, T, 2, 778, 3) m,
    wrist_rotation (B, T, 2, 3, 3) R_frame_wrist, MANO's global rotation; and motion, in the camera's frame, whose pose
    in the window's frame is camera_pose (B, 4, 4)."""

    keypoints: torch.Tensor
    vertices: torch.Tensor
    wrist_rotation: torch.Tensor
    motion: HandMotion
    camera_pose: torch.Tensor

    def mano_in_frame(
        self, mano: dict[str, ManoLayer], betas: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """MANO's pose (B, T, 2, 16, 3) rad and translation (B, T, 2, 3) m in the window's frame; betas as given to
        `hands_in_frame`."""
        pose, translation = self.motion.pose, self.motion.translation
        transform = self.camera_pose[:, None].to(pose)
        rest = [mano[s].rest_wrist(None if betas is None else betas[:, None, i]) for i, s in enumerate(SIDES)]
        turned = [turn(pose[:, :, i], translation[:, :, i], rest[i], transform) for i in range(len(SIDES))]
        return torch.stack([p for p, _ in turned], 2), torch.stack([t for _, t in turned], 2)


def hands_in_frame(
    state: torch.Tensor,
    mano: dict[str, ManoLayer],
    camera_pose: torch.Tensor,
    betas: torch.Tensor | None = None,
) -> Hands:
    """A network's motion (B, T, 198) in the window's frame.

    camera_pose (B, 4, 4) T_frame_camera of the image (forecaster) or of the first frame (lifter); identity where camera
    poses are not known and the window's frame is the camera's. betas (B, 2, 10) or None for mean shapes.
    """
    motion = motion_from_state(state)
    shape = None if betas is None else betas[:, None].expand(*state.shape[:2], *betas.shape[1:])
    geometry: HandGeometry = geometry_of(motion.pose, motion.translation, mano, shape)
    rotation, origin = camera_pose[:, :3, :3].to(state), camera_pose[:, None, None, None, :3, 3].to(state)
    keypoints, vertices = (
        torch.einsum("bij,btskj->btski", rotation, points) + origin
        for points in (geometry.keypoints, geometry.vertices)
    )
    wrists = rotation[:, None, None] @ motion.rotations[..., 0, :, :]
    return Hands(keypoints, vertices, wrists, motion, camera_pose)
