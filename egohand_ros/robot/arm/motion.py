"""`ArmMotion`: from a goal of the tool to the next angles of the joints, within every limit.

At each step a quadratic programme (mink) finds joint velocities that take the tool towards its goal, no joint faster
than it may be or than it can stop before its end, and no watched point of the robot closing in faster than it may
(`ClosingLimit`). What comes out is followed with bounded acceleration and jerk (ruckig), so commands are smooth
whatever the goal does. Needs the extra `handover`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...errors import UserError
from .config import NEEDS
from .model import TOOL, ArmModel


@contextmanager
def _without_jax() -> Iterator[None]:
    """Keeps JAX, where it is installed, from being imported: qpsolvers, below mink, would, for a solver that is not
    used here, and that is more than half of the time in which a node of a handover starts."""
    if "jax" in sys.modules:
        yield
        return
    sys.modules["jax"] = None  # type: ignore[assignment]  # what Python takes for a module that is missing
    try:
        yield
    finally:
        del sys.modules["jax"]


try:
    with _without_jax():
        import mink
    from ruckig import ControlInterface, InputParameter, OutputParameter, Result, Ruckig, Synchronization, Trajectory
except ImportError:  # pragma: no cover - depends on what is installed
    mink = None

_ROW_SPARE = 1.5  # m/s: points that may close in faster than any arm moves need no row
_SOLVER = "daqp"
WORLD = 0  # the body that stands still
Twist: TypeAlias = tuple[np.ndarray, np.ndarray]
AT_REST: Twist = (np.zeros(3), np.zeros(3))
_TOO_FAST = 0.02  # m/s above what a point may do: the arm stops first, then goes on
_CREEPING = 1e-3  # m/s; what is too near already stops sooner, or joints of different pace would bring it nearer yet


@dataclass(frozen=True)
class MotionOptions:
    """`gain` 1/s by which the tool's error is closed near the goal, `turn_speed` rad/s, and no more than takes what is
    `turn_radius` m off the tool along at the tool's speed; `acceleration` m/s^2 by which the tool brakes for its goal;
    `orientation` m/rad, what turning wrong costs against being off; `margin` rad kept from the ends of joints.
    `together`: joints change their speeds at one pace, so that on the way from one allowed motion to another nothing
    closes in faster than in either; otherwise each as fast as it can."""

    gain: float = 6.0
    turn_gain: float = 4.0
    turn_speed: float = 1.5
    turn_radius: float = 0.3
    acceleration: float = 2.5
    orientation: float = 0.2
    posture: float = 2e-3
    damping: float = 2e-3
    margin: float = 0.03
    together: bool = False


@dataclass(frozen=True, eq=False)
class ClosingRows:
    """Points (P, 3) m of the robot, the bodies (P,) that they are fixed to, unit directions (P, 3), and how fast each
    may move along its own (P,) m/s, less than 0 for what is too near already; relative to bodies of the robot (P,),
    `WORLD` for those that are fixed."""

    point: np.ndarray
    body: np.ndarray
    direction: np.ndarray
    speed: np.ndarray
    other: np.ndarray

    @classmethod
    def of_person(cls, point: np.ndarray, body: np.ndarray, direction: np.ndarray, speed: np.ndarray) -> ClosingRows:
        """Towards what is not the robot."""
        return cls(point, body, direction, np.maximum(speed, 0.0), np.full(len(speed), WORLD))

    def along(self, arm: ArmModel, near: np.ndarray) -> np.ndarray:
        """d distance / d q (R, n) of the rows `near`, at the arm's pose."""
        point, body, other = self.point[near], self.body[near], self.other[near]
        jacobian = arm.jacobian(point, body)
        own = np.flatnonzero(other != WORLD)
        jacobian[own] -= arm.jacobian(point[own], other[own])
        return np.einsum("pi,pij->pj", self.direction[near], jacobian)


