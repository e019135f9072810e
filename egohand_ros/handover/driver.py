"""`HandoverDriver`: controller, arm motion and fingers in one. The node and the benchmark step the same one."""

from dataclasses import dataclass

import numpy as np

from ..data.synthetic.hand import POSTURES, HandShape
from ..robot.arm.avoidance import Obstacles
from ..robot.arm.model import ArmModel, Capsules
from ..robot.arm.motion import ArmMotion, ClosingRows, stacked
from ..robot.hands.library import load_hand
from ..robot.hands.model import HandModel
from ..robot.retarget.retargeter import Retargeter
from .controller import HandoverController, Plan, RobotState
from .machine import Fingers, Phase
from .options import HandoverOptions
from .separation import measure_pairs
from .touch import Touch, joints_of

PERIOD = 0.01  # s of control

_POSES = {Fingers.OPEN: "open", Fingers.PRESHAPE: "preshape", Fingers.CLOSE: "fist"}
_PRESHAPED, _CURLED = 0.05, 0.4  # of the way from open to a fist: knuckles and thumb, and what is beyond them
_SQUEEZE = 1.5  # of the way from open to a fist: fingers stop at the object, and what is beyond is their force
_FINGER_SPEED = 2.0  # rad/s
_THUMB_AFTER = 0.5  # of the way of the fingers to a fist, after which the thumb closes
_AHEAD, _THUMB_AHEAD = 0.15, 0.05  # rad; the thumb comes from the side, and would slip off what it presses on
_LEAST_TIP_SPEED, _MOST_TIP_SPEED = 0.02, 0.25  # m/s towards a person's hand, and in any direction beside it
_TIP_SHARE = 0.85  # of the speed that contact allows: fingers are not where they are commanded to be
_NEAR = 0.2  # m; further from the person's hand fingers may move as they like
_PULL_FORCE = 3.0  # N


class HandoverRobot:
    """An arm with a hand, and the poses that they take in handovers; made once, for many handovers."""

    def __init__(self, arm: str = "ur5e", hand: str = "allegro_right", options: HandoverOptions | None = None):
        options = options or HandoverOptions()
        self.hand: HandModel = load_hand(hand)
        self.arm, self.measured_arm = ArmModel.load(arm, self.hand), ArmModel.load(arm, self.hand)
        opened, fist = finger_pose(self.hand, "open"), finger_pose(self.hand, "fist")
        squeezed = np.clip(opened + _SQUEEZE * (fist - opened), self.hand.lower, self.hand.upper)
        fingers = self.hand.config.fingers
        self.fingers = [(joints_of(self.hand, links), list(links)) for links in fingers.values()]
        self.thumb = np.zeros(len(self.hand.joint_names), dtype=bool)
        self.thumb[joints_of(self.hand, fingers.get("thumb", ()))] = True
        bent = np.where(self._beyond_knuckles(), _CURLED, _PRESHAPED)
        self.finger_poses = {"open": opened, "preshape": opened + bent * (fist - opened), "fist": squeezed}
        self.ready_tool = _level(options.ready)
        self.ready_q = self._ready_angles()

    def _beyond_knuckles(self) -> np.ndarray:
        """(m,) bool: joints at a finger's middle joint and beyond: bent, they let an object in and have a shorter way
        around it. Those of the thumb do not count."""
        beyond = np.zeros(len(self.hand.joint_names), dtype=bool)
        for links in self.hand.config.fingers.values():
            beyond[np.setdiff1d(joints_of(self.hand, links), joints_of(self.hand, links[:-1]))] = True
        return beyond & ~self.thumb

    def _ready_angles(self) -> np.ndarray:
        """The config's ready pose, with the tool level and straight ahead."""
        motion = ArmMotion(self.arm, PERIOD)
        for _ in range(300):
            motion.step(self.ready_tool, 0.5)
        return motion.q


@dataclass(frozen=True, eq=False)
class Command:
    """What arm and fingers are to do: angles `arm_q` (n,) and speeds `arm_qd` (n,), `fingers` (m,) and `fingers_qd`
    (m,), rad and s; `plan` says why; `tool` (4, 4) T_base_tool as measured."""

    arm_q: np.ndarray
    arm_qd: np.ndarray
    fingers: np.ndarray
    fingers_qd: np.ndarray
    plan: Plan
    tool: np.ndarray


