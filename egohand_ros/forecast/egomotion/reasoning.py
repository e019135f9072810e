"""When the language model thinks of primitives: at every window, or beside a stream (see `vlm/thinker.py`).

A thought is one state a primitive, in the order of time. Beside a stream it grows older; then its states are moved
ahead by its age, between two by their mixture, and the last one stands for what comes after it. That is ours.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ...stream.window import Window
from ..common.observed import Observed
from ..options import WAIT
from ..vlm.eye_and_text import pictures_of, squeezed
from ..vlm.thinker import Glance, Thinker, prompts_of
from .inputs import camera_of, now_of, past_of
from .network import EgoMotionNetwork
from .prompt import Asked, ask

_AT_A_TIME = 16  # windows


@dataclass(frozen=True)
class Thought:
    """States (B, N, width) of the primitives of B windows, the codes (B, N, Q) that are read from them, when (B,) s it
    was thought, and what was asked."""

    states: torch.Tensor
    codes: torch.Tensor
    stamp: np.ndarray
    prompt: tuple[str, ...]

    def at(self, stamp: np.ndarray, lasts: float) -> torch.Tensor:
        """States (B, N, width) as seen from `stamp` (B,), where a primitive lasts so many s."""
        age = (stamp - self.stamp) / lasts
        if not age.any():
            return self.states
        last = self.states.shape[1] - 1
        place = torch.from_numpy(np.clip(np.arange(last + 1) + age[:, None], 0.0, last)).to(self.states)
        before = place.floor().long()
        rows = torch.arange(len(before), device=before.device)[:, None]
        ahead = (before + 1).clamp(max=last)
        return torch.lerp(self.states[rows, before], self.states[rows, ahead], (place - before)[..., None])


class Reasoner(Thinker[Thought]):
    """The thoughts of windows, at each or beside a stream. Beside a stream, a picture that still shows the same is not
    looked at again."""

    def __init__(self, network: EgoMotionNetwork, mode: str = WAIT, renew: float = 1.0):
        config = network.config
        super().__init__(mode, renew, 0.5 * config.step * config.horizon_steps)
        self.network = network
        self._glance: Glance | None = None  # of the thinking thread alone, as is what was seen there
        self._seen: torch.Tensor | None = None

    def _one(self, window: Window) -> Thought:
        pose = camera_of(window)[0]
        if self._glance is None or not self._glance.shows(window, pose):
            self._seen, self._glance = self._look(window), Glance(window, pose)
        return self._think(window, self._seen)

    def _all(self, window: Window) -> Thought:
        return self._think(window, self._look(window))

    def _look(self, window: Window) -> torch.Tensor:
        """What is seen (B, M, width)."""
        sizes, parts = self.network.config.vlm, []
        for images in window.images[:, -1].split(_AT_A_TIME):
            seen = self.network.see(pictures_of(squeezed(images, sizes.picture), sizes))
            parts.append(seen.unflatten(0, (len(images), -1)))
        return torch.cat(parts)

    def _think(self, window: Window, seen: torch.Tensor) -> Thought:
        network, prompts, observed = self.network, prompts_of(window), Observed.from_window(window)
        past = past_of(window, observed, now_of(window, observed)).to(network.vlm.device)
        rows = [ask(network.config, network.tokens, prompt) for prompt in prompts]
        states = []
        for first in range(0, window.batch, _AT_A_TIME):
            part = slice(first, first + _AT_A_TIME)
            tokens, asked = filled_up(rows[part], network.tokens.padding)
            device = network.vlm.device
            states.append(network.states(tokens.to(device), asked.to(device), seen[part].flatten(0, 1), past[part]))
        joined = torch.cat(states)
        return Thought(joined, network.reader(joined)[1], window.stamp.cpu().numpy(), prompts)


def filled_up(rows: list[Asked], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (B, longest), filled up at their ends, and how many of each row are its question (B,)."""
    tokens = torch.nn.utils.rnn.pad_sequence([row.tokens for row in rows], batch_first=True, padding_value=padding)
    return tokens, torch.tensor([row.asked for row in rows])
