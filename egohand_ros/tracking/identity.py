"""Which hand is which, from image to image: at most one left and one right hand, each with a track id.

Sightings are assigned to the known hands by predicted position and by side; a hand's side is a belief that one wrong
label cannot turn. A hand that is not seen is extrapolated for a short while and is then lost.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..hand.skeleton import SIDES, WRIST
from .localize import HandLocation
from .motion import WristMotion


class TrackingState(Enum):
    """MEASURED: seen now. EXTRAPOLATED: continued through a short gap. LOST: remembered, but its place is unknown."""

    MEASURED = "measured"
    EXTRAPOLATED = "extrapolated"
    LOST = "lost"


# A sighting cannot be a hand that was predicted further away than this: m, and m more for every s since it was seen.
_GATE, _GATE_SPEED = 0.2, 3.0
_REACQUIRE_SPEED = 2.0  # m/s at which a lost hand may travel and still be recognised
# Errors that the filter does not know of: m in every direction, and share of the distance along the line of sight,
# where a change of posture looks like a step.
_ERROR, _DEPTH_ERROR = 0.015, 0.04
_IMPOSSIBLE = 1e6
# Belief in a side: sum of the log odds of the labels, each scaled because labels of successive images err together.
_LABEL_WEIGHT, _MAX_BELIEF, _TURN_AT = 0.5, 6.0, -3.0
_MIN_MEASUREMENTS = 3  # before a hand is worth extrapolating: fewer may be a false detection and give no velocity


@dataclass(frozen=True)
class Sighting:
    """A located hand in one image: side "left" or "right" as labelled, score 0 to 1 of that label."""

    side: str
    score: float
    location: HandLocation

    @property
    def wrist(self) -> np.ndarray:
        return self.location.keypoints[WRIST]

    def log_odds(self, side: str) -> float:
        """Log odds of `side`, of a score kept away from certainty."""
        score = min(max(self.score, 0.5), 0.95)
        return float(np.log(score / (1.0 - score))) * (1.0 if side == self.side else -1.0)


class Track:
    """One hand over time. `sighting` is the last one, at `last_seen` s."""

    def __init__(self, side: str, track_id: int, stamp: float, sighting: Sighting):
        self.side, self.track_id = side, track_id
        self.belief = 0.0  # log odds that it is of its side
        self.measurements = 0
        self.state = TrackingState.MEASURED
        self._begin(stamp, sighting)

    def _begin(self, stamp: float, sighting: Sighting) -> None:
        self.motion = WristMotion(stamp, sighting.wrist, sighting.location.noise_covariance)
        self.measurements = 0
        self._take(stamp, sighting)

    def _take(self, stamp: float, sighting: Sighting) -> None:
        self.sighting, self.last_seen = sighting, stamp
        self.state = TrackingState.MEASURED
        self.measurements += 1
        belief = self.belief + _LABEL_WEIGHT * sighting.log_odds(self.side)
        self.belief = float(np.clip(belief, -_MAX_BELIEF, _MAX_BELIEF))

    def resume(self, stamp: float, sighting: Sighting) -> None:
        """Seen again after it was lost: the same hand, but its old velocity says nothing."""
        self._begin(stamp, sighting)

    def follow(self, stamp: float, sighting: Sighting) -> None:
        """Seen where it was expected."""
        self.motion.update(stamp, sighting.wrist, sighting.location.noise_covariance)
        self._take(stamp, sighting)

    def turn(self, track_id: int) -> None:
        """It was labelled wrongly: it is the other side, and for its consumers a new hand."""
        self.side = SIDES[1 - SIDES.index(self.side)]
        self.belief = -self.belief
        self.track_id = track_id

    def cost(self, stamp: float, sighting: Sighting) -> float:
        """Cost of being this sighting: squared Mahalanobis distance from the prediction plus disbelief in the side."""
        state, covariance = self.motion.predict(stamp)
        miss = sighting.wrist - state[:3]
        if np.linalg.norm(miss) > _GATE + _GATE_SPEED * (stamp - self.last_seen):
            return _IMPOSSIBLE
        spread = covariance[:3, :3] + sighting.location.noise_covariance + _ERROR**2 * np.eye(3)
        spread += _DEPTH_ERROR**2 * np.outer(sighting.wrist, sighting.wrist)
        # Probability that the label's side and the believed side agree.
        own, label = _probability(self.belief), _probability(sighting.log_odds(self.side))
        agree = own * label + (1 - own) * (1 - label)
        return float(0.5 * miss @ np.linalg.solve(spread, miss) - np.log(agree))


class HandIdentity:
    """Keeps the tracks, at most one a side, in `tracks` (by side). Stamps in s, increasing."""

    def __init__(self, max_gap: float = 0.2, memory: float = 1.0):
        """Hands are extrapolated for `max_gap` s and keep their track id when seen again within `memory` s."""
        self.max_gap, self.memory = max_gap, memory
        self.tracks: dict[str, Track] = {}
        self._next_id = 1

    def reset(self) -> None:
        """Forget every hand. Track ids go on, so that none names two hands."""
        self.tracks.clear()

    def update(self, stamp: float, sightings: list[Sighting]) -> Counter[str]:
        """Take in all sightings of one image. Returns how many were not used, by reason."""
        rejected: Counter[str] = Counter()
        live = [t for t in self.tracks.values() if stamp - t.last_seen <= self.max_gap]
        unused = self._follow(stamp, live, list(sightings))
        for sighting in sorted(unused, key=lambda s: -s.score):
            self._begin(stamp, sighting, rejected)
        self._correct_sides(stamp)
        for track in list(self.tracks.values()):
            self._age(stamp, track)
        return rejected

    def _follow(self, stamp: float, live: list[Track], sightings: list[Sighting]) -> list[Sighting]:
        """Give the live tracks their sightings; what is left over is returned."""
        if not live or not sightings:
            return sightings
        costs = np.array([[track.cost(stamp, s) for s in sightings] for track in live])
        pairs = [(i, j) for i, j in zip(*linear_sum_assignment(costs), strict=True) if costs[i, j] < _IMPOSSIBLE]
        for i, j in pairs:
            live[i].follow(stamp, sightings[j])
        taken = {j for _, j in pairs}
        return [s for j, s in enumerate(sightings) if j not in taken]

    def _begin(self, stamp: float, sighting: Sighting, rejected: Counter[str]) -> None:
        known = self.tracks.get(sighting.side)
        if known is None:
            self.tracks[sighting.side] = Track(sighting.side, self._new_id(), stamp, sighting)
        elif known.last_seen == stamp:
            # A second hand of a side that is taken: another person's, or a wrong label. Neither may move a robot.
            rejected["side_taken"] += 1
        elif stamp - known.last_seen <= self.memory and self._is_near(known, stamp, sighting):
            known.resume(stamp, sighting)
        else:
            self.tracks[sighting.side] = Track(sighting.side, self._new_id(), stamp, sighting)

    def _is_near(self, track: Track, stamp: float, sighting: Sighting) -> bool:
        gap = stamp - track.last_seen
        return np.linalg.norm(sighting.wrist - track.motion.position) < _GATE + _REACQUIRE_SPEED * gap

    def _correct_sides(self, stamp: float) -> None:
        """Turn tracks whose labels have long said the other side, unless the other side is surely somebody else."""
        wrong = [t for t in self.tracks.values() if t.belief < _TURN_AT]
        for track in wrong:
            other = next((t for t in self.tracks.values() if t is not track), None)
            if other is not None and other.state is not TrackingState.LOST and other.belief >= 0.0:
                continue
            turned = [track] if other is None or other.state is TrackingState.LOST else [track, other]
            for each in turned:
                each.turn(self._new_id())
            self.tracks = {t.side: t for t in turned}
            return

    def _age(self, stamp: float, track: Track) -> None:
        gap = stamp - track.last_seen
        if gap > self.memory:
            del self.tracks[track.side]
        elif gap > self.max_gap or (gap > 0 and track.measurements < _MIN_MEASUREMENTS):
            track.state = TrackingState.LOST
        elif gap > 0 and track.state is TrackingState.MEASURED:
            track.state = TrackingState.EXTRAPOLATED

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1


def _probability(log_odds: float) -> float:
    return 1.0 / (1.0 + float(np.exp(-log_odds)))
