"""The tokenizer of EggHand's text encoder: a public one, or for encoders that are not, one of the words of the data."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import UserError

OWN_WORDS = "synthetic"  # `tokenizer:` of a preset that learns its words from what it is trained on
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def load_tokenizer(source: str) -> Any:
    """A transformers tokenizer by hub id or folder; `UserError` where there is none."""
    if source == OWN_WORDS:
        raise UserError(
            "this model has no words yet: its tokenizer is made when it is trained; give a trained one, or no prompt"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        message = " ".join(str(error).split())[:120]
        raise UserError(
            f"cannot load tokenizer {source!r}: {message}; give tokenizer=FOLDER with its files, or an empty prompt"
        ) from None


def word_tokenizer(texts: Iterable[str], most: int) -> Any:
    """A BERT tokenizer of the words of `texts`, the most frequent ones where there are more than `most` tokens."""
    from transformers import BertTokenizer

    counts = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    words = sorted(
        word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: most - len(_SPECIAL)]
    )
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join([*_SPECIAL, *words]) + "\n")
        return BertTokenizer(str(vocabulary))
