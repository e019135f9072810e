"""EgoMAN's three stages: the language model learns to answer, the motion expert to follow true waypoints, and both
together (arXiv 2512.16907, section 4.4)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ...forecast.egoman.config import FUTURE, MOMENTS, SPAN, STEP
from ...forecast.egoman.expert import off_path, part, path_through
from ...forecast.egoman.forecaster import EgoMANForecaster
from ...forecast.egoman.heads import Moment, without_contact
from ...forecast.egoman.inputs import camera_frames, motion_in, past_of
from ...forecast.egoman.network import by_kind
from ...forecast.egoman.objective import (
    PICTURE,
    EgoMANWeights,
    act_loss,
    eased,
    motion_loss,
    waypoint_loss,
)
from ...forecast.egoman.pointing import Look, Pointed
from ...forecast.egoman.prompt import ACT, CONTACT, END, POSE, START, ask
from ...forecast.vlm.chat import Pictures
from ...forecast.vlm.qwen import pictures_of
from ...hand.skeleton import SIDES, WRIST
from ..windows.goal_windows import GoalCut
from ..windows.questions import Question, draw_question, phrase_embedding, query
from .losses import masked_mean
from .objective import Batch

_READ = (ACT, START, CONTACT, END)
_WORDS = 110  # tokens of question and answer, at most
_IGNORED = -100


class EgoMANObjective(nn.Module):
    """What the stages share: windows with pictures and an instruction, as tokens, waypoints and motions."""

    Weights = EgoMANWeights

    def __init__(self, forecaster: EgoMANForecaster, weights: EgoMANWeights):
        super().__init__()
        self.forecaster, self.weights, self.network = forecaster, weights, forecaster.network
        self.network.requires_grad_(False)
        for trained in self.trained():
            trained.requires_grad_(True)

    def trained(self) -> Sequence[nn.Module]:
        """The parts of the network that this stage changes."""
        raise NotImplementedError

    def question(self, cut: GoalCut, row: int, rng: np.random.Generator) -> Question:
        """What is asked of one window."""
        past = bool(cut.window.valid[row, :-1, :, WRIST].any())
        return query(cut.window.prompt[row], _told(cut.moments[row]), cut.side, past)

    def fit(self, cuts: Sequence[GoalCut]) -> None:
        """Nothing: metres are metres."""

    def prepare(self, cuts: Sequence[GoalCut]) -> Batch:
        """One row a window."""
        parts = [self._prepare(cut) for cut in cuts]
        return {key: torch.cat([made[key] for made in parts]) for key in parts[0]}

    # ---------------------------------------------------------------- batches

    def _prepare(self, cut: GoalCut) -> Batch:
        window, frame = cut.window, camera_frames(cut.window)
        past = past_of(window, frame)
        moved = motion_in(frame[:, None], cut.future[..., WRIST, :], cut.future_rotation)[:, : FUTURE - 1]
        motion = torch.cat([past.now[:, None], moved], dim=1)
        now = window.valid[:, -1:, :, WRIST].all(-1)
        valid = torch.cat([now, torch.from_numpy(cut.future_valid[:, : FUTURE - 1, :, WRIST].all(-1))], dim=1)
        rng = np.random.default_rng(_seed(cut))
        questions = [self.question(cut, row, rng) for row in range(window.batch)]
        steps = _steps(cut.moments)
        targets = _targets(cut, questions, motion, steps, both=self.network.pointer is not None)
        pictures = pictures_of(window.images[:, -1], self.network.config.vlm.pixels)
        phrase = phrase_embedding(f"{SIDES[cut.side]} hand {window.prompt[0]}", self.network.config.expert.act)
        act = torch.from_numpy(phrase).expand(window.batch, -1)
        asked = torch.tensor([question.act for question in questions])
        known = torch.from_numpy(np.isfinite(cut.moments).all(-1))
        look = self.network.look(window, frame)
        pointing = {} if look is None else {f"look_{name}": value for name, value in vars(look).items()}
        return {
            **self._tokens(questions, self.network.picture_tokens(pictures)),
            **pointing,
            "goals": torch.from_numpy(cut.goals.astype(np.float32)),
            "cells": torch.from_numpy(cut.cells),
            "side": torch.full((window.batch,), cut.side),
            "pixels": pictures.pixels.unflatten(0, (window.batch, -1)),
            "grid": pictures.grid,
            "past": past.motion * torch.tensor([[[float(q.past)]] for q in questions]),
            "motion": motion,
            "valid": valid,
            "steps": torch.from_numpy(steps),
            "act": act.clone(),
            "act_asked": asked & known,
            "known": known,
            **{f"target_{name}": value for name, value in targets.items()},
        }

    def _tokens(self, questions: Sequence[Question], picture_tokens: int) -> Batch:
        """tokens and labels (B, L), and where the state that predicts each of _READ is (B, 4), -1 without it."""
        known = self.network.tokens
        length = picture_tokens + _WORDS
        tokens = torch.full((len(questions), length), known.padding)
        labels, read = torch.full_like(tokens, _IGNORED), torch.full((len(questions), len(_READ)), -1)
        for row, question in enumerate(questions):
            asked = ask(known, question.text, picture_tokens)
            begin = len(asked.beginning) + len(asked.rest)
            answer = torch.tensor([*known.encode(question.answer), *known.encode("<|im_end|>")])
            whole = torch.cat([asked.beginning, asked.rest, answer])
            if len(whole) > length:
                raise ValueError(f"question {question.text!r} has {len(whole)} tokens; at most {length} are taken")
            tokens[row, : len(whole)], labels[row, begin : len(whole)] = whole, answer
            for i, token in enumerate(_READ):
                if token in question.answer:
                    read[row, i] = begin - 1 + answer.tolist().index(known.number(token))
        return {"tokens": tokens, "labels": labels, "read": read}

    # ---------------------------------------------------------------- losses

    def see(self, batch: Batch) -> torch.Tensor:
        """Tokens of all pictures (B M, width)."""
        return self.network.vlm.see(Pictures(batch["pixels"].flatten(0, 1), batch["grid"]))

    def point(self, batch: Batch) -> Pointed | None:
        """What is pointed at, in a network that has a grounding."""
        look = {name.removeprefix("look_"): value for name, value in batch.items() if name.startswith("look_")}
        return self.network.point(Look(**look), batch["past"], batch["motion"][:, 0]) if look else None

    def reason(
        self, batch: Batch, seen: torch.Tensor, pointed: Pointed | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], tuple[torch.Tensor, tuple[Moment, ...]]]:
        """The loss of answers, waypoints and acts, its parts; and what is told: the act and the moments."""
        network, weights, tokens = self.network, self.weights, batch["tokens"]
        used = int((tokens != network.tokens.padding).any(0).nonzero().max()) + 1
        tokens, labels = tokens[:, :used], batch["labels"][:, :used]
        pose = network.tokens.number(POSE)
        told = (tokens == pose).any(-1)
        inserted = {pose: network.past(by_kind(batch["past"][told])).flatten(0, 1)} if told.any() else {}
        states = network.vlm(tokens, seen, batch["grid"], inserted)
        labels = torch.where(batch["known"][:, None], labels, _IGNORED)[:, 1:]
        asked = labels != _IGNORED
        scores = network.vlm.model.get_output_embeddings()(states[:, :-1][asked]).float()
        answer = nn.functional.cross_entropy(scores, labels[asked]) if asked.any() else states.sum() * 0.0
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        read = states[rows, batch["read"].clamp(min=0)].float()
        parts, total = {"answer": answer}, weights.answer * answer
        side = batch["side"]
        moments = tuple(network.moment(name, read[:, 1 + i], pointed, side) for i, name in enumerate(MOMENTS))
        for i, name in enumerate(MOMENTS):
            there = (batch["read"][:, 1 + i] >= 0) & batch["known"]
            known = Moment(
                *(batch[f"target_{field}"][:, i][there] for field in ("time", "position", "pixel", "rotation"))
            )
            found = Moment(**{field: value[there] for field, value in vars(moments[i]).items()})
            parts[name] = waypoint_loss(found, known, weights.bend) if there.any() else read.sum() * 0.0
            total = total + weights.waypoint * parts[name]
        act = torch.where(batch["act_asked"][:, None], batch["act"], torch.nan)
        said = network.act(read[:, 0])
        parts["act"] = act_loss(said, act)
        if pointed is not None:
            acting = torch.where(batch["known"] & batch["look_known"], side, _IGNORED)
            parts["side"] = nn.functional.cross_entropy(pointed.acts, acting, ignore_index=_IGNORED).nan_to_num()
            total = total + weights.side * parts["side"]
        if pointed is not None and (weights.goal_cell or weights.goal_point):
            parts |= self._goals(batch, pointed)
            total = total + weights.goal_cell * parts["cell"] + weights.goal_point * parts["point"]
        return total + weights.act * parts["act"], parts, (said, moments)

    def _goals(self, batch: Batch, pointed: Pointed) -> dict[str, torch.Tensor]:
        goals = pointed.goals
        known = batch["look_known"]
        cells = torch.where(known[:, None], batch["cells"], _IGNORED)
        told = batch["goals"].isfinite().all(-1) & known[:, None]
        missed = (goals.points - batch["goals"].nan_to_num()).abs().sum(-1)
        cell = nn.functional.cross_entropy(goals.logits.flatten(0, 1), cells.flatten(), ignore_index=_IGNORED)
        return {"cell": cell, "point": masked_mean(missed, told)}

    def move(
        self, batch: Batch, scene: torch.Tensor, act: torch.Tensor, waypoints: torch.Tensor, steps: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:  # fmt: skip
        """The loss of the motion expert."""
        expert, motion = self.network.expert, batch["motion"]
        time = torch.rand(len(motion), generator=generator, device=generator.device).to(motion)
        noise = torch.randn(motion.shape, generator=generator, device=generator.device).to(motion)
        if self.network.config.along:
            motion = off_path(motion, path_through(motion[:, 0], waypoints.detach(), steps))
        noisy = torch.lerp(noise, motion, time[:, None, None])
        bias = (~batch["valid"]).float()  # as published: it adds one to attention instead of leaving it out
        context = self.network.context(scene, act, batch["past"], waypoints, steps)
        found = expert.velocity(noisy, time, context, bias)
        return motion_loss(found, motion - noise, batch["valid"], self.weights.rotation)


class ReasonObjective(EgoMANObjective):
    """Stage 1: the language model answers questions of all kinds."""

    def trained(self) -> Sequence[nn.Module]:
        network, weights = self.network, self.weights
        known = (network.vlm, network.past, network.moments, network.act)
        return known if network.pointer is None else (*known, *network.pointer.trained(weights.goal_cell > 0.0))

    def question(self, cut: GoalCut, row: int, rng: np.random.Generator) -> Question:
        if not np.isfinite(cut.moments[row]).all():
            return super().question(cut, row, rng)
        return draw_question(rng, cut.window.prompt[row], cut.label, cut.moments[row], cut.side)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        total, parts, _ = self.reason(batch, self.see(batch), self.point(batch))
        return total, parts


class MotionObjective(EgoMANObjective):
    """Stage 2: the motion expert is told the true waypoints and the act in words."""

    def trained(self) -> Sequence[nn.Module]:
        return (self.network.expert,)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            scene = self.network.scene_features(batch.get("scene"), self.see(batch), len(batch["tokens"]))
        steps = batch["steps"]
        rows = torch.arange(len(steps), device=steps.device)[:, None]
        motion = self.move(batch, scene, batch["act"], batch["motion"][rows, steps], steps, generator)
        return self.weights.motion * motion, {"motion": motion}


class JointObjective(EgoMANObjective):
    """Stage 3: the motion expert goes by what the language model thinks of the whole query."""

    def trained(self) -> Sequence[nn.Module]:
        return *ReasonObjective.trained(self), self.network.expert

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seen = self.see(batch)
        network = self.network
        total, parts, (act, moments) = self.reason(batch, seen, self.point(batch))
        absent = batch["read"][:, 2] < 0  # no contact to come
        waypoints, steps = eased(without_contact(moments, absent), batch["motion"])
        scene = network.scene_features(batch.get("scene"), seen, len(batch["tokens"]))
        motion = self.move(batch, scene, act, waypoints, steps, generator)
        return total + self.weights.motion * motion, {**parts, "motion": motion}


def _told(moments: np.ndarray) -> np.ndarray:
    """Moments (2,), or, where nothing can be found out, a contact that is to come."""
    return np.where(np.isfinite(moments), moments, SPAN)


def _steps(moments: np.ndarray) -> np.ndarray:
    """Steps (B, 3) of start, contact and end within what is forecast; 4.5 s where a moment is not known or not there,
    and the contact at the end where it was before."""
    seconds = np.where(np.isfinite(moments), moments, SPAN)
    end = np.clip(seconds[:, 1], 0.0, SPAN)
    contact = np.where(seconds[:, 0] < 0.0, end, np.clip(seconds[:, 0], 0.0, SPAN))
    return np.round(np.stack([np.zeros(len(end)), contact, end], axis=1) / STEP).astype(np.int64)


def _targets(
    cut: GoalCut, questions: Sequence[Question], motion: torch.Tensor, steps: np.ndarray, both: bool
) -> dict[str, torch.Tensor]:
    """What is known of moments start, contact, end: time (B, 3, 1), position (B, 3, 2, 3), pixel (B, 3, 2, 2) and
    rotation (B, 3, 2, 6); NaN where a question does not ask for it. With `both` it asks for the other hand too, through
    whose waypoints a path leads as well."""
    batch, rows = len(motion), torch.arange(len(motion))[:, None]
    position, rotation = part(motion[rows, torch.from_numpy(steps)])
    pixel = _pixels(cut, position)
    asked = {name: torch.zeros(batch, len(MOMENTS), 2, dtype=torch.bool) for name in ("time", "place")}
    for row, question in enumerate(questions):
        for moment, what, sides in question.told:
            for side in (0, 1) if both else sides:
                asked[what][row, MOMENTS.index(moment), side] = True
    seen = torch.from_numpy(np.stack([cut.window.valid[:, -1, :, WRIST].numpy()] * len(MOMENTS), axis=1))
    place = (asked["place"] & seen)[..., None]
    time = torch.from_numpy(steps * STEP / SPAN).float()[..., None]
    return {
        "time": torch.where(asked["time"].any(-1, keepdim=True), time, torch.nan),
        "position": torch.where(place, position, torch.nan),
        "pixel": torch.where(place, pixel, torch.nan),
        "rotation": torch.where(place, rotation, torch.nan),
    }


def _pixels(cut: GoalCut, position: torch.Tensor) -> torch.Tensor:
    """Where wrists (B, 3, 2, 3) m of the turned camera are in the picture (B, 3, 2, 2), px of one that is 1408 px wide
    and high; NaN beside it, or without a calibration."""
    images, matrix = cut.window.images, cut.window.camera_matrix
    if matrix is None:
        return torch.full((*position.shape[:-1], 2), torch.nan)
    x, y, z = position.unbind(-1)
    upright = torch.stack([-y, x, z], dim=-1)
    seen = torch.einsum("bij,bksj->bksi", matrix[:, -1].float(), upright)
    size = position.new_tensor([images.shape[3], images.shape[2]])
    share = seen[..., :2] / seen[..., 2:].clamp(min=1e-3) / size
    inside = (seen[..., 2:] > 0.05) & (share >= 0.0).all(-1, keepdim=True) & (share <= 1.0).all(-1, keepdim=True)
    return torch.where(inside, PICTURE * share, torch.nan)


def _seed(cut: GoalCut) -> list[int]:
    """Of the questions of a cut: it depends on nothing but the cut."""
    told = [*cut.window.stamp.tolist(), *np.nan_to_num(cut.moments).ravel()]
    return [int(abs(number) * 1e6) for number in told]
