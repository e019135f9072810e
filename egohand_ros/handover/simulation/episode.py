"""One handover in simulated time: tracker, forecaster, controller, arm, hand, person, physics; what happened is
recorded.

The same code as live; only time is simulated, by the delays of the stages.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ...data.synthetic.hand import POSTURES, HandShape
from ...robot.arm.model import ArmModel
from ...robot.arm.motion import ArmMotion, ClosingRows
from ...robot.hands.library import load_hand
from ...robot.hands.model import HandModel
from ...robot.retarget.retargeter import Retargeter
from ..controller import HandoverController, HandoverOptions, Plan, RobotState
from ..intent import GIVE, TAKE
from ..machine import Fingers, Outcome, Phase
from ..separation import measure_pairs
from .forecasting import Watcher
from .person import Person, RobotSeen
from .world import GRIP, TOOL_TO_MIDDLE, HandoverWorld

PERIOD = 0.01  # s of control
_POSES = {Fingers.OPEN: "open", Fingers.PRESHAPE: "preshape", Fingers.CLOSE: "fist"}
_PRESHAPED = 0.05  # of the way from open to a fist
_FINGER_SPEED = 0.8  # rad/s: with three joints of it fingertips move by 0.2 m/s
_SQUEEZE = 1.5  # of the way from open to a fist: fingers stop at the object, and what is beyond is their force
_CLOSING_TIME = 0.8  # s, before an episode
_PULL_FORCE = 3.0  # N
_AFTER = 0.3  # s that are recorded after the end


@dataclass(frozen=True)
class Timing:
    """s: `camera_period` of the tracker, every `forecast_every`-th of whose observations is forecast from; `tracking`
    from the exposure to the hands, `inference` on to the forecast."""

    camera_period: float = 1.0 / 30.0
    forecast_every: int = 3
    tracking: float = 0.03
    inference: float = 0.02


@dataclass(frozen=True, eq=False)
class Expected:
    """What was expected of the transferring hand at one control step: stamp, wrist (3,) m, time (3,) s."""

    stamp: float
    position: np.ndarray
    time: np.ndarray


@dataclass(frozen=True, eq=False)
class Record:
    """T control steps of an episode: time (T,) s; command and measured (T, n) rad of the arm; points (T, P, 3) m of the
    simulated robot's body, and how thick (P,) m it is about them; keypoints (T, 2, 21, 3) m and head (3,) m of the
    person as they were; phase, exempt side (-1 for none), direction (T,); tool (T, 3) m; touched (T, 3) bool: left
    hand, right hand, elsewhere; baton (T, 3) m; the closest that was forecast and the speed that it left (T,);
    expected, (T,) Expected or None; outcome, and when the person came to rest, and let go or took."""

    person: Person
    time: np.ndarray
    command: np.ndarray
    measured: np.ndarray
    points: np.ndarray
    thickness: np.ndarray
    keypoints: np.ndarray
    phase: np.ndarray
    exempt: np.ndarray
    direction: np.ndarray
    tool: np.ndarray
    touched: np.ndarray
    gripped: np.ndarray
    baton: np.ndarray
    allowed: np.ndarray
    expected: list[Expected | None]
    outcome: Outcome | None
    reasons: list[tuple[float, str]]
    failures: int


class HandoverStage:
    """Arm, hand and world, made once for many episodes."""

    def __init__(self, arm: str = "ur5e", hand: str = "allegro_right"):
        self.hand: HandModel = load_hand(hand)
        self.arm, self.measured_arm = ArmModel.load(arm, self.hand), ArmModel.load(arm, self.hand)
        self.world = HandoverWorld(self.arm, self.hand)
        opened, fist = _finger_pose(self.hand, "open"), _finger_pose(self.hand, "fist")
        squeezed = np.clip(opened + _SQUEEZE * (fist - opened), self.hand.lower, self.hand.upper)
        self.finger_poses = {"open": opened, "preshape": opened + _PRESHAPED * (fist - opened), "fist": squeezed}
        self.ready_q = self._ready_angles()

    def _ready_angles(self) -> np.ndarray:
        """The config's ready pose, with the tool level and straight ahead."""
        motion = ArmMotion(self.arm, PERIOD)
        goal = self.ready_tool()
        for _ in range(300):
            motion.step(goal, 0.5)
        return motion.q

    def ready_tool(self) -> np.ndarray:
        """T_base_tool (4, 4) where the tool waits."""
        pose = np.eye(4)
        pose[:3, 3] = (0.50, 0.0, 0.36)
        return pose


