"""A differentiable MANO hand (Romero et al. 2017) over smplx: parameters -> keypoints and 778 vertices, and back.

MANO's files are the user's own (hand/mano.py says where they come from and reads them without running what is in them).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from ..geometry.axis_angle import axis_angle_from_matrix, matrix_from_axis_angle
from .conventions import CONVENTIONS
from .mano import ENVIRONMENT, FILES, TIP_VERTICES, read_model
from .skeleton import NUM_KEYPOINTS, SIDES

JOINTS, SHAPES, VERTICES = 16, 10, 778
# Of our 21 keypoints, which of MANO's (16 joints, then the tips) each is; and the other way round.
FROM_MANO = CONVENTIONS["mano"][1]
TO_MANO = tuple(FROM_MANO.index(i) for i in range(NUM_KEYPOINTS))


@dataclass(frozen=True)
class ManoHand:
    """keypoints (..., 21, 3) m in our order; vertices (..., 778, 3) m in MANO's."""

    keypoints: torch.Tensor
    vertices: torch.Tensor


class ManoLayer(nn.Module):
    """One side's MANO: rotation vectors, shape, translation -> keypoints and vertices.

    `data` are the arrays of MANO's file. With `flat` the pose is relative to a flat hand, otherwise to MANO's mean pose
    (smplx's flat_hand_mean=False, as ForeHand4D, ARCTIC and HOT3D have it).
    """

    def __init__(self, data: Mapping[str, np.ndarray], flat: bool = False):
        super().__init__()
        _lbs()  # a missing smplx is said here, not in the middle of a forecast
        basis = np.asarray(data["posedirs"], dtype=np.float64)
        arrays = {
            "template": data["v_template"],
            "shapes": np.asarray(data["shapedirs"])[..., :SHAPES],
            "poses": basis.reshape(-1, basis.shape[-1]).T,
            "regressor": data["J_regressor"],
            "weights": data["weights"],
            "mean": np.zeros(45) if flat else np.asarray(data["hands_mean"]).reshape(45),
        }
        for name, array in arrays.items():
            array = torch.from_numpy(np.ascontiguousarray(np.asarray(array, dtype=np.float32)))
            self.register_buffer(name, array, persistent=False)
        parents = np.asarray(data["kintree_table"])[0].astype(np.int64)
        parents[0] = -1
        self.register_buffer("parents", torch.from_numpy(parents), persistent=False)
        self.faces = np.asarray(data["f"]).astype(np.int64)  # (F, 3)

    def forward(
        self, pose: torch.Tensor, betas: torch.Tensor | None = None, translation: torch.Tensor | None = None
    ) -> ManoHand:
        """pose (..., 16, 3) rotation vectors rad, the first one global; betas (..., 10), mean shape without;
        translation (..., 3) m. The wrist is at its rest position plus the translation: the global rotation is about
        it."""
        lead = pose.shape[:-2]
        flat = pose.reshape(-1, JOINTS, 3)
        full = flat + torch.cat([self.mean.new_zeros(3), self.mean]).reshape(JOINTS, 3)
        shape = flat.new_zeros(len(flat), SHAPES) if betas is None else betas.expand(*lead, SHAPES).reshape(-1, SHAPES)
        vertices, joints = _lbs()(
            shape,
            full.reshape(-1, 3 * JOINTS),
            self.template,
            self.shapes,
            self.poses,
            self.regressor,
            self.parents,
            self.weights,
            pose2rot=True,
        )
        keypoints = torch.cat([joints, vertices[:, list(TIP_VERTICES)]], dim=1)[:, list(FROM_MANO)]
        keypoints, vertices = keypoints.reshape(*lead, NUM_KEYPOINTS, 3), vertices.reshape(*lead, -1, 3)
        if translation is not None:
            keypoints, vertices = keypoints + translation[..., None, :], vertices + translation[..., None, :]
        return ManoHand(keypoints, vertices)

    def rest_wrist(self, betas: torch.Tensor | None = None) -> torch.Tensor:
        """(..., 3) m: where the wrist is without a translation; about 95 mm off the origin."""
        template = (
            self.template if betas is None else self.template + torch.einsum("...s,vcs->...vc", betas, self.shapes)
        )
        return torch.einsum("v,...vc->...c", self.regressor[0], template)


@dataclass(frozen=True)
class ManoParameters:
    """pose (..., 16, 3) rad, betas (..., 10), translation (..., 3) m, error (...) m: the mean distance of its
    keypoints."""

    pose: torch.Tensor
    betas: torch.Tensor
    translation: torch.Tensor
    error: torch.Tensor


