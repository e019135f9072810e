"""A window's arrays -> EgoH4's condition, and EgoH4's joints -> keypoints in the window's frame.

EgoH4 learned from Project Aria's camera, which is mounted a quarter turn about its axis: its head rotation is that of
the turned camera, its image points are of the upright picture, 512 px wide and high at a focal length of 150 px
(Ego-Exo4D's undistorted images). Wrists are put into that picture from 3D, so any camera with known poses will do.
"""

from dataclasses import dataclass

import torch

from ...geometry import camera
from ...geometry.rotations import sixd_from_matrix
from ...hand.skeleton import LEFT, NUM_KEYPOINTS, RIGHT, WRIST
from .network import BODY_JOINTS, JOINTS, EgoH4Network

BODY_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
UPRIGHT_FROM_TURNED = torch.from_numpy(camera.UPRIGHT_FROM_TURNED)


@dataclass(frozen=True)
class Picture:
    """The pinhole picture in which EgoH4 sees wrists, square, in px, principal point in the middle."""

    size: int = 512
    focal: float = 150.0

    def pixels(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) m of the upright camera -> (..., 2) px, x to the right; far off for what is behind the
        camera."""
        depth = points[..., 2:].clamp(min=1e-3)
        return self.focal * points[..., :2] / depth + (self.size - 1) / 2

    def shows(self, points: torch.Tensor) -> torch.Tensor:
        """(...) bool: which points (..., 3) m of the upright camera are in the picture."""
        pixels = self.pixels(points)
        return (points[..., 2] > 1e-3) & (pixels >= 0).all(-1) & (pixels <= self.size - 1).all(-1)


def condition(
    keypoints: torch.Tensor,
    valid: torch.Tensor,
    camera_pose: torch.Tensor,
    frame_canonical: torch.Tensor,
    picture: Picture = Picture(),
) -> torch.Tensor:
    """EgoH4's condition (B, T, 13) float32 of T observations at 10 Hz, oldest first.

    keypoints (B, T, 2, 21, 3) m, sides [left, right], and valid (B, T, 2, 21), of which the wrists are used;
    camera_pose (B, T, 4, 4) T_frame_camera of the upright optical camera; frame_canonical (B, 4, 4) T_frame_canonical
    of the first observation (`geometry.canonical`). Gives: head position 3 m and the first two rows of its rotation 6
    in the canonical frame; right and left wrist x, y in the picture, 0 to 1, zero where not seen.
    """
    pose = torch.linalg.inv(frame_canonical.double())[:, None] @ camera_pose.double()
    turned = pose[..., :3, :3] @ UPRIGHT_FROM_TURNED.to(pose.device)
    seen, pixels = wrists_in_picture(keypoints, valid, camera_pose, picture)
    points = torch.where(seen[..., None], pixels / picture.size, 0.0)[:, :, [RIGHT, LEFT]].flatten(-2)
    return torch.cat([pose[..., :3, 3], sixd_from_matrix(turned, rows=True), points], dim=-1).float()


def wrists_in_picture(
    keypoints: torch.Tensor, valid: torch.Tensor, camera_pose: torch.Tensor, picture: Picture = Picture()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which wrists (B, T, 2) [left, right] are valid and in the picture, and where (B, T, 2, 2) px; arguments as
    `condition`."""
    wrists = keypoints[..., WRIST, :].double()
    world_to_camera = torch.linalg.inv(camera_pose.double())
    points = torch.einsum("btij,btsj->btsi", world_to_camera[..., :3, :3], wrists) + world_to_camera[..., None, :3, 3]
    return valid[..., WRIST] & picture.shows(points), picture.pixels(points)


def targets(
    network: EgoH4Network,
    keypoints: torch.Tensor,
    valid: torch.Tensor,
    frame_canonical: torch.Tensor,
    body: torch.Tensor | None = None,
    body_valid: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network shall give (B, F, 171), -1 where unknown, and which of the joints (B, F, 57) are known.

    keypoints (B, F, 2, 21, 3) m and valid (B, F, 2, 21) of all F frames; body (B, F, 15, 3) m and body_valid (B, F,
    15), all in the window's frame, or None for data without bodies.
    """
    hands, hands_valid = keypoints[:, :, [RIGHT, LEFT]].flatten(2, 3), valid[:, :, [RIGHT, LEFT]].flatten(2, 3)
    if body is None:
        body = hands.new_zeros(*hands.shape[:2], BODY_JOINTS, 3)
    if body_valid is None:
        body_valid = torch.zeros(body.shape[:-1], dtype=torch.bool, device=body.device)
    joints, known = torch.cat([body, hands], dim=2).double(), torch.cat([body_valid, hands_valid], dim=2)
    to_canonical = torch.linalg.inv(frame_canonical.double())
    joints = torch.einsum("bij,bfkj->bfki", to_canonical[:, :3, :3], joints) + to_canonical[:, None, None, :3, 3]
    return torch.where(known[..., None], network.normalise(joints), -1.0).flatten(2).float(), known


def joints_in_frame(network: EgoH4Network, output: torch.Tensor, frame_canonical: torch.Tensor) -> torch.Tensor:
    """A sample (..., 171) in the order of the network -> joints (..., 57, 3) m in the window's frame; the first axis is
    B."""
    joints = network.metres(output.double()).unflatten(-1, (JOINTS, 3))
    lead = (len(joints), *(1,) * (joints.dim() - 2))
    rotation, origin = frame_canonical[:, :3, :3].double(), frame_canonical[:, :3, 3].double()
    return (rotation.reshape(*lead, 3, 3) @ joints[..., None])[..., 0] + origin.reshape(*lead, 3)


def future_keypoints(network: EgoH4Network, output: torch.Tensor, frame_canonical: torch.Tensor) -> torch.Tensor:
    """A sample (B, F, 171) -> keypoints (B, S, 2, 21, 3) m of the future frames in the window's frame, sides [left,
    right]."""
    joints = joints_in_frame(network, output, frame_canonical)[:, network.config.observed :, BODY_JOINTS:]
    return joints.unflatten(2, (2, NUM_KEYPOINTS)).flip(2)


def to_picture(camera_pose: torch.Tensor, frame_canonical: torch.Tensor, picture: Picture = Picture()) -> torch.Tensor:
    """(B, T, 3, 4) from canonical metres to homogeneous px of the picture, for the loss; arguments as `condition`."""
    centre = (picture.size - 1) / 2
    matrix = torch.tensor([[picture.focal, 0, centre], [0, picture.focal, centre], [0, 0, 1]], dtype=torch.float64)
    camera_canonical = torch.linalg.inv(camera_pose.double()) @ frame_canonical.double()[:, None]
    return (matrix.to(camera_pose.device) @ camera_canonical[..., :3, :]).float()
