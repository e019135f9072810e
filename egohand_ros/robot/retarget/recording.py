"""A whole recording of one human hand -> the motion of a robot hand, frame by frame as it would run live."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...hand.skeleton import WRIST
from ..hands.model import HandModel
from .retargeter import Retargeter


@dataclass(frozen=True, eq=False)
class RetargetedMotion:
    """T frames: stamp (T,) s, q (T, n) rad in `joint_names` order, solve_ms (T,), solved (T,) bool (false: held)."""

    stamp: np.ndarray
    q: np.ndarray
    joint_names: tuple[str, ...]
    solve_ms: np.ndarray
    solved: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write an `.npz` with these field names as keys."""
        np.savez_compressed(path, **{**vars(self), "joint_names": np.array(self.joint_names)})


def retarget_sequence(
    hand: HandModel,
    stamp: np.ndarray,
    keypoints: np.ndarray,
    valid: np.ndarray,
    side: str | None = None,
    objective: str = "vector",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    rotation: np.ndarray | None = None,
) -> RetargetedMotion:
    """Follow keypoints (T, 21, 3) m, valid (T, 21), at times (T,) s within all limits of the hand.

    `rotation` (T, 3, 3) is R_frame_palm where it is given, NaN elsewhere (see `Retargeter.solve`). The motion begins at
    the first pose that can be solved; frames before it hold there. Where keypoints are missing the hand brakes and
    holds. Raises `UserError` when no frame can be used, and says what is missing.
    """
    given = [None] * len(stamp) if rotation is None else rotation
    retargeter = Retargeter(hand, side, objective)
    seen = np.flatnonzero(valid[:, WRIST])
    for first in seen:
        start = retargeter.solve(keypoints[first], valid[first], rotation=given[first])
        if start.solved:
            break
    else:
        raise UserError(_why_none(retargeter, keypoints, valid, rotation))
    retargeter.reset(start.q)
    q, solve_ms, solved = np.tile(start.q, (len(stamp), 1)), np.zeros(len(stamp)), np.zeros(len(stamp), dtype=bool)
    solve_ms[first], solved[first] = start.solve_ms, True
    for i in range(first + 1, len(stamp)):
        result = retargeter.solve(keypoints[i], valid[i], dt=stamp[i] - stamp[i - 1], rotation=given[i])
        q[i], solve_ms[i], solved[i] = result.q, result.solve_ms, result.solved
        on_progress(i + 1, len(stamp))
    return RetargetedMotion(np.asarray(stamp, dtype=np.float64), q, hand.joint_names, solve_ms, solved)


def _why_none(retargeter: Retargeter, keypoints: np.ndarray, valid: np.ndarray, rotation: np.ndarray | None) -> str:
    """Why no frame could be followed, and what helps."""
    name, side, frames = retargeter.hand.name, retargeter.side, len(keypoints)
    if not valid[:, WRIST].any():
        return f"no frame of {frames} shows a {side} hand; choose the other one with --side"
    missing = retargeter.missing(np.where(valid[..., None], keypoints, np.nan), rotation)
    if missing:
        return f"{name!r} cannot follow the {side} hand: none of {frames} frames has {missing}"
    return f"{name!r} cannot follow the {side} hand: no frame of {frames} has all that it needs at once"
