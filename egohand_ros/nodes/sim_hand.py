"""`sim_hand`: a robot hand in MuJoCo that takes the same commands as the real one, and is as safe without a commander.

    subscribes  joint_commands  JointState, JointTrajectory or Float64MultiArray, by the hand's config
                arm_commands    trajectory_msgs/JointTrajectory, of the arm that the hand is on (`arm`)
    publishes   joint_states    sensor_msgs/JointState, the arm's and the actuated joints, rad, under the URDFs' names
                robot_description  std_msgs/String, latched: the URDF, for RViz and robot_state_publisher
                /tf_static      where asked (`parent_frame`), latched: where the hand's base is
                sim_hand/image  sensor_msgs/Image, drawn by a process of its own and only for subscribers

Commands that make no sense are refused and counted, those out of range are clipped. When they stop, the hand holds and
then relaxes slowly (`robot/simulation/firmware.py`), whatever became of the node that sent them; an arm stands at the
end of its last trajectory.
"""

from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header, String
from trajectory_msgs.msg import JointTrajectory

from ..errors import RejectedInput
from ..messages.basic import seconds
from ..messages.joints import parse_joint_command_msg, parse_joint_trajectory_msg
from ..robot.arm.model import ArmModel
from ..robot.hands.library import load_hand
from ..robot.hands.urdf import parse_urdf
from ..robot.simulation.firmware import DriveOptions, DriveState
from ..robot.simulation.simulated_hand import HandSimulation
from ..stream.stamps import StampGuard, StampLimits
from .base import qos
from .base.diagnostics import WARN
from .base.node import BaseParameters, EgoHandNode, parameter, run_node
from .base.parameters import stand_in_priority_parameter, transform_of_values
from .base.transports import use_sockets_alone
from .messages.joints import COMMAND_TYPES, JointCommand, build_joint_state_msg
from .messages.transforms import build_transform_msg
from .scene_pictures import ScenePictures
from .transforms import StaticTransform

_CAMERA_FRAME = "sim_hand_camera"
_MAX_FUTURE = 0.1  # s; beyond this the commander's clock is wrong


@dataclass(frozen=True)
class SimHandParameters(BaseParameters):
    hand: str = parameter("allegro_right", "Robot hand: a name (`egohand hands`) or a config file.", read_only=True)
    urdf: str = parameter("", "URDF file instead of the one in the hand's config.", read_only=True)
    command_interface: str = parameter("", "Command interface of the hand's config; empty: its first.", read_only=True)
    arm: str = parameter("", "Arm that the hand is on, a name or a config file; empty: a stand.", read_only=True)
    joint_state_rate: float = parameter(100.0, "Rate of joint_states.", unit="Hz", range=(1.0, 500.0), read_only=True)
    actuation_delay: float = parameter(
        0.0,
        "Time from a command to its effect, as motors and field buses have.",
        unit="s",
        range=(0.0, 1.0),
        read_only=True,
    )
    hold_after: float = parameter(
        0.2, "Without a command for so long, the hand holds.", unit="s", range=(0.02, 5.0), read_only=True
    )
    relax_after: float = parameter(
        1.0, "Without a command for so long, it goes to its rest pose.", unit="s", range=(0.05, 60.0), read_only=True
    )
    relax_speed: float = parameter(
        0.15, "Speed of relaxing, as a fraction of the velocity limits.", range=(0.01, 1.0), read_only=True
    )
    max_command_age: float = parameter(
        0.5, "Commands with an older stamp are refused.", unit="s", range=(0.02, 60.0), read_only=True
    )
    parent_frame: str = parameter(
        "",
        "Broadcast the hand's base, its URDF's root link, as a child of this frame on /tf_static; empty: do not.",
        read_only=True,
    )
    base_pose: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "Pose of the hand's base in parent_frame: x, y, z [m], qx, qy, qz, qw.",
        read_only=True,
    )
    realtime_priority: int = stand_in_priority_parameter()
    image_rate: float = parameter(
        15.0, "Most pictures a second; 0: none.", unit="Hz", range=(0.0, 60.0), read_only=True
    )
    image_width: int = parameter(480, "Width of the picture.", unit="px", range=(16, 1920), read_only=True)
    image_height: int = parameter(360, "Height of the picture.", unit="px", range=(16, 1080), read_only=True)

    def __post_init__(self):
        if not self.hold_after < self.relax_after:
            raise ValueError(
                f"hold_after is {self.hold_after} s, relax_after {self.relax_after} s; the first has to be smaller"
            )
        transform_of_values("base_pose", self.base_pose)


