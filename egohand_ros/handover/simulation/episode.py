"""One handover in simulated time: tracker, forecaster, controller, arm, hand, person, physics; what happened is
recorded.

The same code as live; only time is simulated, by the delays of the stages.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..controller import Plan
from ..driver import PERIOD, HandoverDriver, HandoverRobot
from ..intent import GIVE, TAKE
from ..machine import Fingers, Outcome, Phase
from ..options import HandoverOptions
from ..touch import Touch
from .forecasting import Watcher
from .person import Person, RobotSeen
from .world import TOOL_TO_MIDDLE, HandoverWorld, held_at

_CLOSING_TIME = 0.8  # s, before an episode
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
    hand, right hand, elsewhere; baton (T, 3) m; the speed that the forecast left (T,); whether the robot touched the
    baton, and closed its fingers in a transfer (T,) bool; expected, (T,) Expected or None; outcome, and when the person
    came to rest, and let go or took."""

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
    touched_object: np.ndarray
    closing: np.ndarray
    expected: list[Expected | None]
    outcome: Outcome | None
    reasons: list[tuple[float, str]]
    failures: int


class HandoverStage(HandoverRobot):
    """Arm, hand and world, made once for many episodes."""

    def __init__(self, arm: str = "ur5e", hand: str = "allegro_right", options: HandoverOptions | None = None):
        super().__init__(arm, hand, options)
        self.world = HandoverWorld(self.arm, self.hand)


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
        self.driver = HandoverDriver(stage, options, robot_holds=person.direction == TAKE)
        self.controller = self.driver.controller
        self.now = 0.0
        self.plan: Plan | None = None
        self._arriving: deque = deque()
        self._frames = 0
        self._rows: list[tuple] = []
        self._expected: list[Expected | None] = []
        self._reasons: list[tuple[float, str]] = []
        self._ended_at = np.inf
        self._palm_direction = stage.ready_tool[:3, 0]
        self._begin()

    @property
    def ended(self) -> bool:
        return self.now > self._ended_at + _AFTER

    def _begin(self) -> None:
        stage, world, person = self.stage, self.stage.world, self.person
        keypoints, rotation = person.keypoints(0.0)
        closed = person.direction == TAKE
        world.reset(stage.ready_q, stage.finger_poses["open" if closed else "preshape"])
        world.place_person(keypoints, rotation, person.head)
        if closed:
            tool = stage.ready_tool
            world.put_baton(tool[:3, 3] - TOOL_TO_MIDDLE * tool[:3, 2], tool[:3, :3])
            world.fix_to_robot(True)
            for _ in range(round(_CLOSING_TIME / PERIOD)):
                world.step(stage.ready_q, self.driver.fingers, PERIOD)
            world.fix_to_robot(False)
        elif person.holding is not None:
            world.put_into_hand(person.side, keypoints, rotation)
        world.settle()
        self.controller.begin(0.0)

    def step(self) -> None:
        """One control period."""
        world, person = self.stage.world, self.person
        self._observe()
        touch = world.touch(self._palm_direction)
        command = self.driver.step(self.now, world.arm_q, world.hand_q, touch)
        plan, self._palm_direction = command.plan, command.tool[:3, 0]
        if self.plan is None or plan.phase != self.plan.phase:
            self._reasons.append((self.now, f"{plan.phase.name}: {plan.reason}"))
        self.plan = plan
        self._keypoints, self._rotation = person.keypoints(self.now)
        self._note(touch, command.arm_q, command.tool)
        self._move_person(touch)
        world.step(command.arm_q, command.fingers, PERIOD)
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

    def _move_person(self, touch: Touch) -> None:
        person, world = self.person, self.stage.world
        grip = held_at(person.side, self._keypoints, self._rotation)[0]
        person.update(self.now, RobotSeen(world.baton[:3, 3] - grip, touch.gripped))
        if person.pulls and not touch.gripped and self.controller.machine.phase == Phase.RETREAT:
            person.took(self.now)
        world.hold(person.holding)
        world.place_person(self._keypoints, self._rotation, person.head)

    def _note(self, touch, command: np.ndarray, tool: np.ndarray) -> None:
        plan, transfer, world = self.plan, self.controller.expected(self.person.side), self.stage.world
        self._expected.append(None if transfer is None else Expected(transfer.stamp, transfer.position, transfer.time))
        self._rows.append(
            (
                self.now,
                command.copy(),
                world.arm_q,
                world.robot_points().astype(np.float32),
                self._keypoints.astype(np.float32),
                int(plan.phase),
                -1 if plan.exempt_side is None else plan.exempt_side,
                plan.direction,
                tool[:3, 3],
                (0 in touch.hands, 1 in touch.hands, touch.elsewhere),
                touch.gripped,
                world.baton[:3, 3],
                plan.forecast.speed,
                world.touches_baton(),
                plan.phase == Phase.TRANSFER and plan.fingers == Fingers.CLOSE,
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
            self.driver.motion.failures,
        )


__all__ = ["GIVE", "PERIOD", "TAKE", "HandoverStage", "Record", "Timing", "run_episode"]
