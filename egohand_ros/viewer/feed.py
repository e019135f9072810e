"""`Feed`: messages as arrays go in when they come, and the newest of them comes out as one `Moment`, with its history.

Live nodes and recordings feed it alike. Newest wins: nothing waits, and what is old is dropped.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import RejectedInput
from ..geometry.camera import Camera
from ..messages.forecast import Futures
from ..messages.hands import MEASURED, Hands
from ..messages.joints import JointSample
from ..messages.poses import StampedPose
from ..messages.status import NodeState
from ..robot.hands.model import HandModel
from ..stream.aligner import PoseTrack
from .moment import Moment
from .running_score import RunningScore

SILENT = 1.0  # s
_BACK = 1.0  # s by which stamps may run backwards before all is forgotten
_CAMERA_SPAN, _CAMERA_GAP = 5.0, 0.25  # s of poses that are kept, and between two that are interpolated between
_PICTURES = 8  # that are kept, undecoded, so that one of the time of the hands is among them
_HISTORY = 600  # points of a curve
_MOST_FRAMES = 64  # of TF
_MOST_NODES = 64
_MOST_JOINTS = 64  # that are kept of others than the newest message's
_LATENCIES = {"forecaster": "pose to forecast", "retargeter": "pose to command"}


@dataclass(frozen=True)
class Curves:
    """What is drawn over time; times in s since the first stamp. score (4, N): time, errors of the forecasts and of
    persistence mm, coverage %. latency: name -> (3, N): time, p50, p95 ms. joints (1 + n, N): time, and each joint's
    command as a share of its range, 0 at the lower limit and 1 at the upper one."""

    score: np.ndarray
    latency: dict[str, np.ndarray]
    joints: np.ndarray


class Feed:
    """See the module's docstring. `hand` is the robot's, None where there is none; curves count s from `begin`, by
    default the first stamp that comes."""

    def __init__(self, hand: HandModel | None = None, begin: float | None = None):
        self.hand = hand
        self.score = RunningScore()
        self.nodes: dict[str, NodeState] = {}
        self.transforms: dict[str, tuple[str, np.ndarray]] = {}
        self._camera: Camera | None = None
        self._measured: JointSample | None = None
        self._begin = begin
        self._forget()

    def _forget(self) -> None:
        """Time was set back, as where a recording begins again."""
        self._hands: Hands | None = None
        self._futures: Futures | None = None
        self._targets: JointSample | None = None
        self._track = PoseTrack(_CAMERA_SPAN, _CAMERA_GAP)
        self._track_frame, self._track_stamp = "", -np.inf
        self._pictures: deque[tuple[float, Callable[[], np.ndarray]]] = deque(maxlen=_PICTURES)
        self._decoded: tuple[float, np.ndarray] | None = None
        self._joints: deque[np.ndarray] = deque(maxlen=_HISTORY)
        self._latency: dict[str, deque[tuple[float, float, float]]] = {}
        self.score.forget()

    # ---------------------------------------------------------------- what comes

    def on_hands(self, hands: Hands) -> None:
        """Hands as a tracker sees them; camera poses of the same time are to come before them."""
        if self._hands is not None and hands.stamp < self._hands.stamp - _BACK:
            self._forget()
        self._hands = hands
        moment = self._moment(None)
        seen = (hands.state == MEASURED)[:, None]
        if self._futures is not None:
            self.score.observe(hands.stamp, np.where(seen, moment.wrists(), np.nan))

    def on_futures(self, futures: Futures) -> None:
        """A forecast."""
        self._futures = futures
        self.score.expect(futures)

    def on_camera(self, camera: Camera) -> None:
        """The calibration of the images."""
        self._camera = camera

    def on_camera_pose(self, pose: StampedPose) -> None:
        """Where the camera is in the fixed frame."""
        if pose.stamp < self._track_stamp - _BACK:
            self._forget()
        self._track_frame, self._track_stamp = pose.frame_id, pose.stamp
        self._track.add(pose.stamp, pose.transform)

    def on_picture(self, stamp: float, decode: Callable[[], np.ndarray]) -> None:
        """An image taken at `stamp` s; `decode` makes RGB uint8 (H, W, 3) of it, if it is shown."""
        self._pictures.append((stamp, decode))

    def on_targets(self, joints: JointSample) -> None:
        """The joints that were commanded, rad."""
        self._targets = _merged(self._targets, joints)
        shares = self.shares(joints)
        if shares is not None:
            self._joints.append(np.concatenate([[self._since(joints.stamp)], shares]))

    def on_measured(self, joints: JointSample) -> None:
        """The joints where the robot is, rad."""
        self._measured = _merged(self._measured, joints)

    def on_transform(self, parent: str, child: str, transform: np.ndarray) -> None:
        """T_parent_child (4, 4) of TF."""
        if child in self.transforms or len(self.transforms) < _MOST_FRAMES:
            self.transforms[child] = (parent, transform)

    def on_nodes(self, stamp: float, nodes: Iterable[NodeState]) -> None:
        """What nodes say of themselves at `stamp` s."""
        for node in nodes:
            if node.name in self.nodes or len(self.nodes) < _MOST_NODES:
                self.nodes[node.name] = node
            label, values = _LATENCIES.get(node.name.rpartition("/")[2]), node.values
            told = [values.get(f"latency/total p{p} [ms]") for p in (50, 95)]
            if label is not None and all(value is not None for value in told):
                points = self._latency.setdefault(label, deque(maxlen=_HISTORY))
                points.append((self._since(stamp), *map(float, told)))

    # ---------------------------------------------------------------- what is known

    def moment(self, now: float | None = None) -> Moment:
        """The newest of everything, the image of the time of the hands where there is one. Of `now` s, where given,
        hands and forecasts that are older than `SILENT` are not shown any more: nobody knows where they are."""
        moment = self._moment(self._picture())
        if now is None:
            return moment
        ages = {"hands": moment.hands, "forecasts": moment.futures}
        silent = {name: now - what.stamp for name, what in ages.items() if what and now - what.stamp > SILENT}
        return replace(
            moment,
            hands=None if "hands" in silent else moment.hands,
            futures=None if "forecasts" in silent else moment.futures,
            silent=silent,
        )

    def curves(self) -> Curves:
        """What is drawn over time."""
        score = self.score.series()
        score[0] -= self._begin or 0.0
        count = 1 + (0 if self.hand is None else self.hand.n)
        joints = np.stack(self._joints, axis=1) if self._joints else np.zeros((count, 0))
        return Curves(score, {label: np.array(points).T for label, points in self._latency.items()}, joints)

    def shares(self, joints: JointSample) -> np.ndarray | None:
        """(n,) of each joint's range, 0 at its lower limit and 1 at its upper; None for the joints of another hand."""
        q = ordered(joints, self.hand)
        return None if q is None or self.hand is None else (q - self.hand.lower) / (self.hand.upper - self.hand.lower)

    def _moment(self, picture: np.ndarray | None) -> Moment:
        return Moment(
            self._hands, self._futures, self._camera, self._camera_pose(), picture, self._targets, self._measured,
            self.transforms,
        )  # fmt: skip

    def _camera_pose(self) -> StampedPose | None:
        """At the time of the hands, where it is known then; else the nearest one."""
        if not len(self._track):
            return None
        stamp = self._hands.stamp if self._hands is not None else self._track_stamp
        return StampedPose(stamp, self._track_frame, self._track.at(np.array([stamp]))[0][0])

    def _picture(self) -> np.ndarray | None:
        while self._pictures:
            last = self._hands.stamp if self._hands is not None else self._pictures[-1][0]
            best = min(self._pictures, key=lambda picture: abs(picture[0] - last))
            if self._decoded is not None and self._decoded[0] == best[0]:
                break
            try:
                self._decoded = (best[0], best[1]())
                break
            except RejectedInput:  # broken, or no colour image: the next best one
                self._pictures.remove(best)
        return None if self._decoded is None else self._decoded[1]

    def _since(self, stamp: float) -> float:
        if self._begin is None:
            self._begin = stamp
        return stamp - self._begin


def ordered(joints: JointSample | None, hand: HandModel | None) -> np.ndarray | None:
    """q (n,) rad in the order of the hand's joints; None where the sample does not have them all."""
    return None if hand is None else named(joints, hand.joint_names)


def named(joints: JointSample | None, names: tuple[str, ...]) -> np.ndarray | None:
    """q (n,) rad of these joints; None where the sample does not have them all."""
    if joints is None or not set(names) <= set(joints.names):
        return None
    place = {name: i for i, name in enumerate(joints.names)}
    return joints.q[[place[name] for name in names]]


def _merged(before: JointSample | None, joints: JointSample) -> JointSample:
    """The newest of each joint: arm and hand may speak on their own."""
    if before is None or set(before.names) <= set(joints.names):
        return joints
    kept = [i for i, name in enumerate(before.names) if name not in set(joints.names)][:_MOST_JOINTS]
    names = (*joints.names, *(before.names[i] for i in kept))
    return JointSample(joints.stamp, names, np.r_[joints.q, before.q[kept]], np.r_[joints.qd, before.qd[kept]])
