"""`PathFollower`: the path of a human hand -> targets of the command stream, for the moment at which commands take
effect.

A command that is sent now acts `lead` s later, so it has to show the pose that the human hand will have then. All times
are absolute, so whatever passed between observation and command (tracker, inference, transport, solving) is made up for
as well. Node and benchmark share this class.
"""

from dataclasses import dataclass

import numpy as np

from ...errors import RejectedInput
from ...hand.plausibility import check_hand
from ..hands.model import HandModel
from ..retarget.retargeter import Retargeter
from .command_stream import Follower, FollowerOptions
from .forecast_gain import ForecastGain
from .hand_path import HandPath

_PATH_STEP = 0.1  # s; how far beyond the command the path is solved, to run on until the next forecast
_SHORTEST_PATH = 1e-3  # s
_IN_PALM_FRAME = np.eye(3)  # a path's keypoints are in their palm frame, whatever it was taken from


@dataclass(frozen=True)
class ConfidenceGate:
    """Keypoint standard deviations (m) up to which a forecast is fully trusted, and from which on not at all."""

    sure_std: float = 0.05
    lost_std: float = 0.20

    def __post_init__(self) -> None:
        if not self.sure_std < self.lost_std:
            raise ValueError(f"sure_std is {self.sure_std}, lost_std {self.lost_std}; the first has to be smaller")

    def trust(self, std: np.ndarray) -> float:
        """Confidence 0 to 1 in a forecast with keypoint standard deviations (21,) m; 1 where it gives none."""
        known = std[np.isfinite(std)]
        if not len(known):
            return 1.0
        return float(np.clip((self.lost_std - np.median(known)) / (self.lost_std - self.sure_std), 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Aim:
    """What was solved: the pose q (n,) rad of `path`, `lead` s ahead of its observation, which is less than asked for
    where the forecast is doubtful; `trust` 0 to 1 in that pose."""

    path: HandPath
    q: np.ndarray
    lead: float
    trust: float


class PathFollower:
    """Solver and command stream of one robot hand. Not thread-safe.

    `commands` is the command stream (see `Follower`): enable it, and ask it for commands at their rate. With `adapt`
    forecast motions count as far as they came true lately (see `ForecastGain`).
    """

    def __init__(
        self,
        hand: HandModel,
        side: str | None = None,
        objective: str = "vector",
        options: FollowerOptions = FollowerOptions(),
        gate: ConfidenceGate = ConfidenceGate(),
        adapt: bool = True,
    ):
        self.hand, self.gate = hand, gate
        self.gain = ForecastGain() if adapt else None
        self.commands = Follower(hand, options)
        # The second one solves the poses to come, so that they do not pull at the pose of now.
        self._retargeter, self._ahead = (Retargeter(hand, side, objective) for _ in range(2))

    def reset(self) -> None:
        """Forget all motion of the human hand; go on from the last command."""
        if self.gain is not None:
            self.gain = ForecastGain()
        self._retargeter.reset(self.commands.q)

    def follow(self, path: HandPath, stamp: float, now: float, lead: float, confidence: float = 1.0) -> Aim:
        """Solve the pose that is due `lead` s from `now` and make it the target of the command stream.

        `path` was made from an observation at `stamp`; `confidence` 0 to 1 is that of the observation. The further
        ahead of the observation, the less a forecast is sure of: what it is not sure of shortens the way ahead, down
        to the observation itself. Raises `RejectedInput` for hands that cannot be used, also as `Follower.set_path`.
        """
        due = now + lead
        if self.gain is not None:
            path = self.gain(path, stamp, due - stamp)
        reach = self.gate.trust(path.at(due)[1])
        time = stamp + reach * (due - stamp)
        keypoints, std = path.at(time)
        valid = np.isfinite(keypoints).all(axis=-1)
        check_hand(keypoints, valid)
        result = self._retargeter.solve(keypoints, valid, rotation=_IN_PALM_FRAME, stamp=time)
        if not result.solved:
            raise RejectedInput(result.status.partition(": ")[2].replace(" ", "_") or "not_solved")
        trust = self.gate.trust(std)
        self.commands.set_target(result.q, stamp, now, confidence * trust)
        return Aim(path, result.q, time - stamp, trust)

    def look_ahead(self, aim: Aim, stamp: float, now: float) -> None:
        """Solve the path beyond `aim`, so that commands move on until the next forecast comes."""
        path, time = aim.path, stamp + aim.lead
        later = min(time + _PATH_STEP, path.end)
        if later - time < _SHORTEST_PATH:
            return
        self._ahead.reset(aim.q)
        keypoints, _ = path.at(later)
        result = self._ahead.solve(keypoints, np.isfinite(keypoints).all(axis=-1), rotation=_IN_PALM_FRAME)
        if result.solved:
            self.commands.extend_path(np.array([now + later - time]), result.q[None])
