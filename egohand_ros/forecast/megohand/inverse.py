"""The inverse MANO network: a hand's keypoints -> its state (arXiv 2505.16602, section 4, inverse MANO retargeting).

The paper's is trained on pairs of data sets; ours on hands of the model at random, which need no data set, and on the
keypoints of recordings, which it has to reproduce. It sees the hand in the palm's frame, so that where the hand is and
how it is turned needs no learning; that is ours.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ...data.episode import Episode
from ...errors import UserError
from ...geometry.rotations import matrix_from_sixd
from ...hand.skeleton import INDEX_MCP, LITTLE_MCP, NUM_KEYPOINTS, WRIST
from .bones import HandModel
from .inputs import mano_out, rows_in
from .state import JOINTS, SHAPES, HandState

_UNIT = 0.1  # m, what 1 of a keypoint stands for
_FINGERS = 6 * JOINTS
_PALM = [WRIST, INDEX_MCP, LITTLE_MCP]


@dataclass(frozen=True)
class InverseLosses:
    """L1 and L2 of the paper, in turn: what makes up the shape, then what makes up the wrist, each with what
    reproduces the keypoints.

    shape, pose  weights w1 and w2 of the paper
    points       of the distance of keypoints, which the paper has at 1; in units of 0.1 m
    """

    shape: float = 4.0
    pose: float = 5.0
    points: float = 1.0


class InverseMano(nn.Module):
    """Keypoints (B, 21, 3) m of right hands, those known (B, 21) -> their states in the same frame.

    The wrist of a state is where that of the keypoints is. Unknown keypoints may have any numbers.
    """

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.inner = nn.Linear(4 * NUM_KEYPOINTS, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(layers)
        )
        self.out = nn.Linear(width, _FINGERS + SHAPES + 6)
        nn.init.normal_(self.out.weight, std=1e-3)
        with torch.no_grad():
            self.out.bias.zero_()
            for first in (*range(0, _FINGERS, 6), _FINGERS + SHAPES):
                self.out.bias[first] = self.out.bias[first + 4] = 1.0  # no rotation

    def forward(self, keypoints: torch.Tensor, known: torch.Tensor, model: HandModel) -> HandState:
        palm = palm_frame(keypoints, known)
        wrist = torch.where(known[:, WRIST, None], keypoints[:, WRIST], 0.0)
        local = torch.where(known[..., None], keypoints - wrist[:, None], 0.0) @ palm
        x = self.inner(torch.cat([local / _UNIT, known[..., None].to(local)], dim=-1).flatten(1))
        for block in self.blocks:
            x = x + block(x)
        fingers, betas, turn = self.out(x).float().split((_FINGERS, SHAPES, 6), dim=-1)
        root = palm @ matrix_from_sixd(turn)
        return HandState(
            matrix_from_sixd(fingers.unflatten(-1, (JOINTS, 6))), betas, root, wrist - model.rest_wrist(betas)
        )


def palm_frame(keypoints: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """R_frame_palm (B, 3, 3) of right hands' keypoints (B, 21, 3) as hand/palm.py has it; the identity where the palm
    is not known (B, 21)."""
    index, little = (keypoints[:, i] - keypoints[:, WRIST] for i in (INDEX_MCP, LITTLE_MCP))
    there = known[:, _PALM].all(-1)
    x = nn.functional.normalize(index + little, dim=-1)
    normal = torch.linalg.cross(little, index)
    there = there & (normal.norm(dim=-1) > 1e-6)
    z = nn.functional.normalize(normal, dim=-1)
    z = nn.functional.normalize(z - (z * x).sum(-1, keepdim=True) * x, dim=-1)
    frame = torch.stack([x, torch.linalg.cross(z, x), z], dim=-1)
    return torch.where(there[:, None, None], frame, torch.eye(3, device=keypoints.device))


def inverse_loss(
    found: HandState,
    actual: HandState | None,
    keypoints: torch.Tensor,
    known: torch.Tensor,
    model: HandModel,
    weights: InverseLosses,
    shapes: bool,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L1 where `shapes`, otherwise L2, of the state found (B,) for keypoints (B, 21, 3) m, known (B, 21). Without an
    `actual` state it is the keypoints' part alone."""
    made = model(found.pose, found.betas, found.translation).keypoints
    points = ((made - keypoints) / _UNIT).square().sum(-1)
    parts = {"points": torch.where(known, points, 0.0).sum() / known.sum().clamp(min=1)}
    total = weights.points * parts["points"]
    if actual is not None and shapes:
        parts["shape"] = (found.fingers - actual.fingers).square().mean() + 0.01 * (
            found.betas - actual.betas
        ).square().mean()
        total = total + weights.shape * parts["shape"]
    elif actual is not None:
        away = (found.translation - actual.translation) / _UNIT
        parts["pose"] = (found.root - actual.root).square().mean() + away.square().mean()
        total = total + weights.pose * parts["pose"]
    return total, parts


@torch.no_grad()
def states_from_keypoints(
    inverse: InverseMano, keypoints: torch.Tensor, known: torch.Tensor, model: HandModel
) -> HandState:
    """States (...) of right hands' keypoints (..., 21, 3) m, known (..., 21)."""
    lead = keypoints.shape[:-2]
    found = inverse(keypoints.reshape(-1, NUM_KEYPOINTS, 3).float(), known.reshape(-1, NUM_KEYPOINTS), model)
    return HandState(*(part.unflatten(0, lead) if len(lead) != 1 else part for part in vars(found).values()))


@torch.no_grad()
def mano_labels(inverse: InverseMano, model: HandModel, episode: Episode) -> tuple[Episode, float]:
    """An episode with MANO's parameters of its keypoints, and the mean distance m of the keypoints that those make.

    A hand has one shape, the median of those of its frames. Hands whose wrist or palm is not seen get no parameters.
    """
    frames = np.broadcast_to(np.eye(4), (len(episode), 4, 4))
    keypoints = np.where(episode.valid[..., None], episode.keypoints, 0.0)[:, None]
    rows = rows_in(keypoints, episode.valid[:, None], frames)
    points, known = rows.keypoints[:, 0].to(model.template), rows.known[:, 0].to(model.template.device)
    found = states_from_keypoints(inverse, points, known, model)
    there = known[:, _PALM].all(-1)
    if not there.any():
        raise UserError("no palm is seen in this recording, so there is nothing to find MANO's parameters of")
    betas = found.betas.clone()
    for side in range(2):
        of_side = torch.arange(len(betas), device=betas.device) % 2 == side
        if (of_side & there).any():
            betas[of_side] = betas[of_side & there].median(0).values
    rest = model.rest_wrist(betas)
    state = replace(found, betas=betas, translation=points[:, WRIST] - rest)
    made = model(state.pose, betas, state.translation).keypoints
    apart = (made - points).norm(dim=-1)[known & there[:, None]].mean()
    parts = vars(state).items()
    whole = HandState(**{name: part[:, None, None] for name, part in parts})
    pose, translation, shapes = mano_out(whole, rest[:, None, None], frames)
    seen = there.reshape(-1, 2).cpu().numpy()
    pose, translation = pose[:, 0, 0].double().cpu().numpy(), translation[:, 0, 0].double().cpu().numpy()
    labelled = replace(
        episode,
        mano_pose=np.where(seen[..., None, None], pose, np.nan),
        mano_translation=np.where(seen[..., None], translation, np.nan),
        betas=shapes[0].double().cpu().numpy(),
    )
    return labelled, float(apart)
