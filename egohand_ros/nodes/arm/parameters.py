"""Parameters of every node that commands an arm."""

from dataclasses import dataclass

import numpy as np

from ...geometry.rotations import matrix_from_quaternion
from ...geometry.transforms import make_transform
from ..base.node import BaseParameters, parameter
from ..base.parameters import max_future_parameter

TRAJECTORY, POSE, TWIST = "trajectory", "pose", "twist"


@dataclass(frozen=True)
class ArmParameters(BaseParameters):
    arm: str = parameter("ur5e", "Robot arm: a name of config/arms or a config file.", read_only=True)
    hand: str = parameter("allegro_right", "Robot hand: a name (`egohand hands`) or a config file.", read_only=True)
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
    camera_frame: str = parameter(
        "",
        "The only frame taken for the camera's; empty: the first one that is neither base_frame nor fixed_frame.",
        read_only=True,
    )
    base_pose: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "Pose of base_frame in fixed_frame: x, y, z, and the quaternion x, y, z, w.",
        unit="m",
        range=(-1000.0, 1000.0),
        read_only=True,
    )
    use_tf: bool = parameter(False, "Take that pose, and those of cameras, from TF instead (tf2_ros).", read_only=True)
    rate: float = parameter(100.0, "Rate of control and commands.", unit="Hz", range=(20.0, 500.0), read_only=True)
    realtime_priority: int = parameter(
        20, "Real-time priority (SCHED_FIFO) of the control thread, where the user may have one; 0: none.",
        range=(0, 99), read_only=True,
    )  # fmt: skip
    start_enabled: bool = parameter(False, "Begin to command without a call of ~/enable.", read_only=True)
    max_age: float = parameter(0.5, "Older observations and forecasts are refused.", unit="s", range=(0.02, 5.0))
    max_future: float = max_future_parameter(0.1)
    joint_states_silence: float = parameter(
        0.2, "An arm or hand that is silent for so long gets no more commands.", unit="s", range=(0.02, 10.0)
    )
    following_error: float = parameter(
        0.2, "An arm that is further from its commands is not commanded on.", unit="rad", range=(0.01, 3.0)
    )
    table_height: float = parameter(-1.0, "The arm keeps above this, in base_frame.", unit="m", range=(-10.0, 10.0))

    def __post_init__(self) -> None:
        if len(self.base_pose) != 7 or abs(np.linalg.norm(self.base_pose[3:]) - 1.0) > 1e-2:
            raise ValueError("base_pose: expected x, y, z and a unit quaternion x, y, z, w")

    def T_base_fixed(self) -> np.ndarray:
        """(4, 4): fixed_frame in base_frame."""
        rotation = matrix_from_quaternion(np.array(self.base_pose[3:]))
        return np.linalg.inv(make_transform(rotation, np.array(self.base_pose[:3])))
