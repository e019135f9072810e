"""A forecaster in a process of its own, as another network in its own environment: questions and answers are lines of
JSON on its standard input and output.

    {"ask": "spec"}
        -> {"name": "mine", "step": 0.1, "window_length": 20, "horizon_steps": 10, "max_hypotheses": 5,
            "modalities": ["keypoints", "images", "prompt"], "image_size": [224, 224], "image_offsets": [0],
            "needs": [["images", "mine needs images"]], "gives": ["wrist_position"]}
        Fields of `ForecasterSpec`; all but the name may be left out. "slow": live, hands go on with its last forecast
        while it works on the next; where it does not say, its first answers are timed.

    {"ask": "forecast", "hypotheses": 5, "seed": 0, "prompt": ["take the cup"], "npz": "..."}
        The arrays of `Window` by their names, as an .npz in base64: stamp, keypoints, valid, wrist_rotation,
        rotation_valid, and those that there are of camera_pose, images, depth, camera_matrix, pixels, betas.
        -> {"npz": "..."} with keypoints (B, K, S, 2, 21, 3), and if it has them wrist_rotation (B, K, S, 2, 3, 3)
           R_frame_palm, keypoint_std (B, K, S, 2, 21), probability (B, K). Or the same names with nested lists.
        -> {"error": "why not"}

    {"ask": "reset"} -> {}    the stream begins anew; asked of those whose spec says "resets": true
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...config import from_mapping
from ...errors import UserError
from ...hand.palm import palm_rotations
from ...hand.skeleton import NUM_KEYPOINTS
from ...stream.window import Window
from ..common.observed import Observed, assemble
from ..common.protocol import OUTPUTS, Forecast, ForecasterSpec, Need
from .arrays import pack, unpack
from .process import LineProcess

_ARRAYS = (
    "stamp", "keypoints", "valid", "wrist_rotation", "rotation_valid", "camera_pose", "images", "depth",
    "camera_matrix", "pixels", "betas",
)  # fmt: skip
_GIVEN = ("keypoints", "wrist_rotation", "keypoint_std", "probability")
_SPEC = (
    "name", "step", "window_length", "horizon_steps", "max_hypotheses", "modalities", "image_offsets", "image_size",
    "minimum_observations", "gives", "times", "slow",
)  # fmt: skip


class ExternalForecaster:
    """What `command` forecasts. It is asked for its spec once, within `start_timeout` s, and for every forecast within
    `timeout` s; one that is slower, ends, or answers nonsense is a `UserError` in one line, and is started again some
    seconds later where it is asked again. `says_pace`: whether its spec tells if it is slow."""

    def __init__(self, command: str, timeout: float = 10.0, start_timeout: float = 120.0):
        self._process, self._timeout, self._start_timeout = LineProcess(command), timeout, start_timeout
        answer = self._process.ask({"ask": "spec"}, start_timeout)
        self._resets, self.says_pace = bool(answer.pop("resets", False)), "slow" in answer
        self.spec = _spec(answer, command)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Whatever it forecasts, checked; hands that were not seen are left out. Raises `MissingInput`, and
        `UserError`."""
        self.spec.check(window)
        arrays = {name: getattr(window, name) for name in _ARRAYS}
        question = {
            "ask": "forecast",
            "hypotheses": max(1, min(hypotheses, self.spec.max_hypotheses)),
            "seed": seed or 0,
            "prompt": None if window.prompt is None else list(window.prompt),
            "npz": pack({name: value.cpu().numpy() for name, value in arrays.items() if value is not None}),
        }
        # A process that had ended has to load again what it takes.
        answer = self._process.ask(question, self._timeout if self._process.runs else self._start_timeout)
        return self._read(answer, window)

    def reset(self) -> None:
        """The stream begins anew."""
        if self._resets and self._process.runs:
            self._process.ask({"ask": "reset"}, self._timeout)

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _read(self, answer: dict[str, Any], window: Window) -> Forecast:
        command, spec = self._process.command, self.spec
        if "error" in answer:
            raise UserError(f"external command {command!r} says: {' '.join(str(answer['error']).split())[:200]}")
        try:
            given = unpack(answer["npz"]) if "npz" in answer else answer
            arrays = {name: np.asarray(given[name], dtype=np.float64) for name in _GIVEN if name in given}
            lead = _check(arrays, window.batch, spec)
        except (ValueError, TypeError) as error:
            raise UserError(f"external command {command!r} answered {error}") from None
        keypoints, observed = arrays["keypoints"], Observed.from_window(window)
        rotation = arrays.get("wrist_rotation", palm_rotations(keypoints))
        held = observed.rotation[:, -1][:, None, None]
        rotation = np.where(np.isfinite(rotation).all((-1, -2), keepdims=True), rotation, held)
        forecast = assemble(spec, window, observed, keypoints, rotation, arrays.get("keypoint_std"))
        if "probability" not in arrays:
            return forecast
        order = np.argsort(-arrays["probability"], axis=1, kind="stable")
        if not (order == np.arange(lead[1])).all():
            raise UserError(f"external command {command!r} answered hypotheses that are not in order of probability")
        return replace(forecast, probability=torch.from_numpy(arrays["probability"]))


