"""EgoMotion's stages: motions learn to be primitives and latents, the language model to say primitives, and the
denoiser to go by what it thinks; or the last two at once, which is the paper's alternative (arXiv 2604.19105)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...data.windows import Cut
from ...forecast.common.observed import Observed
from ...forecast.egomotion.forecaster import EgoMotionForecaster
from ...forecast.egomotion.inputs import known_in, motion_in, now_of, past_of
from ...forecast.egomotion.objective import EgoMotionWeights, generation_loss, motion_loss, reasoning_loss
from ...forecast.egomotion.prompt import ask
from ...forecast.vlm.eye_and_text import pictures_of, squeezed
from .objective import Batch

_WORDS = 110  # tokens of an instruction, at most


class EgoMotionObjective(nn.Module):
    """What the stages share: windows with pictures and an instruction, as tokens and motions."""

    Weights = EgoMotionWeights

    def __init__(self, forecaster: EgoMotionForecaster, weights: EgoMotionWeights):
        super().__init__()
        self.forecaster, self.weights, self.network = forecaster, weights, forecaster.network
        self.network.requires_grad_(False)
        for trained in self.trained():
            trained.requires_grad_(True)

    def trained(self) -> Sequence[Any]:
        """The parts of the network, modules and parameters, that this stage changes."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "EgoMotionObjective":
        """Of the network, what is trained alone: nothing else follows its data, or drops anything."""
        super().train(mode)
        self.network.eval()
        for trained in self.trained():
            if isinstance(trained, nn.Module):
                trained.train(mode)
        return self

    def fit(self, cuts: Sequence[Cut]) -> None:
        """Nothing: the first stage has set what motions are measured by."""

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        """One row a window."""
        parts = [self._motions(cut) | self._questions(cut) for cut in cuts]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    # ---------------------------------------------------------------- batches

    def _motions(self, cut: Cut) -> Batch:
        window, observed = cut.window, Observed.from_window(cut.window)
        now = now_of(window, observed)
        known = known_in(cut.future_valid, cut.future_rotation_valid, observed.wrist_valid.any(axis=1))
        motion = torch.where(known, motion_in(now, cut.future, cut.future_rotation), 0.0)
        return {"motion": _held(motion, known), "known": known, "past": past_of(window, observed, now)}

    def _questions(self, cut: Cut) -> Batch:
        """tokens (B, L), how many of each row are asked (B,), and squeezed pictures."""
        config, tokens = self.network.config, self.network.tokens
        length = config.vlm.picture_tokens + _WORDS + config.observed + config.primitives
        rows = torch.full((cut.window.batch, length), tokens.padding)
        asked = torch.zeros(cut.window.batch, dtype=torch.long)
        for row, instruction in enumerate(cut.window.prompt):
            question = ask(config, tokens, instruction)
            if len(question.tokens) > length:
                raise ValueError(f"instruction {instruction!r} is longer than {_WORDS} tokens")
            rows[row, : len(question.tokens)], asked[row] = question.tokens, question.asked
        pictures = squeezed(cut.window.images[:, -1], config.vlm.picture)
        return {"tokens": rows, "asked": asked, "pictures": pictures}

    # ---------------------------------------------------------------- losses

    def states(self, batch: Batch) -> torch.Tensor:
        """What the language model thinks of each primitive (B, N, width)."""
        network = self.network
        used = int(batch["asked"].max()) + network.config.primitives
        seen = network.see(pictures_of(batch["pictures"], network.config.vlm))
        return network.states(batch["tokens"][:, :used], batch["asked"], seen, batch["past"])

    def reason(self, batch: Batch, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of primitives, and the share of those of the first book that are right."""
        with torch.no_grad():
            codes = self.network.motion.codes(batch["motion"])
        return reasoning_loss(self.network.reader(states, codes)[0], codes, self._whole(batch))

    def generate(self, batch: Batch, states: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The loss of latents."""
        network, diffusion = self.network, self.network.diffusion
        with torch.no_grad():
            latent = network.motion.latent(batch["motion"])
        time = diffusion.draw_time(len(latent), generator).to(latent.device)
        noise = torch.randn(latent.shape, generator=generator, device=generator.device).to(latent)
        condition = network.denoiser.told(states, batch["past"])
        found = network.denoiser(diffusion.add_noise(latent, time, noise), time, condition)
        return generation_loss(found, latent, self._whole(batch))

    def _whole(self, batch: Batch) -> torch.Tensor:
        """(B, N) whether anything of a primitive's time is known."""
        stride = self.network.config.stride
        known = batch["known"].any(-1)
        known = nn.functional.pad(known, (0, -known.shape[1] % stride), value=False)
        return known.unflatten(1, (-1, stride)).any(-1)


class TokenizerObjective(EgoMotionObjective):
    """Stage 1: motions as primitives, and as latents."""

    def trained(self) -> Sequence[Any]:
        return (self.network.motion,)

    def fit(self, cuts: Sequence[Cut]) -> None:
        """What motions are measured by, and their principal components."""
        parts = [self._motions(cut) for cut in cuts]
        motion, known = (torch.cat([part[name] for part in parts]) for name in ("motion", "known"))
        self.network.motion.fit(motion.to(self.forecaster.device), known.to(self.forecaster.device))

    def prepare(self, cuts: Sequence[Cut]) -> Batch:
        parts = [self._motions(cut) for cut in cuts]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        motion, weights = self.network.motion, self.weights
        given, known = batch["motion"] / motion.scale, batch["known"]
        rebuilt, coded = motion.rebuild(given)
        resampled, divergence = motion.resample(given)
        primitives = motion_loss(rebuilt, given, known, weights.change)
        latents = motion_loss(resampled, given, known, weights.change)
        total = primitives + latents + weights.commitment * coded.commitment + weights.divergence * divergence
        perplexity, usage = motion.quantizer.usage()
        parts = {"primitives": primitives, "latents": latents, "commitment": coded.commitment, "divergence": divergence}
        parts |= {"usage": usage.mean()}
        return total, parts | {f"perplexity {book + 1}": value for book, value in enumerate(perplexity)}


class ReasonObjective(EgoMotionObjective):
    """Stage 2: the language model says the primitives of what will be done."""

    def trained(self) -> Sequence[Any]:
        network = self.network
        return network.vlm, network.past, network.queries, network.reader

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, hit = self.reason(batch, self.states(batch))
        return self.weights.reasoning * loss, {"reasoning": loss, "hit": hit}


class GenerateObjective(EgoMotionObjective):
    """Stage 3: the language model stays as it is, and the denoiser learns to go by what it thinks."""

    def trained(self) -> Sequence[Any]:
        return (self.network.denoiser,)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            states = self.states(batch)
        loss = self.generate(batch, states, generator)
        return self.weights.generation * loss, {"generation": loss}


class JointObjective(EgoMotionObjective):
    """In place of stages 2 and 3: both at once, so that the denoiser's gradients change the language model."""

    def trained(self) -> Sequence[Any]:
        return *ReasonObjective.trained(self), self.network.denoiser

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        states, weights = self.states(batch), self.weights
        reasoning, hit = self.reason(batch, states)
        generation = self.generate(batch, states, generator)
        total = weights.reasoning * reasoning + weights.generation * generation
        return total, {"reasoning": reasoning, "hit": hit, "generation": generation}


def _held(motion: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Motions (B, S, 138) with what is not known as it was known last; nothing before that."""
    steps = torch.arange(motion.shape[1])[None, :, None]
    last = torch.where(known, steps, -1).cummax(dim=1).values
    return torch.where(last >= 0, motion.gather(1, last.clamp(min=0)), 0.0)
