"""The EgoMotion-style network: motion tokenizer, language model that says primitives, denoiser of latents.

Stage one of the paper has a VLM put what it sees and is told into discrete motion primitives; stage two freezes it, and
its states condition a latent diffusion. Here primitives have places of their own behind the question, as learned
queries, and are read in one pass, codebook after codebook: what the denoiser is told in training is then what it is
told in forecasting, whether the language model is frozen or not, so that training both ways can be compared.
"""

import torch
from torch import nn

from ..common.diffusion import Denoiser as Denoise
from ..common.diffusion import Diffusion, Draw
from ..vlm.chat import Pictures
from ..vlm.eye_and_text import new_eye_and_text
from ..vlm.tokens import Tokens
from .config import PAST_FEATURES, EgoMotionConfig
from .denoiser import Denoiser
from .prompt import MOTION, PAST, picture_token, tokens_of
from .tokenizer import MotionTokenizer

_PUBLISHED_PICTURE = 257152  # the number of PaliGemma's picture token


class PrimitiveReader(nn.Module):
    """States of places (B, N, width) -> which primitives are there: the codes of a book are told those before it."""

    def __init__(self, width: int, inside: int, books: int, codes: int):
        super().__init__()
        self.inside = nn.Linear(width, inside)
        self.norms = nn.ModuleList(nn.LayerNorm(inside) for _ in range(books))
        self.scores = nn.ModuleList(nn.Linear(inside, codes) for _ in range(books))
        self.codes = nn.ModuleList(nn.Embedding(codes, inside) for _ in range(books - 1))

    def forward(self, states: torch.Tensor, codes: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, N, Q, K) and codes (B, N, Q): those that are given, or the likeliest, book after book."""
        row, logits, said = self.inside(states), [], []
        for book, (norm, score) in enumerate(zip(self.norms, self.scores, strict=True)):
            logits.append(score(norm(row)))
            said.append(logits[-1].argmax(-1) if codes is None else codes[..., book])
            if book < len(self.codes):
                row = row + self.codes[book](said[-1])
        return torch.stack(logits, dim=2), torch.stack(said, dim=-1)


class EgoMotionNetwork(nn.Module):
    """All of it; each stage of training changes its part."""

    def __init__(self, config: EgoMotionConfig, tokens: Tokens | None = None):
        super().__init__()
        self.config, sizes = config, config.tokenizer_sizes
        # The published tokenizer is asked for when something is read; its numbers are known.
        self.tokens = tokens if tokens is not None else tokens_of(config) if config.words else None
        image_token = picture_token(config, self.tokens) if self.tokens is not None else _PUBLISHED_PICTURE
        if self.tokens is not None and self.tokens.vocabulary > config.vlm.vocabulary:
            raise ValueError(f"vlm.vocabulary is {config.vlm.vocabulary}; {self.tokens.vocabulary} tokens are known")
        width = config.vlm.width
        self.motion = MotionTokenizer(sizes)
        self.vlm = new_eye_and_text(config.vlm, image_token)
        self.queries = nn.Parameter(0.5 * torch.randn(config.primitives, width))
        self.past = nn.Sequential(
            nn.Linear(PAST_FEATURES, config.head_width), nn.GELU(), nn.Linear(config.head_width, width)
        )
        self.reader = PrimitiveReader(width, config.head_width, sizes.codebooks, sizes.codes)
        self.denoiser = Denoiser(
            config.denoiser, sizes.latent, config.primitives, width, PAST_FEATURES, config.observed
        )
        self.diffusion = Diffusion(config.diffusion_steps, "cosine", "x0")

    def see(self, pictures: Pictures) -> torch.Tensor:
        """Tokens of all pictures (B M, width)."""
        dtype = self.vlm.model.get_input_embeddings().weight.dtype
        return self.vlm.see(Pictures(pictures.pixels.to(self.vlm.device, dtype)))

    def states(self, tokens: torch.Tensor, asked: torch.Tensor, seen: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """What is thought of each primitive (B, N, width), float32. tokens (B, L), of which `asked` (B,) are the
        question; `seen` as of `see`; past (B, T, PAST_FEATURES)."""
        queries = self.queries.expand(len(tokens), -1, -1).flatten(0, 1)
        inserted = {self._number(PAST): self.past(past).flatten(0, 1), self._number(MOTION): queries}
        found = self.vlm(tokens, seen, None, inserted, asked)
        places = asked.to(found.device)[:, None] + torch.arange(self.config.primitives, device=found.device)
        return found[torch.arange(len(found), device=found.device)[:, None], places].float()

    def sample(
        self, states: torch.Tensor, past: torch.Tensor, noise: torch.Tensor, steps: int, draw: Draw
    ) -> torch.Tensor:
        """Motions (B K, S, 138) of B states and pasts, from noise (B K, N, L) by so many steps; `draw` gives the noise
        of each where the whole ancestral loop is asked for. Fewer are DDIM's."""
        count = len(noise) // len(states)
        condition = self.denoiser.told(states, past).repeat_interleave(count, 0)
        denoise: Denoise = lambda x, t: self.denoiser(x, t, condition)  # noqa: E731
        if steps == self.diffusion.steps:
            latent = self.diffusion.sample(denoise, noise, draw)
        else:
            latent = self.diffusion.sample_ddim(denoise, noise, steps)
        return self.motion.motion_of_latent(latent, self.config.horizon_steps)

    def noise_shape(self) -> tuple[int, int]:
        """Of the latents of one motion."""
        return self.config.primitives, self.config.tokenizer_sizes.latent

    def _number(self, token: str) -> int:
        assert self.tokens is not None, "the forecaster reads the published tokenizer"
        return self.tokens.number(token)