def _spec(answer: dict[str, Any], command: str) -> ForecasterSpec:
    where = f"spec of external command {command!r}"
    if "error" in answer or "name" not in answer:
        raise UserError(f"{where} is {str(answer)[:120]}; expected at least a name")
    needs = answer.pop("needs", [])
    unknown = sorted(set(answer) - set(_SPEC))
    if unknown:
        raise UserError(f"{where} has unknown {', '.join(unknown)}; known: {', '.join((*_SPEC, 'needs', 'resets'))}")
    try:
        told = tuple(Need(str(modality), str(reason)) for modality, reason in needs)
    except (TypeError, ValueError):
        raise UserError(f"{where}: needs is {needs!r}; expected pairs of a modality and a reason") from None
    spec = replace(from_mapping(ForecasterSpec, answer, where), needs=told)
    wrong = sorted(set(spec.gives) - set(OUTPUTS))
    if wrong:
        raise UserError(f"{where}: gives has {', '.join(wrong)}; known: {', '.join(OUTPUTS)}")
    if min(spec.step, spec.window_length, spec.horizon_steps, spec.max_hypotheses) <= 0:
        raise UserError(f"{where}: step, window_length, horizon_steps and max_hypotheses have to be positive")
    return spec


def _check(arrays: dict[str, np.ndarray], batch: int, spec: ForecasterSpec) -> tuple[int, ...]:
    """(B, K, S, 2) of an answer. Raises ValueError that says what is wrong with it."""
    if "keypoints" not in arrays:
        raise ValueError("no keypoints")
    keypoints = arrays["keypoints"]
    count = keypoints.shape[1] if keypoints.ndim == 6 else 0
    lead = (batch, count, spec.horizon_steps, 2)
    if count < 1 or keypoints.shape != (*lead, NUM_KEYPOINTS, 3):
        raise ValueError(
            f"keypoints of shape {keypoints.shape}; expected ({batch}, K, {spec.horizon_steps}, 2, {NUM_KEYPOINTS}, 3)"
        )
    shapes = {"wrist_rotation": (*lead, 3, 3), "keypoint_std": (*lead, NUM_KEYPOINTS), "probability": lead[:2]}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise ValueError(f"{name} of shape {arrays[name].shape}; expected {shape}")
    if not np.isfinite(keypoints).all():
        raise ValueError("keypoints that are not finite")
    if "probability" in arrays and not np.allclose(arrays["probability"].sum(axis=1), 1.0, atol=1e-3):
        raise ValueError("probabilities that do not sum to 1")
    return lead