class HandoverDriver:
    """`controller` is told what is seen; `step` at every `period` s, with what is measured."""

    def __init__(
        self,
        robot: HandoverRobot,
        options: HandoverOptions | None = None,
        robot_holds: bool = False,
        period: float = PERIOD,
    ):
        self.robot, self.options, self.period = robot, options or HandoverOptions(), period
        self.controller = HandoverController(robot.ready_tool, self.options, robot_holds)
        self.motion = ArmMotion(robot.arm, period)
        self._obstacles = Obstacles(robot.arm, self.options.table_height)
        self.plan: Plan | None = None
        self.start(robot.ready_q, robot.finger_poses["fist" if robot_holds else "preshape"])

    def use(self, options: HandoverOptions) -> None:
        """Other options from now on."""
        self.options = self.controller.options = options
        self._obstacles = Obstacles(self.robot.arm, options.table_height)
        self.robot.arm.move(self.motion.q)

    def start(self, arm_q: np.ndarray, fingers: np.ndarray) -> None:
        """Stand at these angles, where the robot is."""
        self.motion.start(arm_q)
        self.fingers, self.fingers_qd = fingers.copy(), np.zeros(len(fingers))

    def step(self, now: float, arm_q: np.ndarray, hand_q: np.ndarray, touch: Touch, stand: bool = False) -> Command:
        """The next command; `arm_q` (n,) and `hand_q` (m,) rad as measured. `stand`: brake, whatever the plan is, and
        leave the fingers where they are."""
        robot = self.robot
        robot.measured_arm.move(arm_q)
        tool, capsules = robot.measured_arm.tool(), robot.measured_arm.capsules(hand_q)
        exempt = self.plan.exempt_side if self.plan is not None else None
        state = RobotState(
            tool,
            capsules.shape,
            touch.gripped,
            self.controller.machine.phase == Phase.TRANSFER and touch.pull > _PULL_FORCE,
            touch.elsewhere or bool(touch.hands - {exempt}),
            self.motion.tool_speed(),
        )
        self.plan = plan = self.controller.step(now, state)
        rows = self._rows(plan, robot.arm.capsules(hand_q))
        q = self.motion.step(plan.goal, 0.0 if stand else plan.speed, rows)
        if stand:
            self.fingers_qd = np.zeros(len(self.fingers))
        else:
            self._move_fingers(robot.finger_poses[_POSES[plan.fingers]], plan, hand_q, touch.gripped)
        return Command(q, self.motion.qd, self.fingers, self.fingers_qd, plan, tool)

    def _rows(self, plan: Plan, capsules: Capsules) -> ClosingRows:
        """How fast which point may come near what."""
        fixed = self._obstacles.rows(capsules)
        if not len(plan.person):
            return fixed
        separation, leaving = self.options.separation, plan.phase != Phase.TRANSFER
        pairs = measure_pairs(capsules.shape, plan.person, separation, plan.exempt_side, leaving)
        ahead = plan.forecast
        now = ClosingRows.of_person(pairs.point, capsules.body[pairs.robot], pairs.normal, pairs.allowed)
        later = ClosingRows.of_person(ahead.point, capsules.body, ahead.normal, ahead.allowed)
        return stacked(now, later, fixed)

    def _move_fingers(self, wanted: np.ndarray, plan: Plan, measured: np.ndarray, gripped: bool) -> None:
        """At the speed of hands, or, beside a person's hand, as fast as tips may move beside what the arm does; and
        not far ahead of where something holds them up, from which they would snap."""
        hand, before = self.robot.hand, self.fingers
        most = np.minimum(hand.velocity_limit, _FINGER_SPEED) * self.period
        after = before + np.clip(wanted - before, -most, most)
        if plan.fingers == Fingers.CLOSE and self._wrapped(measured) < _THUMB_AFTER:
            after[self.robot.thumb] = before[self.robot.thumb]  # it would push away what they do not hold yet
        after = before + (after - before) * self._slowed(before, after, plan.exempt_side)
        ahead = np.where(self.robot.thumb & (not gripped), _THUMB_AHEAD, _AHEAD)
        after = np.where(np.abs(after - measured) < np.maximum(ahead, np.abs(before - measured)), after, before)
        self.fingers, self.fingers_qd = after, (after - before) / self.period

    def _wrapped(self, measured: np.ndarray) -> float:
        """From 0, open, to 1, a fist: how far the fingers beside the thumb are."""
        poses, others = self.robot.finger_poses, ~self.robot.thumb
        way = (poses["fist"] - poses["open"])[others]
        return float((measured - poses["open"])[others] @ way / (way @ way))

    def _slowed(self, before: np.ndarray, after: np.ndarray, exempt: int | None) -> np.ndarray:
        """Share (m,) of each joint's step that is left so that no link comes near a keypoint of the exempt hand by more
        than contact allows, beside what the arm does, and hardly near one of any other; finger by finger."""
        robot, place, share = self.robot, self.robot.arm.hand_base(), np.ones(len(before))
        person = np.concatenate([self.controller.keypoints(side) for side in range(2) if exempt in (None, side)])
        most_towards = 0.0 if exempt is None else _TIP_SHARE * self.options.separation.transfer_speed
        carried = self.motion.tool_twist()[0]
        if not len(person) or (before == after).all():
            return share
        every = [link for _, links in robot.fingers for link in links]
        reached = robot.hand.kinematics.link_positions(np.stack([before, after]), every)
        places = reached @ place[:3, :3].T + place[:3, 3]
        last = 0
        for joints, links in robot.fingers:
            first, last = last, last + len(links)
            one, two = places[:, first:last]
            moved = (two - one) / self.period
            apart = person - one[:, None]
            far = np.linalg.norm(apart, axis=-1)
            near = far < _NEAR
            closing, carries = (np.where(near, (apart @ v[..., None])[..., 0] / np.maximum(far, 1e-9), 0.0)
                                for v in (moved, np.broadcast_to(carried, moved.shape)))  # fmt: skip
            spare = np.maximum(most_towards - np.maximum(carries, 0.0), _LEAST_TIP_SPEED)
            fastest = float(np.linalg.norm(moved, axis=-1).max())
            most = _MOST_TIP_SPEED if near.any() else np.inf
            towards = np.min(spare / np.maximum(closing, 1e-9))
            share[joints] = min(1.0, most / max(fastest, 1e-9), float(towards))
        return share


def finger_pose(hand: HandModel, name: str) -> np.ndarray:
    """Angles (m,) rad by which the robot's hand shows a human posture."""
    retargeter = Retargeter(hand)
    keypoints = HandShape.sample(np.random.default_rng(0)).keypoints(POSTURES[name], 1)
    for _ in range(3):  # the solver follows: a few frames of the same pose
        result = retargeter.solve(keypoints)
    return result.q


def _level(position: tuple[float, float, float]) -> np.ndarray:
    """T_base_tool (4, 4) of a level tool, palm away from the base."""
    pose = np.eye(4)
    pose[:3, 3] = position
    return pose