def run_episode(
    stage: HandoverStage,
    person: Person,
    watcher: Watcher,
    options: HandoverOptions,
    limit: float = 16.0,
    timing: Timing = Timing(),
    on_step=None,
) -> Record:
    """Run until the handover has ended, or `limit` s; `on_step(time, plan, world)` is called at every control step."""
    run = _Run(stage, person, watcher, options, timing)
    while run.now < limit and not run.ended:
        run.step()
        if on_step is not None:
            on_step(run.now, run.plan, stage.world)
    return run.record()


class _Run:
    def __init__(
        self, stage: HandoverStage, person: Person, watcher: Watcher, options: HandoverOptions, timing: Timing
    ):
        self.stage, self.person, self.watcher, self.options, self.timing = stage, person, watcher, options, timing
        self.controller = HandoverController(stage.ready_tool(), options, robot_holds=person.direction == TAKE)
        self.motion = ArmMotion(stage.arm, PERIOD)
        self.motion.start(stage.ready_q)
        self.now = 0.0
        self.plan: Plan | None = None
        self._arriving: deque = deque()
        self._frames = 0
        self._rows: list[tuple] = []
        self._expected: list[Expected | None] = []
        self._reasons: list[tuple[float, str]] = []
        self._ended_at = np.inf
        self._begin()

    @property
    def ended(self) -> bool:
        return self.now > self._ended_at + _AFTER

    def _begin(self) -> None:
        stage, world, person = self.stage, self.stage.world, self.person
        keypoints, rotation = person.keypoints(0.0)
        closed = person.direction == TAKE
        self.fingers = stage.finger_poses["fist" if closed else "preshape"].copy()
        world.reset(stage.ready_q, stage.finger_poses["open" if closed else "preshape"])
        world.place_person(keypoints, rotation, person.head)
        if closed:
            tool = stage.ready_tool()
            world.put_baton(tool[:3, 3] - TOOL_TO_MIDDLE * tool[:3, 2], tool[:3, :3])
            world.fix_to_robot(True)
            for _ in range(round(_CLOSING_TIME / PERIOD)):
                world.step(stage.ready_q, self.fingers, PERIOD)
            world.fix_to_robot(False)
        elif person.holding is not None:
            palm = rotation[person.side]
            thumb = palm[:, 1] if person.side else -palm[:, 1]
            middle = keypoints[person.side, 0] + GRIP[0] * palm[:, 0] + GRIP[1] * thumb + GRIP[2] * palm[:, 2]
            world.put_baton(middle, np.stack([palm[:, 0], np.cross(thumb, palm[:, 0]), thumb], axis=1))
            world.hold(person.holding)
        world.settle()
        self.controller.begin(0.0)

    def step(self) -> None:
        """One control period."""
        stage, world, person = self.stage, self.stage.world, self.person
        self._observe()
        stage.measured_arm.move(world.arm_q)
        tool, capsules = stage.measured_arm.tool(), stage.measured_arm.capsules(world.hand_q)
        touch = world.touch(tool[:3, 0])
        phase = self.controller.machine.phase
        exempt = self.plan.exempt_side if self.plan is not None else None
        robot = RobotState(
            tool,
            capsules.shape,
            touch.gripped,
            phase == Phase.TRANSFER and touch.pull > _PULL_FORCE,
            touch.elsewhere or bool(touch.hands - {exempt}),
        )
        plan = self.controller.step(self.now, robot)
        if self.plan is None or plan.phase != self.plan.phase:
            self._reasons.append((self.now, f"{plan.phase.name}: {plan.reason}"))
        self.plan = plan
        command = self.motion.step(plan.goal, plan.speed, self._rows_of(plan))
        self._move_fingers(stage.finger_poses[_POSES[plan.fingers]])
        self._keypoints, self._rotation = person.keypoints(self.now)
        self._note(touch, command, tool)
        self._move_person(touch, tool)
        world.step(command, self.fingers, PERIOD)
        self.now += PERIOD
        if plan.phase == Phase.IDLE and np.isinf(self._ended_at):
            self._ended_at = self.now

    def _observe(self) -> None:
        timing = self.timing
        if self.now >= self._frames * timing.camera_period - 1e-9:
            forecast = self._frames % timing.forecast_every == 0
            observed, futures = self.watcher.see(self.now, forecast)
            self._arriving.append((self.now + timing.tracking, observed, None))
            if futures is not None:
                self._futures = futures
                self._arriving.append((self.now + timing.tracking + timing.inference, None, futures))
            self._frames += 1
        fresh = [item for item in self._arriving if item[0] <= self.now]
        self._arriving = deque(item for item in self._arriving if item[0] > self.now)
        for _, _, futures in fresh:
            self._newest = futures if futures is not None else self._newest
        for _, observed, _ in fresh:
            if observed is not None:
                self.controller.observe(self.now, observed, self._newest, self.person.head)
                self._newest = None

    _newest = None

    def _rows_of(self, plan: Plan) -> ClosingRows | None:
        if not len(plan.person):
            return None
        capsules = self.stage.arm.capsules(self.stage.world.hand_q)
        separation, leaving = self.options.separation, plan.phase != Phase.TRANSFER
        pairs = measure_pairs(capsules.shape, plan.person, separation, plan.exempt_side, leaving)
        ahead = plan.forecast
        return ClosingRows(
            np.concatenate([pairs.point, ahead.point]),
            np.concatenate([capsules.body[pairs.robot], capsules.body]),
            np.concatenate([pairs.normal, ahead.normal]),
            np.concatenate([pairs.allowed, ahead.allowed]),
        )

    def _move_fingers(self, wanted: np.ndarray) -> None:
        most = np.minimum(self.stage.hand.velocity_limit, _FINGER_SPEED) * PERIOD
        self.fingers = self.fingers + np.clip(wanted - self.fingers, -most, most)

    def _move_person(self, touch, tool: np.ndarray) -> None:
        person, world = self.person, self.stage.world
        keypoints, rotation = self._keypoints, self._rotation
        palm = rotation[person.side]
        thumb = palm[:, 1] if person.side else -palm[:, 1]
        grip = keypoints[person.side, 0] + GRIP[0] * palm[:, 0] + GRIP[1] * thumb + GRIP[2] * palm[:, 2]
        person.update(self.now, RobotSeen(world.baton[:3, 3] - grip, touch.gripped))
        if person.pulls and not touch.gripped and self.controller.machine.phase == Phase.RETREAT:
            person.took(self.now)
        world.hold(person.holding)
        world.place_person(keypoints, rotation, person.head)

    def _note(self, touch, command: np.ndarray, tool: np.ndarray) -> None:
        plan, transfer = self.plan, self.plan.transfer
        self._expected.append(None if transfer is None else Expected(transfer.stamp, transfer.position, transfer.time))
        self._rows.append(
            (
                self.now,
                command.copy(),
                self.stage.world.arm_q,
                self.stage.world.robot_points().astype(np.float32),
                self._keypoints.astype(np.float32),
                int(plan.phase),
                -1 if plan.exempt_side is None else plan.exempt_side,
                plan.direction,
                tool[:3, 3],
                (0 in touch.hands, 1 in touch.hands, touch.elsewhere),
                touch.gripped,
                self.stage.world.baton[:3, 3],
                plan.forecast.speed,
            )
        )

    def record(self) -> Record:
        """What happened."""
        columns = [np.array(column) for column in zip(*self._rows)]
        time, command, measured, points, *rest = columns
        return Record(
            self.person,
            time,
            command,
            measured,
            points,
            self.stage.world.thickness,
            *rest,
            self._expected,
            self.controller.machine.outcome,
            self._reasons,
            self.motion.failures,
        )


def _finger_pose(hand: HandModel, name: str) -> np.ndarray:
    """Angles (m,) rad by which the robot's hand shows a human posture."""
    retargeter = Retargeter(hand)
    keypoints = HandShape.sample(np.random.default_rng(0)).keypoints(POSTURES[name], 1)
    for _ in range(3):  # the solver follows: a few frames of the same pose
        result = retargeter.solve(keypoints)
    return result.q


__all__ = ["GIVE", "PERIOD", "TAKE", "HandoverStage", "Record", "Timing", "run_episode"]
