"""Motions as discrete primitives (a residual vector-quantised autoencoder) and as continuous latents (a variational
one), at the same rate.

Both begin at the principal components of motions, which is ours: convolutions learn what those leave over. These are
over time as in T2M-GPT (Zhang et al. 2023); residual quantisation with a moving average and re-use of dead codes as in
MoMask (Guo et al. 2024), where a random number of books is left out in training. EgoMotion names primitives and
latents; how it makes them is not public.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import pad

from .config import CHANNELS, SIDE_CHANNELS, TokenizerSizes

_DECAY = 0.99  # of the moving average of codes
_DEAD = 0.2  # of the mean share of a batch, below which a code is put somewhere else
_LEFT_OUT = 0.2  # how often books are
_LEAST = 1e-3  # of a deviation: what never moves is not blown up
PARTS = (3, 6, SIDE_CHANNELS - 9)  # way, turn and fingers of a hand


@dataclass(frozen=True)
class Coded:
    """codes (B, N, Q) int64; quantised (B, N, D), with gradients as if it were what was coded; commitment: mean squared
    distance of what was coded from its codes."""

    codes: torch.Tensor
    quantised: torch.Tensor
    commitment: torch.Tensor


class ResidualQuantizer(nn.Module):
    """Q books of K codes; each book codes what those before it left over. Books follow what they code as a moving
    average in training, and take no gradient."""

    def __init__(self, books: int, codes: int, width: int):
        super().__init__()
        self.register_buffer("books", torch.randn(books, codes, width))
        self.register_buffer("count", torch.ones(books, codes))
        self.register_buffer("total", self.books.clone())
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, given: torch.Tensor) -> Coded:
        """given (B, N, D)."""
        depth = len(self.books)
        if self.training:
            least = torch.rand(len(given), 1, 1, device=given.device) < _LEFT_OUT
            drawn = torch.randint(1, depth + 1, (len(given), 1, 1), device=given.device)
            used = torch.where(least, drawn, depth)
        else:
            used = torch.full((len(given), 1, 1), depth, device=given.device)
        rest, whole, found, commitment = given, torch.zeros_like(given), [], given.new_zeros(())
        for book in range(depth):
            inside = rest.detach()
            if self.training and not bool(self.begun):
                self._begin(book, inside)
            code = self._nearest(book, inside)
            chosen = self.books[book][code]
            if self.training:
                self._follow(book, inside, code, (book < used).expand(code.shape[0], code.shape[1], 1)[..., 0])
            share = (book < used).to(given)
            commitment = commitment + (share * (rest - chosen).square()).mean()
            whole = whole + share * chosen
            rest = rest - share * chosen
            found.append(code)
        if self.training:
            self.begun.fill_(True)
        return Coded(torch.stack(found, dim=-1), given + (whole - given).detach(), commitment / depth)

    def look_up(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (B, N, Q) -> (B, N, D)."""
        return sum(self.books[book][codes[..., book]] for book in range(codes.shape[-1]))

    def usage(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each book (Q,): perplexity, at most K, and the share of codes that are in use, by the moving average."""
        share = self.count / self.count.sum(-1, keepdim=True).clamp(min=1e-9)
        perplexity = torch.exp(-(share * share.clamp(min=1e-12).log()).sum(-1))
        return perplexity, (share * share.shape[-1] > _DEAD).float().mean(-1)

    def _nearest(self, book: int, given: torch.Tensor) -> torch.Tensor:
        codes = self.books[book]
        return (codes.square().sum(-1) - 2.0 * given @ codes.T).argmin(-1)

    @torch.no_grad()
    def _begin(self, book: int, given: torch.Tensor) -> None:
        rows = given.flatten(0, 1)
        picked = rows[torch.randint(len(rows), (self.books.shape[1],), device=rows.device)]
        self.books[book] = picked + 1e-3 * rows.std() * torch.randn_like(picked)
        self.total[book] = self.books[book]
        self.count[book] = 1.0

    @torch.no_grad()
    def _follow(self, book: int, given: torch.Tensor, code: torch.Tensor, kept: torch.Tensor) -> None:
        rows, chosen = given[kept].float(), code[kept]
        if not len(rows):
            return
        count = torch.bincount(chosen, minlength=self.books.shape[1]).to(self.count)
        total = torch.zeros_like(self.total[book]).index_add_(0, chosen, rows)
        self.count[book].lerp_(count, 1.0 - _DECAY)
        self.total[book].lerp_(total, 1.0 - _DECAY)
        dead = self.count[book] < _DEAD * len(rows) / len(count)
        if bool(dead.any()):
            picked = rows[torch.randint(len(rows), (int(dead.sum()),), device=rows.device)]
            mean = len(rows) / len(count)
            self.count[book][dead] = mean
            self.total[book][dead] = picked * mean
        self.books[book] = self.total[book] / self.count[book].clamp(min=1e-6)[:, None]


class MotionTokenizer(nn.Module):
    """Motions (B, S, 138), in units of `scale`, as primitives and as latents. `scale` (138,) and the mean and deviation
    of latents are part of the weights."""

    def __init__(self, sizes: TokenizerSizes):
        super().__init__()
        self.sizes = sizes
        self.encoder = _Encoder(sizes, sizes.code_width)
        self.quantizer = ResidualQuantizer(sizes.codebooks, sizes.codes, sizes.code_width)
        self.decoder = _Decoder(sizes, sizes.code_width)
        self.latent_encoder = _Encoder(sizes, 2 * sizes.latent)
        self.latent_decoder = _Decoder(sizes, sizes.latent)
        self.register_buffer("scale", torch.ones(CHANNELS))
        self.register_buffer("latent_mean", torch.zeros(sizes.latent))
        self.register_buffer("latent_std", torch.ones(sizes.latent))

    @torch.no_grad()
    def fit(self, motion: torch.Tensor, known: torch.Tensor) -> None:
        """Set `scale` to the root of the mean square of motions (M, S, 138) where they are known, and the linear parts
        to the principal components of primitives, way, turn and fingers counting alike; where the latents' deviation is
        one."""
        square = torch.where(known, motion, 0.0).square().sum((0, 1)) / known.sum((0, 1)).clamp(min=1)
        self.scale.copy_(square.sqrt().clamp(min=_LEAST))
        weight = torch.cat([torch.full((part,), part**-0.5) for part in PARTS]).repeat(2).to(motion)
        pieces = self.encoder.pieces(motion / self.scale)
        weight = weight.repeat(2**self.sizes.halvings)
        rows = (pieces * weight).flatten(0, -2)
        values, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
        values, axes = values.flip(0).clamp(min=1e-8), axes.flip(1)
        for encoder, decoder, count, deviation in (
            (self.encoder, self.decoder, self.sizes.code_width, torch.ones_like(values)),
            (self.latent_encoder, self.latent_decoder, self.sizes.latent, values.sqrt()),
        ):
            kept = min(count, len(values))
            encoder.linear.weight[:kept] = axes[:, :kept].T * weight / deviation[:kept, None]
            decoder.linear.weight[:, :kept] = axes[:, :kept] / weight[:, None] * deviation[:kept]

    def codes(self, motion: torch.Tensor) -> torch.Tensor:
        """Primitives (B, N, Q) int64 of motions (B, S, 138) as `inputs.motion_in` makes them."""
        return self.quantizer(self.encoder(motion / self.scale)).codes

    def motion_of_codes(self, codes: torch.Tensor, steps: int) -> torch.Tensor:
        """(B, steps, 138)."""
        return self.decoder(self.quantizer.look_up(codes), steps) * self.scale

    def latent(self, motion: torch.Tensor) -> torch.Tensor:
        """Latents (B, N, L) of motions, without noise, each number of about unit deviation."""
        mean = self.latent_encoder(motion / self.scale)[..., : self.sizes.latent]
        return (mean - self.latent_mean) / self.latent_std

    def motion_of_latent(self, latent: torch.Tensor, steps: int) -> torch.Tensor:
        """(B, steps, 138)."""
        return self.latent_decoder(latent * self.latent_std + self.latent_mean, steps) * self.scale

    def rebuild(self, motion: torch.Tensor) -> tuple[torch.Tensor, Coded]:
        """Motions in units of `scale` (B, S, 138) by way of primitives."""
        coded = self.quantizer(self.encoder(motion))
        return self.decoder(coded.quantised, motion.shape[1]), coded

    def resample(self, motion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Motions in units of `scale` by way of noisy latents, and the divergence of those from unit normal ones (mean
        over all numbers); in training the latents' mean and deviation are followed."""
        mean, log_variance = self.latent_encoder(motion).chunk(2, dim=-1)
        log_variance = log_variance.clamp(-12.0, 8.0)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
        drawn = mean
        if self.training:
            with torch.no_grad():
                rows = mean.flatten(0, 1).float()
                self.latent_mean.lerp_(rows.mean(0), 1.0 - _DECAY)
                self.latent_std.lerp_(rows.std(0).clamp(min=1e-3), 1.0 - _DECAY)
            drawn = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.latent_decoder(drawn, motion.shape[1]), divergence


class _Encoder(nn.Module):
    """(B, S, 138) -> (B, N, out); S is filled up with its last step to whole primitives."""

    def __init__(self, sizes: TokenizerSizes, out: int):
        super().__init__()
        self.stride = 2**sizes.halvings
        self.linear = nn.Linear(self.stride * CHANNELS, out)
        layers: list[nn.Module] = [nn.Conv1d(CHANNELS, sizes.width, 3, padding=1), nn.ReLU()]
        for _ in range(sizes.halvings):
            layers += [nn.Conv1d(sizes.width, sizes.width, 4, 2, 1), *_residual(sizes)]
        self.layers = nn.Sequential(*layers, _silent(nn.Conv1d(sizes.width, out, 3, padding=1)))

    def pieces(self, motion: torch.Tensor) -> torch.Tensor:
        """The steps of each primitive, one after the other (B, N, 138 x stride)."""
        return self._whole(motion).unflatten(1, (-1, self.stride)).flatten(2)

    def forward(self, motion: torch.Tensor) -> torch.Tensor:
        learned = self.layers(self._whole(motion).transpose(1, 2)).transpose(1, 2)
        return self.linear(self.pieces(motion)) + learned

    def _whole(self, motion: torch.Tensor) -> torch.Tensor:
        return pad(motion.transpose(1, 2), (0, -motion.shape[1] % self.stride), "replicate").transpose(1, 2)


class _Decoder(nn.Module):
    """(B, N, from) -> (B, steps, 138)."""

    def __init__(self, sizes: TokenizerSizes, given: int):
        super().__init__()
        self.linear = nn.Linear(given, 2**sizes.halvings * CHANNELS)
        layers: list[nn.Module] = [nn.Conv1d(given, sizes.width, 3, padding=1), nn.ReLU()]
        for _ in range(sizes.halvings):
            layers += [
                *_residual(sizes),
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv1d(sizes.width, sizes.width, 3, padding=1),
            ]
        last = _silent(nn.Conv1d(sizes.width, CHANNELS, 3, padding=1))
        self.layers = nn.Sequential(*layers, nn.ReLU(), last)

    def forward(self, given: torch.Tensor, steps: int) -> torch.Tensor:
        learned = self.layers(given.transpose(1, 2)).transpose(1, 2)
        return (self.linear(given).unflatten(-1, (-1, CHANNELS)).flatten(1, 2) + learned)[:, :steps]


def _silent(layer: nn.Conv1d) -> nn.Conv1d:
    """That says nothing before it has learned."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def _residual(sizes: TokenizerSizes) -> list[nn.Module]:
    return [_Residual(sizes.width, 3**i) for i in reversed(range(sizes.depth))]
