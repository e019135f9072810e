"""`ArmMotion`: from a goal of the tool to the next angles of the joints, within every limit.

At each step a quadratic programme (mink) finds joint velocities that take the tool towards its goal, no joint faster
than it may be or than it can stop before its end, and no watched point of the robot closing in faster than it may
(`ClosingLimit`). What comes out is followed with bounded acceleration and jerk (ruckig), so commands are smooth
whatever the goal does. Needs the extra `handover`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from .model import TOOL, ArmModel

NEEDS = "a robot arm needs the extra `handover`: pip install 'egohand_ros[handover]'"
try:
    import mink
    from ruckig import ControlInterface, InputParameter, OutputParameter, Result, Ruckig, Synchronization
except ImportError:  # pragma: no cover - depends on what is installed
    mink = None

_ROW_SPARE = 1.5  # m/s: points that may close in faster than any arm moves need no row
_SOLVER = "daqp"
_TOO_FAST = 0.02  # m/s above what a point may do: the arm stops first, then goes on


@dataclass(frozen=True)
class MotionOptions:
    """`gain` 1/s by which the tool's error is closed near the goal, `turn_speed` rad/s; `acceleration` m/s^2 by which
    the tool brakes for its goal; `orientation` m/rad, what turning wrong costs against being off; `margin` rad kept
    from the ends of joints."""

    gain: float = 6.0
    turn_gain: float = 4.0
    turn_speed: float = 1.5
    acceleration: float = 2.5
    orientation: float = 0.2
    posture: float = 2e-3
    damping: float = 2e-3
    margin: float = 0.03


@dataclass(frozen=True, eq=False)
class ClosingRows:
    """Points (P, 3) m of the robot, the bodies (P,) that they are fixed to, unit directions (P, 3), and how fast each
    may move along its own (P,) m/s."""

    point: np.ndarray
    body: np.ndarray
    direction: np.ndarray
    speed: np.ndarray


class ArmMotion:
    """The state of commands: `q`, `qd`, `qdd` (n,) in rad and s. `period` s from one step to the next."""

    def __init__(self, arm: ArmModel, period: float = 0.01, options: MotionOptions = MotionOptions()):
        if mink is None:
            raise UserError(NEEDS)
        self.arm, self.period, self.options = arm, period, options
        self._configuration = mink.Configuration(arm.model)
        self._tool = mink.FrameTask(TOOL, "site", position_cost=1.0, orientation_cost=options.orientation)
        self._posture = mink.PostureTask(arm.model, cost=options.posture)
        self._closing = _closing_limit(arm)
        self._joints = _joint_limit(arm, options.margin)
        self._smoother = Ruckig(arm.n, period)
        self._input, self._output = InputParameter(arm.n), OutputParameter(arm.n)
        self._input.control_interface = ControlInterface.Velocity
        self._input.synchronization = Synchronization.No
        self._input.max_velocity = arm.velocity_limit.tolist()
        self._input.max_acceleration = (0.98 * arm.acceleration_limit).tolist()
        self._input.max_jerk = (0.98 * arm.jerk_limit).tolist()
        self.failures = 0
        self.start(arm.ready_q)

    def start(self, q: np.ndarray) -> None:
        """Stand at q (n,), where the arm was measured."""
        self.q = np.clip(q, self.arm.lower, self.arm.upper)
        self.qd = np.zeros(self.arm.n)
        self.qdd = np.zeros(self.arm.n)
        self._posture.set_target(self.arm.ready_q)
        self.arm.move(self.q)

    def step(self, goal: np.ndarray, speed: float, rows: ClosingRows | None = None) -> np.ndarray:
        """The next angles (n,) towards the tool's `goal` (4, 4) T_base_tool at no more than `speed` m/s."""
        wanted = self.wanted_velocity(goal, speed, rows)
        self._input.current_position = self.q.tolist()
        self._input.current_velocity = self.qd.tolist()
        self._input.current_acceleration = self.qdd.tolist()
        self._input.target_velocity = wanted.tolist()
        self._input.target_acceleration = [0.0] * self.arm.n
        result = self._smoother.update(self._input, self._output)
        if result not in (Result.Working, Result.Finished):
            raise RuntimeError(f"the smoother refuses its own state: {result}")
        self.q, self.qd, self.qdd = (
            np.array(x) for x in (self._output.new_position, self._output.new_velocity, self._output.new_acceleration)
        )
        self.arm.move(self.q)
        return self.q

    def wanted_velocity(self, goal: np.ndarray, speed: float, rows: ClosingRows | None) -> np.ndarray:
        """Joint velocities (n,) that the programme finds; none where it finds nothing."""
        if speed <= 0.0:
            return np.zeros(self.arm.n)
        if rows is not None and self._breaks(rows):
            return np.zeros(self.arm.n)
        self._configuration.update(self.q)
        self._tool.set_target(self._near_target(goal, speed))
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
        jacobian = self.arm.jacobian(rows.point[near], rows.body[near])
        closing = np.einsum("pi,pij,j->p", rows.direction[near], jacobian, self.qd)
        return bool((closing > np.maximum(rows.speed[near], 0.0) + _TOO_FAST).any())

    def _near_target(self, goal: np.ndarray, speed: float) -> mink.SE3:
        """As far towards the goal as one period goes."""
        options, now = self.options, self.arm.tool()
        off = goal[:3, 3] - now[:3, 3]
        far = float(np.linalg.norm(off))
        pace = min(speed, options.gain * far, np.sqrt(2.0 * options.acceleration * far))
        turn = mink.SO3.from_matrix(now[:3, :3].T @ goal[:3, :3]).log()
        angle = float(np.linalg.norm(turn))
        rate = min(options.turn_speed, options.turn_gain * angle)
        rotation = mink.SO3.from_matrix(now[:3, :3]) @ mink.SO3.exp(turn / max(angle, 1e-9) * rate * self.period)
        place = now[:3, 3] + off / max(far, 1e-9) * pace * self.period
        return mink.SE3.from_rotation_and_translation(rotation, place)


def _closing_limit(arm: ArmModel) -> mink.Limit:
    class ClosingLimit(mink.Limit):
        """n . J dq <= v dt for every row. Standing still is always allowed, so the programme has a solution."""

        rows: ClosingRows | None = None

        def compute_qp_inequalities(self, configuration: mink.Configuration, dt: float) -> mink.Constraint:
            rows = self.rows
            near = np.zeros(0, dtype=int) if rows is None else np.flatnonzero(rows.speed < _ROW_SPARE)
            if rows is None or not len(near):
                return mink.Constraint()
            jacobian = arm.jacobian(rows.point[near], rows.body[near])
            matrix = np.einsum("pi,pij->pj", rows.direction[near], jacobian)
            return mink.Constraint(G=matrix, h=np.maximum(rows.speed[near], 0.0) * dt)

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
