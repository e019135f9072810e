"""How a hand that moves would come to a stop: what a robot is told to do in case no further command reaches it."""

from dataclasses import dataclass

import numpy as np

from ..hands.model import HandModel

# s; a stop takes at least this long, so that a robot has something to do until the next command even if that is late.
_LEAST_DURATION = 0.1


@dataclass(frozen=True)
class Stop:
    """The pose q (n,) rad at which the hand stands, `duration` s after it began to brake."""

    q: np.ndarray
    duration: float


def stop_from(hand: HandModel, q: np.ndarray, qd: np.ndarray) -> Stop:
    """All joints brake evenly and stand at the same time, none by more than its acceleration limit.

    q (n,) rad and qd (n,) rad/s are those at which braking begins. A joint that would pass its limit ends there.
    """
    duration = max(_LEAST_DURATION, float((np.abs(qd) / hand.acceleration_limit).max(initial=0.0)))
    return Stop(np.clip(q + 0.5 * duration * qd, hand.lower, hand.upper), duration)
