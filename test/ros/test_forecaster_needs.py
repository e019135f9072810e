"""Systems that cannot do without an input: nothing is forecast, and diagnostics say what is missing."""

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from forecaster_driver import camera_at, camera_msg
from geometry_msgs.msg import PoseStamped

from egohand_ros.forecast.egoh4.config import EgoH4Config
from egohand_ros.forecast.egoh4.forecaster import EgoH4Forecaster
from egohand_ros.msg import ForecasterInfo
from egohand_ros.nodes.base.qos import LATCHED, profile


@pytest.fixture(scope="module")
def egoh4(tmp_path_factory) -> str:
    """A saved EgoH4 of a few numbers."""
    folder = tmp_path_factory.mktemp("egoh4")
    EgoH4Forecaster(EgoH4Config(width=16, heads=2, layers=1, steps=4, low=-2.0, high=2.0)).save_pretrained(folder)
    return str(folder)


def test_egoh4_says_that_it_needs_camera_poses_and_runs_when_they_come(probe, driver, egoh4):
    d = driver(forecaster=egoh4)
    info = []
    probe.node.create_subscription(ForecasterInfo, "forecaster_info", info.append, profile(LATCHED))
    diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
    assert d.history().hands == ()
    probe.wait(lambda: info, 10, "forecaster_info")
    assert list(info[-1].needs) == ["EgoH4 needs camera poses"] and "body" in info[-1].gives
    said = lambda: any("EgoH4 needs camera poses" in s.message for m in diagnostics for s in m.status)  # noqa: E731
    probe.wait(said, 20, "the reason in the diagnostics")
    camera = probe.publisher(PoseStamped, "camera_pose", 10)
    probe.wait(lambda: camera.get_subscription_count() == 1, 20, "subscriber of camera_pose")
    for i in range(200):  # it works beside the stream
        message = d.message()
        camera.publish(camera_msg(PoseStamped, *camera_at(d.stamp, 0.01 * i)))
        futures = d.answer(message)
        if i > 1 and futures.hands:
            break
    assert len(futures.hands) == 2 and futures.frame_id == "odom" and futures.model_id.startswith("egoh4@")
