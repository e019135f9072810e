"""What MEgoHand's head looks at, worked out at every window or, live, beside the stream: the newest image wins.

The language model and the encoders take most of the time. What they make of an image stays true for a moment, in the
frame of the camera that took it, so the head goes on from the newest hand with the last context.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ...stream.window import Window
from ..options import WAIT
from ..vlm.thinker import Thinker, prompts_of
from .inputs import camera_frames, rows_of_window, seen_now, views_of, with_depth
from .network import MEgoHandNetwork, Seen

_SPAN = 1.0  # s for which a context is true
_RENEW = 1e-3  # s: anything newer is looked at
_AT_A_TIME = 64  # rows


@dataclass(frozen=True)
class Context:
    """Of B windows: what their hands see, a row each, of those (N,) of the 2 B that are there; in which frames
    T_window_camera (B, 4, 4), when (B,) s, and what was asked."""

    seen: Seen
    rows: torch.Tensor
    frame: np.ndarray
    stamp: np.ndarray
    prompt: tuple[str, ...]


class Watcher(Thinker[Context]):
    """The contexts of windows; mode as of `Thinker`, in which a stream looks again as soon as it has looked."""

    def __init__(self, network: MEgoHandNetwork, mode: str = WAIT):
        super().__init__(mode, _RENEW, _SPAN)
        self.network = network

    def _one(self, window: Window) -> Context:
        """Both hands: one that is not seen yet may be a moment later."""
        return self._of(window, torch.arange(2))

    def _all(self, window: Window) -> Context:
        return self._of(window, seen_now(rows_of_window(window, camera_frames(window))).nonzero()[:, 0])

    def _of(self, window: Window, rows: torch.Tensor) -> Context:
        network, parts = self.network, []
        if not len(rows):  # no hand: nothing is looked at
            nothing = torch.zeros(0, 1, network.config.vlm.width, device=network.vlm.device)
            seen = Seen(nothing, torch.zeros(0, 1, dtype=torch.bool, device=network.vlm.device))
            return Context(seen, rows, camera_frames(window), window.stamp.cpu().numpy(), prompts_of(window))
        for some in rows.split(_AT_A_TIME):
            views = views_of(window, some, network.config.vlm.picture)
            if views.images is not None and views.depth is None:
                views = with_depth(views, network.depth_of(views.images))
            words = network.words(views.prompts, views.images is not None)
            parts.append(network.see(views.images, views.depth, words))
        seen = _joined(parts)
        return Context(seen, rows, camera_frames(window), window.stamp.cpu().numpy(), prompts_of(window))


def _joined(parts: list[Seen]) -> Seen:
    """One after the other; those with fewer words are filled up."""
    if len(parts) == 1:
        return parts[0]
    length = max(part.context.shape[1] for part in parts)
    fill = torch.nn.functional.pad
    context = torch.cat([fill(part.context, (0, 0, 0, length - part.context.shape[1])) for part in parts])
    return Seen(context, torch.cat([fill(part.known, (0, length - part.known.shape[1])) for part in parts]))
