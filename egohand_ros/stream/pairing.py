"""`SidePairer`: trackers that publish one hand a message -> one observation of both hands where they belong
together.
"""

import numpy as np

from ..messages.hands import Hands

# Stamps this close (s) are one frame of the tracker.
SAME_FRAME = 1e-4
# A side that has been silent for so long (s) is not waited for.
SILENT = 0.25


class SidePairer:
    """Holds one side back while the other side of the same frame may still come, never longer than one message.

    A tracker that stamps both sides alike costs no information and no wait; one that stamps them apart is passed
    through at once, each side an observation of its own.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what is held back and what was learnt of the tracker."""
        self._held: tuple[int, Hands] | None = None
        self._last = [-np.inf, -np.inf]
        self._together = True  # whether the tracker stamps both sides alike, as far as is known

    def add(self, side: int, hand: Hands) -> list[Hands]:
        """The observations that are complete now, oldest first, no two with one stamp."""
        appears = hand.stamp - self._last[side] > SILENT
        self._last[side] = hand.stamp
        out = []
        if self._held is not None:
            held_side, held = self._held
            self._held = None
            if held_side != side and abs(held.stamp - hand.stamp) < SAME_FRAME and held.frame_id == hand.frame_id:
                self._together = True
                return [held.with_side(side, hand)]
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
