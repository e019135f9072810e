"""A whole recording of one human hand -> the motion of a robot hand, frame by frame as it would run live."""

from collections.abc import Callable
from dataclasses import dataclass

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

    def save(self, path) -> None:
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
) -> RetargetedMotion:
    """Follow keypoints (T, 21, 3) m, valid (T, 21), at times (T,) s within all limits of the hand.

    The motion begins at the first pose that can be solved; frames before it hold there. Where keypoints are missing the
    hand brakes and holds. Raises `UserError` when no frame can be used.
    """
    retargeter = Retargeter(hand, side, objective)
    seen = np.flatnonzero(valid[:, WRIST])
    for first in seen:
        start = retargeter.solve(keypoints[first], valid[first])
        if start.solved:
            break
    else:
        raise UserError(f"no frame of {len(stamp)} has the keypoints that {hand.name!r} needs; is it the right side?")
    retargeter.reset(start.q)
    q, solve_ms, solved = np.tile(start.q, (len(stamp), 1)), np.zeros(len(stamp)), np.zeros(len(stamp), dtype=bool)
    solve_ms[first], solved[first] = start.solve_ms, True
    for i in range(first + 1, len(stamp)):
        result = retargeter.solve(keypoints[i], valid[i], dt=stamp[i] - stamp[i - 1])
        q[i], solve_ms[i], solved[i] = result.q, result.solve_ms, result.solved
        on_progress(i + 1, len(stamp))
    return RetargetedMotion(np.asarray(stamp, dtype=np.float64), q, hand.joint_names, solve_ms, solved)
