"""The network of `egohand-small`: each hand's observations to a correction of its Kalman forecast.

A correction is wrist 3, rotation vector 3, and articulation. Its first part is a share, at each step, of the way back
to the window's mean palm and fingers: real fingers are about their mean again within a second. The rest is written in
few coefficients: `time_basis` holds the
whitened principal components over the S steps of what is left to correct in the training data, and `finger_basis` those
over the fingers. All coefficients zero is the Kalman forecast itself. Multilayer perceptrons over the whole
window do as well as transformers on motion (Guo et al., WACV 2023) at a fraction of the time. Futures are drawn by flow
matching of what the expected correction misses, in units of its expected deviation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ...hand.skeleton import FINGERS, NUM_KEYPOINTS
from ..common.flow_matching import FlowMatching
from .config import SmallConfig
from .features import BASELINE, FEATURES
from .grounding import Grounding

_FINGERS = 3 * (NUM_KEYPOINTS - 1)
# Bounds of the logarithm of a coefficient's standard deviation.
_LOG_STD = (-6.0, 3.0)
# Deviations beyond this many standard deviations do not teach the flow: they would dwarf all others.
FARTHEST = 5.0


@dataclass(frozen=True)
class Correction:
    """What is added to the Kalman forecast of N hands: wrist (N, S, 3) m, rotation vector (N, S, 3) rad and
    articulation (N, S, 20, 3) m, in each hand's frame."""

    wrist: torch.Tensor
    rotation: torch.Tensor
    articulation: torch.Tensor

    def __add__(self, other: "Correction") -> "Correction":
        return Correction(*(mine + its for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: "Correction") -> "Correction":
        return Correction(*(mine - its for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Correction":
        return Correction(*map(function, vars(self).values()))


class Residual(nn.Module):
    """x + MLP(norm(x))."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.outer(self.dropout(nn.functional.silu(self.inner(self.norm(x)))))


class VelocityNetwork(nn.Module):
    """Velocity of noisy deviations (N, C A) at flow times (N or 1,); `told` (N, flow width) is `given` of what was
    understood of the hands."""

    def __init__(self, config: SmallConfig):
        super().__init__()
        size = config.time_components * config.channels
        width = config.flow_width
        self.noisy = nn.Linear(size, width)
        self.time = nn.Embedding(config.sampling_steps * 16, width)
        self.given = nn.Linear(config.width, width)
        self.blocks = nn.Sequential(*(Residual(width, config.dropout) for _ in range(config.flow_layers)))
        self.out = nn.Sequential(nn.LayerNorm(width), _zero(nn.Linear(width, size)))

    def forward(self, noisy: torch.Tensor, bucket: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        return self.out(self.blocks(self.noisy(noisy) + self.time(bucket) + told))


class SmallNetwork(nn.Module):
    """Observations of N hands in, coefficients (N, C, A) of their correction out."""

    def __init__(self, config: SmallConfig):
        super().__init__()
        self.config = config
        self.flow = FlowMatching(config.sampling_steps, alpha=1.0, s=1.0, buckets=config.sampling_steps * 16)
        count, channels = config.time_components, config.channels
        self.observation = nn.Linear(FEATURES, config.observation_width)
        size = config.observation_width * config.window_length + BASELINE * config.horizon_steps
        self.window = nn.Linear(size, config.width)
        self.blocks = nn.Sequential(*(Residual(config.width, config.dropout) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        self.expected = _zero(nn.Linear(config.width, count * channels))
        self.spread = _zero(nn.Linear(config.width, count * 7))
        self.usual = _zero(nn.Linear(config.width, config.horizon_steps * (1 + len(FINGERS))))
        self.velocity = VelocityNetwork(config)
        self.grounding = Grounding(config.grounding, config.width) if config.grounding else None
        self.register_buffer("time_basis", torch.zeros(3, config.horizon_steps, count))  # wrist m, turn rad, fingers
        self.register_buffer("finger_basis", torch.zeros(config.finger_components, _FINGERS))  # m

    def understand(self, features: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
        """Observations (N, T, FEATURES) and the forecast to be corrected (N, S, BASELINE) -> (N, width)."""
        observations = nn.functional.silu(self.observation(features)).flatten(1)
        return self.norm(self.blocks(self.window(torch.cat([observations, baseline.flatten(1)], dim=-1))))

    def forecast(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Expected coefficients (N, C, A) and the logarithm of their standard deviation (N, C, 7).

        The seven are wrist 3, rotation 3 and all finger components.
        """
        count = self.config.time_components
        mean = self.expected(given).unflatten(-1, (count, self.config.channels))
        return mean, self.spread(given).unflatten(-1, (count, 7)).clamp(*_LOG_STD)

    def to_usual(self, given: torch.Tensor, turn: torch.Tensor, bend: torch.Tensor) -> Correction:
        """How far palm and each finger go back to their mean of the window: N hands' `usual_turn` and `usual_bend`, a
        share of each at every step."""
        share = self.usual(given).unflatten(-1, (self.config.horizon_steps, 1 + len(FINGERS))).float()
        fingers = share[..., 1:].repeat_interleave(NUM_KEYPOINTS // len(FINGERS), dim=-1)
        return Correction(torch.zeros_like(turn), share[..., :1] * turn, fingers[..., None] * bend)

    def draw(self, given: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Deviations (N, M, C, A) from the expected coefficients in units of their spread, from noise (N, M, C, A)."""
        told = self.velocity.given(given).repeat_interleave(noise.shape[1], dim=0)
        drawn = self.flow.sample(lambda x, bucket: self.velocity(x, bucket, told), noise.flatten(0, 1).flatten(1))
        return drawn.reshape(noise.shape)

    def per_channel(self, log_std: torch.Tensor) -> torch.Tensor:
        """Standard deviation of every coefficient (N, C, A) from `forecast`'s seven (N, C, 7)."""
        fingers = log_std[..., 6:].expand(*log_std.shape[:-1], self.config.finger_components)
        return torch.cat([log_std[..., :6], fingers], dim=-1).exp()

    def correction(self, coefficients: torch.Tensor) -> Correction:
        """Coefficients (N, C, A) as curves over the steps."""
        wrist, rotation, fingers = (
            basis @ part for basis, part in zip(self.time_basis, _groups(coefficients), strict=True)
        )
        return Correction(wrist, rotation, (fingers @ self.finger_basis).unflatten(-1, (-1, 3)))

    def deviation(self, log_std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Standard deviations at every step, of uncorrelated coefficients (N, C, 7): wrist (N, S, 3) m, rotation (N, S,
        3) rad, and keypoints in the palm (N, S, 1) m."""
        variance = (2.0 * log_std).exp().split((3, 3, 1), dim=-1)
        wrist, rotation, fingers = (
            (basis.square() @ part).sqrt() for basis, part in zip(self.time_basis, variance, strict=True)
        )
        # So far does a keypoint move along an axis, on average, when every finger component has unit variance.
        return wrist, rotation, fingers * (self.finger_basis.square().sum() / _FINGERS).sqrt()

    def coefficients(self, correction: Correction) -> torch.Tensor:
        """Coefficients (N, C, A) whose curves are closest to a correction: the way back of `correction`."""
        fingers = correction.articulation.flatten(-2) @ torch.linalg.pinv(self.finger_basis)
        parts = (correction.wrist, correction.rotation, fingers)
        return torch.cat([torch.linalg.pinv(b) @ part for b, part in zip(self.time_basis, parts, strict=True)], dim=-1)

    def fit_bases(self, wrist: torch.Tensor, rotation: torch.Tensor, articulation: torch.Tensor) -> None:
        """Set both bases to the principal components of corrections (M, S, 3), (M, S, 3) and (M, S, 20, 3)."""
        flat = articulation.flatten(0, 1).flatten(-2)
        self.finger_basis.copy_(_components(flat, self.config.finger_components).T)
        fingers = articulation.flatten(-2) @ torch.linalg.pinv(self.finger_basis)
        for basis, curves in zip(self.time_basis, (wrist, rotation, fingers), strict=True):
            basis.copy_(_components(curves.transpose(1, 2).flatten(0, 1), self.config.time_components))


def pose(
    wrist: torch.Tensor, rotation: torch.Tensor, articulation: torch.Tensor, correction: Correction
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints (N, S, 21, 3) m and R_local_palm (N, S, 3, 3) of a Kalman forecast and its correction."""
    turned = exp_rotation(correction.rotation) @ rotation
    fingers = articulation + nn.functional.pad(correction.articulation, (0, 0, 1, 0))
    return (wrist + correction.wrist)[..., None, :] + fingers @ turned.transpose(-1, -2), turned


def exp_rotation(vector: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) rad, by Rodrigues' formula."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle = vector.square().sum(-1).add(1e-16).sqrt()[..., None, None]
    half = torch.sinc(angle / (2 * torch.pi))
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + torch.sinc(angle / torch.pi) * skew + 0.5 * half * half * (skew @ skew)


def _groups(coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return coefficients[..., :3], coefficients[..., 3:6], coefficients[..., 6:]


def _components(samples: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` strongest principal directions (D, count) of samples (M, D) about zero, each as long as its
    deviation."""
    covariance = samples.double().T @ samples.double() / len(samples)
    values, vectors = torch.linalg.eigh(covariance)
    strongest = slice(-count, None)
    deviation = values[strongest].clamp(min=1e-12).sqrt()
    # The sign is free; a positive sum makes it the same on every machine.
    vectors = vectors[:, strongest] * vectors[:, strongest].sum(dim=0).sign()
    return (vectors * deviation).flip(-1).to(samples.dtype)


def _zero(layer: nn.Linear) -> nn.Linear:
    """A layer that begins by saying nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
