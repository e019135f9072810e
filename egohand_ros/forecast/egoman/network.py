"""EgoMAN assembled: what the language model makes of a picture, a question and past motion, and how wrists follow.

The published answer is always <ACT><START><CONTACT><END>; what a head reads is the last state that *predicts* its
token. So the answer is put behind the question as it is known to be, in one pass, instead of being generated token by
token: the states are the same, and how likely the model holds each token tells whether it would have said so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...stream.window import Window
from ..common.vit import normalised
from ..vlm.chat import Beginning, Pictures
from ..vlm.qwen import new_qwen, picture_tokens
from ..vlm.tokens import PICTURE, Tokens
from .config import CHANNELS, FUTURE, MOMENTS, EgoMANConfig
from .expert import Context, MotionExpert
from .heads import Moment, PastEncoder, SemanticAligner, WaypointHead, either, without_contact
from .pointing import Look, Pointed, Pointer
from .prompt import ANSWER, END, POSE, Asked, fill_up, tokens_of

_PUBLISHED_PICTURE = 151655  # the number of Qwen2.5's picture token


@dataclass(frozen=True)
class Thought:
    """What the language model thinks of B pictures and questions.

    act (B, act) unit vectors; moments start, contact, end, of (B, ...) each; likelihood (B, 4) of <ACT>, <START>,
    <CONTACT>, <END> in their places; touch (B,) probability that there is a contact before the end
    """

    act: torch.Tensor
    moments: tuple[Moment, ...]
    likelihood: torch.Tensor
    touch: torch.Tensor

    @property
    def waypoints(self) -> torch.Tensor:
        """(B, 3, 18) as the motion expert has them."""
        return torch.stack([moment.motion for moment in self.moments], dim=1)

    @property
    def steps(self) -> torch.Tensor:
        """(B, 3) int64 steps of the future; the start is now, whatever its head says."""
        steps = torch.stack([moment.step for moment in self.moments], dim=1)
        steps[:, 0] = 0
        return steps

    @classmethod
    def joined(cls, parts: Sequence["Thought"]) -> "Thought":
        """Thoughts about windows, one after the other."""
        moments = tuple(
            Moment(**{name: torch.cat([getattr(m, name) for m in same]) for name in Moment.__annotations__})
            for same in zip(*(part.moments for part in parts), strict=True)
        )
        acts, likelihoods, touches = zip(*((p.act, p.likelihood, p.touch) for p in parts), strict=True)
        return cls(torch.cat(acts), moments, torch.cat(likelihoods), torch.cat(touches))


class EgoMANNetwork(nn.Module):
    """The language model, its heads, the eye of the motion expert, and that expert."""

    def __init__(self, config: EgoMANConfig, tokens: Tokens | None = None):
        super().__init__()
        self.config, width = config, config.vlm.width
        # The published tokenizer is asked for when something is read; its numbers are known.
        self.tokens = tokens if tokens is not None else tokens_of(config) if config.words else None
        image_token = self.tokens.number(PICTURE) if self.tokens is not None else _PUBLISHED_PICTURE
        if self.tokens is not None and self.tokens.vocabulary > config.vlm.vocabulary:
            raise ValueError(f"vlm.vocabulary is {config.vlm.vocabulary}; {self.tokens.vocabulary} tokens are known")
        self.vlm = new_qwen(config.vlm, image_token)
        self.past = PastEncoder(width, config.past_widths)
        self.moments = nn.ModuleDict({name: WaypointHead(width, config.head_width) for name in MOMENTS})
        self.act = SemanticAligner(width, config.expert.act)
        self.scene = _dinov3() if config.scene == "dinov3" else None
        self.scene_is_known = self.scene is None  # False until DINOv3's weights are read
        self.expert = MotionExpert(config.expert)
        self.pointer = Pointer(config.grounding, width) if config.grounding is not None else None

    def think(
        self, asked: Sequence[Asked], pictures: Pictures, past: torch.Tensor, pointed: Pointed | None = None
    ) -> tuple[Thought, torch.Tensor]:
        """Of B questions about B pictures at once, and what is seen of those (B M, width). past (N, 5, 18), positions
        first, is of the questions that have it; `pointed` as of `point`."""
        answer = self._answer().cpu()[:-1]
        rows = [torch.cat([a.beginning, a.rest, answer]) for a in asked]
        tokens = fill_up(rows, self.tokens.padding).to(self.vlm.device)
        seen = self.vlm.see(pictures)
        states = self.vlm(tokens, seen, pictures.grid, self._inserted(past))
        ends = torch.tensor([len(row) for row in rows], device=states.device)
        read = ends[:, None] - len(ANSWER) + torch.arange(len(ANSWER), device=states.device)
        return self.conclude(states[torch.arange(len(rows), device=states.device)[:, None], read], pointed), seen

    def begin(self, asked: Asked, pictures: Pictures) -> tuple[Beginning, torch.Tensor]:
        """Up to the end of one picture, for many questions; and the picture's tokens (M, width)."""
        seen = self.vlm.see(pictures)
        return self.vlm.begin(asked.beginning.to(self.vlm.device), seen, pictures.grid), seen

    def go_on(self, beginning: Beginning, asked: Asked, past: torch.Tensor, pointed: Pointed | None = None) -> Thought:
        """Of one more question about a picture that was seen before; past (0 or 1, 5, 18)."""
        tokens = torch.cat([asked.rest.to(self.vlm.device), self._answer()[:-1]])
        states = self.vlm.go_on(beginning, tokens, self._inserted(past))
        return self.conclude(states[-len(ANSWER) :][None], pointed)

    def look(self, window: Window, frame: np.ndarray) -> Look | None:
        """What there is to point at of windows, in frames T_window_aria (B, 4, 4); None without a grounding."""
        return None if self.pointer is None else self.pointer.look(window, frame)

    def point(self, look: Look | None, past: torch.Tensor, now: torch.Tensor) -> Pointed | None:
        """What is pointed at of B windows; past (B, 5, 18) and now (B, 18) as the motion expert has them. None without
        a grounding."""
        if self.pointer is None or look is None:
            return None
        device = self.vlm.device
        return self.pointer(look.map(lambda tensor: tensor.to(device)), past.to(device), now.to(device))

    def moment(
        self, name: str, state: torch.Tensor, pointed: Pointed | None, side: torch.Tensor | None = None
    ) -> Moment:
        """What the states (B, width) before the token of a moment tell of it; `side` as of `Pointer.moment`."""
        head = self.moments[name]
        return head(state) if pointed is None else self.pointer.moment(name, head, state, pointed, side)

    def conclude(self, states: torch.Tensor, pointed: Pointed | None = None) -> Thought:
        """From the states (B, 4, width) that predict the answer."""
        answer = self._answer()
        likelihood = self.vlm.likelihood(states, answer[None, :, None].expand(len(states), -1, 1))[..., 0]
        ended = self.vlm.likelihood(states[:, 2], torch.full((len(states), 1), self._number(END), device=states.device))
        touch = likelihood[:, 2] / (likelihood[:, 2] + ended[:, 0]).clamp(min=1e-12)
        states = states.float()
        moments = tuple(self.moment(name, states[:, 1 + i], pointed) for i, name in enumerate(MOMENTS))
        if self.config.may_not_touch:
            absent = touch < 0.5
            ends = self.moment(MOMENTS[-1], states[:, 2], pointed)  # where no contact comes, the end is predicted there
            moments = without_contact((*moments[:2], either(absent, ends, moments[2])), absent)
        return Thought(self.act(states[:, 0]), moments, likelihood, touch)

    def scene_features(self, images: torch.Tensor | None, seen: torch.Tensor, count: int) -> torch.Tensor:
        """(B, scene): of images (B, 448, 448, 3) uint8, the class token of DINOv3; or the mean of what the language
        model sees of each of `count` pictures (B M, width)."""
        if self.scene is None:
            return seen.float().unflatten(0, (count, -1)).mean(1)
        return self.scene(normalised(images).to(self.vlm.device)).last_hidden_state[:, 0].float()

    def context(
        self,
        scene: torch.Tensor,
        act: torch.Tensor,
        past: torch.Tensor,
        waypoints: torch.Tensor | None = None,
        steps: torch.Tensor | None = None,
    ) -> Context:
        """For the motion expert; arguments as there. Without waypoints it is on its own; where the configuration has
        none, without the act too."""
        if not self.config.waypoints:
            act, waypoints, steps = torch.zeros_like(act), None, None
        return self.expert.context(self.expert.condition(scene, act), past, waypoints, steps)

    def picture_tokens(self, pictures: Pictures) -> int:
        """Of the first picture, as all are alike."""
        return picture_tokens(pictures.grid[0])

    def noise_shape(self) -> tuple[int, int]:
        """Of one motion."""
        return FUTURE, CHANNELS

    def _answer(self) -> torch.Tensor:
        return torch.tensor([self._number(token) for token in ANSWER], device=self.vlm.device)

    def _number(self, token: str) -> int:
        return self.tokens.number(token)

    def _inserted(self, past: torch.Tensor) -> dict[int, torch.Tensor]:
        if not len(past):
            return {}
        return {self._number(POSE): self.past(past.to(self.vlm.device).float()).flatten(0, 1)}


def by_kind(motion: torch.Tensor) -> torch.Tensor:
    """Motion (..., 18) by hands, as the expert has it -> positions of both, then rotations of both, as the language
    model is told it."""
    hands = motion.unflatten(-1, (2, CHANNELS // 2))
    return torch.cat([hands[..., :3].flatten(-2), hands[..., 3:].flatten(-2)], dim=-1)


def _dinov3() -> nn.Module:
    """DINOv3's ViT-L/16 (arXiv 2508.10104)."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    return DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            patch_size=16,
            num_register_tokens=4,
            image_size=448,
        )
    )
