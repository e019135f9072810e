"""What forecasters that reason have in common: a tokenizer that is saved with them, and options that are checked."""

from pathlib import Path
from typing import Self

import torch

from ...errors import UserError
from ..common.pretrained import SavedForecaster
from .thinker import MODES

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENIZER = "tokenizer"


class SavedWithTokenizer(SavedForecaster):
    """A forecaster whose `network.tokens` are kept in its folder where they are published ones."""

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, **options) -> Self:
        """From a folder or hub id that `save_pretrained` wrote; options as of the constructor."""
        own = Path(path_or_id).expanduser() / TOKENIZER
        return super().from_pretrained(path_or_id, **({"tokenizer": own} if own.is_dir() else {}) | options)

    def save_pretrained(self, folder: Path | str) -> None:
        """Everything that `from_pretrained` needs: a published tokenizer too."""
        super().save_pretrained(folder)
        if self.network.tokens.keep is not None:
            self.network.tokens.keep(str(Path(folder) / TOKENIZER))


def check_reasoning(system: str, reasoning: str, precision: str) -> None:
    """Raise `UserError` for an unknown mode of thinking, or precision of the language model ("": as it is)."""
    if reasoning not in MODES:
        raise UserError(f"reasoning is {reasoning!r}; expected {' or '.join(MODES)}")
    if precision and precision not in PRECISIONS:
        raise UserError(f"precision {precision!r} is unknown; {system} has {', '.join(PRECISIONS)}")
