"""Parameters of the `handover` node."""

from dataclasses import dataclass, replace

import numpy as np

from ...geometry.rotations import matrix_from_quaternion
from ...geometry.transforms import make_transform
from ...handover.options import HandoverOptions
from ...handover.separation import SeparationOptions
from ...handover.touch import SenseOptions
from ..base.node import BaseParameters, parameter

TRAJECTORY, POSE, TWIST = "trajectory", "pose", "twist"
NEVER, GIVE, TAKE, EITHER = "never", "give", "take", "either"
_DEFAULTS, _SEPARATION, _SENSE = HandoverOptions(), SeparationOptions(), SenseOptions()


@dataclass(frozen=True)
class HandoverParameters(BaseParameters):
    arm: str = parameter("ur5e", "Robot arm: a name of config/arms or a config file.", read_only=True)
    hand: str = parameter("allegro_right", "Robot hand: a name (`egohand hands`) or a config file.", read_only=True)
    command_interface: str = parameter("", "Command interface of the hand's config; empty: its first.", read_only=True)
    arm_output: str = parameter(
        TRAJECTORY,
        "How the arm is commanded: trajectory, arm_commands; pose or twist, arm_pose or arm_twist of the tool, for "
        "Cartesian controllers and MoveIt Servo, whose own limits and time-out then hold.",
        choices=(TRAJECTORY, POSE, TWIST),
        read_only=True,
    )
    use_robot_topics: bool = parameter(
        False,
        "Use the command topics of the arm's and hand's configs, not arm_commands and joint_commands.",
        read_only=True,
    )
    base_frame: str = parameter("robot_base", "Frame of the arm's base, z up.", read_only=True)
    fixed_frame: str = parameter("world", "Frame that camera poses and forecasts are in.", read_only=True)
    base_pose: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "Pose of base_frame in fixed_frame: x, y, z, and the quaternion x, y, z, w.",
        unit="m",
        range=(-1000.0, 1000.0),
        read_only=True,
    )
    use_tf: bool = parameter(False, "Take that pose, and those of cameras, from TF instead (tf2_ros).", read_only=True)
    rate: float = parameter(100.0, "Rate of control and commands.", unit="Hz", range=(20.0, 500.0), read_only=True)
    state_rate: float = parameter(20.0, "Rate of handover_state.", unit="Hz", range=(1.0, 100.0), read_only=True)
    realtime_priority: int = parameter(
        20, "Real-time priority (SCHED_FIFO) of the control thread, where the user may have one; 0: none.",
        range=(0, 99), read_only=True,
    )  # fmt: skip
    start_enabled: bool = parameter(False, "Begin to command without a call of ~/enable.", read_only=True)
    without_goal: str = parameter(
        NEVER,
        "What is begun by itself, again and again, while no goal of the action is: nothing, or a handover of this "
        "direction.",
        choices=(NEVER, GIVE, TAKE, EITHER),
    )
    holds_object: bool = parameter(False, "The robot's hand holds an object at the beginning.", read_only=True)
    timeout: float = parameter(
        _DEFAULTS.timeout, "Time for a handover whose goal does not say.", unit="s", range=(1.0, 3600.0)
    )
    max_age: float = parameter(0.5, "Older observations and forecasts are refused.", unit="s", range=(0.02, 5.0))
    slow_after: float = parameter(
        _DEFAULTS.slow_after, "Age of what is known of a person that slows the arm.", unit="s", range=(0.01, 1.0)
    )  # fmt: skip
    stop_after: float = parameter(_DEFAULTS.stop_after, "Age from which the arm stands.", unit="s", range=(0.02, 1.0))
    forecast_period: float = parameter(
        0.05,
        "Forecasts may be as much older than hand poses: the time between two of them, where that is longer.",
        unit="s",
        range=(0.0, 1.0),
    )
    joint_states_silence: float = parameter(
        0.2, "An arm or hand that is silent for so long gets no more commands.", unit="s", range=(0.02, 10.0)
    )
    following_error: float = parameter(
        0.2, "An arm that is further from its commands is not commanded on.", unit="rad", range=(0.01, 3.0)
    )
    speed: float = parameter(_DEFAULTS.speed, "Most speed of the tool.", unit="m/s", range=(0.01, 2.0))
    carry_speed: float = parameter(
        _DEFAULTS.carry_speed, "Most speed of the tool with an object.", unit="m/s", range=(0.01, 2.0)
    )
    transfer_speed: float = parameter(
        _SEPARATION.transfer_speed, "Most speed towards the transferring hand, in contact.", unit="m/s",
        range=(0.01, 0.25),
    )  # fmt: skip
    human_speed: float = parameter(
        _SEPARATION.human_speed, "Speed of people that is always reckoned with.", unit="m/s", range=(0.5, 3.0)
    )
    reaction_time: float = parameter(
        _SEPARATION.reaction_time,
        "From the exposure of the camera to the arm's first deceleration, as ~/debug/latency and the arm show.",
        unit="s",
        range=(0.01, 1.0),
    )
    deceleration: float = parameter(
        _SEPARATION.deceleration, "With which the robot's fastest point stops.", unit="m/s^2", range=(0.5, 50.0)
    )
    person_uncertainty: float = parameter(
        _SEPARATION.person_uncertainty, "Of the person's place: Z_d.", unit="m", range=(0.0, 1.0)
    )
    robot_uncertainty: float = parameter(
        _SEPARATION.robot_uncertainty, "Of the robot's place: Z_r.", unit="m", range=(0.0, 1.0)
    )
    table_height: float = parameter(
        _DEFAULTS.table_height, "The arm keeps above this, in base_frame.", unit="m", range=(-10.0, 10.0)
    )
    ready: tuple[float, ...] = parameter(
        _DEFAULTS.ready, "Where the tool waits, in base_frame.", unit="m", range=(-3.0, 3.0), read_only=True
    )
    receive_ahead: float = parameter(
        _DEFAULTS.receive_ahead, "The tool waits so much nearer to people while the robot's hand is empty.", unit="m",
        range=(0.0, 0.5),
    )  # fmt: skip
    grip_error: float = parameter(
        _SENSE.grip_error, "Fingers that stay so far behind their command hold something.", unit="rad",
        range=(0.005, 1.0), read_only=True,
    )  # fmt: skip
    contact_force: float = parameter(
        _SENSE.contact_force, "A larger force on the hand before a transfer is a person.", unit="N",
        range=(1.0, 500.0), read_only=True,
    )  # fmt: skip

    def __post_init__(self):
        if len(self.base_pose) != 7 or abs(np.linalg.norm(self.base_pose[3:]) - 1.0) > 1e-2:
            raise ValueError("base_pose: expected x, y, z and a unit quaternion x, y, z, w")
        if len(self.ready) != 3:
            raise ValueError("ready: expected x, y, z")
        if not self.slow_after < self.stop_after:
            raise ValueError("slow_after has to be smaller than stop_after")
        self.options()

    def options(self) -> HandoverOptions:
        """What the controller is asked to keep to. Raises `ValueError`."""
        separation = replace(_SEPARATION, **{name: getattr(self, name) for name in _shared(SeparationOptions)})
        own = {name: getattr(self, name) for name in _shared(HandoverOptions)}
        return replace(_DEFAULTS, **own, separation=separation)

    def sense_options(self) -> SenseOptions:
        """How touch is told."""
        return SenseOptions(grip_error=self.grip_error, contact_force=self.contact_force)

    def T_base_fixed(self) -> np.ndarray:
        """(4, 4): fixed_frame in base_frame."""
        rotation = matrix_from_quaternion(np.array(self.base_pose[3:]))
        return np.linalg.inv(make_transform(rotation, np.array(self.base_pose[:3])))


def _shared(kind: type) -> set[str]:
    return set(kind.__dataclass_fields__) & set(HandoverParameters.__dataclass_fields__)
