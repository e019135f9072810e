"""`HandSight`: whether a tracker sees one hand, and how sure it is, from one observation to the next."""

import numpy as np

from ..hand.skeleton import WRIST
from ..messages.hands import EXTRAPOLATED, LOST, Hands

_EXTRAPOLATED_CONFIDENCE = 0.5  # factor for a hand that the tracker does not see at the moment


class HandSight:
    """Of the hand `side`. One that the tracker goes on to extrapolate is lost after `hold_after` s."""

    def __init__(self, side: int):
        self.side = side
        self.forget()

    def forget(self) -> None:
        """It was never seen."""
        self._measured_at = -np.inf

    def sees(self, hands: Hands, hold_after: float) -> bool:
        """Whether the hand is seen in this observation, or was `hold_after` s before it."""
        if hands.state[self.side] == LOST or not hands.valid[self.side, WRIST]:
            return False
        if hands.state[self.side] != EXTRAPOLATED:
            self._measured_at = max(self._measured_at, hands.stamp)
        return hands.stamp - self._measured_at < hold_after

    def confidence(self, hands: Hands) -> float:
        """0 to 1; 1 where the tracker does not say."""
        given = hands.confidence[self.side]
        confidence = 1.0 if np.isnan(given) else float(np.clip(given, 0.0, 1.0))
        return confidence * (_EXTRAPOLATED_CONFIDENCE if hands.state[self.side] == EXTRAPOLATED else 1.0)
