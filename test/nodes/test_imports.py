"""What nodes import, which is most of the time in which they start."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mink", reason="the extra `handover` is not installed")

NODES = ("retargeter", "recorder", "player", "sim_hand", "handover", "sim_handover")
SLOW = {"torch", "jax", "transformers", "mediapipe", "matplotlib", "scipy.stats", "scipy.signal"}


def test_nodes_that_run_no_network_import_nothing_slow():
    script = f"import sys\n{''.join(f'import egohand_ros.nodes.{name}' + chr(10) for name in NODES)}"
    script += f"sys.exit(' '.join({SLOW!r} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert done.stderr == "" and done.returncode == 0, done.stderr
