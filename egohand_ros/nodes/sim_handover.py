"""`sim_handover`: people who give a baton to a robot arm with a hand and take it back, in MuJoCo, as sensors and robots
would show it.

    subscribes  arm_commands    trajectory_msgs/JointTrajectory, as a joint_trajectory_controller takes them
                joint_commands  JointState, JointTrajectory or Float64MultiArray, by the hand's config
    publishes   hand_poses      HandPoseArray of a noisy, late tracker on the person's head, in the camera's frame
                camera_pose     geometry_msgs/PoseStamped, the head's camera in the frame world
                joint_states    sensor_msgs/JointState of arm and hand, rad
                wrench          geometry_msgs/WrenchStamped, the force on the robot's hand, in the frame robot_base
                sim_handover/scene  std_msgs/String, JSON, latched: who is there, what they mean to do, what came of it
                sim_handover/image  sensor_msgs/Image from the side, drawn by a process of its own and only for
                                subscribers

The robot's base is the origin of world. Commands that make no sense are refused and counted. When commands stop, the
arm stands at the end of its last trajectory, and the hand where it is, whatever became of the node that sent them.
"""

import json
from collections import deque
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped, WrenchStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from ..geometry.transforms import invert_transform, transform_points
from ..handover.intent import DIRECTIONS, NONE
from ..handover.simulation.episode import HandoverStage
from ..handover.simulation.live import LiveScene, Seen
from ..handover.simulation.person import HANDOVERS, OTHERS, Manner
from ..messages.basic import quaternions_or_zero
from ..messages.hands import hands
from ..messages.joints import parse_joint_command_msg, parse_joint_trajectory_msg
from ..msg import HandPoseArray
from ..robot.simulation.rendering import scene_pose
from .base import qos
from .base.diagnostics import WARN
from .base.node import BaseParameters, EgoHandNode, parameter, run_node
from .base.parameters import stand_in_priority_parameter
from .base.transports import use_sockets_alone
from .messages.basic import header_msg, pose_msg
from .messages.hands import build_hand_pose_array_msg
from .messages.joints import COMMAND_TYPES, JointCommand, build_joint_state_msg
from .scene_pictures import ScenePictures

CAMERA_FRAME, WORLD_FRAME, BASE_FRAME = "head_camera", "world", "robot_base"
_ANY = "any"


@dataclass(frozen=True)
class SimHandoverParameters(BaseParameters):
    arm: str = parameter("ur5e", "Robot arm: a name of config/arms or a config file.", read_only=True)
    hand: str = parameter("allegro_right", "Robot hand: a name (`egohand hands`) or a config file.", read_only=True)
    command_interface: str = parameter("", "Command interface of the hand's config; empty: its first.", read_only=True)
    seed: int = parameter(0, "Of the first person; each next one has the next.", range=(0, 2**31 - 1), read_only=True)
    others: float = parameter(
        0.0, "Share of the people who do something else than hand over.", range=(0.0, 1.0), read_only=True
    )
    manner: str = parameter(
        _ANY,
        "What people do.",
        choices=(_ANY, *(manner.value for manner in (*HANDOVERS, *OTHERS, Manner.DART))),
        read_only=True,
    )
    tracker_rate: float = parameter(30.0, "Rate of hand_poses.", unit="Hz", range=(5.0, 100.0), read_only=True)
    tracker_delay: float = parameter(
        0.03, "From the exposure of an image to its hands.", unit="s", range=(0.0, 0.5), read_only=True
    )
    joint_state_rate: float = parameter(100.0, "Rate of joint_states.", unit="Hz", range=(20.0, 100.0), read_only=True)
    realtime_priority: int = stand_in_priority_parameter()
    image_rate: float = parameter(
        10.0, "Most pictures a second; 0: none.", unit="Hz", range=(0.0, 60.0), read_only=True
    )
    image_width: int = parameter(640, "Width of the picture.", unit="px", range=(16, 1280), read_only=True)
    image_height: int = parameter(480, "Height of the picture.", unit="px", range=(16, 960), read_only=True)


