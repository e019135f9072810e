"""What a stream of observations leaves behind: its last seconds at its own rate."""

from collections import deque

import numpy as np

from ...geometry.rotations import log_rotation
from ...hand.skeleton import WRIST
from ..common.observed import Observed
from .past import DENSE, FINGERS, ROTATION, WRIST_PLACE

_SAME_TIME = 1e-6
_LONGEST_GAP = 0.25  # s between observations that are interpolated
_SILENCE = 1.0  # s after which a stream, or a hand in it, is a new one
_MOVED = 0.05  # m by which a window may differ from what is remembered of the same moment
_CHECKED = (1, 2, 3)  # observations back at which it must not


class Moment:
    """One observation of both hands: values of each kind (2, J, 3), the rotation as a matrix (2, 3, 3), and what was
    seen (2,).
    """

    def __init__(self, stamp: float, observed: Observed, fingers: np.ndarray):
        self.stamp = stamp
        self.wrist, self.rotation = observed.wrist[0, -1][:, None], observed.rotation[0, -1]
        self.fingers, self.points = fingers, observed.valid[0, -1, :, WRIST + 1 :]
        self.seen = observed.wrist_valid[0, -1]
        self.turned = observed.rotation_valid[0, -1] & self.seen

    def known(self, kind: int) -> np.ndarray:
        """Points (2, J) of a kind that were seen."""
        if kind == FINGERS:
            return self.points & self.seen[:, None]
        return (self.turned if kind == ROTATION else self.seen)[:, None]

    def since(self, other: "Moment", kind: int) -> np.ndarray:
        """Displacement (2, J, 3) of a kind from `other` to this."""
        if kind == ROTATION:
            return log_rotation(self.rotation @ other.rotation.swapaxes(-1, -2))[:, None]
        return self.fingers - other.fingers if kind == FINGERS else self.wrist - other.wrist


class Memory:
    """The stream so far. `add` every observation, in order."""

    def __init__(self, span: float):
        self._span = span
        self.forget()

    def forget(self) -> None:
        self._moments: deque[Moment] = deque()
        self._last_seen = np.full(2, -np.inf)

    @property
    def last(self) -> Moment | None:
        return self._moments[-1] if self._moments else None

    def continues(self, stamp: float, observed: Observed, step: float) -> bool:
        """Whether a window (batch of one) that ends at `stamp` s is the next of this stream: later by less than a
        second, and of the same hands as far as it shows the time that is remembered."""
        if not self._moments or not -_SAME_TIME <= stamp - self._moments[-1].stamp <= _SILENCE:
            return False
        stamps = np.array([moment.stamp for moment in self._moments])
        matched = compared = False
        for back in _CHECKED:
            at = stamp - back * step
            after = int(np.searchsorted(stamps, at - _SAME_TIME))
            if back >= observed.wrist.shape[1] or after >= len(stamps) or (after == 0 and stamps[0] > at + _SAME_TIME):
                continue
            before = max(after - 1, 0)
            gap = stamps[after] - stamps[before]
            share = (at - stamps[before]) / gap if gap > 0.0 else 1.0
            one, two = self._moments[before], self._moments[after]
            both = one.seen & two.seen
            if gap > _LONGEST_GAP or not both.any():
                continue
            compared = True
            place = one.wrist[:, 0] + share * (two.wrist[:, 0] - one.wrist[:, 0])
            near = np.linalg.norm(observed.wrist[0, -1 - back] - place, axis=-1) < _MOVED
            matched |= bool((near & observed.wrist_valid[0, -1 - back] & both).any())
        return matched or not compared

    def add(self, moment: Moment) -> np.ndarray:
        """Returns which sides (2,) came back after a second or more, and are therefore new."""
        new = moment.seen & (moment.stamp - self._last_seen > _SILENCE)
        self._last_seen = np.where(moment.seen, moment.stamp, self._last_seen)
        self._moments.append(moment)
        while self._moments[0].stamp < moment.stamp - self._span:
            self._moments.popleft()
        return new

    def recent(self) -> np.ndarray | None:
        """Displacements (2, 2, 2, 3) of wrist and rotation by hand from `DENSE` s ago to now; None where that is not
        known of both hands.
        """
        last, stamps = self.last, [moment.stamp for moment in self._moments]
        rows = []
        for ago in DENSE:
            at, after = last.stamp - ago, len(stamps) - 1
            while after > 0 and stamps[after - 1] >= at:
                after -= 1
            if after == 0:
                return None
            one, two = self._moments[after - 1], self._moments[after]
            gap = two.stamp - one.stamp
            # A hand that is not seen now has no use for this; one that just came has only its window.
            if gap > _LONGEST_GAP or not (one.seen & two.seen | ~last.seen).all():
                return None
            share = (at - one.stamp) / gap
            rows.append([_between(one, two, share, kind, last) for kind in (WRIST_PLACE, ROTATION)])
        return np.moveaxis(np.array(rows)[:, :, :, 0], 0, 2)


def _between(one: Moment, two: Moment, share: float, kind: int, now: Moment) -> np.ndarray:
    """Displacement (2, 1, 3) from the moment between two to now."""
    late = now.since(two, kind) if two is not now else 0.0
    return late + (1.0 - share) * two.since(one, kind)
