"""Flow matching on the straight path from noise to data, as GR00T N1, MEgoHand and EgoMAN use it.

x_t = (1 - t) noise + t data, and the network learns the velocity data - noise (Lipman et al., ICLR 2023; GR00T N1,
arXiv 2503.14734, section 2.1). Knows nothing of hands or networks: any velocity function will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it takes seconds, and configurations are read without
    import torch

    Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class FlowMatching:
    """Time distribution of training and integration steps of sampling.

    In training t = (s - b) / s with b ~ Beta(alpha, 1); t of 0 is noise, 1 is data. alpha = s = 1 draws t uniformly.
    Networks are told t as one of `buckets` whole numbers.
    """

    steps: int = 4
    alpha: float = 1.5
    s: float = 0.999
    buckets: int = 1000

    def __post_init__(self) -> None:
        if self.steps < 1 or self.buckets < 1 or min(self.alpha, self.s) <= 0:
            raise ValueError(f"flow matching needs positive numbers; given {self}")

    def draw_time(self, batch: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Training times (batch,) float32 on the generator's device; slightly negative ones (b > s) become 0."""
        import torch

        uniform = torch.rand(batch, generator=generator, device=generator.device if generator is not None else None)
        drawn = uniform ** (1.0 / self.alpha)  # the inverse of Beta(alpha, 1)'s distribution function
        return ((self.s - drawn) / self.s).clamp(min=0.0)

    def bucket(self, time: torch.Tensor) -> torch.Tensor:
        """Times (...) as whole numbers (...) int64 from 0 to `buckets` - 1."""
        return (time * self.buckets).long().clamp(max=self.buckets - 1)

    @staticmethod
    def interpolate(noise: torch.Tensor, data: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """x_t of noise and data (B, ...) at times (B,)."""
        t = time.reshape(-1, *(1,) * (data.dim() - 1)).to(data.dtype)
        return (1.0 - t) * noise + t * data

    def sample(self, velocity: Velocity, noise: torch.Tensor, steps: int | None = None) -> torch.Tensor:
        """Integrate velocity(x, bucket (1,)) from noise (B, ...) at t = 0 to data at t = 1 by Euler steps.

        One step from zero noise gives the mean of the distribution: the velocity at t = 0 is E[data] - noise.
        """
        import torch

        count = steps or self.steps
        x = noise
        for i in range(count):
            bucket = torch.full((1,), int(i / count * self.buckets), device=noise.device)
            x = x + velocity(x, bucket) / count
        return x
