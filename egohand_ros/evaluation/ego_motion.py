"""How much the camera moves in a window: EggHand's split by ego-motion (its section 5.2.3 and table 4)."""

from dataclasses import dataclass

import numpy as np

from ..data.episode import Episode
from ..data.windows import MAX_GAP_STEPS, camera_poses
from ..errors import UserError
from ..geometry.transforms import invert_transform

# EggHand's table 4 is of the tenth of windows in which the camera moves most.
TOP_SHARE = 0.1


@dataclass(frozen=True)
class EgoMotion:
    """Scores by forecaster of the `share` of windows in which the camera moves most; `threshold` is the least such
    motion.
    """

    share: float
    threshold: float
    windows: int
    scores: dict

    def to_json(self, metrics: tuple[str, ...]) -> dict:
        """Plain values."""
        forecasters = {name: score.values(metrics) for name, score in self.scores.items()}
        return {"share": self.share, "threshold": self.threshold, "windows": self.windows, "forecasters": forecasters}


def camera_motion(episode: Episode, ends: np.ndarray, protocol) -> np.ndarray:
    """(B,) "norm of variation in camera extrinsics across the clip" of windows that end at frames `ends`; NaN without
    poses.

    The sum over a window's frames, past and future, of the Frobenius norm of the change of the 3 x 4 extrinsic matrix.
    Extrinsics are relative to the window's first frame: the place of the world's origin, on which the paper is silent,
    does not matter.
    """
    times = episode.stamp[ends][:, None] + protocol.step * np.arange(1 - protocol.observed, protocol.predicted + 1)
    poses = camera_poses(episode, times, MAX_GAP_STEPS * protocol.step)
    if poses is None or not len(ends):
        return np.full(len(ends), np.nan)
    poses = poses.numpy()
    extrinsics = (invert_transform(poses) @ poses[:, :1])[..., :3, :]
    return np.linalg.norm(np.diff(extrinsics, axis=1), axis=(-1, -2)).sum(axis=1)


def motion_threshold(motion: np.ndarray, share: float) -> float:
    """The least motion among the `share` of windows with the most. Raises `UserError` where no window has camera
    poses.
    """
    if not 0.0 < share < 1.0:
        raise UserError(
            f"the share of windows with the most camera motion is {share:g}; expected one between 0 and 1, as 0.1"
        )
    known = np.sort(motion[np.isfinite(motion)])
    if not len(known):
        raise UserError("no recording has camera poses, so that windows cannot be told apart by camera motion")
    return float(known[-max(1, round(share * len(known)))])
