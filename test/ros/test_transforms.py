"""What nodes broadcast on /tf: hands as they are seen, one parent a frame, and nothing unless asked."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
TFMessage = pytest.importorskip("tf2_msgs.msg", reason="`make build` makes it where a distribution does not").TFMessage

from forecaster_driver import BOTH, STEP, camera_at, camera_msg
from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState

from egohand_ros.geometry.transforms import UPRIGHT_OPTICAL, invert_transform, transform_points
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.hand.skeleton import SIDES, WRIST
from egohand_ros.messages.hands import hands
from egohand_ros.messages.poses import parse_stamped_transform_msg
from egohand_ros.nodes.messages.hands import build_hand_pose_array_msg
from egohand_ros.nodes.messages.transforms import build_transform_msg
from egohand_ros.nodes.sim_hand import SimHandNode

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def heard(probe):
    """Transforms of /tf by (parent, child), the newest each."""
    found: dict[tuple[str, str], TransformStamped] = {}
    keep = lambda message: found.update({(t.header.frame_id, t.child_frame_id): t for t in message.transforms})  # noqa: E731
    probe.node.create_subscription(TFMessage, "/tf", keep, 100)
    return found


def matrix(transform: TransformStamped) -> np.ndarray:
    return parse_stamped_transform_msg(transform).transform


def test_wrists_and_camera_are_frames_where_asked(probe, driver, heard):
    d = driver(publish_tf=True, frame_prefix="ana/")
    camera = probe.publisher(PoseStamped, "camera_pose", 50)
    probe.wait(lambda: camera.get_subscription_count() == 1, 20, "camera subscriber")
    pairs = [("odom", "camera"), ("odom", "ana/left_wrist"), ("odom", "ana/right_wrist")]

    def see():
        d.stamp += STEP
        stamp, _, T_odom_camera = camera_at(d.stamp, 0.3)
        camera.publish(camera_msg(PoseStamped, *camera_at(stamp, 0.3)))
        probe.wait(lambda: d.node.health.counted("received/camera_pose") > 0, 20, "a camera pose")
        seen = transform_points(invert_transform(T_odom_camera), BOTH)
        d.answer(build_hand_pose_array_msg(hands(stamp, "camera", seen)))
        return T_odom_camera

    probe.wait(lambda: all(pair in heard for pair in pairs), 60, "frames", each=see)
    T_odom_camera = see()
    probe.wait(lambda: abs(parse_stamped_transform_msg(heard[pairs[0]]).stamp - d.stamp) < 1e-6, 20, "the last frames")
    assert np.allclose(matrix(heard[pairs[0]]), T_odom_camera, atol=1e-6)
    for side, pair in enumerate(pairs[1:]):
        T = matrix(heard[pair])
        assert abs(parse_stamped_transform_msg(heard[pair]).stamp - d.stamp) < 1e-6, "of the moment of the images"
        assert np.allclose(T[:3, 3], BOTH[side, WRIST], atol=1e-4), SIDES[side]
        assert np.allclose(T[:3, :3], palm_rotations(BOTH)[side], atol=1e-3), SIDES[side]


def test_hands_of_a_camera_without_poses_have_a_way_to_the_viewers_frame(probe, driver, heard):
    d = driver(view_frame="world")
    probe.wait(lambda: heard, 60, "a frame", each=lambda: d.answer(d.message()))
    assert set(heard) == {("world", "camera")}
    assert np.allclose(matrix(heard["world", "camera"]), UPRIGHT_OPTICAL)


def test_a_frame_that_somebody_else_broadcasts_is_left_to_them(probe, driver, heard):
    static = probe.node.create_publisher(TFMessage, "/tf_static", LATCHED)
    static.publish(TFMessage(transforms=[build_transform_msg(1.0, "base_link", "camera", np.eye(4))]))
    d = driver(publish_tf=True, view_frame="world")
    ours = ("camera", "right_wrist")
    probe.wait(lambda: ours in heard, 60, "the wrists", each=lambda: d.answer(d.message()))
    said = lambda: probe.levels.get("forecaster", (0, ""))[1]  # noqa: E731
    probe.wait(lambda: "camera (child of base_link)" in said(), 20, "a word on it", each=lambda: d.answer(d.message()))
    assert ("world", "camera") not in heard


def test_without_being_asked_nothing_is_broadcast(probe, driver):
    d = driver()
    d.history()
    published = {name for name, _ in d.node.get_publisher_names_and_types_by_node("forecaster", "/")}
    assert "/hand_forecasts" in published and not {"/tf", "/tf_static"} & published


def test_the_base_of_the_simulated_hand_is_a_frame_where_asked(probe):
    found: list[TFMessage] = []
    probe.node.create_subscription(TFMessage, "/tf_static", found.append, LATCHED)
    pose = [0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0]
    overrides = [Parameter("parent_frame", value="world"), Parameter("base_pose", value=pose)]
    node = SimHandNode(parameter_overrides=overrides)
    try:
        assert node.autostart(), node.failure
        states = probe.collect(JointState, "joint_states")
        probe._executor.add_node(node)
        probe.wait(lambda: found and states, 60, "the base")
        (transform,) = found[0].transforms
        assert (transform.header.frame_id, transform.child_frame_id) == ("world", node._hand.tree.root)
        assert np.allclose(matrix(transform)[:3, 3], pose[:3])
    finally:
        node.destroy_node()
