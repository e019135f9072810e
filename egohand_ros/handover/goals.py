"""Where the tool is to go in each phase of a handover, (4, 4) T_base_tool: the palm away from the base and level."""

import numpy as np

from .observed import ObservedPerson
from .options import HandoverOptions
from .transfer import Transfer

_BESIDE, _FUNNEL = 0.015, 1.5  # m by which a tool may be beside an object that it goes for, and how wide it gets
_DEPTH = 0.12  # m by which a hand that waits reaches before its tool, and that it keeps
_UNSURE = 0.5  # of the radius of what is expected, by which fingers are thought to stay away
_LEVEL, _FIST = (0.02, 0.04), 0.045  # m below which a hand is not level yet, and by which fingers reach before a tool
_UP = np.array([0.0, 0.0, 0.05])  # m, by which a robot that leaves goes up


class Goals:
    """They are kept as long as little changes: an arm that chases is trusted less, and no faster."""

    def __init__(self, options: HandoverOptions, ready: np.ndarray):
        self.options, self.ready = options, ready
        self._standing, self._closing, self._beside = (_Deadband(options.deadband) for _ in range(3))

    def forget(self) -> None:
        """Where the tool stood off last."""
        self._standing.point = self._closing.point = None

    def waiting(self, person: ObservedPerson, at_home: bool = True, likely: int | None = None) -> np.ndarray:
        """The ready pose, or, where not `at_home`, nearer to people, who take nothing out of an empty hand; or as far
        behind it as keeps clear of where fingers are surely expected, whatever they are about: from a guess that
        overshoots the arm would go so far that it does not get back to the hand in time. A hand that is `likely` to
        hand over is faced already, which brings the tool no nearer to it."""
        ready = self.ready[:3, 3] + (not at_home) * self.options.receive_ahead * facing(self.ready[:3, 3])[:3, 0]
        far = float(np.linalg.norm(ready[:2]))
        nearest = min(
            (float(np.linalg.norm(person.expected_tip(t)[:2])) + _UNSURE * t.radius for t in person.transfers.values()),
            default=9.0,
        )
        point = ready - np.clip(far + _DEPTH - nearest, 0.0, self.options.clear) * facing(ready)[:3, 0]
        if likely not in person.transfers:
            self._beside.point = None
        else:
            point = point + self._beside.update(self._beside_of(point, person, person.transfers[likely]))
        pose = self.ready.copy()
        pose[:3, 3] = point
        return pose

    def _beside_of(self, point: np.ndarray, person: ObservedPerson, transfer: Transfer) -> np.ndarray:
        """The way (3,) m from a point to straight before what is expected, as far as that is sure."""
        way, ahead = person.expected_grasp(transfer) - point, facing(point)[:3, 0]
        beside = way - (way @ ahead) * ahead
        length = float(np.linalg.norm(beside))
        far = np.clip(length - self.options.sure_radii * transfer.radius, 0.0, self.options.most_beside)
        return beside * (far / max(length, 1e-9))

    def _before(self, person: ObservedPerson, transfer: Transfer) -> np.ndarray:
        """A point (3,) m before the expected one, the further back the less sure it is."""
        options, point = self.options, person.expected_grasp(transfer)
        back = options.standoff + min(options.sure_radii * transfer.radius, options.most_back)
        return self._within_reach(point - back * facing(point)[:3, 0])

    def standoff(self, person: ObservedPerson, transfer: Transfer) -> np.ndarray:
        """Before the expected point."""
        return facing(self._standing.update(self._before(person, transfer)))

    def last_standoff(self) -> np.ndarray | None:
        """Where that was last."""
        return None if self._standing.point is None else facing(self._standing.point)

    def awaiting(self, person: ObservedPerson, transfer: Transfer) -> np.ndarray:
        """Just before where the object will be."""
        point = person.expected_grasp(transfer)
        return facing(self._within_reach(point - self.options.await_at * facing(point)[:3, 0]))

    def at(self, grasp: np.ndarray | None, closing: bool, tool: np.ndarray, taker: np.ndarray | None) -> np.ndarray:
        """At what the hand holds, or where the tool is, where that is not known; while fingers close, there as long as
        the hand stays: they need a palm at rest. `taker` (K, 3) m are the keypoints of a hand that takes: what the
        robot brings it lies deeper in the robot's own."""
        if grasp is not None and taker is not None:
            grasp = grasp + self.options.into_palm * facing(grasp)[:3, 0]
        if not closing:
            self._closing.point = None
        elif grasp is not None:
            self._closing.update(grasp)
        if self._closing.point is not None:
            return facing(self._closing.point)
        return tool if grasp is None else self._straight(grasp, tool, taker)

    def _straight(self, grasp: np.ndarray, tool: np.ndarray, taker: np.ndarray | None) -> np.ndarray:
        """At it, but back as long as the tool is beside: fingers would push the object away from the side. From below
        the robot's own would come to lie against those that reach out for the object: it rises before them."""
        goal = facing(grasp)
        off = grasp - tool[:3, 3]
        beside = float(np.linalg.norm(off - off @ goal[:3, 0] * goal[:3, 0]))
        back = np.clip(_FUNNEL * (beside - _BESIDE), 0.0, self.options.standoff)
        if taker is not None:
            reaches = float(((grasp - taker) @ goal[:3, 0]).max(initial=-_FIST)) + _FIST
            back = max(float(back), reaches * float(np.interp(off[2], _LEVEL, (0.0, 1.0))))
        goal[:3, 3] -= back * goal[:3, 0]
        return goal

    def behind(self) -> np.ndarray:
        """Back from where the hands met, towards the robot and a little up."""
        point = self._standing.point
        return self.ready if point is None else facing(point - self.options.clear * facing(point)[:3, 0] + _UP)

    def _within_reach(self, point: np.ndarray) -> np.ndarray:
        zone = self.options.zone
        centre = np.array([0.0, 0.0, zone.shoulder])
        off = point - centre
        far = float(np.linalg.norm(off))
        return centre + off * (np.clip(far, zone.nearest - 0.05, zone.tool_farthest) / max(far, 1e-9))


class _Deadband:
    """A point (3,) m that stays as long as those that would replace it are within a deadband of it."""

    def __init__(self, deadband: float):
        self._deadband = deadband
        self.point: np.ndarray | None = None

    def update(self, point: np.ndarray) -> np.ndarray:
        """The point that is kept, or the new one where that is off by more."""
        if self.point is None or np.linalg.norm(point - self.point) > self._deadband:
            self.point = point
        return self.point


def facing(point: np.ndarray) -> np.ndarray:
    """T_base_tool (4, 4) at a point (3,) m, palm away from the base and level, z up."""
    x = np.array([point[0], point[1], 0.0])
    norm = float(np.linalg.norm(x))
    x = x / norm if norm > 1e-6 else np.array([1.0, 0.0, 0.0])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, [-x[1], x[0], 0.0], [0.0, 0.0, 1.0], point
    return pose
