"""PaliGemma 2 and SmolVLM as a `ChatVLM`: one square picture, words, and what is read behind them."""

from typing import Any

import torch
from torch.nn.functional import interpolate

from .chat import ChatVLM, Pictures
from .sizes import EyeAndTextSizes


def new_eye_and_text(sizes: EyeAndTextSizes, image_token: int) -> ChatVLM:
    """With new weights."""
    # Gemma 2 bounds its attention's scores softly, which only the plain way of computing it does.
    options: dict[str, Any] = {"attn_implementation": "eager"} if sizes.family == "paligemma" else {}
    dtype = getattr(torch, sizes.dtype)  # from the start: weights that are made twice as large may not fit
    return ChatVLM.of_config(sizes.config(image_token), image_token, dtype=dtype, **options)


def squeezed(images: torch.Tensor, picture: int) -> torch.Tensor:
    """Images (B, H, W, 3) uint8 RGB as (B, 3, picture, picture) uint8, their sides squeezed to the same length."""
    rows = images.movedim(-1, 1)
    if rows.shape[-2:] != (picture, picture):
        small = interpolate(rows.float(), (picture, picture), mode="bilinear", antialias=True, align_corners=False)
        rows = small.round().clamp(0, 255).to(torch.uint8)
    return rows.contiguous()


def pictures_of(rows: torch.Tensor, sizes: EyeAndTextSizes) -> Pictures:
    """Squeezed images (B, 3, picture, picture) uint8 as the eye takes them: -1 to 1."""
    pixels = rows.float() / 127.5 - 1.0
    return Pictures(pixels[:, None] if sizes.family == "smolvlm" else pixels)
