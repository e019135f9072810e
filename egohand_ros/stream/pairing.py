"""`SidePairer`: trackers that publish one hand a message -> one observation of both hands where they belong
together.
"""

from dataclasses import dataclass

import numpy as np

from ..hand.skeleton import NUM_KEYPOINTS

# Stamps this close (s) are one frame of the tracker.
SAME_FRAME = 1e-4
# A side that has been silent for so long (s) is not waited for.
SILENT = 0.25


@dataclass
class BothHands:
    """keypoints (2, 21, 3) m, valid (2, 21), R_frame_palm (2, 3, 3) with NaN where unknown, at `stamp` s."""

    stamp: float
    frame_id: str
    keypoints: np.ndarray
    valid: np.ndarray
    rotation: np.ndarray

    @classmethod
    def empty(cls, stamp: float, frame_id: str) -> "BothHands":
        """Nothing seen."""
        keypoints, rotation = np.full((2, NUM_KEYPOINTS, 3), np.nan), np.full((2, 3, 3), np.nan)
        return cls(stamp, frame_id, keypoints, np.zeros((2, NUM_KEYPOINTS), dtype=bool), rotation)

    @classmethod
    def of(cls, stamp: float, frame_id: str, keypoints: dict[int, np.ndarray]) -> "BothHands":
        """From the keypoints (21, 3) of the sides that were seen, NaN where a keypoint was not."""
        both = cls.empty(stamp, frame_id)
        for side, hand in keypoints.items():
            both.keypoints[side] = hand
            both.valid[side] = np.isfinite(hand).all(-1)
        return both

    def merge(self, other: "BothHands", side: int) -> None:
        """Take one side from another observation of the same time."""
        for mine, theirs in zip(self._arrays(), other._arrays()):
            mine[side] = theirs[side]

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.keypoints, self.valid, self.rotation


class SidePairer:
    """Holds one side back while the other side of the same frame may still come, never longer than one message.

    A tracker that stamps both sides alike costs no information and no wait; one that stamps them apart is passed
    through at once, each side an observation of its own.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what is held back and what was learnt of the tracker."""
        self._held: tuple[int, BothHands] | None = None
        self._last = [-np.inf, -np.inf]
        self._together = True  # whether the tracker stamps both sides alike, as far as is known

    def add(self, side: int, hand: BothHands) -> list[BothHands]:
        """The observations that are complete now, oldest first, no two with one stamp."""
        appears = hand.stamp - self._last[side] > SILENT
        self._last[side] = hand.stamp
        out = []
        if self._held is not None:
            held_side, held = self._held
            self._held = None
            if held_side != side and abs(held.stamp - hand.stamp) < SAME_FRAME and held.frame_id == hand.frame_id:
                self._together = True
                held.merge(hand, side)
                return [held]
            self._together = held_side == side
            out.append(held)
        since_other = hand.stamp - self._last[1 - side]
        if abs(since_other) < SAME_FRAME:
            # The other side was not expected to have company and is gone already; from the next frame on it waits.
            self._together = True
        elif self._together and (appears or since_other < SILENT):
            self._held = (side, hand)
        else:
            out.append(hand)
        return out
