"""How a forecaster is trained: the `training:` part of a preset in config/forecasters/*.yaml."""

from dataclasses import dataclass, field
from typing import Any

from .objectives.objective import LossWeights
from .windows.augment import Augmentation

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TrainingConfig:
    """Steps are optimizer steps; `batch` rows (windows, or hands where a network sees one at a time) make one, in
    `accumulate` equal parts. Rows come from a buffer of the last `buffer` times `batch` windows cut, in groups of
    `group` from one episode; `batch` new ones are cut every `reuse` steps. With `shards` a batch is made of so many,
    each with its own rows and noise; processes share them out, so that losses are the same on one and on many.

    The learning rate rises for `warmup` (a share of all steps) and falls as a cosine to `final_rate` of its peak. `ema`
    is the decay of the averaged weights that are saved in the end. `save_every` and `validate_every` are in steps.
    `loss` holds the weights of the objective, of its own kind.
    """

    steps: int
    batch: int
    learning_rate: float
    accumulate: int = 1
    shards: int = 1
    group: int = 32
    buffer: int = 1
    reuse: int = 1
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    warmup: float = 0.05
    final_rate: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "float32"
    seed: int = 0
    save_every: int = 500
    validate_every: int = 1000
    loss: Any = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        counts = ("steps", "save_every", "validate_every", "accumulate", "shards", "buffer", "reuse")
        if min(getattr(self, name) for name in counts) < 1:
            raise ValueError(f"{', '.join(counts)} have to be at least 1")
        if self.batch % (self.group * self.shards) or self.batch % (self.accumulate * self.shards):
            raise ValueError(
                f"batch {self.batch} is not a multiple of group {self.group} and of accumulate {self.accumulate}, "
                f"each times shards {self.shards}"
            )
