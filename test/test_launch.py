"""The launch file: without launch_ros, that it says what the table says; with it, that it starts the nodes."""

import ast
import importlib.util
from pathlib import Path

import pytest

from egohand_ros.nodes.session.plan import ARGUMENTS, plan_nodes

FILE = Path(__file__).resolve().parents[1] / "launch" / "forecast.launch.py"


def test_it_compiles_and_has_no_list_of_its_own():
    tree = ast.parse(FILE.read_text())
    assert "generate_launch_description" in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    imported = {alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert {"ARGUMENTS", "plan_nodes"} <= imported
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert not words & {"forecaster", "hand_tracker", "sim_hand", "recorder"}, "nodes belong in nodes/session/plan.py"


def load():
    """The launch file as a module; skips where there is no launch_ros."""
    pytest.importorskip("launch_ros", reason="launch_ros is not installed here; it comes with a ROS 2 distribution")
    specification = importlib.util.spec_from_file_location("forecast_launch", FILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_argument_is_declared_with_its_help():
    module = load()
    declared = {e.name: e for e in module.generate_launch_description().entities if hasattr(e, "default_value")}
    assert set(declared) == {argument.name for argument in ARGUMENTS}
    for argument in ARGUMENTS:
        assert declared[argument.name].description.startswith(argument.help)
        assert tuple(declared[argument.name].choices or ()) == argument.spellings


@pytest.mark.parametrize(
    "given", [{}, {"tracker": "external", "sim": "true", "record": "out/bag", "namespace": "ego"}, {"foxglove": "1"}]
)
def test_it_starts_the_nodes_of_the_table(given):
    module = load()
    from launch_ros.actions import Node

    from launch import LaunchContext

    context = LaunchContext()
    for argument in ARGUMENTS:
        context.launch_configurations[argument.name] = given.get(argument.name, argument.default)
    nodes = [entity for entity in module.start(context) if isinstance(entity, Node)]
    assert [n.node_executable for n in nodes] == [plan.name for plan in plan_nodes(given)]
