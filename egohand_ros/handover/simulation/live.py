"""`LiveScene`: people who come to a robot one after another, in simulated physics that follow somebody's clock."""

from dataclasses import dataclass

import numpy as np

from ...robot.arm.trajectory import TrajectoryFollower
from ..driver import PERIOD
from ..intent import GIVE, NONE, TAKE
from ..touch import Touch
from .episode import HandoverStage
from .forecasting import TrackerNoise, camera_pose
from .person import Manner, Person, RobotSeen, draw_person
from .world import held_at

MAX_CATCH_UP = 0.1  # s; what a stalled caller lost beyond this is skipped, not simulated in a burst

_GAP = 1.0  # s in which nobody is there
_STAYS = 2.5  # s after the object has changed hands
_LONGEST, _OTHER = 16.0, 7.0  # s of a handover, and of anything else
_PEOPLE_EVERY = 2  # steps of the robot: a person's many capsules cost more than all else
_AWAY = np.array([4.0, 0.0, 0.0])  # m from where people stand
_NOWHERE = np.array([0.0, 40.0, 1.0])  # m, where a baton that left with somebody is out of sight


@dataclass(frozen=True, eq=False)
class Seen:
    """What a tracker on the person's head saw at `stamp` s: keypoints (2, 21, 3) m in the base's frame, NaN where it
    saw none; camera (4, 4) T_base_camera."""

    stamp: float
    keypoints: np.ndarray
    camera: np.ndarray


class LiveScene:
    """Arm, hand, baton and people; step it up to the caller's time. Not thread-safe.

    The arm follows trajectories as its own controller would (`follow_arm`), the hand positions (`follow_hand`) within
    its limits; both stand when nobody commands them. People come by `seed`, `seed` + 1, …; a share `others` of them
    does something else; `manner` fixes what they do.
    """

    def __init__(
        self,
        stage: HandoverStage,
        seed: int = 0,
        others: float = 0.0,
        manner: Manner | None = None,
        camera_rate: float = 30.0,
    ):
        self.stage, self.world = stage, stage.world
        self._seed, self._others, self._manner = seed, others, manner
        self._camera_period = 1.0 / camera_rate
        arm = stage.arm
        self.world.reset(stage.ready_q, stage.finger_poses["preshape"])
        self.arm = TrajectoryFollower(stage.ready_q, arm.lower, arm.upper, arm.velocity_limit)
        self._fingers = self._fingers_wanted = stage.finger_poses["preshape"].copy()
        self.time: float | None = None
        self.skipped = 0.0
        self.touch = Touch()
        self.force = np.zeros(3)
        self.person: Person | None = None
        self.scenes = 0
        self.handed_over = 0
        self._began = self._leaves = 0.0
        self._next_picture = 0.0
        self._ticks = 0
        self._seen: list[Seen] = []
        self._head = np.array([1.3, 0.0, 0.8])
        self._put_away()

    def follow_arm(self, times: np.ndarray, q: np.ndarray, qd: np.ndarray) -> None:
        """A trajectory from now on. Raises `RejectedInput` as `TrajectoryFollower` does."""
        self.arm.follow(times, q, qd, self.time or 0.0)

    def follow_hand(self, q: np.ndarray) -> None:
        """Angles (m,) rad of the fingers; clipped to their range."""
        self._fingers_wanted = np.clip(q, self.stage.hand.lower, self.stage.hand.upper)

    def advance(self, now: float) -> list[Seen]:
        """Step up to `now` s; what a tracker saw meanwhile."""
        if self.time is None or now < self.time:
            self.time = self._leaves = self._next_picture = now
            self.person = None
        lost = max(0.0, now - MAX_CATCH_UP - self.time)
        self.skipped += lost
        self.time += lost
        while self.time + PERIOD <= now:
            self._step(self.time)
            self.time += PERIOD
        seen, self._seen = self._seen, []
        return seen

    def _step(self, now: float) -> None:
        stage, world = self.stage, self.world
        self._ticks += 1
        if self._ticks % _PEOPLE_EVERY == 0:
            self._move_people(now)
        most = stage.hand.velocity_limit * PERIOD
        self._fingers = self._fingers + np.clip(self._fingers_wanted - self._fingers, -most, most)
        world.step(self.arm.at(now + PERIOD)[0], self._fingers, PERIOD)
        stage.measured_arm.move(world.arm_q)
        self.touch = world.touch(stage.measured_arm.tool()[:3, 0])
        self.force = world.force_on_robot()

    def _move_people(self, now: float) -> None:
        person = self.person
        if person is None:
            if now - self._leaves >= _GAP:
                self._invite(now)
            self._see(now, None)
            return
        t = now - self._began
        keypoints, rotation = person.keypoints(t)
        grip = held_at(person.side, keypoints, rotation)[0]
        had = np.isfinite(person.done_at)
        person.update(t, RobotSeen(self.world.baton[:3, 3] - grip, self.touch.gripped))
        if person.pulls and not self.touch.gripped:
            person.took(t)
        self.handed_over += bool(np.isfinite(person.done_at) and not had)
        self.world.hold(person.holding)
        self.world.place_person(keypoints, rotation, person.head)
        self._see(now, keypoints)
        longest = _LONGEST if person.intends != NONE else _OTHER
        if t > min(longest, person.done_at + _STAYS if np.isfinite(person.done_at) else np.inf):
            self._leaves = now
            self._put_away()

    def _invite(self, now: float) -> None:
        """The next person; one who takes, if the robot has the baton."""
        rng = np.random.default_rng([self._seed, 13])
        direction = TAKE if self.touch.gripped else GIVE
        handover = self._manner is not None or rng.random() >= self._others
        person = draw_person(self._seed, direction, handover, (self._manner,) if self._manner else None)
        self.person, self._began, self._head = person, now, person.head
        self._noise = TrackerNoise(np.random.default_rng([self._seed, 5]))
        self._seed += 1
        self.scenes += 1
        keypoints, rotation = person.keypoints(0.0)
        self.world.place_person(keypoints, rotation, person.head)
        if person.holding is not None:
            self.world.put_into_hand(person.side, keypoints, rotation)

    def _put_away(self) -> None:
        """Nobody is there; a baton that they held goes with them."""
        if self.person is not None and self.person.holding is not None:
            self.world.hold(None)
            self.world.put_baton(_NOWHERE, np.eye(3))
        elsewhere = draw_person(0, GIVE, True)
        keypoints, rotation = elsewhere.keypoints(0.0)
        self.world.place_person(keypoints + _AWAY, rotation, elsewhere.head + _AWAY)
        self.person = None

    def _see(self, now: float, keypoints: np.ndarray | None) -> None:
        if now < self._next_picture:
            return
        self._next_picture = max(self._next_picture + self._camera_period, now)
        nothing = np.full((2, 21, 3), np.nan)
        seen = nothing if keypoints is None else self._noise(now - self._began, keypoints, self._head)
        self._seen.append(Seen(now, seen, camera_pose(self._head)))
