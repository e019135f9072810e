"""Sizes of ForeHand4D's motion transformer, which presets give and networks take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MotionSizes:
    """The defaults are the published ones. `condition_drop` is the chance of each condition token to be zero in
    training; `steps` are those of diffusion."""

    frames: int = 256
    width: int = 1024
    layers: int = 16
    heads: int = 4
    feed_forward: int = 1024
    dropout: float = 0.1
    condition_drop: float = 0.1
    steps: int = 1000