def stacked(*rows: ClosingRows) -> ClosingRows:
    """All of them as one."""
    return ClosingRows(*(np.concatenate([getattr(r, name) for r in rows]) for name in ClosingRows.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Outlook:
    """How an arm goes on if nothing else is commanded: it keeps to what it was about to do for a moment, then stops.
    `period` s apart: q, qd, qdd (T, n) in rad and s, from now on, the last at rest."""

    period: float
    q: np.ndarray
    qd: np.ndarray
    qdd: np.ndarray

    def at(self, time: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, qd and qdd (n,) `time` s from its beginning; of times after its end, where it rests."""
        step = float(np.clip(time / self.period, 0.0, len(self.q) - 1.0))
        low = min(int(step), len(self.q) - 2) if len(self.q) > 1 else 0
        share, high = step - low, min(low + 1, len(self.q) - 1)
        q, qd, qdd = ((1.0 - share) * x[low] + share * x[high] for x in (self.q, self.qd, self.qdd))
        return q, qd, qdd

    @property
    def duration(self) -> float:
        """s until it rests."""
        return self.period * (len(self.q) - 1)


class ArmMotion:
    """The state of commands: `q`, `qd`, `qdd` (n,) in rad and s. `period` s from one step to the next; `posture` (n,)
    rad is what the arm tends to where the tool does not ask for another, its ready pose by default."""

    def __init__(
        self,
        arm: ArmModel,
        period: float = 0.01,
        options: MotionOptions = MotionOptions(),
        posture: np.ndarray | None = None,
    ):
        if mink is None:
            raise UserError(NEEDS)
        self.arm, self.period, self.options = arm, period, options
        self._configuration = mink.Configuration(arm.model)
        self._tool = mink.FrameTask(TOOL, "site", position_cost=1.0, orientation_cost=options.orientation)
        self._posture = mink.PostureTask(arm.model, cost=options.posture)
        self._posture.set_target(arm.ready_q if posture is None else posture)
        self._closing = _closing_limit(arm)
        self._joints = _joint_limit(arm, options.margin)
        self._smoother, self._foreseer = Ruckig(arm.n, period), Ruckig(arm.n, period)
        self._input, self._output = self._new_input(), OutputParameter(arm.n)
        self._wanted = np.zeros(arm.n)
        self.failures = 0
        self.start(arm.ready_q if posture is None else posture)

    def start(self, q: np.ndarray) -> None:
        """Stand at q (n,), where the arm was measured."""
        self.q = np.clip(q, self.arm.lower, self.arm.upper)
        self.qd = np.zeros(self.arm.n)
        self.qdd = np.zeros(self.arm.n)
        self._wanted = np.zeros(self.arm.n)
        self.arm.move(self.q)

    def resume(self, q: np.ndarray, qd: np.ndarray, qdd: np.ndarray) -> None:
        """Go on from a state (n,) each that an `Outlook` had: time passed in which no step was made."""
        self.q, self.qd, self.qdd = q.copy(), qd.copy(), qdd.copy()
        self.arm.move(self.q)

    def tool_twist(self) -> tuple[np.ndarray, np.ndarray]:
        """Speed (3,) m/s and turning (3,) rad/s of the tool as commanded, in the base's axes."""
        linear, angular = self.arm.tool_jacobian()
        return linear @ self.qd, angular @ self.qd

    def tool_speed(self) -> float:
        """m/s of the tool as commanded."""
        return float(np.linalg.norm(self.tool_twist()[0]))

    def outlook(self, ahead: int = 0) -> Outlook:
        """From the state that commands have: `ahead` more steps as wanted last, then a stop within the limits."""
        going = self._new_input()
        rows: list[list[np.ndarray]] = [[self.q, self.qd, self.qdd]]
        # Not `update`, which for an input that it had before takes what is in its output, and a new one holds nothing.
        for _ in range(ahead):
            self._put(going, self._wanted, *rows[-1])
            onward = Trajectory(self.arm.n)
            self._checked(self._foreseer.calculate(going, onward))
            rows.append([np.array(x) for x in onward.at_time(self.period)[:3]])
        self._put(going, np.zeros(self.arm.n), *rows[-1])
        stop = Trajectory(self.arm.n)
        self._checked(self._foreseer.calculate(going, stop))
        steps = int(np.ceil(stop.duration / self.period - 1e-9))
        rows += [[np.array(x) for x in stop.at_time(self.period * (i + 1))[:3]] for i in range(steps)]
        q, qd, qdd = (np.array(column) for column in zip(*rows))
        qd[-1], qdd[-1] = 0.0, 0.0
        return Outlook(self.period, np.clip(q, self.arm.lower, self.arm.upper), qd, qdd)

    def _new_input(self) -> InputParameter:
        arm, fresh = self.arm, InputParameter(self.arm.n)
        fresh.control_interface = ControlInterface.Velocity
        fresh.synchronization = Synchronization.Phase if self.options.together else Synchronization.No
        fresh.max_velocity = arm.velocity_limit.tolist()
        fresh.max_acceleration = (0.98 * arm.acceleration_limit).tolist()
        fresh.max_jerk = (0.98 * arm.jerk_limit).tolist()
        fresh.target_acceleration = [0.0] * arm.n
        return fresh

    @staticmethod
    def _put(into: InputParameter, wanted: np.ndarray, q: np.ndarray, qd: np.ndarray, qdd: np.ndarray) -> None:
        into.current_position, into.current_velocity = q.tolist(), qd.tolist()
        into.current_acceleration, into.target_velocity = qdd.tolist(), wanted.tolist()

    @staticmethod
    def _checked(result: Result) -> None:
        if result not in (Result.Working, Result.Finished):
            raise RuntimeError(f"the smoother refuses its own state: {result}")

    def step(
        self, goal: np.ndarray, speed: float, rows: ClosingRows | None = None, along: Twist | None = None
    ) -> np.ndarray:
        """The next angles (n,) towards the tool's `goal` (4, 4) T_base_tool at no more than `speed` m/s. `along`: how
        fast the goal itself moves, (3,) m/s, and turns, (3,) rad/s, in the base's axes; at rest by default."""
        self._wanted = self.wanted_velocity(goal, speed, rows, along)
        self._put(self._input, self._wanted, self.q, self.qd, self.qdd)
        self._smoother.reset()  # what it had before is no matter, also where the input is the same
        self._checked(self._smoother.update(self._input, self._output))
        self.q, self.qd, self.qdd = (np.array(x) for x in _state(self._output))
        self.arm.move(self.q)
        return self.q

    def wanted_velocity(
        self, goal: np.ndarray, speed: float, rows: ClosingRows | None, along: Twist | None = None
    ) -> np.ndarray:
        """Joint velocities (n,) that the programme finds; none where it finds nothing."""
        if speed <= 0.0:
            return np.zeros(self.arm.n)
        if rows is not None and self._breaks(rows):
            return np.zeros(self.arm.n)
        self._configuration.update(self.q)
        self._tool.set_target(self._near_target(goal, speed, along or AT_REST))
        self._closing.rows = rows
        try:
            return mink.solve_ik(
                self._configuration,
                [self._tool, self._posture],
                self.period,
                _SOLVER,
                damping=self.options.damping * self.period,
                limits=[self._joints, self._closing],
            )
        except mink.NoSolutionFound:
            self.failures += 1
            return np.zeros(self.arm.n)

    def _breaks(self, rows: ClosingRows) -> bool:
        """Whether the arm as it moves now, which joints that follow at their own pace can bend from what was wanted,
        closes in too fast somewhere."""
        near = np.flatnonzero(rows.speed < _ROW_SPARE)
        closing = rows.along(self.arm, near) @ self.qd
        return bool((closing > np.maximum(rows.speed[near] + _TOO_FAST, _CREEPING)).any())

    def _near_target(self, goal: np.ndarray, speed: float, along: Twist) -> mink.SE3:
        """As far towards the goal, and with it, as one period goes."""
        options, now = self.options, self.arm.tool()
        off = goal[:3, 3] - now[:3, 3]
        far = float(np.linalg.norm(off))
        pace = min(options.gain * far, np.sqrt(2.0 * options.acceleration * far))
        move = _at_most(along[0] + off / max(far, 1e-9) * pace, speed)
        turn = mink.SO3.from_matrix(now[:3, :3].T @ goal[:3, :3]).log()
        spin = now[:3, :3].T @ along[1] + options.turn_gain * turn
        spin = _at_most(spin, min(options.turn_speed, speed / options.turn_radius))
        rotation = mink.SO3.from_matrix(now[:3, :3]) @ mink.SO3.exp(spin * self.period)
        return mink.SE3.from_rotation_and_translation(rotation, now[:3, 3] + move * self.period)


def _at_most(vector: np.ndarray, length: float) -> np.ndarray:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-9))


def _state(output: OutputParameter) -> tuple[list[float], list[float], list[float]]:
    return output.new_position, output.new_velocity, output.new_acceleration


def _closing_limit(arm: ArmModel) -> mink.Limit:
    class ClosingLimit(mink.Limit):
        """n . J dq <= v dt for every row. Standing still is always allowed, so the programme has a solution."""

        rows: ClosingRows | None = None

        def compute_qp_inequalities(self, configuration: mink.Configuration, dt: float) -> mink.Constraint:
            rows = self.rows
            near = np.zeros(0, dtype=int) if rows is None else np.flatnonzero(rows.speed < _ROW_SPARE)
            if rows is None or not len(near):
                return mink.Constraint()
            return mink.Constraint(G=rows.along(arm, near), h=np.maximum(rows.speed[near], 0.0) * dt)

    return ClosingLimit()


def _joint_limit(arm: ArmModel, margin: float) -> mink.Limit:
    class JointLimit(mink.Limit):
        """Speed limits, and no faster towards an end than half the acceleration limit can stop before it."""

        def compute_qp_inequalities(self, configuration: mink.Configuration, dt: float) -> mink.Constraint:
            q, slow = configuration.q, 0.5 * arm.acceleration_limit
            up = np.minimum(arm.velocity_limit, np.sqrt(2.0 * slow * np.maximum(arm.upper - margin - q, 0.0)))
            down = np.minimum(arm.velocity_limit, np.sqrt(2.0 * slow * np.maximum(q - arm.lower - margin, 0.0)))
            eye = np.eye(arm.n)
            return mink.Constraint(G=np.vstack([eye, -eye]), h=0.98 * dt * np.concatenate([up, down]))

    return JointLimit()
