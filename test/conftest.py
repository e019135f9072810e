"""Fixtures of every test: where the real recordings are, and a ROS graph that nobody else on this machine or network
sees.
"""

import os
import random
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile(
    "shared machine", deadline=None
)  # how long an example takes says more of the machine than of the code
settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parents[1]
QUICK_FIT = 320
# Those that take longest, by far; workers that get them last would leave the other ones with nothing to do.
LONG = {
    "test_ablations.py",
    "test_follow_commands.py",
    "test_hand_tracker.py",
    "test_image_and_text_inputs.py",
    "test_launch_for_real.py",
    "test_loop.py",
    "test_motion.py",
    "test_offline.py",
    "test_session.py",
    "test_simulation.py",
    "test_train.py",
    "test_wheel.py",
    "test_wrong_invocations.py",
}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)


os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch is imported: tests share the cores with the nodes they start

# What a command says of its progress depends on how fast this machine is; test/cli/test_progress.py has it back.
os.environ.setdefault("EGOHAND_PROGRESS_PERIOD", "inf")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the repository; tests that need it are skipped where it is missing."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {os.path.relpath(folder, ROOT)} is missing")
    return folder


@pytest.fixture(scope="session", autouse=True)
def ros_environment(tmp_path_factory):
    """Gives this session, and the processes that it starts, a DDS domain of its own on this machine alone, and a log
    folder.
    """
    try:
        from domain_coordinator import domain_id
    except ImportError:  # no ROS 2: the tests that need it say so themselves
        yield
        return
    shuffled = iter(random.sample(range(1, 101), 100)).__next__
    with domain_id(shuffled) as domain, pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_DOMAIN_ID", str(domain))
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.delenv("ROS_STATIC_PEERS", raising=False)
        environment.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("ros_log")))
        yield


@pytest.fixture(scope="session")
def ros(ros_environment):
    """The one rclpy context of the session, initialised as the default one: `rclpy.node.Node("name")` just works."""
    rclpy = pytest.importorskip("rclpy")
    rclpy.init(args=[])
    yield rclpy.get_default_context()
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def quickly_fitted():
    """Trainings of this file fit their normalisation to QUICK_FIT windows; 3200 take longer than a short training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("egohand_ros.training.loop._FIT_WINDOWS", QUICK_FIT)
        yield
