"""What a node that commands an arm makes of a clock that goes back."""

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mink", reason="the extra `handover` is not installed")

from rclpy.parameter import Parameter
from robot_graph import pose_msg

from egohand_ros.errors import RejectedInput
from egohand_ros.messages.hands import EXTRAPOLATED, MEASURED
from egohand_ros.nodes.arm_follower.node import ArmFollowerNode
from egohand_ros.nodes.bench.hostile_messages import human_hand


@pytest.fixture
def node(ros):
    given = {"source": "pose", "still_camera": "ahead", "rotate": False, "max_age": 5.0}
    node = ArmFollowerNode(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
    yield node
    node.destroy_node()


def test_a_clock_that_goes_back_before_the_node_is_configured_is_no_bug(node):
    node.guard("clock", node.reset)
    assert node.health.rejected("internal_error") == 0


def test_after_stamps_went_back_a_hand_that_is_merely_extrapolated_is_not_seen(node):
    assert node.autostart(), node.failure
    now = node.now()
    for stamp, state in ((now - 0.1, MEASURED), (now, EXTRAPOLATED), (now - 1.0, EXTRAPOLATED)):
        assert node.health.counted("hand_not_tracked") == 0
        node._on_poses(pose_msg(stamp, human_hand(0.2), state=[state, state]))
    assert node.health.counted("targets") == 2 and node.health.counted("hand_not_tracked") == 1


def test_how_old_and_how_far_ahead_a_stamp_may_be_holds_from_when_it_is_set(node):
    assert node.autostart(), node.failure
    node.set_parameters([Parameter("max_age", value=0.5), Parameter("max_future", value=2.0)])
    for off, reason in ((-1.0, "stale_stamp"), (1.0, None), (5.0, "future_stamp")):
        message = pose_msg(node.now() + off, human_hand(0.2))
        if reason is None:
            node._on_poses(message)
        else:
            with pytest.raises(RejectedInput) as refused:
                node._on_poses(message)
            assert refused.value.reason == reason
