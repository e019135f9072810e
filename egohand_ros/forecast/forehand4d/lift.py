"""2D keypoints of a recording -> 4D hands, by ForeHand4D's lifter, with its refinement as an option.

The lifter knows a square picture of 224 px: the camera's whole picture is put into it, its aspect kept. It sees at most
`frames` frames at about 30 Hz at a time and gives all of them, also those in which no keypoint was seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...errors import UserError
from ...geometry.camera import Camera
from ...hand.mano_layer import ManoLayer
from ...hand.skeleton import NUM_KEYPOINTS, SIDES
from ..common.checkpoints import read_checkpoint
from ..common.diffusion import seeded_noise
from .conditioning import IMAGE_SIZE
from .inputs import Pixels, camera_from_first, hands_in_frame, lifter_input
from .network import ForeHand4DConfig, ForeHand4DLifter
from .refinement import Refinement, Seen, refine
from .state import CHANNELS, motion_from_state, state_from_motion
from .weights import load_forehand4d

RATE = 30.0  # Hz, of the motions that it learned from
_WIDTH_KEY, _LAYER_KEY = "input_process.poseEmbedding.weight", "seqTransEncoder.layers."


@dataclass(frozen=True)
class LiftOptions:
    """sampling_steps of DDIM (ours; 0: the authors' loop of 1000); refine: steps of their refinement, 0 without;
    seed of the noise."""

    sampling_steps: int = 50
    refine: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Lifted:
    """T frames, in the frame of the camera poses: keypoints (T, 2, 21, 3) m, pose (T, 2, 16, 3) rad and translation
    (T, 2, 3) m of MANO; error: mean distance in px of the 224 px picture to the 2D keypoints."""

    keypoints: np.ndarray
    pose: np.ndarray
    translation: np.ndarray
    error: float


def load_lifter(path: Path | str, device: str = "cpu") -> ForeHand4DLifter:
    """The lifter of an authors' checkpoint, at the sizes that the file has. Raises `UserError` for another file."""
    state = read_checkpoint(path)
    widths = [tensor.shape[0] for key, tensor in state.items() if key.endswith(_WIDTH_KEY)]
    layers = {int(key.split(_LAYER_KEY)[1].split(".")[0]) for key in state if _LAYER_KEY in key}
    inner = [tensor.shape[0] for key, tensor in state.items() if key.endswith(f"{_LAYER_KEY}0.linear1.weight")]
    sizes = {"width": widths[0], "layers": len(layers), "feed_forward": inner[0]} if widths and layers and inner else {}
    network = ForeHand4DLifter(replace(ForeHand4DConfig(), **sizes))
    load_forehand4d(network, path)
    return network.to(device).eval()


def square(pixels: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (..., 2) of a camera's picture, and its matrix (3, 3), in the square picture that holds all of it."""
    scale = IMAGE_SIZE / max(camera.width, camera.height)
    margin = 0.5 * (IMAGE_SIZE - scale * np.array([camera.width, camera.height]))
    to_square = np.array([[scale, 0, margin[0]], [0, scale, margin[1]], [0, 0, 1]])
    return scale * pixels + margin, to_square @ camera.matrix


def lift(
    pixels: np.ndarray,
    camera: Camera,
    network: ForeHand4DLifter,
    mano: dict[str, ManoLayer],
    camera_pose: np.ndarray | None = None,
    betas: np.ndarray | None = None,
    options: LiftOptions = LiftOptions(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Lifted:
    """4D hands of T frames at about 30 Hz.

    pixels (T, 2, 21, 2) px of the camera's picture, sides [left, right], NaN where not seen; camera_pose (T, 4, 4)
    T_frame_camera, without which the camera is taken to stand still; betas (2, 10), mean shapes without. Raises
    `UserError` where no keypoint is seen. `progress(done, total)` counts frames.
    """
    if not np.isfinite(pixels).any():
        raise UserError("no 2D keypoint is seen in any frame, so there is nothing to lift")
    undistorted = camera.undistort(np.nan_to_num(pixels)) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]
    points, matrix = square(np.where(np.isfinite(pixels), undistorted, np.nan), camera)
    poses = np.tile(np.eye(4), (len(points), 1, 1)) if camera_pose is None else camera_pose
    device = next(network.parameters()).device
    shape = None if betas is None else torch.from_numpy(betas)[None].float().to(device)
    parts, length = [], network.config.frames
    for start in range(0, len(points), length):
        rows = slice(start, start + length)
        given = (torch.from_numpy(array[rows])[None].to(device) for array in (points, poses))
        parts.append(_lift_part(*given, torch.from_numpy(matrix)[None].to(device), network, mano, shape, options))
        progress(min(start + length, len(points)), len(points))
    keypoints, pose, translation, errors = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Lifted(keypoints, pose, translation, float(np.nanmean(errors)))


def _lift_part(
    pixels: torch.Tensor,
    poses: torch.Tensor,
    matrix: torch.Tensor,
    network: ForeHand4DLifter,
    mano: dict[str, ManoLayer],
    betas: torch.Tensor | None,
    options: LiftOptions,
) -> tuple[np.ndarray, ...]:
    """Keypoints, MANO's pose and translation, and distances in px (T, 2, 21), of at most as many frames as the network
    has."""
    count, length = pixels.shape[1], network.config.frames
    valid = pixels.isfinite().all(-1)
    seen = _padded(Pixels(torch.where(valid[..., None], pixels, 0.0).float(), valid), length)
    frames = torch.arange(length, device=pixels.device)[None] < count
    cameras = torch.cat([poses, poses[:, -1:].expand(-1, length - count, -1, -1)], dim=1)
    draw = seeded_noise(options.seed)
    noise = draw(torch.empty(1, length, CHANNELS, device=pixels.device), 0)
    with torch.no_grad():
        tokens = network.tokens(lifter_input(seen, cameras, matrix, frames))
        steps = options.sampling_steps
        state = network.sample_ddim(tokens, noise, steps) if steps else network.sample(tokens, noise, draw)
    state, camera_current = state[:, :count], camera_from_first(poses)
    shape = None if betas is None else betas[:, None].expand(1, count, 2, -1)
    target = Seen(seen.pixels[:, :count], valid, camera_current, matrix.float())
    if options.refine:
        motion, _ = refine(motion_from_state(state), target, mano, shape, Refinement(iterations=options.refine))
        state = state_from_motion(motion)
    hands = hands_in_frame(state, mano, poses[:, 0], betas)
    pose, translation = hands.mano_in_frame(mano, betas)
    return (
        hands.keypoints[0].double().cpu().numpy(),
        pose[0].detach().double().cpu().numpy(),
        translation[0].detach().double().cpu().numpy(),
        reprojection(hands.keypoints, poses, matrix, target)[0].cpu().numpy(),
    )


def reprojection(keypoints: torch.Tensor, poses: torch.Tensor, matrix: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Distances (B, T, 2, 21) px of keypoints (B, T, 2, 21, 3) m from where they were seen; NaN where they were not."""
    inverse = torch.linalg.inv(poses.double())
    points = (
        torch.einsum("btij,btskj->btski", inverse[..., :3, :3], keypoints.double()) + inverse[:, :, None, None, :3, 3]
    )
    projected = torch.einsum("bij,btskj->btski", matrix.double(), points)
    away = (projected[..., :2] / projected[..., 2:].clamp(min=1e-3) - seen.pixels).norm(dim=-1)
    return torch.where(seen.valid, away, torch.nan)


def _padded(seen: Pixels, length: int) -> Pixels:
    """The same with nothing seen in frames up to `length`."""
    lead, more = seen.valid.shape[0], length - seen.valid.shape[1]
    pixels = seen.pixels.new_zeros(lead, more, len(SIDES), NUM_KEYPOINTS, 2)
    valid = seen.valid.new_zeros(lead, more, len(SIDES), NUM_KEYPOINTS)
    return Pixels(torch.cat([seen.pixels, pixels], 1), torch.cat([seen.valid, valid], 1))
