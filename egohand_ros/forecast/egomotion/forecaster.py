"""`egomotion` as a forecaster: primitives thought of by a language model, then both hands by latent diffusion, in the
window's frame."""

import torch

from ...errors import UserError
from ...stream.window import Window
from ..common.diffusion import shared_noise
from ..common.observed import Observed, assemble, nothing
from ..common.protocol import Forecast
from ..vlm.saved import ThinkingForecaster
from ..vlm.tokens import Tokens
from .config import KIND, MAX_HYPOTHESES, EgoMotionConfig, spec_of
from .inputs import motion_out, now_of, past_of
from .network import EgoMotionNetwork
from .prompt import picture_token, tokens_of
from .reasoning import Reasoner


class EgoMotionForecaster(ThinkingForecaster):
    """Samples both hands, all hypotheses from one thought: the first from no noise, which is ours, the others from
    different noise, equally probable. Hands go on from where they were seen last.
    """

    title, kind, config_class, make_network = "EgoMotion", KIND, EgoMotionConfig, staticmethod(EgoMotionNetwork)
    spec_of, reasoner_class = staticmethod(spec_of), Reasoner

    def read_tokens(self, tokenizer: str) -> Tokens:
        """See `ReasoningForecaster`."""
        tokens = tokens_of(self.config, tokenizer)
        if picture_token(self.config, tokens) != self.network.vlm.image_token:
            raise UserError(f"tokenizer {tokenizer or self.config.tokenizer!r} is not that of PaliGemma")
        return tokens

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to MAX_HYPOTHESES samples; without a seed they are those of seed 0. Raises `MissingInput` without images.
        In the background neither hand is forecast until what is asked was thought about."""
        self.spec.check(window)
        thought = self.reasoner(window)
        if thought is None:
            return nothing(self.spec, window)
        observed = Observed.from_window(window)
        now = now_of(window, observed)
        states = thought.at(window.stamp.cpu().numpy(), self.config.step * self.config.stride)
        past = past_of(window, observed, now).to(self.device)
        count = max(1, min(hypotheses, MAX_HYPOTHESES))
        keypoints, rotation = motion_out(now, self.motions(states, past, count, seed or 0))
        forecast = assemble(self.spec, window, observed, keypoints, rotation)
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def motions(self, states: torch.Tensor, past: torch.Tensor, count: int, seed: int) -> torch.Tensor:
        """(B, count, S, 138) of states (B, N, width) and pasts (B, T, PAST_FEATURES)."""
        shape = self.network.noise_shape()
        draw = shared_noise(seed, count, shape, self.device)
        noise = draw(torch.empty(len(states) * count, *shape, device=self.device), 0)
        noise = noise.unflatten(0, (len(states), count))
        noise[:, 0] = 0.0
        motion = self.network.sample(states, past, noise.flatten(0, 1), self.config.sampling_steps, draw)
        return motion.unflatten(0, (len(states), count)).cpu()
