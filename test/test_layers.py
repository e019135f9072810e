"""Every file stands in its room: floors point one way, no circle, no ROS below nodes/, no crowded folder."""

import re
import shutil
from pathlib import Path

import pytest
from layers import FLOOR, problems

PACKAGE = Path(__file__).resolve().parents[1] / "egohand_ros"


def test_the_package_keeps_its_floors():
    assert problems(PACKAGE) == []


def test_the_tree_in_the_readme_is_the_folders_from_the_top_floor_down():
    readme = (PACKAGE.parent / "README.md").read_text()
    listed = re.search(r"## The tree.*?```\n(.*?)```", readme, re.DOTALL).group(1).splitlines()
    rooms = [line.split()[0].rstrip("/") for line in listed if line.startswith("  ")]
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"msg"}
    assert set(rooms) - {"api"} == folders, "README's section `The tree` and the rooms differ"
    assert [FLOOR[room] for room in rooms] == sorted((FLOOR[room] for room in rooms), reverse=True)
    beside = listed[-1].split("   ")[0].split()
    assert all((PACKAGE.parent / name).is_dir() for name in beside)


@pytest.fixture
def tree(tmp_path):
    """A copy of the source in which something can be planted."""
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "msg", "*.so")
    return Path(shutil.copytree(PACKAGE, tmp_path / "egohand_ros", ignore=ignored))


def plant(path: Path, line: str) -> None:
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")


@pytest.mark.parametrize(
    "file, line, complaint",
    [
        ("geometry/rotations.py", "from .transforms import invert", "circle of imports"),
        ("hand/palm.py", "def late():\n    import rclpy", "hand.palm imports rclpy"),
        ("forecast/registry.py", "from egohand_ros.msg import HandPose", "forecast.registry imports egohand_ros.msg"),
        ("robot/limits/audit.py", "from ...nodes.base.qos import SENSOR", "robot.limits.audit imports nodes.base.qos"),
        ("nodes/recorder.py", "from ..cli.main import main", "nodes.recorder imports cli.main"),
        ("attic/thing.py", "", "room 'attic' has no floor"),
    ],
)
def test_what_breaks_the_rules_is_named(tree, file, line, complaint):
    if file == "geometry/rotations.py":
        plant(tree / "geometry" / "transforms.py", "from .rotations import quaternion_from_matrix")
    (tree / file).parent.mkdir(exist_ok=True)
    plant(tree / file, line)
    assert any(complaint in problem for problem in problems(tree)), problems(tree)


def test_a_thirteenth_file_is_too_many(tree):
    folder = tree / "stream"
    for number in range(13 - sum(path.stem != "__init__" for path in folder.glob("*.py"))):
        plant(folder / f"more_{number}.py", '"""Planted."""')
    assert problems(tree) == ["stream/ holds 13 modules; at most 12"]
