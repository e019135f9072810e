"""What can be said of 4D hands without any truth: do they agree with the 2D keypoints, are they steady, is a bone as
long in every frame?"""

from dataclasses import dataclass

import numpy as np

from ...data.episode import Episode
from ...errors import UserError
from ...geometry.transforms import invert_transform, transform_points
from ...hand.skeleton import BONES, WRIST

_MAX_GAP = 0.1  # s between frames over which motion is judged


@dataclass(frozen=True)
class HandsJudged:
    """Over the hands of a recording, NaN where nothing is seen: median distance of keypoints from where the detector
    saw them, px of the picture; median acceleration of wrists, m/s^2 (a hand that is used stays below about 10, a noisy
    one does not); and by how much a bone's length varies between frames, the median over bones of its deviation by its
    mean, %."""

    reprojection: float
    acceleration: float
    bone_variation: float
    frames: int


def judge_hands(episode: Episode) -> HandsJudged:
    """Judge a recording with pixels and a known camera. Raises `UserError` without."""
    if episode.pixels is None or episode.images is None or episode.images.camera is None:
        raise UserError("a recording without 2D keypoints, pictures and their camera cannot be judged by its pictures")
    keypoints = episode.keypoints
    if episode.camera_pose is not None:
        keypoints = transform_points(invert_transform(episode.camera_pose)[:, None], keypoints)
    away = np.linalg.norm(episode.images.camera.project(np.nan_to_num(keypoints)) - episode.pixels, axis=-1)
    away = away[episode.valid & np.isfinite(episode.pixels).all(axis=-1)]
    steady = [_accelerations(episode, side) for side in range(2)]
    bones = [_variation(episode, side) for side in range(2)]
    return HandsJudged(
        _median(away),
        _median(np.concatenate(steady)),
        100.0 * _median(np.concatenate(bones)),
        int(episode.valid[..., WRIST].any(axis=1).sum()),
    )


def _accelerations(episode: Episode, side: int) -> np.ndarray:
    """Of the wrist over every three seen frames that follow each other, m/s^2."""
    seen = np.flatnonzero(episode.valid[:, side, WRIST])
    if len(seen) < 3:
        return np.zeros(0)
    time, wrist = episode.stamp[seen], episode.keypoints[seen, side, WRIST]
    step = np.diff(time)
    velocity = np.diff(wrist, axis=0) / step[:, None]
    near = (step[1:] <= _MAX_GAP) & (step[:-1] <= _MAX_GAP)
    return np.linalg.norm(np.diff(velocity, axis=0) / (0.5 * (step[1:] + step[:-1]))[:, None], axis=-1)[near]


def _variation(episode: Episode, side: int) -> np.ndarray:
    """Deviation of each bone's length by its mean."""
    found = []
    for a, b in BONES:
        both = episode.valid[:, side, a] & episode.valid[:, side, b]
        if both.sum() > 1:
            length = np.linalg.norm(episode.keypoints[both, side, a] - episode.keypoints[both, side, b], axis=-1)
            found.append(length.std() / max(length.mean(), 1e-6))
    return np.array(found)


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")
