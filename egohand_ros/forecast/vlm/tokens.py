"""Words as numbers: a published model's own tokenizer, or one made here of a list of words, for models that are small.

Both know the special tokens of Qwen's chats, and those that a system adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import UserError

START, END, PICTURE_START, PICTURE, PICTURE_END = (
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
)  # fmt: skip
_CHAT = ("<|endoftext|>", START, END, PICTURE_START, PICTURE_END, PICTURE)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_SIGNS = ".,;:!?'\"()/-"
_UNKNOWN = "[?]"


@dataclass(frozen=True)
class Tokens:
    """encode: text, special tokens in it, -> numbers; number: of a special token; padding fills rows up; vocabulary is
    how many numbers there are; keep: leave a published tokenizer in a folder."""

    encode: Callable[[str], list[int]]
    number: Callable[[str], int]
    padding: int
    vocabulary: int
    keep: Callable[[str], Any] | None = None


def small_tokens(words: Sequence[str], special: Sequence[str]) -> Tokens:
    """Each of `words` is one token, whatever its case; others are spelt, signs that are not known become one."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    plain = [_UNKNOWN, *_SIGNS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    known = [*_CHAT, *special, *plain, *(word for word in dict.fromkeys(words) if word not in plain)]
    numbers = {token: i for i, token in enumerate(known)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in (*_CHAT, *special)])
    return Tokens(lambda text: tokenizer.encode(text).ids, numbers.__getitem__, 0, len(known))


def published_tokens(source: str, special: Sequence[str]) -> Tokens:
    """The tokenizer of a folder or hub id, with those of `special` added that it does not know. Raises `UserError`
    where it cannot be had."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        message = " ".join(str(error).split())[:120]
        raise UserError(f"cannot load tokenizer {source!r}: {message}; give tokenizer=FOLDER with its files") from None
    tokenizer.add_tokens(list(special), special_tokens=True)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    encode: Callable[[str], list[int]] = lambda text: tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    keep = tokenizer.save_pretrained
    return Tokens(encode, tokenizer.convert_tokens_to_ids, padding, len(tokenizer), keep)
