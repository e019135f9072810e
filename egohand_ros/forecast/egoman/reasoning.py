"""When EgoMAN thinks: at every window, or beside a stream, when what is asked or what is seen has changed.

The language model takes seconds where the motion expert takes hundredths. What it concludes stays true for a while: an
act, and waypoints, which are points of a fixed frame at moments of a clock. So a stream goes on with the last
conclusion, moved into the camera's frame of now and nearer in time, while a thread of low priority thinks again. A
picture that still shows the same is not looked at again: its beginning of the chat is kept.
"""

from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
import torch

from ...stream.window import Window
from ..options import WAIT
from ..vlm.chat import Beginning, Pictures
from ..vlm.qwen import pictures_of
from ..vlm.thinker import Glance, Thinker, prompts_of
from .config import SPAN, STEP
from .inputs import camera_frames, motion_in, motion_out, past_of
from .network import EgoMANNetwork, Thought, by_kind
from .prompt import Asked, ask, question_of

_AT_A_TIME = 16  # windows


@dataclass(frozen=True)
class Reasoning:
    """A thought about B windows, what the scene looks like (B, scene), in which frame T_window_aria (B, 4, 4) and when
    (B,) s it was thought, and what was asked."""

    thought: Thought
    scene: torch.Tensor
    frame: np.ndarray
    stamp: np.ndarray
    prompt: tuple[str, ...]

    def times(self, stamp: np.ndarray) -> torch.Tensor:
        """(B, 3) s from `stamp` (B,) to start, contact and end; not negative."""
        told = torch.stack([moment.time[..., 0].double().cpu() for moment in self.thought.moments], dim=1)
        told = told.clamp(0.0, 1.0) * SPAN
        told[:, 0] = 0.0
        return (told - torch.from_numpy(stamp - self.stamp)[:, None]).clamp(min=0.0)

    def waypoints(self, frame: np.ndarray, stamp: np.ndarray, now: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Waypoints (B, 3, 18) in frames T_window_aria (B, 4, 4), and their steps (B, 3) from `stamp` (B,).

        Just thought, they are as they were thought. Later the start is where the wrists are `now` (B, 18).
        """
        told = self.thought.waypoints
        if np.array_equal(stamp, self.stamp) and np.array_equal(frame, self.frame):
            return told, self.thought.steps
        moved = motion_in(frame[:, None], *motion_out(self.frame[:, None], told)).to(told)
        moved[:, 0] = now.to(moved)
        return moved, (self.times(stamp) / STEP).round().long().to(told.device)


@dataclass(frozen=True)
class _Scene:
    """A picture that was looked at: its chat's beginning, features, camera's frame, itself as small as can be, and, for
    a grounding, the window that it came with."""

    beginning: Beginning
    features: torch.Tensor
    frame: np.ndarray
    glance: Glance
    window: Window

    def shows(self, window: Window) -> bool:
        """Whether a window (of one) still shows it from there."""
        return self.glance.shows(window, camera_frames(window)[0])


class Reasoner(Thinker[Reasoning]):
    """The thoughts of windows, at each or beside a stream."""

    def __init__(self, network: EgoMANNetwork, mode: str = WAIT, renew: float = 1.0):
        super().__init__(mode, renew, SPAN)
        self.network = network
        self._seen: _Scene | None = None  # of the thinking thread alone

    def _one(self, window: Window) -> Reasoning:
        """Of a window of one; its picture is looked at only where it shows something new."""
        network, prompts = self.network, prompts_of(window)
        if self._seen is None or not self._seen.shows(window):
            pictures = self._pictures(window)
            count = network.picture_tokens(pictures)
            beginning, seen = network.begin(_asked(network, "", False, count), pictures)
            features = network.scene_features(scene_images(window), seen, 1)
            frame = camera_frames(window)
            self._seen = _Scene(beginning, features, frame, Glance(window, frame[0]), window)
        scene = self._seen
        past = past_of(window, scene.frame)
        asked = _asked(network, prompts[0], bool(past.known[0]), 0)
        seen = replace(scene.window, prompt=window.prompt)
        pointed = network.point(network.look(seen, scene.frame), past.motion, past.now)
        thought = network.go_on(scene.beginning, asked, by_kind(past.motion[past.known]), pointed)
        return Reasoning(thought, scene.features, scene.frame, window.stamp.cpu().numpy(), prompts)

    def _all(self, window: Window) -> Reasoning:
        """Of any number of windows, some at a time."""
        network, prompts, frame = self.network, prompts_of(window), camera_frames(window)
        past, images, apart = past_of(window, frame), scene_images(window), []
        look = network.look(window, frame)
        for first in range(0, window.batch, _AT_A_TIME):
            rows = slice(first, first + _AT_A_TIME)
            pictures, known = self._pictures(window, rows), past.known[rows]
            count = network.picture_tokens(pictures)
            asked = [_asked(network, p, bool(k), count) for p, k in zip(prompts[rows], known, strict=True)]
            part = None if look is None else look.map(itemgetter(rows))
            pointed = network.point(part, past.motion[rows], past.now[rows])
            thought, seen = network.think(asked, pictures, by_kind(past.motion[rows][known]), pointed)
            apart.append((thought, network.scene_features(None if images is None else images[rows], seen, len(asked))))
        thoughts, features = zip(*apart, strict=True)
        return Reasoning(Thought.joined(thoughts), torch.cat(features), frame, window.stamp.cpu().numpy(), prompts)

    def _pictures(self, window: Window, rows: slice = slice(None)) -> Pictures:
        pictures = pictures_of(window.images[rows, -1], self.network.config.vlm.pixels)
        return pictures.to(self.network.vlm.device)


def _asked(network: EgoMANNetwork, prompt: str, past: bool, picture_tokens: int) -> Asked:
    return ask(network.tokens, question_of(prompt, past), picture_tokens)


def scene_images(window: Window) -> torch.Tensor | None:
    """Those for the eye of the motion expert, where it has one of its own."""
    return None if window.more_images is None else window.more_images[0][:, -1]
