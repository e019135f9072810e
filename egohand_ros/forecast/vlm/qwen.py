"""Qwen2.5-VL as a `ChatVLM`: its pictures, and its chats as text."""

import numpy as np
import torch

from .chat import ChatVLM, Pictures
from .sizes import QwenSizes
from .tokens import END, PICTURE, PICTURE_END, PICTURE_START, START

_SYSTEM = "You are a helpful assistant."
_PATCH, _MERGED = 14, 2


def new_qwen(sizes: QwenSizes, image_token: int) -> ChatVLM:
    """With new weights."""
    dtype = getattr(torch, sizes.dtype)  # from the start: weights that are made twice as large may not fit
    return ChatVLM.of_config(sizes.config(image_token), image_token, dtype=dtype)


def pictures_of(images: torch.Tensor, pixels: int) -> Pictures:
    """Images (B, H, W, 3) uint8 RGB as Qwen's eye takes them, shrunk to at most `pixels` px."""
    try:  # the one that needs no torchvision, where there are two
        from transformers import Qwen2VLImageProcessorPil as Processor
    except ImportError:
        from transformers import Qwen2VLImageProcessor as Processor
    made = Processor(max_pixels=pixels, min_pixels=(_PATCH * _MERGED) ** 2)(
        [np.asarray(image) for image in images.cpu().numpy()], return_tensors="pt"
    )
    return Pictures(made["pixel_values"], made["image_grid_thw"])


def picture_tokens(grid: torch.Tensor) -> int:
    """How many tokens one picture of `grid` (3,) has."""
    return int(grid.prod()) // _MERGED**2


def beginning_of_chat(lead: str, count: int) -> str:
    """A chat up to the end of its picture of `count` tokens, which stands behind the words `lead`."""
    return f"{START}system\n{_SYSTEM}{END}\n{START}user\n{lead}{PICTURE_START}{PICTURE * count}{PICTURE_END}"


def rest_of_chat(words: str) -> str:
    """The rest of what is asked, up to where the answer begins."""
    return f"{words}{END}\n{START}assistant\n"
