"""The precision of a language model's weights. What is counted in places (the frequencies by which attention turns) is a
buffer and stays in float32, as in the authors' models: in bfloat16 it would be wrong by 0.4 %, a radian after 300
tokens."""

from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def cast_weights(model: Model, dtype: torch.dtype) -> Model:
    """The model with its weights, and no buffer, in `dtype`."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model
