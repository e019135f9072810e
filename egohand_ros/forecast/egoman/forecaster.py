"""`egoman` as a forecaster: a language model's waypoints and act, then wrists by flow matching, in the window's
frame."""

from dataclasses import replace

import numpy as np
import torch

from ...errors import UserError
from ...hand.skeleton import LEFT, RIGHT, WRIST
from ...stream.window import Window
from ..common.observed import Observed, assemble, last_index, nothing, pose_hand, take
from ..common.protocol import Forecast, Waypoints
from ..vlm.saved import ThinkingForecaster
from ..vlm.tokens import PICTURE, Tokens
from .config import KIND, MAX_HYPOTHESES, MOMENTS, EgoMANConfig, spec_of
from .expert import on_path, path_through
from .inputs import camera_frames, motion_out, past_of
from .network import EgoMANNetwork
from .prompt import tokens_of
from .reasoning import Reasoner, Reasoning

APPROACH, MANIPULATION = "approach", "manipulation"


class EgoMANForecaster(ThinkingForecaster):
    """Samples the motion of both wrists, all hypotheses from one thought: the first from no noise, which is ours, the
    others from different noise, equally probable.

    Wrists do not begin where the tracker's end. Fingers are held. Waypoints are those of both hands at start, contact
    and end.
    """

    title, kind, config_class, make_network = "EgoMAN", KIND, EgoMANConfig, staticmethod(EgoMANNetwork)
    spec_of, reasoner_class = staticmethod(spec_of), Reasoner

    def read_tokens(self, tokenizer: str) -> Tokens:
        """See `ReasoningForecaster`."""
        tokens = tokens_of(self.config, tokenizer)
        if tokens.number(PICTURE) != self.network.vlm.image_token:
            raise UserError(f"tokenizer {tokenizer or self.config.tokenizer!r} is not that of Qwen2.5-VL")
        return tokens

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to MAX_HYPOTHESES samples; without a seed they are those of seed 0. Raises `MissingInput` without images.
        In the background neither hand is forecast until what is asked was thought about."""
        self.spec.check(window)
        reasoning = self.reasoner(window)
        if reasoning is None:
            return nothing(self.spec, window)
        return self.go_by(reasoning, window, hypotheses, seed)

    @torch.inference_mode()
    def go_by(self, reasoning: Reasoning, window: Window, hypotheses: int, seed: int | None = None) -> Forecast:
        """As `forecast`, by what is given to have been thought of the window."""
        frame, stamp = camera_frames(window), window.stamp.cpu().numpy()
        motion = self.motions(reasoning, window, frame, max(1, min(hypotheses, MAX_HYPOTHESES)), seed or 0)
        observed = Observed.from_window(window)
        position, rotation = motion_out(frame[:, None, None], motion)
        if self.config.anchored:
            position, rotation = _anchored(position, rotation, observed)
        position, rotation = position[:, :, 1:], rotation[:, :, 1:]
        articulation, known = observed.articulation()
        keypoints = pose_hand(position, rotation, take(articulation, last_index(known))[:, None, None])
        keypoints[..., WRIST, :] = position
        forecast = assemble(self.spec, window, observed, keypoints, rotation)
        if self.config.waypoints:
            told = _waypoints(reasoning, stamp, forecast.valid[..., WRIST].numpy())
            forecast = replace(forecast, waypoints=told, stage=_stages(reasoning, stamp))
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def motions(self, reasoning: Reasoning, window: Window, frame: np.ndarray, count: int, seed: int) -> torch.Tensor:
        """(B, count, 50, 18) in the camera's frames T_window_aria (B, 4, 4)."""
        past = past_of(window, frame)
        given = past.motion.to(self.device)
        waypoints = reasoning.waypoints(frame, window.stamp.cpu().numpy(), past.now)
        context = self.network.context(reasoning.scene, reasoning.thought.act, given, *waypoints)
        shape = (window.batch, count, *self.network.noise_shape())
        noise = torch.zeros(shape)
        if count > 1:
            noise[:, 1:] = torch.randn(shape[1:], generator=torch.Generator().manual_seed(seed))[1:]
        sampled = self.network.expert.sample(
            context.repeat(count), noise.flatten(0, 1).to(self.device), self.config.sampling_steps
        ).unflatten(0, (window.batch, count))
        if self.config.along:
            sampled = on_path(sampled, path_through(past.now.to(self.device), *waypoints)[:, None])
        return sampled.cpu()


def _anchored(position: np.ndarray, rotation: np.ndarray, observed: Observed) -> tuple[np.ndarray, np.ndarray]:
    """Paths (B, K, S, 2, ...) moved and turned so that they begin where hands are seen at the last observation."""
    seen, turned = observed.wrist_valid[:, -1, None, None], observed.rotation_valid[:, -1, None, None]
    away = observed.wrist[:, -1, None, None] - position[:, :, :1]
    turn = observed.rotation[:, -1, None, None] @ rotation[:, :, :1].swapaxes(-1, -2)
    return (
        np.where(seen[..., None], position + away, position),
        np.where(turned[..., None, None], turn @ rotation, rotation),
    )


def _waypoints(reasoning: Reasoning, stamp: np.ndarray, valid: np.ndarray) -> Waypoints:
    """Both hands at start, contact and end, in the window's frame; `valid` (B, 2) are hands that are forecast."""
    batch, sides = len(stamp), (LEFT, RIGHT)
    position, rotation = motion_out(reasoning.frame[:, None], reasoning.thought.waypoints)  # (B, 3, 2, ...)
    time = reasoning.times(stamp)[:, :, None].expand(batch, len(MOMENTS), len(sides))
    contact = torch.full_like(time, torch.nan)
    contact[:, 1] = reasoning.thought.touch.double().cpu()[:, None]
    return Waypoints(
        labels=tuple(moment for moment in MOMENTS for _ in sides),
        time=time.flatten(1),
        side=torch.tensor(sides).repeat(batch, len(MOMENTS)),
        position=torch.from_numpy(position).flatten(1, 2),
        rotation=torch.from_numpy(rotation).flatten(1, 2),
        contact=contact.flatten(1),
        valid=torch.from_numpy(valid)[:, None].expand(batch, len(MOMENTS), len(sides)).flatten(1),
    )


def _stages(reasoning: Reasoning, stamp: np.ndarray) -> tuple[str, ...]:
    """approach before a contact that is likely, manipulation from then to the end, empty otherwise."""
    times, touches = reasoning.times(stamp), reasoning.thought.touch.cpu() >= 0.5
    stages = []
    for (_, contact, end), touch in zip(times.tolist(), touches.tolist(), strict=True):
        stages.append("" if not touch else APPROACH if contact > 0.0 else MANIPULATION if end > 0.0 else "")
    return tuple(stages)