def fit_mano(
    layer: ManoLayer,
    keypoints: torch.Tensor,
    valid: torch.Tensor | None = None,
    betas: torch.Tensor | None = None,
    iterations: int = 30,
    prior: float = 1e-6,
) -> ManoParameters:
    """MANO parameters of keypoints (B, 21, 3) m, the valid (B, 21) of which are looked at.

    Starts from the rotation that turns the rest palm into the one seen and goes on by Levenberg-Marquardt, a hand by
    itself; `prior` (m^2 rad^-2) draws what keypoints do not say, as the twist of a finger, to the mean pose. `betas`
    (B, 10) are kept where given, otherwise fitted (with the same prior). A hand with no valid keypoint keeps the mean
    pose.
    """
    keypoints = keypoints.to(layer.template)
    valid = torch.ones(keypoints.shape[:2], dtype=torch.bool, device=keypoints.device) if valid is None else valid
    known = torch.where(valid[..., None], keypoints, 0.0)
    root, translation = _palm_start(layer, known, valid)
    rest = known.new_zeros(len(known), 45 + (SHAPES if betas is None else 0))
    p = torch.cat([root, translation, rest], dim=-1)
    weight = torch.cat([p.new_full((6,), 1e-12), p.new_full((rest.shape[-1],), prior)])
    damping = p.new_full((len(p), 1), 1e-3)

    def parts(p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        pose = torch.cat([p[:, :3], p[:, 6:51]], dim=-1).unflatten(-1, (JOINTS, 3))
        return pose, p[:, 51:] if betas is None else betas, p[:, 3:6]

    def residuals(p: torch.Tensor) -> torch.Tensor:
        return torch.where(valid[..., None], layer(*parts(p)).keypoints - known, 0.0).flatten(1)

    def cost(error: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return (error.square().sum(-1) + (weight * p.square()).sum(-1))[:, None]

    each = torch.eye(3 * NUM_KEYPOINTS, device=p.device)[:, None].expand(-1, len(p), -1)
    for _ in range(iterations):
        with torch.enable_grad():
            given = p.detach().requires_grad_()
            error = residuals(given)
            slope = torch.autograd.grad(error, given, each, is_grads_batched=True)[0].transpose(0, 1).double()
        error = error.detach()
        normal = slope.transpose(1, 2) @ slope + torch.diag(weight.double())
        gradient = (slope.transpose(1, 2) @ error.double()[..., None])[..., 0] + weight.double() * p.double()
        damped = normal + torch.diag_embed(damping.double() * (normal.diagonal(dim1=1, dim2=2) + 1e-9))
        moved = p - torch.linalg.solve(damped, gradient).to(p)
        with torch.no_grad():
            better = cost(residuals(moved), moved) < cost(error, p)
        p, damping = torch.where(better, moved, p), torch.where(better, damping / 5.0, damping * 5.0)
    with torch.no_grad():
        distance = residuals(p).unflatten(-1, (NUM_KEYPOINTS, 3)).norm(dim=-1)
    return ManoParameters(*parts(p), distance.sum(-1) / valid.sum(-1).clamp(min=1))


def load_mano_layers(folder: Path | str | None, flat: bool = False) -> dict[str, ManoLayer]:
    """Both hands' layers by side from the user's MANO folder. `UserError` where it, or smplx, is missing."""
    if folder is None or not all((Path(folder) / FILES[side]).is_file() for side in SIDES):
        raise UserError(
            f"no {' and '.join(FILES.values())} in {folder or 'a MANO folder'}; get them at https://mano.is.tue.mpg.de "
            f"and give mano=FOLDER, or {ENVIRONMENT}=FOLDER in the environment"
        )
    data = {side: read_model(Path(folder) / FILES[side]) for side in SIDES}
    mend_left_shape(data)
    return {side: ManoLayer(data[side], flat) for side in SIDES}


def mend_left_shape(data: dict[str, dict]) -> None:
    """Undo the sign error of MANO's left hand, whose first shape axis equals the right hand's (smplx issue 48)."""
    left, right = np.array(data["left"]["shapedirs"]), np.asarray(data["right"]["shapedirs"])
    if left.shape == right.shape and np.abs(left[:, 0] - right[:, 0]).sum() < 1.0:
        left[:, 0] *= -1
        data["left"]["shapedirs"] = left


def _palm_start(layer: ManoLayer, keypoints: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The global rotation vector (B, 3) and translation (B, 3) that lay the rest hand on what is known of the palm."""
    with torch.no_grad():
        rest = layer(torch.zeros(1, JOINTS, 3, device=keypoints.device)).keypoints[0]
    palm = torch.zeros(NUM_KEYPOINTS, dtype=torch.bool, device=valid.device)
    palm[[0, 1, 5, 9, 13, 17]] = True
    used = valid & palm
    used = torch.where((used.sum(-1) >= 3)[:, None], used, valid).float()[..., None]
    count = used.sum(1).clamp(min=1.0)
    centre, centre_rest = (keypoints * used).sum(1) / count, (rest * used).sum(1) / count
    seen, rested = (keypoints - centre[:, None]) * used, rest - centre_rest[:, None]
    covariance = seen.transpose(1, 2) @ rested
    u, _, vt = torch.linalg.svd(covariance)
    u = torch.cat([u[..., :2], u[..., 2:] * torch.linalg.det(u @ vt)[:, None, None]], dim=-1)
    enough = (used.sum((1, 2)) >= 3)[:, None, None]
    rotation = torch.where(enough, u @ vt, torch.eye(3, device=u.device))
    wrist = layer.rest_wrist()
    translation = centre - (rotation @ (centre_rest - wrist)[..., None])[..., 0] - wrist
    return axis_angle_from_matrix(rotation), translation


def turn(
    pose: torch.Tensor, translation: torch.Tensor, rest_wrist: torch.Tensor, transform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A hand's pose (..., 16, 3) and translation (..., 3) after T_target_source (..., 4, 4): the wrist, about which
    MANO turns, is not at the origin, so the translation changes with the rotation too."""
    rotation = transform[..., :3, :3]
    root = axis_angle_from_matrix(rotation @ matrix_from_axis_angle(pose[..., 0, :]))
    wrist = (rotation @ (translation + rest_wrist)[..., None])[..., 0] + transform[..., :3, 3]
    return torch.cat([root[..., None, :], pose[..., 1:, :]], dim=-2), wrist - rest_wrist


def _lbs() -> Any:
    from smplx.lbs import lbs  # slow, and only MANO wants it

    return lbs