class SimHandNode(EgoHandNode):
    Parameters = SimHandParameters

    def __init__(self, **kwargs):
        super().__init__("sim_hand", **kwargs)
        self._pictures: ScenePictures | None = None

    def setup(self) -> None:
        parameters = self.parameters
        self._hand = load_hand(parameters.hand, parameters.urdf or None)
        self._mapping = self._hand.command_mapping(parameters.command_interface or None)
        options = DriveOptions(parameters.hold_after, parameters.relax_after, parameters.relax_speed)
        arm = ArmModel.load(parameters.arm, self._hand) if parameters.arm else None
        self._simulation = HandSimulation(self._hand, options, parameters.actuation_delay, arm)
        self._names = (*(arm.config.joints if arm is not None else ()), *self._hand.joint_names)
        self._guard = StampGuard(StampLimits(max_age=parameters.max_command_age, max_future=_MAX_FUTURE))
        self._seen_skipped = 0.0
        self._states = self.advertise(JointState, "joint_states")
        self._description = self.advertise(String, "robot_description", qos.LATCHED)
        self._base = StaticTransform(self, "parent_frame") if parameters.parent_frame else None
        self._pictures = ScenePictures(self, self._simulation.model, "sim_hand/image", _CAMERA_FRAME)
        self.subscribe(COMMAND_TYPES[self._mapping.type], "joint_commands", self._on_command)
        self._poll_arm = None
        if arm is not None:
            self._poll_arm = self.subscribe_polled(JointTrajectory, "arm_commands", self._on_arm, qos.SENSOR)
        self.make_timer(1.0 / parameters.joint_state_rate, self._step)
        if parameters.image_rate > 0:
            self.make_timer(1.0 / parameters.image_rate, self._request_picture)

    def start(self) -> None:
        self._simulation.advance(self.now())
        self._description.publish(String(data=self._hand.urdf_text))
        if self._base is not None:
            root = parse_urdf(self._hand.urdf_text).root
            base = transform_of_values("base_pose", self.parameters.base_pose)
            self._base.send(build_transform_msg(self.now(), self.parameters.parent_frame, root, base))
        self.health.value("hand", f"{self._hand.name}, {self._mapping.type}")

    def reset(self) -> None:
        self._guard.reset()

    def release(self) -> None:
        if self._pictures is not None:
            self._pictures.close()

    def _on_command(self, message: JointCommand) -> None:
        now = self.now()
        q = parse_joint_command_msg(message, self._mapping)
        if not isinstance(message, Float64MultiArray):
            self._check_stamp(message.header, now)
        self._simulation.command(q, now)
        self.health.count("commands")

    def _on_arm(self, message: JointTrajectory) -> None:
        points = parse_joint_trajectory_msg(message, self._simulation.arm.names)
        self._simulation.command_arm(*points, self.now())
        self.health.count("arm commands")

    def _check_stamp(self, header: Header, now: float) -> None:
        """A zero stamp says "now", as robots take it; others have to be of now."""
        if header.stamp.nanosec >= 1_000_000_000:
            raise RejectedInput("bad_stamp", f"nanosec is {header.stamp.nanosec}, a whole second or more")
        stamp = seconds(header.stamp)
        if stamp != 0.0:
            self._guard.check(stamp, now)

    def _step(self) -> None:
        if self._poll_arm is not None:
            self._poll_arm()
        now, simulation = self.now(), self._simulation
        simulation.advance(now)
        arm_q, arm_qd = simulation.arm_state
        q, qd = np.r_[arm_q, simulation.q], np.r_[arm_qd, simulation.qd]
        torque = np.r_[np.full(len(arm_q), np.nan), simulation.torque]
        self._states.publish(build_joint_state_msg(now, self._names, q, qd, torque))

    def _request_picture(self) -> None:
        if self._pictures.wanted:
            self._pictures.request(self._simulation.data.qpos.copy())

    def update_health(self) -> None:
        if not self.is_active:
            return
        drive, skipped = self._simulation.drive, self._simulation.skipped
        self.health.value("drive", drive.state.value)
        self.health.value("clipped commands", drive.counts["clipped"])
        self._pictures.update_health()
        waiting = drive.state in (DriveState.HOLDING, DriveState.RELAXING)
        self.health.condition("watchdog", waiting, f"{drive.state.value}: no commands", WARN)
        slow = f"{skipped - self._seen_skipped:.2f} s not simulated in the last second: too slow"
        self.health.condition("real time", skipped > self._seen_skipped, slow, WARN)
        self._seen_skipped = skipped


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(SimHandNode, args, use_sockets_alone)


if __name__ == "__main__":
    raise SystemExit(main())
