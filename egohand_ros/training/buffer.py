"""A shuffle buffer of prepared rows: mixes many episodes into each batch, and uses each row several times.

Cutting and augmenting windows costs more than a small network's step on a CPU. What the buffer holds at step i, and
what batch i takes from it, are functions of the seed and i alone.
"""

from collections.abc import Callable

import numpy as np
import torch

from .objectives.objective import Batch


class RowBuffer:
    """The rows of the newest `length` batches made, of which step i draws `rows`; a new one is made every `reuse`
    steps.

    `make(index)` makes batch number `index`. Steps have to be asked for in order; the first one asked for may be any.
    """

    def __init__(self, make: Callable[[int], Batch], rows: int, length: int, reuse: int, seed: int):
        self._make, self._rows, self._length, self._reuse, self._seed = make, rows, length, reuse, seed
        self._held: dict[int, Batch] = {}

    def batch(self, step: int) -> Batch:
        """The rows of step `step`."""
        newest = step // self._reuse
        wanted = range(max(0, newest - self._length + 1), newest + 1)
        self._held = {i: self._held[i] if i in self._held else self._make(i) for i in wanted}
        counts = np.array([len(next(iter(batch.values()))) for batch in self._held.values()])
        pick = np.sort(np.random.default_rng([self._seed, step, 0xB0F]).integers(counts.sum(), size=self._rows))
        held = list(self._held.values())
        which = np.searchsorted(np.cumsum(counts), pick, side="right")
        row = pick - (np.cumsum(counts) - counts)[which]
        parts = [(held[i], torch.from_numpy(row[which == i])) for i in np.unique(which)]
        return {key: torch.cat([batch[key][rows] for batch, rows in parts]) for key in held[0]}
