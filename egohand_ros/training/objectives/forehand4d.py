"""What ForeHand4D's networks are trained for (arXiv 2510.06145, section 3): MANO's motion of both hands from one image,
by diffusion or, as its baseline does, at once; and from 2D keypoints and camera poses.

MANO's parameters of data are found from keypoints (`hand/bone_rotations.py`), for mean shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ...data.windows import Cut
from ...forecast.common.diffusion import Diffusion
from ...forecast.forehand4d.conditioning import IMAGE_SIZE
from ...forecast.forehand4d.inputs import Pixels, image_input, lifter_input, projected
from ...forecast.forehand4d.objective import ForeHand4DBatch, ForeHand4DWeights, forehand4d_loss
from ...forecast.forehand4d.state import HandGeometry, HandMotion, geometry_of, motion_from_state, state_from_motion
from ...geometry.axis_angle import axis_angle_from_matrix, matrix_from_axis_angle
from ...hand.bone_rotations import bone_rotations
from ...hand.mano_layer import JOINTS, ManoLayer
from ...hand.skeleton import NUM_KEYPOINTS, SIDES, WRIST
from .objective import Batch


class Trained(Protocol):
    """What is trained: a network, and the hands whose parameters it gives, a layer a side."""

    network: nn.Module
    mano: dict[str, ManoLayer]


@dataclass(frozen=True)
class Labels:
    """In the camera's frame: state (B, T, 198), keypoints (B, T, 2, 21, 3) m, valid (B, T, 2, 21)."""

    state: torch.Tensor
    keypoints: torch.Tensor
    valid: torch.Tensor


class _Objective(nn.Module):
    Weights = ForeHand4DWeights

    def __init__(self, forecaster: Trained, weights: ForeHand4DWeights):
        super().__init__()
        self.weights, self.network = weights, forecaster.network
        self.hands = nn.ModuleDict(forecaster.mano)

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: units of states are published."""

    def loss(
        self, state: torch.Tensor, batch: Batch, weights: ForeHand4DWeights
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The published loss of a pass's state (B, T, 198)."""
        motion, actual = motion_from_state(state), motion_from_state(batch["state"])
        with torch.no_grad():
            target = self._geometry(actual, weights)
        made = self._geometry(motion, weights)
        rows, valid = len(state), batch["valid"]
        every = torch.ones(rows, dtype=torch.bool, device=state.device)
        known = ForeHand4DBatch(
            state=batch["state"],
            motion=actual,
            geometry=target,
            seen=torch.ones(valid.shape[:2], dtype=torch.bool, device=state.device),
            valid=valid,
            hand=valid[..., WRIST].all(1),
            keypoint=torch.ones(rows, 2, NUM_KEYPOINTS, dtype=torch.bool, device=state.device),
            posed=every,
            located=every,
            measured=every,
        )
        return forehand4d_loss(state, motion, made, known, weights)

    def _geometry(self, motion: HandMotion, weights: ForeHand4DWeights) -> HandGeometry:
        """Of a motion; all at one place, and without its cost, where no loss looks at it."""
        if weights.keypoints or weights.vertices:
            return geometry_of(motion.pose, motion.translation, {side: self.hands[side] for side in SIDES})
        nowhere = motion.translation.new_zeros(*motion.translation.shape[:-1], NUM_KEYPOINTS, 3)
        return HandGeometry(nowhere, nowhere)


class ForeHand4DObjective(_Objective):
    """The forecaster's loss on windows with images: the newest image's time and the future after it."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a window: images (B, 224, 224, 3) uint8, state (B, T, 198) and valid (B, T, 2, 21)."""
        now = [cut.window for cut in cuts]
        keypoints = np.concatenate([_ahead(c.window.keypoints, c.future) for c in cuts])
        valid = np.concatenate([_ahead(c.window.valid, c.future_valid) for c in cuts])
        camera = np.concatenate([_camera(cut)[:, -1] for cut in cuts])
        labels = labels_of(keypoints, valid, camera, self.hands)
        images = torch.cat([window.images[:, -1] for window in now])
        return {"images": images, "state": labels.state, "valid": labels.valid}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        tokens = self.network.tokens(image_input(batch["images"][:, None]))
        state = _denoised(self.network, self.network.diffusion, tokens, batch["state"], generator)
        return self.loss(state, batch, self.weights)


class ForeHand4DRegressorObjective(ForeHand4DObjective):
    """The same for the authors' baseline, which has no diffusion."""

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.loss(self.network(image_input(batch["images"][:, None])), batch, self.weights)


@dataclass(frozen=True)
class LifterWeights(ForeHand4DWeights):
    """As the forecaster's; and what the detector of 2D keypoints does, which is ours: noise px of the 224 px picture,
    and the share of frames in which it sees nothing of a hand, in stretches of `gap` frames."""

    noise: float = 2.0
    lost: float = 0.2
    gap: int = 4


