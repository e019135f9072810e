"""What the language model is asked: a picture, an instruction, where hands were, and then one place a primitive."""

import re
from dataclasses import dataclass

import torch

from ..vlm.tokens import PICTURE, Tokens, published_tokens, small_tokens
from .config import EgoMotionConfig

PAST, MOTION = "<past_motion>", "<motion>"
SPECIAL = (PAST, MOTION)
_PUBLISHED_PICTURE, _BEGIN = "<image>", "<bos>"
_TOKEN = re.compile(r"<[^<>]*>")  # what a user writes is words, and no special token
_FRAME_WORDS = ("how", "will", "the", "hands", "move", "to")


@dataclass(frozen=True)
class Asked:
    """A row of tokens (L,), of which the first `asked` are picture, instruction and past; the rest are primitives."""

    tokens: torch.Tensor
    asked: int


def tokens_of(config: EgoMotionConfig, source: str = "") -> Tokens:
    """The tokenizer of a configuration; `source` in place of the one that it names."""
    if config.words:
        return small_tokens((*_FRAME_WORDS, *config.words), SPECIAL)
    return published_tokens(source or config.tokenizer, SPECIAL)


def picture_token(config: EgoMotionConfig, tokens: Tokens) -> int:
    """The number that stands where a picture goes."""
    return tokens.number(PICTURE if config.words else _PUBLISHED_PICTURE)


def ask(config: EgoMotionConfig, tokens: Tokens, instruction: str) -> Asked:
    """PaliGemma's layout: the picture, then the words and a line's end; behind them past and primitives."""
    words = _TOKEN.sub("", instruction).strip().rstrip(".?!") or "interact"
    begin = [] if config.words else [tokens.number(_BEGIN)]
    row = [
        *([picture_token(config, tokens)] * config.vlm.picture_tokens),
        *begin,
        *tokens.encode(f"how will the hands move to {words}?\n"),
        *([tokens.number(PAST)] * config.observed),
    ]
    motion = [tokens.number(MOTION)] * config.primitives
    return Asked(torch.tensor(row + motion), len(row))
