"""What forecasters that reason have in common: a language model's precision, how a stream is thought about, and a
tokenizer that is saved with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from ...errors import UserError
from ..common.pretrained import SavedForecaster
from ..options import WAIT
from .precision import cast_weights
from .thinker import MODES
from .tokens import Tokens

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENIZER = "tokenizer"


class ReasoningForecaster(SavedForecaster):
    """A forecaster whose `network.tokens` are kept in its folder where they are published ones.

    tokenizer is a folder or hub id, for models that need a published one; reasoning is `wait` (every window is thought
    about) or `background` (a stream's, see reasoning.py or context.py of a system); precision is that of the language
    model ("": as it is). A class says its `title`, as its authors write it. Raises `UserError` for options that are
    unknown, and for a tokenizer that is another model's.
    """

    title: ClassVar[str]

    def __init__(
        self,
        config: Any,
        *given: Any,
        precision: str = "",
        tokenizer: str | Path = "",
        reasoning: str = WAIT,
        **named: Any,
    ):
        if reasoning not in MODES:
            raise UserError(f"reasoning is {reasoning!r}; expected {' or '.join(MODES)}")
        if precision and precision not in PRECISIONS:
            raise UserError(f"precision {precision!r} is unknown; {self.title} has {', '.join(PRECISIONS)}")
        super().__init__(config, *given, **named)
        if self.network.tokens is None:
            self.network.tokens = self.read_tokens(str(tokenizer))
        if precision:
            cast_weights(self.language_model(), PRECISIONS[precision])

    def read_tokens(self, tokenizer: str) -> Tokens:
        """The tokenizer of this name, by default that of the configuration."""
        raise NotImplementedError

    def language_model(self) -> nn.Module:
        """The part of the network whose precision may be another one."""
        return self.network.vlm

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


class ThinkingForecaster(ReasoningForecaster):
    """One that samples motions by what its language model has thought: `sampling_steps` instead of those of the
    configuration; in the background a stream is thought about again after `renew` s."""

    reasoner_class: ClassVar[type]

    def __init__(
        self,
        config: Any,
        *given: Any,
        reasoning: str = WAIT,
        sampling_steps: int | None = None,
        renew: float = 1.0,
        **named: Any,
    ):
        config = config if sampling_steps is None else replace(config, sampling_steps=sampling_steps)
        super().__init__(config, *given, reasoning=reasoning, **named)
        self.reasoner = self.reasoner_class(self.network, reasoning, renew)

    def reset(self) -> None:
        """The stream begins anew."""
        self.reasoner.reset()
