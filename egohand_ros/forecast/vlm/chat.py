"""`ChatVLM`: any chat model of transformers that sees pictures, as a function from tokens to states.

What a system needs of one, and `generate` does not give: embeddings of its own in place of special tokens, the last
states at tokens, and a beginning (picture and instructions) that is worked out once for many questions. A causal model
reads the same states whether a sequence comes at once or its end is put behind a kept beginning, so both ways give the
same numbers.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...errors import UserError


@dataclass(frozen=True)
class Pictures:
    """What the eye takes: pixels as its processor makes them, and (N, 3) int64 how many patches each picture has in
    time, height and width, or None for models whose pictures are all alike."""

    pixels: torch.Tensor
    grid: torch.Tensor | None = None

    def to(self, device: torch.device) -> "Pictures":
        """The same on a device."""
        return Pictures(self.pixels.to(device), None if self.grid is None else self.grid.to(device))


@dataclass
class Beginning:
    """A kept beginning of one sequence: what attention remembers of it, its `length`, and the place of what follows."""

    memory: Any
    length: int
    place: int


class ChatVLM(nn.Module):
    """`model` is a transformers model with a picture's token `image_token`; it needs transformers 4.52 or later."""

    def __init__(self, model: nn.Module, image_token: int):
        super().__init__()
        if _language_model(model) is None:
            raise UserError(
                f"{type(model).__name__} has no language model inside; give a chat model of transformers 4.52 or newer"
            )
        self.model, self.image_token = model, image_token

    @classmethod
    def of_config(cls, config: Any, image_token: int, **options: Any) -> "ChatVLM":
        """New weights, of a transformers configuration; inside `torch.device("meta")` no memory is taken. `options` are
        those of transformers' from_config."""
        from transformers import AutoModelForImageTextToText

        return cls(AutoModelForImageTextToText.from_config(config, **options), image_token)

    @property
    def width(self) -> int:
        """Of states and embeddings."""
        return self.model.get_input_embeddings().embedding_dim

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def see(self, pictures: Pictures) -> torch.Tensor:
        """Tokens (M, width) of all pictures, one after the other."""
        takes = inspect.signature(self.model.model.get_image_features).parameters
        grid = {"image_grid_thw": pictures.grid} if "image_grid_thw" in takes else {}
        seen = self.model.model.get_image_features(pixel_values=pictures.pixels, **grid)
        seen = getattr(seen, "pooler_output", seen)
        parts = list(seen) if isinstance(seen, list | tuple) else [seen]
        return torch.cat([part.reshape(-1, self.width) for part in parts])

    def forward(
        self,
        tokens: torch.Tensor,
        seen: torch.Tensor | None = None,
        grid: torch.Tensor | None = None,
        inserted: Mapping[int, torch.Tensor] | None = None,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Last states (B, L, width) of tokens (B, L), rows filled up at their ends with whatever.

        seen     tokens of pictures, as of `see`, for all places of `image_token`, row by row
        grid     of those pictures
        inserted embeddings (N, width) for all places of a token, row by row
        asked    how many tokens (B,) of each row are picture and question, for PaliGemma, where those see each other
                 both ways; without it, and in other models, each token sees those before it
        """
        embeddings = self._embed(tokens, seen, inserted or {})
        given = self._places(tokens, grid)
        if asked is not None and self.sees_both_ways:
            given = given | self._both_ways(embeddings, asked)
        return self._language(inputs_embeds=embeddings, use_cache=False, **given).last_hidden_state

    def begin(self, tokens: torch.Tensor, seen: torch.Tensor | None, grid: torch.Tensor | None = None) -> Beginning:
        """A beginning of tokens (L,)."""
        row = tokens[None]
        given = self._places(row, grid)
        found = self._language(inputs_embeds=self._embed(row, seen, {}), use_cache=True, **given)
        place = int(given["position_ids"].max()) + 1 if given else len(tokens)
        return Beginning(found.past_key_values, len(tokens), place)

    def go_on(
        self, beginning: Beginning, tokens: torch.Tensor, inserted: Mapping[int, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Last states (L, width) of tokens (L,) behind a beginning, which stays as it is."""
        row = tokens[None]
        places = torch.arange(beginning.place, beginning.place + len(tokens), device=tokens.device)[None]
        if self._turns_in_space:
            places = places.expand(3, 1, -1)
        try:
            found = self._language(
                inputs_embeds=self._embed(row, None, inserted or {}),
                position_ids=places,
                past_key_values=beginning.memory,
                use_cache=True,
            )
        finally:
            _cut(beginning)
        return found.last_hidden_state[0]

    def likelihood(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """How likely the model holds each of the tokens (..., C) to follow states (..., width): (..., C)."""
        scores = self.model.get_output_embeddings()(states).float().log_softmax(-1)
        return scores.gather(-1, tokens).exp()

    @property
    def sees_both_ways(self) -> bool:
        """Whether a question's tokens see each other both ways, so that no beginning of it can be kept."""
        return getattr(self.model.config, "model_type", "") == "paligemma"

    def _both_ways(self, embeddings: torch.Tensor, asked: torch.Tensor) -> dict[str, Any]:
        """What PaliGemma's attention and places are of rows whose questions have `asked` (B,) tokens: everything sees
        its row's question, and what is before it. Rows are shorter than what a sliding layer sees."""
        length, device = embeddings.shape[1], embeddings.device
        places = torch.arange(length, device=device)
        seen = (places[None, :] <= places[:, None]) | (places[None, None, :] < asked.to(device)[:, None, None])
        mask = torch.zeros(seen.shape, dtype=embeddings.dtype, device=device)
        mask = mask.masked_fill(~seen, torch.finfo(embeddings.dtype).min)[:, None]
        attention = {"full_attention": mask, "sliding_attention": mask}
        return {"attention_mask": attention, "position_ids": places[None] + 1}  # its places count from 1

    @property
    def _language(self) -> nn.Module:
        return _language_model(self.model)

    @property
    def _turns_in_space(self) -> bool:
        return hasattr(self.model.model, "get_rope_index")

    def _places(self, tokens: torch.Tensor, grid: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Places (3, B, L) in time, height and width, for models that have such; they are the model's own to say."""
        if not self._turns_in_space:
            return {}
        index = self.model.model.get_rope_index
        takes = inspect.signature(index).parameters
        kinds = {"mm_token_type_ids": (tokens == self.image_token).int()} if "mm_token_type_ids" in takes else {}
        return {"position_ids": index(tokens, image_grid_thw=grid, **kinds)[0]}

    def _embed(
        self, tokens: torch.Tensor, seen: torch.Tensor | None, inserted: Mapping[int, torch.Tensor]
    ) -> torch.Tensor:
        embeddings = self.model.get_input_embeddings()(tokens)
        given = dict(inserted) if seen is None else {**inserted, self.image_token: seen}
        for token, content in given.items():
            there = tokens == token
            if int(there.sum()) != len(content):
                raise ValueError(f"{len(content)} embeddings are given for {int(there.sum())} places of token {token}")
            embeddings = embeddings.masked_scatter(there[..., None], content.to(embeddings))
        return embeddings


def _language_model(model: nn.Module) -> nn.Module | None:
    """The part that goes from embeddings to states, by either of the names that transformers has for it."""
    inner = getattr(model, "model", None)
    return getattr(inner, "language_model", None) or getattr(inner, "text_model", None)


def _cut(beginning: Beginning) -> None:
    """Forget what came behind it."""
    added = beginning.memory.get_seq_length() - beginning.length
    if added > 0:
        beginning.memory.crop(-added)
