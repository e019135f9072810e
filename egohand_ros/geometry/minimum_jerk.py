"""The course of a movement from rest to rest with the least jerk (T. Flash and N. Hogan, J. Neurosci. 5(7), 1985)."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:  # who moves arrays does not wait for torch
    import torch

Phase = TypeVar("Phase", np.ndarray, np.float64, "torch.Tensor")


def minimum_jerk(phase: Phase) -> Phase:
    """The share of the way that is behind at a phase of the movement's duration, of any shape: 0 before it begins, 1
    once it is over."""
    s = phase.clip(0.0, 1.0)
    return 10.0 * s**3 - 15.0 * s**4 + 6.0 * s**5
