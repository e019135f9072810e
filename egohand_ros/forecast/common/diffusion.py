"""Gaussian diffusion (DDPM, Ho et al. 2020): schedules, the loss's target, ancestral and DDIM sampling.

Knows nothing of hands or networks: a denoiser is any function of (x_t, t). Constants are worked out in float64 and used
in x's precision, as EgoH4, ForeHand4D and MDM do, so that samplers equal theirs to rounding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Draw = Callable[[torch.Tensor, int], torch.Tensor]  # (like, t) -> noise of the shape of `like`

SCHEDULES, PREDICTIONS = ("cosine", "linear"), ("x0", "noise")
_MAX_BETA = 0.999


@dataclass(frozen=True)
class Diffusion:
    """A noising process of `steps` times, t = 0 (hardly any noise) to steps - 1 (hardly any signal).

    `prediction` is what the network gives: the clean sample ("x0") or the noise. `clip` bounds the estimate of the
    clean sample to +-clip while sampling (EgoH4: 1; ForeHand4D: None).
    """

    steps: int = 1000
    schedule: str = "cosine"
    prediction: str = "x0"
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a diffusion needs at least one step; given {self.steps}")
        for name, value, known in (
            ("schedule", self.schedule, SCHEDULES),
            ("prediction", self.prediction, PREDICTIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; known: {', '.join(known)}")

    @cached_property
    def betas(self) -> torch.Tensor:
        """(steps,) float64: share of the variance that is replaced by noise at each step."""
        if self.schedule == "linear":
            scale = 1000.0 / self.steps
            return torch.linspace(1e-4 * scale, 2e-2 * scale, self.steps, dtype=torch.float64)
        # Nichol and Dhariwal 2021, equation 17.
        signal = [math.cos((i / self.steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(self.steps + 1)]
        return torch.tensor([min(1.0 - b / a, _MAX_BETA) for a, b in pairwise(signal)], dtype=torch.float64)

    @cached_property
    def signal(self) -> torch.Tensor:
        """(steps,) float64: alpha-bar, the share of the variance of x_t that is the clean sample's."""
        return torch.cumprod(1.0 - self.betas, dim=0)

    def draw_time(self, batch: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Training times (batch,) int64, uniform."""
        device = generator.device if generator is not None else None
        return torch.randint(0, self.steps, (batch,), generator=generator, device=device)

    def add_noise(self, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x_t of clean samples and noise (B, ...) at times (B,)."""
        signal = self.signal
        return _at(signal.sqrt(), t, x0) * x0 + _at((1.0 - signal).sqrt(), t, x0) * noise

    def target(self, x0: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """What the network shall give."""
        return x0 if self.prediction == "x0" else noise

    def clean(self, output: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The estimate of x0 from the network's output for x_t (B, ...) at times (B,), clipped."""
        if self.prediction == "noise":
            signal = self.signal
            output = _at((1.0 / signal).sqrt(), t, x) * x - _at((1.0 / signal - 1.0).sqrt(), t, x) * output
        return output if self.clip is None else output.clamp(-self.clip, self.clip)

    def step(self, output: torch.Tensor, x: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x_(t-1) from the network's output for x_t (B, ...): a draw of the posterior with its own variance ("fixed
        small")."""
        signal, before = self.signal, self._before
        toward_x0 = self.betas * before.sqrt() / (1.0 - signal)
        toward_x = (1.0 - before) * (1.0 - self.betas).sqrt() / (1.0 - signal)
        deviation = (self.betas * (1.0 - before) / (1.0 - signal)).sqrt()  # zero at t = 0: the last step adds no noise
        mean = _at(toward_x0, t, x) * self.clean(output, x, t) + _at(toward_x, t, x) * x
        return mean + _at(deviation, t, x) * noise

    def ddim_step(
        self,
        output: torch.Tensor,
        x: torch.Tensor,
        t: torch.Tensor,
        to: torch.Tensor,
        noise: torch.Tensor,
        eta: float = 0.0,
    ) -> torch.Tensor:
        """x at the earlier times `to` (B,), -1 for the clean sample, from x_t (Song et al. 2021, equation 12)."""
        x0 = self.clean(output, x, t)
        signal = self.signal
        now, before = signal[t.cpu()], torch.where(to.cpu() < 0, 1.0, signal[to.cpu().clamp(min=0)])
        sigma = eta * ((1 - before) / (1 - now)).sqrt() * (1 - now / before).sqrt()
        direction = (_like((1 / now).sqrt(), x) * x - x0) / _like((1 / now - 1).sqrt(), x)
        mean = _like(before.sqrt(), x) * x0 + _like((1 - before - sigma**2).clamp(min=0).sqrt(), x) * direction
        return mean + _like(sigma, x) * noise

    def sample(self, denoiser: Denoiser, noise: torch.Tensor, draw: Draw | None = None) -> torch.Tensor:
        """The full ancestral loop from noise (B, ...) at the last time to a sample.

        `draw(x, t)` gives each step's noise; torch's global generator without it.
        """
        draw = draw or _standard_normal
        x = noise
        for i in reversed(range(self.steps)):
            t = torch.full((len(x),), i, device=x.device)
            x = self.step(denoiser(x, t), x, t, draw(x, i))
        return x

    def sample_ddim(
        self, denoiser: Denoiser, noise: torch.Tensor, steps: int = 50, eta: float = 0.0, draw: Draw | None = None
    ) -> torch.Tensor:
        """A sample in fewer evaluations: DDIM over `steps` evenly spaced times. Ours; none of the systems samples
        so."""
        draw = draw or _standard_normal
        x, times = noise, self.spaced_times(steps)
        for i, to in zip(reversed(times), [*reversed(times[:-1]), -1]):
            t = torch.full((len(x),), i, device=x.device)
            x = self.ddim_step(
                denoiser(x, t), x, t, torch.full_like(t, to), draw(x, i) if eta else torch.zeros_like(x), eta
            )
        return x

    def spaced_times(self, steps: int) -> list[int]:
        """`steps` times, ascending and evenly spaced, the last one steps - 1."""
        if not 1 <= steps <= self.steps:
            raise ValueError(f"DDIM takes 1 to {self.steps} steps; given {steps}")
        return sorted({round((i + 1) * self.steps / steps) - 1 for i in range(steps)})

    @cached_property
    def _before(self) -> torch.Tensor:
        return torch.cat([torch.ones(1, dtype=torch.float64), self.signal[:-1]])


def seeded_noise(seed: int) -> Draw:
    """A `draw` whose noise depends on the seed and the order of calls alone, on every device the same."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like, _: torch.randn(like.shape, generator=generator).to(like)


def _standard_normal(like: torch.Tensor, _: int) -> torch.Tensor:
    return torch.randn_like(like)


def _at(constants: torch.Tensor, t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """constants[t] (B,) in the precision and with the number of axes of `like` (B, ...)."""
    return _like(constants[t.cpu()], like)


def _like(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.to(like).reshape(-1, *(1,) * (like.dim() - 1))


def shared_noise(seed: int, count: int, shape: tuple[int, ...], device: torch.device | str) -> Draw:
    """Noise (B count, *shape) for `count` samples of each window: every window has the same, so a forecast does not
    depend on what else is in its batch."""
    draw = seeded_noise(seed)
    one = torch.empty(count, *shape, device=device)
    return lambda like, t: draw(one, t).repeat(len(like) // count, *(1,) * len(shape))
