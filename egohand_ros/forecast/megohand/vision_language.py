"""What MEgoHand's head looks at: SigLIP-2's patches, depth added to them, and words, read by SmolLM2.

Eagle-2 puts the two models together (arXiv 2501.14818): patches are merged two by two, brought to the language model's
width by two linear maps, and stand before the words. The states after its last layer are the context.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ..vlm.precision import cast_weights
from ..vlm.sizes import SmolSizes
from ..vlm.tokens import END, PICTURE, START, Tokens, published_tokens, small_tokens
from .config import MEgoHandConfig

_FRAME_WORDS = ("user", "assistant", "what", "will", "the", "hand", "do", "to")
_MIRRORED = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}


class VisionLanguage(nn.Module):
    """The eye, what joins it to the language model, and that; frozen where `frozen`."""

    def __init__(self, sizes: SmolSizes, frozen: bool):
        super().__init__()
        from transformers import LlamaModel, SiglipVisionModel

        self.sizes, self.frozen = sizes, frozen
        self.eye = SiglipVisionModel(sizes.eye())
        merged = sizes.vision_width * sizes.merged**2
        self.joint = nn.Sequential(
            nn.LayerNorm(merged), nn.Linear(merged, sizes.width), nn.GELU(), nn.Linear(sizes.width, sizes.width)
        )
        self.language = cast_weights(LlamaModel(sizes.language()), getattr(torch, sizes.dtype))
        if frozen:
            self.language.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.joint[1].weight.device

    def patches(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, H, W, 3) uint8 RGB of the eye's size -> its patches (B, grid^2, vision_width), row by row."""
        pixels = (images.to(self.device).float() / 127.5 - 1.0).permute(0, 3, 1, 2)
        return self.eye(pixel_values=pixels).last_hidden_state

    def merge(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (B, grid^2, vision_width) as tokens of the language model (B, picture_tokens, width)."""
        sizes = self.sizes
        side = sizes.grid // sizes.merged
        blocks = patches.unflatten(1, (side, sizes.merged, side, sizes.merged)).transpose(2, 3)
        return self.joint(blocks.flatten(3).flatten(1, 2).flatten(2))

    def forward(
        self, tokens: torch.Tensor, known: torch.Tensor, picture: torch.Tensor | None, token: int
    ) -> torch.Tensor:
        """States (B, L, width) float32 of tokens (B, L), of which `known` (B, L) are there; `picture` (B, M, width)
        stands where `token` does."""
        there = tokens == token
        table = self.language.get_input_embeddings()
        embedded = table(torch.where(there, 0, tokens))
        if picture is not None:
            embedded = embedded.masked_scatter(there[..., None], picture.to(embedded))
        states = self.language(inputs_embeds=embedded, attention_mask=known.long(), use_cache=False)
        return states.last_hidden_state.float()


def tokens_of(config: MEgoHandConfig, source: str = "") -> Tokens:
    """The tokenizer of a configuration; `source` in place of the one that it names."""
    if config.words:
        return small_tokens((*_FRAME_WORDS, *config.words), ())
    return published_tokens(source or config.tokenizer, (PICTURE,))


def rows_of(
    tokens: Tokens, prompts: Sequence[str], picture_tokens: int, most: int, length: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (B, L) of chats about a picture of so many tokens, each with the words of one prompt, of which `most` are
    read, and which of them are there (B, L); L is at least `length`."""
    beginning = tokens.encode(f"{START}user\n") + [tokens.number(PICTURE)] * picture_tokens
    ending = tokens.encode(f"{END}\n{START}assistant\n")
    rows = [[*beginning, *tokens.encode(_plain(prompt))[:most], *ending] for prompt in prompts]
    length = max([length, *map(len, rows)])
    made = torch.full((len(rows), length), tokens.padding)
    known = torch.zeros(made.shape, dtype=torch.bool)
    for row, content in enumerate(rows):
        made[row, : len(content)], known[row, : len(content)] = torch.tensor(content), True
    return made, known


def mirrored_words(prompt: str) -> str:
    """What is said of a scene, said of its mirror image."""
    return " ".join(_mirrored_word(word) for word in prompt.split(" "))


def _mirrored_word(word: str) -> str:
    plain = word.rstrip(".,;:!?")
    return _MIRRORED.get(plain, plain) + word[len(plain) :]


def _plain(prompt: str) -> str:
    """What a user writes is words, and no special token."""
    return prompt.replace("<|", "< |").strip()
