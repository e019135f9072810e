"""Training batches from episodes: batch i is a function of the seed and i alone, so that a killed run goes on
exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...data.episode import Episode
from ...data.windows import Cut, cut_windows, with_images
from ...errors import UserError
from ...forecast.common.protocol import ForecasterSpec
from .augment import NONE, Augmentation, augment, log_uniform


class GroupSampler:
    """Batches of `batch` windows in groups of `group`, each group (`_group`) a function of the seed, batch and
    group.
    """

    def cuts(self, index: int, rank: int = 0, world: int = 1) -> list[Cut]:
        """The groups of batch `index` that process `rank` of `world` works on; together they are the whole batch."""
        groups = range(rank, self.batch // self.group, world)
        return [self._group(np.random.default_rng([self.seed, index, g])) for g in groups]


@dataclass(frozen=True)
class WindowSampler(GroupSampler):
    """Windows of `episodes` at a forecaster's rate, `batch` of them in groups of `group` from the same episode.

    A group shares its geometric augmentation; everything that a tracker does wrong is each window's own.
    """

    episodes: Sequence[Episode]
    spec: ForecasterSpec
    batch: int
    group: int = 32
    seed: int = 0
    augmentation: Augmentation = NONE

    def __post_init__(self):
        if self.batch % self.group:
            raise ValueError(f"batch {self.batch} is not a multiple of group {self.group}")
        if not np.isfinite(self.weights()).all():
            raise UserError(
                f"no episode is long enough: a window and its future need {self._seconds(1.0):g} s, the longest of "
                f"{len(self.episodes)} episodes lasts {max((e.duration for e in self.episodes), default=0.0):.2f} s"
            )

    def weights(self) -> np.ndarray:
        """Probability of each episode: in proportion to the time at which windows can end."""
        usable = np.array([max(e.duration - self._seconds(1.0), 0.0) for e in self.episodes])
        with np.errstate(invalid="ignore", divide="ignore"):
            return usable / usable.sum()

    def _group(self, rng: np.random.Generator) -> Cut:
        episode = self.episodes[rng.choice(len(self.episodes), p=self.weights())]
        scale = float(log_uniform(rng, self.augmentation.time_scale))
        if self._seconds(scale) >= episode.duration:
            scale = 1.0
        step, spec = self.spec.step * scale, self.spec
        first = episode.stamp[0] + (spec.window_length - 1) * step
        last = episode.stamp[-1] - spec.horizon_steps * step
        inside = (episode.stamp >= first) & (episode.stamp <= last)
        if spec.looks and episode.images is not None:
            inside &= episode.images.covers(episode.stamp)
        usable = np.flatnonzero(inside)
        ends = (
            usable[rng.integers(len(usable), size=self.group)]
            if len(usable)
            else np.full(self.group, len(episode) // 2)
        )
        cut = cut_windows(episode, ends, step, spec.window_length, spec.horizon_steps)
        # Pictures are those of the recorded time: an augmented one is as much faster or slower.
        window = with_images(cut.window, episode, replace(spec, step=step))
        return augment(replace(cut, window=window), self.augmentation, rng)

    def _seconds(self, scale: float) -> float:
        return (self.spec.window_length + self.spec.horizon_steps) * self.spec.step * scale
