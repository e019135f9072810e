"""What EgoMAN's language model is asked and answers, in the words that the published weights were trained with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..vlm.qwen import beginning_of_chat, rest_of_chat
from ..vlm.tokens import Tokens, published_tokens, small_tokens
from .config import PAST, EgoMANConfig

ACT, START, CONTACT, END = "<ACT>", "<START>", "<CONTACT>", "<END>"
POSE, QUERY = "<past_motion>", "<HOI_QUERY>"
LEFT, RIGHT, BOTH = "<HAND_LEFT>", "<HAND_RIGHT>", "<HAND_BOTH>"
SPECIAL = (ACT, START, CONTACT, END, BOTH, LEFT, RIGHT, POSE, QUERY)
ANSWER = (ACT, START, CONTACT, END)
_TOKEN = re.compile(r"<[^<>]*>")  # what a user writes is words, and no special token
_LEAD = "Given the history visual: "
# Of the questions of training and of the chat around them; a preset's list holds those of instructions.
_FRAME_WORDS = (
    "you", "are", "a", "helpful", "assistant", "system", "user", "given", "the", "history", "visual", "past",
    "without", "wrist", "motion", "where", "will", "hands", "move", "to", "what", "when", "which", "hand", "is",
    "does", "be", "at", "of", "in", "left", "right", "both", "and", "next", "object", "it", "touch", "act",
    "action", "now", "meters", "contact",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A question as tokens: the beginning (L,) ends with the picture, `rest` is what follows it."""

    beginning: torch.Tensor
    rest: torch.Tensor


def tokens_of(config: EgoMANConfig, source: str = "") -> Tokens:
    """The tokenizer of a configuration; `source` in place of the one that it names."""
    if config.words:
        return small_tokens((*_FRAME_WORDS, *config.words), SPECIAL)
    return published_tokens(source or config.tokenizer, SPECIAL)


def question_of(intention: str, past: bool) -> str:
    """Where hands will go for an intention such as "open the drawer with left hand"; `past`: with their past motion."""
    intention = _TOKEN.sub("", intention).strip().rstrip(".?!") or "interact"
    told = f"Given the past wrist motion: {POSE * PAST}. " if past else ""
    return f"{told}Where will the hands move to {intention}?{QUERY}"


def ask(tokens: Tokens, question: str, picture_tokens: int) -> Asked:
    """A question about a picture of so many tokens."""
    beginning = tokens.encode(beginning_of_chat(_LEAD, picture_tokens))
    rest = tokens.encode(rest_of_chat(f"\n {question}"))
    return Asked(torch.tensor(beginning), torch.tensor(rest))


def fill_up(rows: Sequence[torch.Tensor], padding: int) -> torch.Tensor:
    """Rows (L,) of tokens as (B, longest), filled up at their ends."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=padding)