class SimHandoverNode(EgoHandNode):
    Parameters = SimHandoverParameters

    def __init__(self, **kwargs):
        super().__init__("sim_handover", **kwargs)
        self._pictures: ScenePictures | None = None

    def setup(self) -> None:
        p = self.parameters
        stage = HandoverStage(p.arm, p.hand)
        manner = None if p.manner == _ANY else Manner(p.manner)
        self._scene = LiveScene(stage, p.seed, p.others, manner, p.tracker_rate)
        self._names = (*stage.arm.config.joints, *stage.hand.joint_names)
        self._mapping = stage.hand.command_mapping(p.command_interface or None)
        self._late: deque[Seen] = deque()
        self._said, self._seen_skipped = "", 0.0
        self._poses = self.advertise(HandPoseArray, "hand_poses")
        self._cameras = self.advertise(PoseStamped, "camera_pose")
        self._states = self.advertise(JointState, "joint_states")
        self._wrench = self.advertise(WrenchStamped, "wrench")
        self._story = self.advertise(String, "sim_handover/scene", qos.LATCHED)
        self._pictures = ScenePictures(self, self._scene.world.model, "sim_handover/image", "sim_handover_camera")
        self._polls = (
            self.subscribe_polled(JointTrajectory, "arm_commands", self._on_arm, qos.SENSOR),
            self.subscribe_polled(COMMAND_TYPES[self._mapping.type], "joint_commands", self._on_hand, qos.SENSOR),
        )
        self.make_timer(1.0 / p.joint_state_rate, self._step)
        if p.image_rate > 0:
            self.make_timer(1.0 / p.image_rate, self._request_picture)

    def release(self) -> None:
        if self._pictures is not None:
            self._pictures.close()

    def _on_arm(self, message: JointTrajectory) -> None:
        points = parse_joint_trajectory_msg(message, self._scene.stage.arm.config.joints)
        self._scene.follow_arm(*points)
        self.health.count("arm commands")

    def _on_hand(self, message: JointCommand) -> None:
        self._scene.follow_hand(parse_joint_command_msg(message, self._mapping))
        self.health.count("hand commands")

    def _step(self) -> None:
        for poll in self._polls:  # only a step makes use of commands, and waking up for each costs as much as one
            poll()
        now, scene = self.now(), self._scene
        self._late += scene.advance(now)
        while self._late and self._late[0].stamp + self.parameters.tracker_delay <= now:
            self._show(self._late.popleft())
        world = scene.world
        q, qd = (np.concatenate(x) for x in ((world.arm_q, world.hand_q), (world.arm_qd, world.hand_qd)))
        self._states.publish(build_joint_state_msg(now, self._names, q, qd))
        wrench = WrenchStamped(header=header_msg(now, BASE_FRAME))
        wrench.wrench.force.x, wrench.wrench.force.y, wrench.wrench.force.z = scene.force.tolist()
        self._wrench.publish(wrench)
        self._tell()

    def _show(self, seen: Seen) -> None:
        quaternion = quaternions_or_zero(seen.camera[None, :3, :3])[0]
        pose = pose_msg(seen.camera[:3, 3], quaternion)
        self._cameras.publish(PoseStamped(header=header_msg(seen.stamp, WORLD_FRAME), pose=pose))
        points = transform_points(invert_transform(seen.camera), seen.keypoints)
        self._poses.publish(build_hand_pose_array_msg(hands(seen.stamp, CAMERA_FRAME, points)))

    def _tell(self) -> None:
        """Who is there, whenever that changes."""
        scene, person = self._scene, self._scene.person
        story = {
            "scene": scene.scenes,
            "handed_over": scene.handed_over,
            "person": None
            if person is None
            else {
                "seed": person.seed,
                "direction": DIRECTIONS[person.direction],
                "manner": person.manner.value,
                "means_to_hand_over": person.intends != NONE,
                "done": bool(np.isfinite(person.done_at)),
            },
        }
        said = json.dumps(story)
        if said != self._said:
            self._said = said
            self._story.publish(String(data=said))

    def _request_picture(self) -> None:
        if self._pictures.wanted:
            self._pictures.request(scene_pose(self._scene.world.data))

    def update_health(self) -> None:
        if not self.is_active:
            return
        skipped = self._scene.skipped
        self.health.value("scenes", self._scene.scenes)
        self.health.value("handed over", self._scene.handed_over)
        self._pictures.update_health()
        slow = f"{skipped - self._seen_skipped:.2f} s not simulated in the last second: too slow"
        self.health.condition("real time", skipped > self._seen_skipped, slow, WARN)
        self._seen_skipped = skipped


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(SimHandoverNode, args, use_sockets_alone)


if __name__ == "__main__":
    raise SystemExit(main())
