"""MEgoHand assembled: what is seen and said, and how a chunk of hand states follows from it by flow matching.

Paper: arXiv 2505.16602, section 3. The head is GR00T N1.5's, which EggHand has too; the paper has GR00T N1's data
pipeline and says of its generator that it is a diffusion transformer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..egghand.action_head import ActionHead, Conditioning
from ..vlm.tokens import PICTURE, Tokens
from .config import DEPTH, IMAGE, TEXT, MEgoHandConfig
from .depth import DepthEncoder, DepthEstimator
from .inverse import InverseMano
from .state import HandState, state_input, states_of
from .vision_language import VisionLanguage, rows_of, tokens_of


@dataclass(frozen=True)
class Seen:
    """Context (B, L, width) of the head, which of it is there (B, L), and the depth that is read off each patch
    (B, grid^2), a share of config.FARTHEST, or None."""

    context: torch.Tensor
    known: torch.Tensor
    depth: torch.Tensor | None = None

    def rows(self, index: torch.Tensor) -> "Seen":
        """Some of them."""
        index = index.to(self.context.device)
        return Seen(self.context[index], self.known[index], None if self.depth is None else self.depth[index])


class MEgoHandNetwork(nn.Module):
    """Right hands, a row each: left ones are given as their mirror images (inputs.py)."""

    def __init__(self, config: MEgoHandConfig, tokens: Tokens | None = None):
        super().__init__()
        self.config, sizes = config, config.vlm
        # The published tokenizer is asked for when something is read.
        self.tokens = tokens if tokens is not None else tokens_of(config) if config.words else None
        if self.tokens is not None and config.words and self.tokens.vocabulary > sizes.vocabulary:
            raise ValueError(f"vlm.vocabulary is {sizes.vocabulary}; {self.tokens.vocabulary} tokens are known")
        self.vlm = VisionLanguage(sizes, config.frozen)
        self.depth = DepthEncoder(config.depth, sizes.vision_width)
        self.depth_out = nn.Linear(sizes.vision_width, 1)
        estimates = config.depth.estimator != "none"
        self.estimator = DepthEstimator().requires_grad_(False) if estimates else None
        self.head = ActionHead(config.head)
        self.inverse = InverseMano(config.inverse_width, config.inverse_layers)
        self.register_buffer("category", torch.zeros(1, dtype=torch.long), persistent=False)

    def train(self, mode: bool = True) -> "MEgoHandNetwork":
        """What is frozen stays as it is forecast with."""
        super().train(mode)
        if self.config.frozen:
            self.vlm.language.eval()
        if self.estimator is not None:
            self.estimator.eval()
        return self

    def words(self, prompts: Sequence[str], pictured: bool, length: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, L) of what is said, with places for a picture where there is one, and which are there (B, L); L is
        at least `length`."""
        count = self.config.vlm.picture_tokens if pictured and IMAGE in self.config.inputs else 0
        said = prompts if TEXT in self.config.inputs else [""] * len(prompts)
        return rows_of(self.tokens, said, count, self.config.text_length, length)

    def see(
        self,
        images: torch.Tensor | None,
        depth: torch.Tensor | None,
        words: tuple[torch.Tensor, torch.Tensor],
        there: torch.Tensor | None = None,
    ) -> Seen:
        """images (B, H, W, 3) uint8 RGB and depth (B, H, W) m, 0 where unknown, or None; `words` as of the method.
        `there` (B,) bool says which rows have depth at all, by default all."""
        config, picture, read = self.config, None, None
        if IMAGE in config.inputs and images is not None:
            patches = self.vlm.patches(images)
            if DEPTH in config.inputs and depth is not None:
                added = self.depth(depth.to(self.vlm.device), config.vlm.grid)
                patches = patches + (added if there is None else added * there.to(added)[:, None, None])
            read = self.depth_out(patches)[..., 0]
            picture = self.vlm.merge(patches)
        rows, known = (part.to(self.vlm.device) for part in words)
        return Seen(self.vlm(rows, known, picture, self.tokens.number(PICTURE)), known, read)

    def depth_of(self, images: torch.Tensor) -> torch.Tensor | None:
        """Depth (B, H, W) m estimated of images (B, H, W, 3); None where nothing here does."""
        if self.estimator is None or DEPTH not in self.config.inputs:
            return None
        return self.estimator(images.to(self.vlm.device))

    def condition(self, seen: Seen, states: HandState, known: torch.Tensor) -> Conditioning:
        """states (B, T), oldest first, in the frame of the image's camera; known (B, T) which of them are."""
        return self.head.condition(state_input(states), known, seen.context, seen.known, self.category)

    def sample(self, given: Conditioning, first: HandState, noise: torch.Tensor) -> HandState:
        """States (B, S) from noise (B, S, latent), beginning at the first (B,)."""
        return states_of(first, self.head.sample(given, noise))

    def noise_shape(self) -> tuple[int, int]:
        """Of one chunk."""
        return self.config.horizon_steps, self.head.latent_action_width


def newest(states: HandState) -> HandState:
    """The last of states (B, T): (B,)."""
    return HandState(*(part[:, -1] for part in vars(states).values()))


def repeated(state: HandState, count: int) -> HandState:
    """Each of states (B,) `count` times, one after the other."""
    return HandState(*(part.repeat_interleave(count, 0) for part in vars(state).values()))


def joined(parts: Sequence[HandState]) -> HandState:
    """States, one after the other."""
    return HandState(*(torch.cat(same) for same in zip(*(vars(part).values() for part in parts), strict=True)))
