"""`megohand` as a forecaster: a chunk of MANO states of each hand by flow matching, as keypoints in the window's
frame."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...data.episode import Episode
from ...errors import UserError
from ...hand.mano import mano_folder
from ...hand.mano_layer import load_mano_layers
from ...hand.palm import palm_rotations
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.window import Window
from ..common.observed import Observed, assemble, nothing
from ..common.protocol import Forecast, ManoForecast
from ..options import WAIT
from ..vlm.saved import ReasoningForecaster
from ..vlm.tokens import PICTURE, Tokens
from .bones import BoneHand, HandModel
from .config import KIND, MANO, MAX_HYPOTHESES, MEgoHandConfig, spec_of
from .context import Context, Watcher
from .inputs import Rows, mano_out, points_out, rows_of_window, seen_now
from .inverse import mano_labels, palm_frame, states_from_keypoints
from .network import MEgoHandNetwork, joined, newest, repeated
from .state import HandState
from .vision_language import tokens_of

_AT_A_TIME = 256  # samples
_MESHES = 32  # samples; meshes of more are not kept, they would be gigabytes


class MEgoHandForecaster(ReasoningForecaster):
    """Samples a chunk of each hand by itself: the first hypothesis from no noise, which is ours, the others from
    different noise, equally probable.

    How a hand's keypoints differ from those of its state now is kept, in the palm's frame, which is ours: forecasts
    begin where the tracker's hand is. Depth is that of the window, otherwise it is estimated where the configuration
    has an estimator, otherwise it does without. `mano` is the folder of the user's MANO files, by default that of
    EGOHAND_MANO, for configurations of MANO's hand; other options are those of `ReasoningForecaster`. In the background
    it looks at a stream's newest image (see context.py)."""

    title, kind, config_class, make_network = "MEgoHand", KIND, MEgoHandConfig, staticmethod(MEgoHandNetwork)
    spec_of = staticmethod(spec_of)

    def __init__(self, config: MEgoHandConfig, *given: Any, reasoning: str = WAIT, mano: str | Path = "", **named: Any):
        hand = hand_of(config, mano)
        super().__init__(config, *given, reasoning=reasoning, **named)
        self.hand = hand.to(self.device)
        self.watcher = Watcher(self.network, reasoning)

    def read_tokens(self, tokenizer: str) -> Tokens:
        """See `ReasoningForecaster`."""
        tokens = tokens_of(self.config, tokenizer)
        if tokens.number(PICTURE) < 0:
            raise UserError(f"tokenizer {tokenizer or self.config.tokenizer!r} takes no token for a picture")
        return tokens

    def language_model(self) -> nn.Module:
        """See `ReasoningForecaster`."""
        return self.network.vlm.language

    @torch.inference_mode()
    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to MAX_HYPOTHESES samples; without a seed they are those of seed 0. Raises `MissingInput` without images.
        In the background neither hand is forecast until what is asked was looked at."""
        self.spec.check(window)
        context = self.watcher(window)
        if context is None:
            return nothing(self.spec, window)
        count = max(1, min(hypotheses, MAX_HYPOTHESES))
        rows = rows_of_window(window, context.frame)
        there = seen_now(rows)[context.rows]
        asked = context.rows[there]
        if not len(asked):
            return nothing(self.spec, window)
        chunk, now = self.chunks(context, there, rows.at(asked), count, seed or 0)
        betas = now.betas[:, None, None].expand(*chunk.betas.shape[:3], -1)
        made = self.hand(chunk.pose, betas, chunk.translation)
        points = made.keypoints + self._apart(rows.at(asked), now, made.keypoints)
        spread = lambda part: _spread(part, asked, 2 * window.batch)  # noqa: E731
        keypoints = points_out(spread(points), context.frame)
        observed = Observed.from_window(window)
        rotation = palm_rotations(keypoints)
        held = observed.rotation[:, -1][:, None, None]
        rotation = np.where(np.isfinite(rotation), rotation, held)  # a flat palm has no rotation of its own
        forecast = assemble(self.spec, window, observed, keypoints, rotation)
        if self.config.hand == MANO:
            whole = HandState(*(spread(part) for part in vars(replace(chunk, betas=betas)).values()))
            pose, translation, shapes = mano_out(whole, self.hand.rest_wrist(whole.betas), context.frame)
            meshes = None
            if window.batch * count <= _MESHES:
                meshes = torch.from_numpy(points_out(spread(made.vertices), context.frame)).float()
            forecast = replace(
                forecast, mano=ManoForecast(pose.cpu(), translation.cpu(), shapes.cpu()), vertices=meshes
            )
        return forecast if self.calibration is None else self.calibration.apply(forecast)

    def label(self, episode: Episode) -> tuple[Episode, float]:
        """An episode with the states of its hands as MANO's parameters, and how far off (m) the keypoints are that
        those make; for configurations of MANO's hand."""
        return mano_labels(self.network.inverse, self.hand, episode)

    def reset(self) -> None:
        """The stream begins anew."""
        self.watcher.reset()

    def chunks(
        self, context: Context, there: torch.Tensor, rows: Rows, count: int, seed: int
    ) -> tuple[HandState, HandState]:
        """States (N, count, S) of those rows of a context that are `there` (bool), whose hands are `rows`, and their
        states now (N,); all in the frame of the context's camera."""
        keypoints, known = rows.keypoints.to(self.device), rows.known.to(self.device)
        states = states_from_keypoints(self.network.inverse, keypoints, known, self.hand)
        shape = (count, *self.network.noise_shape())
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)
        noise[0] = 0.0
        seen, parts = there.nonzero()[:, 0], []
        for some in torch.arange(len(keypoints)).split(max(1, _AT_A_TIME // count)):
            told = HandState(*(part[some] for part in vars(states).values()))
            given = self.network.condition(context.seen.rows(seen[some]), told, known[some][..., WRIST])
            start = repeated(newest(told), count)
            made = self.network.sample(given.repeat(count), start, noise.repeat(len(some), 1, 1))
            parts.append(HandState(*(part.unflatten(0, (-1, count)) for part in vars(made).values())))
        return joined(parts), newest(states)

    def _apart(self, rows: Rows, now: HandState, points: torch.Tensor) -> torch.Tensor:
        """What is added to keypoints (N, K, S, 21, 3): how those seen last differ from those of the state then."""
        seen, known = rows.keypoints[:, -1].to(self.device), rows.known[:, -1].to(self.device)
        made = self.hand(now.pose, now.betas, now.translation).keypoints
        everything = torch.ones_like(known)
        away = (seen - made) @ palm_frame(made, everything)
        away = torch.where(known[..., None], away, 0.0)
        flat = points.reshape(-1, NUM_KEYPOINTS, 3)
        palm = palm_frame(flat, everything[:1].expand(len(flat), -1)).reshape(*points.shape[:3], 3, 3)
        return torch.einsum("nkd,nhsed->nhske", away, palm)


def hand_of(config: MEgoHandConfig, mano: str | Path = "") -> HandModel:
    """The right hand whose states these are. Raises `UserError` where MANO's files are missing."""
    return load_mano_layers(mano_folder(mano))["right"] if config.hand == MANO else BoneHand()


def _spread(part: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """What is of some rows (N, ...) in its place among `count` rows, the others zero."""
    whole = part.new_zeros(count, *part.shape[1:])
    whole[rows.to(part.device)] = part
    return whole
