"""The size of an operator's hand, from a second of it held open, saved per user.

A hand's config is made for an average hand (see `human`). An operator's fingers are scaled to its reach, one by one, so
that a small hand opens the robot's as far as a large one.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from egohand_ros.outputs import check_page, write_text

from ...errors import UserError
from ...hand.poses import hand_pose
from ...hand.skeleton import FINGER_KEYPOINTS, FINGERS, NUM_KEYPOINTS, WRIST, side_index

USER_FOLDER_VARIABLE = "EGOHAND_USERS"
_FEWEST = 10  # frames
_STRAIGHT = 0.93  # tip distance over the length of the bones, of an open finger (the thumb bends more)
_STEADY = 0.02  # m, spread of a fingertip's reach over the recording
_PLAUSIBLE = (0.6, 1.6)  # hand size relative to the average


@dataclass(frozen=True)
class HandCalibration:
    """`size`: hand length relative to the average; `finger_scale`: what to multiply each finger's keypoints by."""

    user: str
    side: str
    size: float
    finger_scale: dict[str, float]
    frames: int

    def save(self, folder: str | Path | None = None) -> Path:
        """Write <folder>/<user>_<side>.yaml, by default into the user's own folder."""
        path = calibration_path(self.user, self.side, folder)
        check_page(path, "YAML")
        write_text(path, yaml.safe_dump(asdict(self), sort_keys=False))
        return path


def calibration_path(user: str, side: str, folder: str | Path | None = None) -> Path:
    """Where a user's calibration is: $EGOHAND_USERS, otherwise ~/.config/egohand/users."""
    if not user or any(c in user for c in "/\\."):
        raise UserError(f"user name {user!r} must be a plain word")
    base = folder or os.environ.get(USER_FOLDER_VARIABLE) or Path.home() / ".config" / "egohand" / "users"
    return Path(base) / f"{user}_{side}.yaml"


def load_calibration(user: str, side: str, folder: str | Path | None = None) -> HandCalibration:
    """A saved calibration; `UserError` says how to make one when there is none, or what is wrong with it."""
    path = calibration_path(user, side, folder)
    if not path.is_file():
        raise UserError(
            f"no calibration of user {user!r} for the {side} hand ({path}); make one with `egohand hands calibrate`"
        )
    data = yaml.safe_load(path.read_text())
    try:
        scale = {finger: float(data["finger_scale"][finger]) for finger in FINGERS}
        if not all(0.2 < value < 5.0 for value in scale.values()):
            raise ValueError(f"finger_scale {scale} is out of bounds")
        return HandCalibration(str(data["user"]), str(data["side"]), float(data["size"]), scale, int(data["frames"]))
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a calibration: {error!r}; make it anew with `egohand hands calibrate`"
        ) from error


def calibrate(keypoints: np.ndarray, valid: np.ndarray | None, side: str, user: str = "default") -> HandCalibration:
    """Calibrate on keypoints (T, 21, 3) m of about a second of an open, still hand, in any frame.

    Raises `UserError` that tells the operator what to do: too few frames, not open, not still, implausible size.
    """
    side_index(side)
    keypoints = np.asarray(keypoints, dtype=float)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (NUM_KEYPOINTS, 3):
        raise UserError(f"keypoints have shape {keypoints.shape}; (T, 21, 3) are needed")
    usable = np.isfinite(keypoints).all((1, 2))
    if valid is not None:
        usable &= np.asarray(valid, dtype=bool).all(1)
    if usable.sum() < _FEWEST:
        raise UserError(
            f"only {int(usable.sum())} frames show the whole hand; hold it open before the camera for a second"
        )
    reach, straightness = _reach(keypoints[usable])
    bent = [f for f, s in zip(FINGERS[1:], np.median(straightness, axis=0)[1:]) if s < _STRAIGHT]
    if bent:
        raise UserError(f"{', '.join(bent)} {'is' if len(bent) == 1 else 'are'} bent; open the hand flat")
    if (np.ptp(np.quantile(reach, (0.1, 0.9), axis=0), axis=0) > _STEADY).any():
        raise UserError("the hand moves; hold it still for a second")
    average, _ = _reach(hand_pose("open", side)[None])
    scale = average[0] / np.median(reach, axis=0)
    size = float(1.0 / np.mean(scale[1:]))
    if not _PLAUSIBLE[0] < size < _PLAUSIBLE[1]:
        raise UserError(f"the hand would be {size:.2f} times the average; are the keypoints in metres?")
    return HandCalibration(
        user, side, round(size, 4), {f: round(float(s), 4) for f, s in zip(FINGERS, scale)}, int(usable.sum())
    )


def _reach(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length of the bones from wrist to tip (T, 5) m, and how straight each finger is (T, 5), 1 when fully."""
    reach, straightness = [], []
    for chain in FINGER_KEYPOINTS.values():
        bones = np.linalg.norm(np.diff(keypoints[:, [WRIST, *chain]], axis=1), axis=-1)
        tip = np.linalg.norm(keypoints[:, chain[3]] - keypoints[:, chain[0]], axis=-1)
        reach.append(bones.sum(1))
        straightness.append(tip / np.maximum(bones[:, 1:].sum(1), 1e-9))
    return np.stack(reach, axis=1), np.stack(straightness, axis=1)
