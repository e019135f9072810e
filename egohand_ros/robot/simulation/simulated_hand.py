"""A simulated robot hand, on an arm where asked: MuJoCo physics made from URDFs, behind the drive of `firmware.py`; the
arm behind what a joint_trajectory_controller is (`TrajectoryFollower`).

Gravity is compensated, as the firmware of such hands does: a servo without an integral term would sag instead.
"""

from collections import deque

import mujoco
import numpy as np

from ..arm.model import ArmModel
from ..arm.trajectory import TrajectoryFollower
from ..hands.model import HandModel
from .arm_scene import HAND_PREFIX, build_arm_scene
from .firmware import DriveOptions, HandDrive
from .mujoco_scene import build_scene

MAX_CATCH_UP = 0.1  # s; what a stalled caller lost beyond this is skipped, not simulated in a burst
MAX_IN_FLIGHT = 1024  # delayed commands


class HandSimulation:
    """A hand with n actuated joints that is stepped up to the caller's time. Not thread-safe.

    `actuation_delay` s is the time from a command to its effect (motor controllers and field buses: 0.05 to 0.2 s).
    With `arm` the hand is on one, which waits at its pose for teleoperation. Raises `UserError` for a URDF that MuJoCo
    cannot simulate.
    """

    def __init__(
        self,
        hand: HandModel,
        options: DriveOptions = DriveOptions(),
        actuation_delay: float = 0.0,
        arm: ArmModel | None = None,
    ):
        self.hand, self.arm = hand, None if arm is None else _ArmServos(arm)
        self.model = build_scene(hand) if arm is None else build_arm_scene(arm, hand)
        prefix = "" if arm is None else HAND_PREFIX
        self.data = mujoco.MjData(self.model)
        self.drive = HandDrive(hand.lower, hand.upper, hand.velocity_limit, hand.rest_q, options)
        self.actuation_delay = actuation_delay
        self.time: float | None = None
        self.skipped = 0.0  # s that stalls of the caller have cost
        self._in_flight: deque[tuple[float, np.ndarray]] = deque(maxlen=MAX_IN_FLIGHT)
        joints = [self.model.joint(prefix + name) for name in hand.kinematics.full_joint_names]
        self._q_index = np.array([joint.qposadr[0] for joint in joints])
        actuated = [self.model.joint(prefix + name) for name in hand.joint_names]
        self._hand_ctrl = np.array([self.model.actuator(prefix + name).id for name in hand.joint_names])
        self._actuated_q = np.array([joint.qposadr[0] for joint in actuated])
        self._actuated_v = np.array([joint.dofadr[0] for joint in actuated])
        self._place(hand.rest_q)

    @property
    def q(self) -> np.ndarray:
        """Positions (n,) rad of the actuated joints."""
        return self.data.qpos[self._actuated_q]

    @property
    def qd(self) -> np.ndarray:
        """Velocities (n,) rad/s."""
        return self.data.qvel[self._actuated_v]

    @property
    def torque(self) -> np.ndarray:
        """Torques (n,) N m of the servos."""
        return self.data.qfrc_actuator[self._actuated_v]

    @property
    def q_full(self) -> np.ndarray:
        """Positions (N,) rad of all joints, coupled ones included, in `kinematics.full_joint_names` order."""
        return self.data.qpos[self._q_index]

    def command(self, q: np.ndarray, now: float) -> None:
        """Take a command q (n,) rad; it acts after the actuation delay. Raises `RejectedInput` as the drive does."""
        q = np.asarray(q, dtype=float)
        if self.actuation_delay <= 0.0:
            self.drive.command(q, now)
        else:
            self.drive.check(q)
            self._in_flight.append((now + self.actuation_delay, q))

    @property
    def arm_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (k,) rad and velocities (k,) rad/s of the arm's joints, which come first; none without an arm."""
        k = 0 if self.arm is None else self.arm.n
        return self.data.qpos[:k].copy(), self.data.qvel[:k].copy()

    def command_arm(self, times: np.ndarray, q: np.ndarray, qd: np.ndarray, now: float) -> None:
        """Take a trajectory of the arm from `now` on. Raises `RejectedInput` as `TrajectoryFollower.follow` does."""
        assert self.arm is not None
        self.arm.controller.follow(times, q, qd, now)

    def advance(self, now: float) -> None:
        """Step the physics up to `now`. A clock that jumps backwards holds the hand and starts a new time line."""
        if self.time is None or now < self.time:
            self._rebase(now)
            self.time = now
        lost = max(0.0, now - MAX_CATCH_UP - self.time)
        self.skipped += lost
        self.time += lost
        if lost > 0.0:
            self.drive.rebase(self.time)  # what was commanded before means nothing now: hold until the next command
        step = self.model.opt.timestep
        while self.time + step <= now:
            self.time += step
            while self._in_flight and self._in_flight[0][0] <= self.time:
                self.drive.command(self._in_flight.popleft()[1], self.time)
            self.data.ctrl[self._hand_ctrl] = self.drive.advance(self.time, step)
            if self.arm is not None:
                self.data.ctrl[: self.arm.n] = self.arm.controller.at(self.time)[0]
            mujoco.mj_step(self.model, self.data)
            if not np.isfinite(self.data.qpos).all():  # MuJoCo diverged: start again where the drive stands
                self._place(self.drive.setpoint)

    def _rebase(self, now: float) -> None:
        if self.time is not None:
            self.drive.rebase(now)
            self._in_flight.clear()

    def _place(self, q: np.ndarray) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._q_index] = self.hand.kinematics.full_position(q)
        self.data.ctrl[self._hand_ctrl] = q
        if self.arm is not None:
            arm_q = self.arm.controller.at(self.time or 0.0)[0]
            self.data.qpos[: self.arm.n] = self.data.ctrl[: self.arm.n] = arm_q
        mujoco.mj_forward(self.model, self.data)


class _ArmServos:
    """The arm's n joints and their controller."""

    def __init__(self, arm: ArmModel):
        self.names, self.n = arm.config.joints, arm.n
        self.controller = TrajectoryFollower(arm.teleoperation_q, arm.lower, arm.upper, arm.velocity_limit)
