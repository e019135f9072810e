"""Which frame a node that commands an arm takes for the camera's, and that it says so."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter

from egohand_ros.errors import RejectedInput
from egohand_ros.nodes.arm.frames import Frames
from egohand_ros.nodes.arm.parameters import ArmParameters
from egohand_ros.nodes.base.node import EgoHandNode

STAMP = 5.0


class Node(EgoHandNode):
    Parameters = ArmParameters


@pytest.fixture
def frames_of(ros):
    """Frames of a node with these parameters, and whether it stands still."""
    nodes = []

    def make(still="", **parameters):
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        nodes.append(Node("commander", parameter_overrides=given))
        return Frames(nodes[-1], still)

    yield make
    for node in nodes:
        node.destroy_node()


def camera_pose(x):
    message = PoseStamped()
    message.header.stamp.sec, message.header.frame_id = int(STAMP), "world"
    message.pose.position.x, message.pose.orientation.w = x, 1.0
    return message


def refused(frames, frame_id):
    with pytest.raises(RejectedInput, match="unknown_frame") as caught:
        frames.base_from(frame_id, STAMP)
    return str(caught.value)


def told(capfd):
    """What was logged of a frame that is taken."""
    return [line for line in capfd.readouterr().err.splitlines() if "is taken for the camera's frame" in line]


def test_the_first_frame_that_is_no_other_is_the_still_cameras_and_that_is_said_once(frames_of, capfd):
    frames = frames_of("ahead")
    assert frames.base_from("robot_base", STAMP) == pytest.approx(np.eye(4))
    assert frames.base_from("world", STAMP) == pytest.approx(np.eye(4))
    for _ in range(3):
        assert frames.base_from("camera", STAMP)[:3, 2] == pytest.approx([1.0, 0.0, 0.0])
        assert "'wrold' is neither" in (why := refused(frames, "wrold")) and "the camera's, 'camera'" in why
    (line,) = told(capfd)
    assert line.startswith("[WARN]") and "'camera' is taken" in line
    frames.forget()  # the clock jumped: it may be another recording
    frames.base_from("head", STAMP)
    refused(frames, "camera")


def test_a_camera_frame_that_is_named_is_the_only_one_and_nothing_is_said(frames_of, capfd):
    frames = frames_of("facing", camera_frame="camera")
    assert "'camera'" in refused(frames, "camrea")
    assert frames.base_from("camera", STAMP)[:3, 2] == pytest.approx([-1.0, 0.0, 0.0])
    frames.forget()
    refused(frames, "camrea")
    assert not told(capfd)


def test_of_a_camera_with_poses_the_first_frame_is_taken_once_a_pose_has_come(frames_of, capfd):
    frames = frames_of()
    assert "no camera_pose" in refused(frames, "wrold"), "nothing is taken for a camera of which nothing is known"
    frames.on_camera_pose(camera_pose(0.5))
    assert frames.base_from("camera", STAMP)[0, 3] == pytest.approx(0.5)
    refused(frames, "wrold")
    (line,) = told(capfd)
    assert line.startswith("[INFO]") and "'camera' is taken" in line
