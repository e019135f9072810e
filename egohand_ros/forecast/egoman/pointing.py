"""Waypoints from what is pointed at, which is ours: a small language model learns from few scenes what will be done and
when, but not where things are. So `egohand-small`'s grounding (`small/grounding.py`) finds the object that is meant and
where it goes; which hand goes there is told apart, as half of the way of both is no hand's; and the language model's
states tell how far that wrist goes, and how far beside. The other one stays.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...config import from_mapping
from ...errors import UserError
from ...stream.window import Window
from ..common.checkpoints import fill, read_checkpoint
from ..common.observed import Observed
from ..registry import find_preset
from ..small.config import CELL, GroundingConfig
from ..small.grounding import GOALS, Goals, Pointing
from ..small.sight import MAX_WORDS, WRISTS, Vocabulary, look
from .config import MOMENTS, PAST, EgoMANConfig
from .expert import part
from .heads import Moment

_FAR, _NEAR, _QUICK = 0.4, 0.1, 0.02  # m, m, m in 0.1 s
# Of each goal: where it is seen from the camera and from each wrist, how far from those, how surely, how spread.
_HINTS = GOALS * (3 + 2 * 3 + 2 + 1 + 1) + 3 + 3 + 2 * (3 + 3 + 3) + 1


@dataclass(frozen=True)
class Look:
    """B windows as `Pointing` takes them (images, rays, words, wrists: see `small/sight.py`), whether all of that is
    `known` (B,), and level (B, 3, 3), R_aria_level: the goals' frame has the networks' origin, the camera."""

    images: torch.Tensor
    rays: torch.Tensor
    words: torch.Tensor
    wrists: torch.Tensor
    known: torch.Tensor
    level: torch.Tensor

    def map(self, change) -> "Look":
        """With every tensor changed."""
        return Look(**{name: change(value) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Pointed:
    """What B windows are told from: goals; goals' points (B, GOALS, 3) m and level (B, 3, 3) as of `Look`, points in
    the networks' frame; now (B, 2, 3) m, where wrists are there; hints (B, ...) of all of it and of past motion; acts
    (B, 2) logits of which hand goes there."""

    goals: Goals
    points: torch.Tensor
    found: torch.Tensor
    level: torch.Tensor
    now: torch.Tensor
    hints: torch.Tensor
    acts: torch.Tensor


class Pointer(nn.Module):
    """Goals, and moments that are told from them."""

    def __init__(self, config: GroundingConfig, width: int):
        super().__init__()
        self.config, self.pointing = config, Pointing(config)
        self.hints = nn.Sequential(nn.Linear(_HINTS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.tell = nn.Linear(width, len(MOMENTS) * width)
        self.goes = nn.Linear(width, GOALS)  # how far to the object, and on to where that goes
        self.acts = nn.Linear(width, 2)

    def trained(self, pointing: bool) -> tuple[nn.Module, ...]:
        """What is trained beside the language model, with `pointing` what finds goals too."""
        return (self.hints, self.tell, self.goes, self.acts, *((self.pointing,) if pointing else ()))

    def look(self, window: Window, frame: np.ndarray) -> Look:
        """What there is to see of windows, in frames T_window_aria (B, 4, 4); all unknown without calibration, poses or
        known words."""
        size, vocabulary = self.config.size, Vocabulary(self.config.words)
        sight = look(window, Observed.from_window(window), vocabulary, size)
        if sight is None:
            cells = (window.batch, size[0] // CELL, size[1] // CELL, 3)
            return Look(
                torch.zeros(window.batch, *size, 3, dtype=torch.uint8),
                torch.zeros(cells),
                torch.zeros(window.batch, MAX_WORDS, dtype=torch.int64),
                torch.zeros(window.batch, WRISTS),
                torch.zeros(window.batch, dtype=torch.bool),
                torch.eye(3).expand(window.batch, 3, 3),
            )
        level = (frame[:, :3, :3].swapaxes(-1, -2) @ sight.frame.basis).astype(np.float32)
        arrays = (sight.images, sight.rays, sight.words, sight.wrists, sight.known, level)
        return Look(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))

    def forward(self, look: Look, past: torch.Tensor, now: torch.Tensor) -> Pointed:
        """past (B, 5, 18), zero where it is not told, and now (B, 18), as the motion expert has them."""
        goals = self.pointing.find(look.images, look.rays, look.words, look.wrists)
        found = goals.found * look.known[:, None]
        level, wrist = look.level, part(now)[0]
        points = goals.points @ level.mT
        hints = self._hints(goals, found, level, past, wrist)
        return Pointed(goals, points, found, level, wrist, hints, self.acts(hints))

    def moment(
        self, name: str, head: nn.Module, state: torch.Tensor, pointed: Pointed, side: torch.Tensor | None = None
    ) -> Moment:
        """What `head` says of the states (B, width) of a moment: its places from those of wrists now and goals. `side`
        (B,) of the hand that acts, where that is known."""
        told = self.tell(pointed.hints).unflatten(-1, (len(MOMENTS), -1))[:, MOMENTS.index(name)]
        state = state + told
        said = head(state)
        place = pointed.now
        if name != MOMENTS[0]:
            goes = self.goes(state).sigmoid() * pointed.found
            for goal in range(GOALS):
                place = torch.lerp(place, pointed.points[:, goal, None].expand_as(place), goes[:, goal, None, None])
            side = pointed.acts.argmax(-1) if side is None else side
            acts = nn.functional.one_hot(side, 2).bool()[..., None]
            place = torch.where(acts, place + said.position @ pointed.level.mT, pointed.now)
        return Moment(said.time, place, said.pixel, said.rotation)

    def _hints(
        self, goals: Goals, found: torch.Tensor, level: torch.Tensor, past: torch.Tensor, wrist: torch.Tensor
    ) -> torch.Tensor:
        """In the level frame, in which what is done looks alike wherever the head looks."""
        hands, before = wrist @ level, part(past)[0].transpose(1, 2)  # (B, 2, 3), (B, 2, 5, 3)
        told = past.abs().amax((1, 2)) > 0.0
        moved = (wrist[:, :, None] - before)[:, :, (0, PAST - 2, PAST - 1)].flatten(1, 2) @ level
        pace = moved * told[:, None, None] / _QUICK
        away = goals.points[:, :, None] - hands[:, None]  # (B, GOALS, 2, 3)
        distance = away.square().sum(-1).add(1e-6).sqrt()
        seen = torch.cat(
            [
                goals.points / _FAR,
                away.flatten(2) / _FAR,
                (distance / _NEAR).log(),
                torch.ones_like(found)[..., None],
                goals.spread[..., None] / _NEAR,
            ],
            dim=-1,
        )
        ahead, up = level[:, 2], level[:, :, 2]  # the camera's axis in the level frame, and up in the camera's
        rest = (ahead, up, pace.clamp(-5.0, 5.0).flatten(1), told[:, None].to(wrist))
        return self.hints(torch.cat([(seen * found[..., None]).flatten(1), *rest], dim=-1))


def shipped_grounding(config: EgoMANConfig) -> Path | None:
    """The weights that `load_grounding` takes and that come with this package; None where theirs has other sizes."""
    folder = find_preset("egohand-small").weights
    if config.grounding is None or folder is None or not (folder / "config.json").is_file():
        return None
    theirs = json.loads((folder / "config.json").read_text())["grounding"]
    same = theirs is not None and from_mapping(GroundingConfig, theirs, str(folder)) == config.grounding
    return folder / "model.safetensors" if same else None


def load_grounding(network: nn.Module, path: Path | str) -> None:
    """The grounding of a trained `egohand-small` (model.safetensors) into an EgoMAN that has a place for one."""
    if network.pointer is None:
        raise UserError("this EgoMAN has no place for a grounding; leave grounding out, or train egoman-small")
    name = "grounding."
    state = {key.removeprefix(name): value for key, value in read_checkpoint(path).items() if key.startswith(name)}
    if not state:
        raise UserError(f"{path} holds no grounding; give model.safetensors of an egohand-small trained with --goals")
    fill(network.pointer.pointing, {key: value for key, value in state.items() if not key.startswith("move_")})
