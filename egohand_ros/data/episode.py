"""`Episode`: one recording of both hands in one fixed frame, and its `.npz` form."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from ..errors import UserError
from ..hand.palm import palm_rotations
from ..hand.skeleton import NUM_KEYPOINTS, WRIST
from ..outputs import replaced_file

if TYPE_CHECKING:
    from ..forecast.common.protocol import ForecasterSpec
    from ..stream.window import Window
    from .episode_images import EpisodeImages

# m, wrist to far keypoints of a hand: nothing between a child's and a giant's is refused.
_SMALLEST, _LARGEST = 0.03, 0.5
_OPTIONAL = ("pixels", "mano_pose", "mano_translation", "betas", "body", "contacts")
_PER_FRAME = (
    "stamp", "keypoints", "valid", "wrist_rotation", "camera_pose", "pixels", "mano_pose", "mano_translation", "body"
)  # fmt: skip


@dataclass(frozen=True)
class Episode:
    """A recording at its own, possibly uneven, rate. T frames, sides [left, right].

    stamp          (T,) float64 s, strictly increasing
    keypoints      (T, 2, 21, 3) m in one fixed frame (world where `camera_pose` is given)
    valid          (T, 2, 21) bool; false keypoints hold NaN
    wrist_rotation (T, 2, 3, 3) R_frame_palm, NaN where unknown; from the palm's keypoints when not given
    camera_pose    (T, 4, 4) T_world_camera (optical frame), or None
    task           what the person does, or ""
    images         pictures of the camera, which are read when windows want them, or None
    pixels         (T, 2, 21, 2) px of those pictures at their own size, where the detector saw keypoints (x to the
                   right, y down), NaN where it did not; or None
    mano_pose, mano_translation  (T, 2, 16, 3) rad and (T, 2, 3) m, MANO's parameters in the same frame as the
    keypoints,
                   as `hand.mano_layer.ManoLayer` takes them (relative to MANO's mean pose), NaN where unknown; or None
    betas          (2, 10) MANO's shapes of the hands, or None
    body           (T, J, 3) m, joints of the wearer's body named `body_names`, NaN where unknown; or None
    contacts       (C, 2) moments at which a hand begins to touch something: time s and side (0 left, 1 right); or None
    """

    stamp: np.ndarray
    keypoints: np.ndarray
    valid: np.ndarray
    wrist_rotation: np.ndarray | None = None
    camera_pose: np.ndarray | None = None
    task: str = ""
    images: EpisodeImages | None = None
    pixels: np.ndarray | None = None
    mano_pose: np.ndarray | None = None
    mano_translation: np.ndarray | None = None
    betas: np.ndarray | None = None
    body: np.ndarray | None = None
    body_names: tuple[str, ...] = ()
    contacts: np.ndarray | None = None

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
            ("pixels", self.pixels, (length, 2, NUM_KEYPOINTS, 2)),
            ("mano_pose", self.mano_pose, (length, 2, 16, 3)),
            ("mano_translation", self.mano_translation, (length, 2, 3)),
            ("betas", self.betas, (2, 10)),
            ("body", self.body, (length, len(self.body_names), 3)),
            ("contacts", self.contacts, (len(self.contacts) if self.contacts is not None else 0, 2)),
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
        for name in ("camera_pose", *_OPTIONAL):
            object.__setattr__(self, name, given.get(name))

    def __len__(self) -> int:
        return len(self.stamp)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return float(self.stamp[-1] - self.stamp[0])

    @property
    def camera_matrix(self) -> np.ndarray | None:
        """(3, 3) px of the pictures at their own size, where there are any of a known camera."""
        return None if self.images is None or self.images.camera is None else self.images.camera.matrix

    @property
    def prompt(self) -> str | None:
        """The task as windows have it; None without one."""
        return self.task or None

    def slice(self, start: int, stop: int) -> Episode:
        """Frames start..stop-1. Pictures and contacts have their own times, and stay."""
        cut = {name: getattr(self, name) for name in _PER_FRAME}
        return replace(self, **{name: array[start:stop] for name, array in cut.items() if array is not None})

    def last_window(self, spec: ForecasterSpec) -> Window:
        """What a forecaster sees at the last frame in which a wrist is seen: a window of batch 1 of its length and
        rate.

        Frames from before the recording are not valid in it. Raises `UserError` where no wrist is ever seen.
        """
        from .windows import cut_windows, with_images  # they need torch, which an episode does not

        seen = np.flatnonzero(self.valid[..., WRIST].any(axis=1))
        if not len(seen):
            raise UserError("no wrist is seen in this episode, so there is nothing to forecast from")
        return with_images(cut_windows(self, seen[-1:], spec.step, spec.window_length, 0).window, self, spec)

    def save(self, path: Path | str) -> None:
        """Write a compressed `.npz` with these field names as keys, whole or not at all, in place of what is there.
        Of pictures it says where they are: what is in memory alone cannot be saved."""
        arrays = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        if self.images is not None:
            arrays["image_stamp"] = self.images.stamp
            arrays["images"] = np.array(json.dumps(self.images.to_json()))
        if self.body is not None:
            arrays["body_names"] = np.array(self.body_names)
        path = Path(path)
        with replaced_file(path if path.suffix == ".npz" else f"{path}.npz") as part:  # numpy adds it too
            np.savez_compressed(part, task=np.array(self.task), **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Episode:
        """Read an `.npz`; raises `UserError` for a file that is not an episode."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, EOFError, ValueError, BadZipFile, zlib.error) as error:
            raise UserError(f"cannot read episode {path}: {error}; expected an .npz file") from None
        missing = [name for name in ("stamp", "keypoints", "valid") if name not in arrays]
        if missing:
            raise UserError(
                f"episode {path} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}"
            )
        optional: dict = {name: arrays.get(name) for name in ("wrist_rotation", "camera_pose", *_OPTIONAL)}
        optional["body_names"] = tuple(arrays["body_names"].tolist()) if "body_names" in arrays else ()
        if "images" in arrays:
            optional["images"] = _images(path, str(arrays["images"]), arrays.get("image_stamp"))
        task = str(arrays["task"]) if "task" in arrays else ""
        return cls(arrays["stamp"], arrays["keypoints"], arrays["valid"], task=task, **optional)


def _images(path: Path | str, described: str, stamp: np.ndarray | None) -> EpisodeImages:
    from .episode_images import EpisodeImages  # OpenCV is not needed for an episode without pictures

    try:
        return EpisodeImages.from_json(json.loads(described), stamp, Path(path).parent)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"episode {path} says of its images what cannot be read: {error}") from None


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
