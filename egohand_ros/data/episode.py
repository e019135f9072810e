"""`Episode`: one recording of both hands in one fixed frame, and its `.npz` form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from ..errors import UserError
from ..hand.palm import palm_rotations
from ..hand.skeleton import NUM_KEYPOINTS, WRIST

if TYPE_CHECKING:
    from ..forecast.common.protocol import ForecasterSpec
    from ..stream.window import Window

# m, wrist to far keypoints of a hand: nothing between a child's and a giant's is refused.
_SMALLEST, _LARGEST = 0.03, 0.5


@dataclass(frozen=True)
class Episode:
    """A recording at its own, possibly uneven, rate. T frames, sides [left, right].

    stamp          (T,) float64 s, strictly increasing
    keypoints      (T, 2, 21, 3) m in one fixed frame (world where `camera_pose` is given)
    valid          (T, 2, 21) bool; false keypoints hold NaN
    wrist_rotation (T, 2, 3, 3) R_frame_palm, NaN where unknown; from the palm's keypoints when not given
    camera_pose    (T, 4, 4) T_world_camera (optical frame), or None
    task           what the person does, or ""
    """

    stamp: np.ndarray
    keypoints: np.ndarray
    valid: np.ndarray
    wrist_rotation: np.ndarray | None = None
    camera_pose: np.ndarray | None = None
    task: str = ""

    def __post_init__(self):
        stamp = _numbers("stamp", self.stamp)
        keypoints = _numbers("keypoints", self.keypoints).copy()
        valid = _numbers("valid", self.valid).astype(bool)
        if stamp.ndim != 1:
            raise UserError(f"episode array 'stamp' has shape {stamp.shape}; expected (T,), s")
        length = len(stamp)
        shapes = {"stamp": (length,), "keypoints": (length, 2, NUM_KEYPOINTS, 3), "valid": (length, 2, NUM_KEYPOINTS)}
        given = {"stamp": stamp, "keypoints": keypoints, "valid": valid}
        for name, optional, shape in (
            ("wrist_rotation", self.wrist_rotation, (length, 2, 3, 3)),
            ("camera_pose", self.camera_pose, (length, 4, 4)),
        ):
            if optional is not None:
                given[name], shapes[name] = _numbers(name, optional), shape
        for name, shape in shapes.items():
            if given[name].shape != shape:
                raise UserError(f"episode array {name!r} has shape {given[name].shape}; expected {shape}")
        if length < 1 or not np.isfinite(stamp).all() or (np.diff(stamp) <= 0).any():
            raise UserError("episode array 'stamp' needs at least one finite, strictly increasing time in seconds")
        valid &= np.isfinite(keypoints).all(axis=-1)
        keypoints[~valid] = np.nan
        rotation = given.get("wrist_rotation")
        object.__setattr__(self, "stamp", stamp)
        object.__setattr__(self, "keypoints", keypoints)
        object.__setattr__(self, "valid", valid)
        object.__setattr__(self, "wrist_rotation", palm_rotations(keypoints) if rotation is None else rotation)
        object.__setattr__(self, "camera_pose", given.get("camera_pose"))

    def __len__(self) -> int:
        return len(self.stamp)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return float(self.stamp[-1] - self.stamp[0])

    def slice(self, start: int, stop: int) -> Episode:
        """Frames start..stop-1."""
        camera = None if self.camera_pose is None else self.camera_pose[start:stop]
        return replace(
            self,
            stamp=self.stamp[start:stop],
            keypoints=self.keypoints[start:stop],
            valid=self.valid[start:stop],
            wrist_rotation=self.wrist_rotation[start:stop],
            camera_pose=camera,
        )

    def last_window(self, spec: ForecasterSpec) -> Window:
        """What a forecaster sees at the last frame in which a wrist is seen: a window of batch 1 of its length and
        rate.

        Frames from before the recording are not valid in it. Raises `UserError` where no wrist is ever seen.
        """
        from .windows import cut_windows  # it needs torch, which an episode does not

        seen = np.flatnonzero(self.valid[..., WRIST].any(axis=1))
        if not len(seen):
            raise UserError("no wrist is seen in this episode, so there is nothing to forecast from")
        return cut_windows(self, seen[-1:], spec.step, spec.window_length, 0).window

    def save(self, path: Path | str) -> None:
        """Write a compressed `.npz` with these field names as keys."""
        arrays = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        np.savez_compressed(path, task=np.array(self.task), **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Episode:
        """Read an `.npz`; raises `UserError` for a file that is not an episode."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, BadZipFile) as error:
            raise UserError(f"cannot read episode {path}: {error}; expected an .npz file") from None
        missing = [name for name in ("stamp", "keypoints", "valid") if name not in arrays]
        if missing:
            raise UserError(
                f"episode {path} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}"
            )
        optional = {name: arrays.get(name) for name in ("wrist_rotation", "camera_pose")}
        task = str(arrays["task"]) if "task" in arrays else ""
        return cls(arrays["stamp"], arrays["keypoints"], arrays["valid"], task=task, **optional)


def _numbers(name: str, values) -> np.ndarray:
    """Values as float64. Raises `UserError` for text and other things that are no numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise UserError(f"episode array {name!r} holds {array.dtype}; expected numbers")
    return array.astype(np.float64, copy=False)


def check_hands(path: Path | str, episode: Episode) -> None:
    """Refuse a recording from outside in which no hand was measured, or whose hands are no hand's size in metres.

    Raises `UserError` with what is probably wrong: no valid keypoint, numbers that are not finite, millimetres for
    metres.
    """
    if not episode.valid.any():
        infinite = np.isinf(episode.keypoints).any() or not np.isfinite(episode.keypoints[episode.valid]).all()
        raise UserError(f"{path} has no frame with a valid{' and finite' if infinite else ''} keypoint of either hand")
    wrist = np.where(episode.valid[:, :, :1, None], episode.keypoints[:, :, :1], np.nan)
    reach = np.linalg.norm(episode.keypoints - wrist, axis=-1)[episode.valid & episode.valid[:, :, :1]]
    typical = float(np.quantile(reach[reach > 0], 0.9)) if (reach > 0).any() else 0.1
    if not _SMALLEST < typical < _LARGEST:
        factor = "; are they in millimetres? Keypoints are in metres" if typical > 10.0 else "; keypoints are in metres"
        raise UserError(
            f"{path}: hands of {typical:.3g} m from the wrist to the fingertips; expected about 0.18{factor}"
        )