class ForeHand4DLifterObjective(_Objective):
    """The lifter's loss on windows with camera poses, all of whose frames are lifted; `matrix` (3, 3) is that of the
    picture of 224 px into which keypoints are projected."""

    Weights = LifterWeights

    def __init__(self, forecaster: Trained, weights: LifterWeights, matrix: torch.Tensor):
        super().__init__(forecaster, weights)
        self.register_buffer("matrix", matrix.double(), persistent=False)

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a window: pixels (B, T, 2, 21, 2), seen (B, T, 2, 21), camera (B, T, 4, 4), state, valid."""
        keypoints = np.concatenate([cut.window.keypoints.numpy() for cut in cuts])
        valid = np.concatenate([cut.window.valid.numpy() for cut in cuts])
        camera = np.concatenate([_camera(cut) for cut in cuts])
        labels = labels_of(keypoints, valid, camera[:, 0], self.hands)
        given = (torch.from_numpy(array) for array in (keypoints, valid, camera))
        seen = projected(*given, self.matrix.cpu().expand(len(keypoints), 3, 3))
        return {
            "pixels": seen.pixels,
            "seen": seen.valid,
            "camera": torch.from_numpy(camera),
            "state": labels.state,
            "valid": labels.valid,
        }

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seen = detected(Pixels(batch["pixels"], batch["seen"]), self.weights, generator)
        matrix = self.matrix.expand(len(seen.pixels), 3, 3)
        tokens = self.network.tokens(lifter_input(seen, batch["camera"], matrix))
        state = _denoised(self.network, self.network.diffusion, tokens, batch["state"], generator)
        return self.loss(state, batch, self.weights)


def labels_of(keypoints: np.ndarray, valid: np.ndarray, camera: np.ndarray, hands: nn.ModuleDict) -> Labels:
    """Labels of keypoints (B, T, 2, 21, 3) m, valid (B, T, 2, 21), of a frame in which the camera is at (B, 4, 4)."""
    rotation, origin = camera[:, None, None, :3, :3], camera[:, None, None, None, :3, 3]
    local = (np.where(valid[..., None], keypoints, np.nan) - origin) @ rotation
    parts, known = [], valid.copy()
    for i, side in enumerate(SIDES):
        hand = hands[side]
        mean = torch.cat([hand.template.new_zeros(1, 3), _mean_pose(hand)])
        with torch.no_grad():
            rest = hand(-mean, None, None).keypoints  # the hand at no rotation at all
        found = bone_rotations(rest.double().cpu().numpy(), local[:, :, i], side)
        known[:, :, i] &= np.isfinite(found).all((-1, -2, -3))[..., None]
        full = axis_angle_from_matrix(torch.from_numpy(np.nan_to_num(found)) + _unknown(found))
        wrist = torch.from_numpy(np.nan_to_num(local[:, :, i, WRIST]))
        translation = wrist - hand.rest_wrist().double().cpu()
        parts.append((matrix_from_axis_angle(full - mean.double().cpu()), translation))
    rotations, translation = (torch.stack(part, 2) for part in zip(*parts, strict=True))
    state = state_from_motion(HandMotion(rotations.float(), translation.float()))
    return Labels(state, torch.from_numpy(np.nan_to_num(local)).float(), torch.from_numpy(known))


def detected(seen: Pixels, weights: LifterWeights, generator: torch.Generator) -> Pixels:
    """Pixels as a detector gives them: noisy, and now and then not at all."""
    draw = lambda *shape: torch.rand(*shape, generator=generator, device=generator.device)  # noqa: E731
    noise = torch.randn(seen.pixels.shape, generator=generator, device=generator.device)
    lead, frames = seen.valid.shape[:2]
    gaps = -(-frames // weights.gap)
    lost = (draw(lead, gaps, 2) < weights.lost).repeat_interleave(weights.gap, 1)[:, :frames]
    valid = seen.valid & ~lost[..., None].to(seen.valid.device)
    noisy = seen.pixels + weights.noise * noise.to(seen.pixels)
    return Pixels(torch.where(valid[..., None], noisy, 0.0), valid)


def square_matrix(degrees: float) -> torch.Tensor:
    """(3, 3) of a 224 px picture that is so wide."""
    focal = 0.5 * IMAGE_SIZE / np.tan(0.5 * np.radians(degrees))
    return torch.tensor([[focal, 0.0, IMAGE_SIZE / 2], [0.0, focal, IMAGE_SIZE / 2], [0.0, 0.0, 1.0]])


def _denoised(
    network: nn.Module, diffusion: Diffusion, tokens: torch.Tensor, clean: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    time = diffusion.draw_time(len(clean), generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean)
    return network(diffusion.add_noise(clean, time, noise), time, tokens)


def _ahead(window: torch.Tensor, future: np.ndarray) -> np.ndarray:
    """The last observation and what comes after it."""
    return np.concatenate([window[:, -1:].numpy(), future], axis=1)


def _camera(cut: Cut) -> np.ndarray:
    """T_frame_camera (B, T, 4, 4); the identity without camera poses, as the forecaster has it."""
    window = cut.window
    if window.camera_pose is None:
        return np.tile(np.eye(4), (window.batch, window.length, 1, 1))
    return window.camera_pose.numpy()


def _mean_pose(hand: nn.Module) -> torch.Tensor:
    """MANO's (15, 3), to which poses are relative; none for a hand without."""
    mean = getattr(hand, "mean", None)
    return hand.template.new_zeros(JOINTS - 1, 3) if mean is None else mean.reshape(JOINTS - 1, 3)


def _unknown(found: np.ndarray) -> torch.Tensor:
    """No rotation where one is not known."""
    return torch.from_numpy(np.where(np.isfinite(found), 0.0, np.eye(3)))
