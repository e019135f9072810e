"""The EggHand network: video-text context, observed hands and cameras in; keypoints in the canonical frame out.

Paper: EggHand, section 3. Numbers stand in config/forecasters/egghand.yaml with their source. Where the authors' code
differs from their paper, `docs/training.md` says which one this follows.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .action_head import ActionHead, Conditioning
from .config import ACTION_WIDTH, CAMERA_WIDTH, STATE_WIDTH, EggHandConfig
from .encoders import make_encoder


@dataclass(frozen=True)
class EggHandInputs:
    """B windows in the canonical frame; masks are True where something is known.

    state (B, T, 138) m: both hands' keypoints (right first, as in the authors' code), then the camera's 3x4 extrinsics
    state_valid (B, T, 138); frames (B, V, 3, H, W) in 0..1 or None; frames_valid (B,); tokens, tokens_mask (B, L) or
    None
    """

    state: torch.Tensor
    state_valid: torch.Tensor
    frames: torch.Tensor | None = None
    frames_valid: torch.Tensor | None = None
    tokens: torch.Tensor | None = None
    tokens_mask: torch.Tensor | None = None


def new_network(config: EggHandConfig) -> "EggHandNetwork":
    """One to be trained: with the public weights of its encoder where that is of the Hugging Face hub."""
    return EggHandNetwork(config, pretrained_encoder=config.huggingface is not None)


class EggHandNetwork(nn.Module):
    """Encoder (frozen), projections into a common context (equation 6), and the action head."""

    def __init__(self, config: EggHandConfig, pretrained_encoder: bool = False):
        super().__init__()
        self.config = config
        self.encoder = (
            make_encoder(config.egovideo, config.huggingface, pretrained_encoder).requires_grad_(False).eval()
        )
        width, views = config.head.context_width, len(config.image_offsets)
        self.video_projection = nn.Linear(self.encoder.video_width, width)
        self.text_projection = nn.Linear(self.encoder.text_width, width)
        # Equation 7. Zero as in the authors' code, which has no such term, until it is trained.
        self.video_time = nn.Parameter(torch.zeros(views, 1, width))
        self.text_position = nn.Parameter(torch.zeros(config.text_length, width))
        # Stands in for what of a state is not known; zero, so that published weights see what they were trained with.
        self.missing = nn.Parameter(torch.zeros(STATE_WIDTH))
        self.head = ActionHead(config.head)
        self.register_buffer("category", torch.tensor([config.category]), persistent=False)
        # Smallest and largest value of every coordinate in the training data, m.
        self.register_buffer("minimum", torch.full((ACTION_WIDTH,), -1.0))
        self.register_buffer("maximum", torch.full((ACTION_WIDTH,), 1.0))

    def train(self, mode: bool = True) -> "EggHandNetwork":
        super().train(mode)
        self.encoder.eval()  # it is frozen, and its dropout with it
        return self

    def normalize(self, keypoints: torch.Tensor) -> torch.Tensor:
        """Coordinates (..., 126) m to -1..1 over their range in the training data (section 4.1, min-max)."""
        return (keypoints - self.minimum) / (self.maximum - self.minimum) * 2.0 - 1.0

    def denormalize(self, action: torch.Tensor) -> torch.Tensor:
        """The way back of `normalize`, m."""
        return (action + 1.0) / 2.0 * (self.maximum - self.minimum) + self.minimum

    def context(self, inputs: EggHandInputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Video and text tokens (B, L, context_width), L of 0 without either, and which are known (B, L)."""
        batch, device = len(inputs.state), inputs.state.device
        tokens = [inputs.state.new_zeros(batch, 0, self.config.head.context_width)]
        masks = [torch.zeros(batch, 0, dtype=torch.bool, device=device)]
        if inputs.frames is not None:
            with torch.no_grad():
                video = self.encoder.encode_video(inputs.frames)
            tokens.append(self.video_projection(video) + self._frame_times(video.shape[1]))
            masks.append(inputs.frames_valid[:, None].expand(-1, video.shape[1]))
        if inputs.tokens is not None:
            with torch.no_grad():
                words = self.encoder.encode_text(inputs.tokens, inputs.tokens_mask.long())
            tokens.append(self.text_projection(words) + self.text_position[: words.shape[1]])
            # A window without a prompt has no text to look at either way.
            seen = inputs.tokens_mask.any(-1, keepdim=True) & self.config.padding_is_seen
            masks.append(inputs.tokens_mask | seen)
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1)

    def condition(self, inputs: EggHandInputs) -> Conditioning:
        """What the head looks at. An observation of which nothing is known is masked, a part of one is `missing`."""
        context, mask = self.context(inputs)
        hands, camera = inputs.state.split((ACTION_WIDTH, CAMERA_WIDTH), dim=-1)
        state = torch.cat([self.normalize(hands), camera], dim=-1)
        state = torch.where(inputs.state_valid, state, self.missing)
        return self.head.condition(state, inputs.state_valid.any(-1), context, mask, self.category)

    def sample(self, given: Conditioning, noise: torch.Tensor) -> torch.Tensor:
        """Keypoints (B, S, 126) m from noise (B, S, latent_action_width)."""
        return self.denormalize(self.head.sample(given, noise))

    def _frame_times(self, length: int) -> torch.Tensor:
        """`video_time` (L, context_width) for each of L tokens: a class token, if there is one, comes first and has
        none."""
        views = len(self.video_time)
        extra = length % views
        each = self.video_time.expand(-1, (length - extra) // views, -1).flatten(0, 1)
        return torch.cat([each.new_zeros(extra, each.shape[-1]), each])
