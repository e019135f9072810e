"""Frozen video and text encoders: EgoVideo, or any vision and text model of the Hugging Face hub.

An encoder has `video_width`, `text_width`, `encode_video(frames (B, V, 3, H, W) in 0..1) -> (B, L, video_width)` and
`encode_text(tokens (B, L), mask (B, L)) -> (B, L, text_width)`.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import UserError
from .config import EgoVideoConfig, HuggingFaceConfig
from .egovideo import EgoVideoEncoder


class HuggingFaceEncoder(nn.Module):
    """The last hidden states of a vision tower, frame by frame, and of a text tower."""

    def __init__(self, config: HuggingFaceConfig, pretrained: bool):
        super().__init__()
        self.vision, vision_config = _tower(config.vision, config.vision_config, "vision_model", pretrained)
        self.text, text_config = _tower(config.text, config.text_config, "text_model", pretrained)
        self.configs = (vision_config, text_config)
        mean, std = (0.5, 0.5)  # of SigLIP; replaced by the model's own where it says so
        if pretrained:
            mean, std = _image_statistics(config.vision)
        self.register_buffer("image_mean", torch.tensor(mean).expand(3).clone().reshape(3, 1, 1))
        self.register_buffer("image_std", torch.tensor(std).expand(3).clone().reshape(3, 1, 1))

    @property
    def video_width(self) -> int:
        return self.vision.config.hidden_size

    @property
    def text_width(self) -> int:
        return self.text.config.hidden_size

    def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
        """All tokens of all frames: (B, V P, video_width)."""
        pixels = (frames.flatten(0, 1) - self.image_mean) / self.image_std
        states = self.vision(pixel_values=pixels.to(self.image_mean.dtype)).last_hidden_state
        return states.unflatten(0, frames.shape[:2]).flatten(1, 2)

    def encode_text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.text(input_ids=tokens, attention_mask=mask).last_hidden_state


def make_encoder(egovideo: EgoVideoConfig | None, huggingface: HuggingFaceConfig | None, pretrained: bool) -> nn.Module:
    """The encoder that is configured; `pretrained` also fetches a Hugging Face model's weights."""
    if (egovideo is None) == (huggingface is None):
        raise UserError("a model needs either `egovideo` or `huggingface` as its encoder")
    return EgoVideoEncoder(egovideo) if egovideo is not None else HuggingFaceEncoder(huggingface, pretrained)


def _tower(name: str, stored: str, part: str, pretrained: bool) -> tuple[nn.Module, str]:
    """One tower of a model: its `part` where it has that, otherwise the whole model; and the whole model's config as
    JSON."""
    from transformers import AutoConfig, AutoModel

    if stored and not pretrained:
        values: dict[str, Any] = json.loads(stored)
        model = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    else:
        try:
            model = (
                AutoModel.from_pretrained(name)
                if pretrained
                else AutoModel.from_config(AutoConfig.from_pretrained(name))
            )
        except (OSError, ValueError) as error:
            message = " ".join(str(error).split())[:160]
            raise UserError(f"cannot load encoder {name!r}: {message}; give a local folder or a hub id") from None
    return getattr(model, part, model), json.dumps(model.config.to_dict())


def _image_statistics(name: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels as the model's preprocessor_config.json has them, else 0.5."""
    from transformers.utils import cached_file

    try:
        path = cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
        values = json.loads(Path(path).read_text()) if path else {}
    except OSError:
        values = {}
    return values.get("image_mean", [0.5] * 3), values.get("image_std", [0.5] * 3)
