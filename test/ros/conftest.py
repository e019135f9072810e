"""Fixtures of the tests of the forecaster node. Other nodes' tests have their own, and share `robot_graph.py`."""

import gc

import pytest

from egohand_ros.forecast import registry

# Files whose tests judge by the clock when something moved, arrived, was drawn or lost: `make test` runs nothing beside
# them, but for those that are marked `unhurried`.
ALONE = {
    "test_base",
    "test_following",
    "test_handover",
    "test_hostile",
    "test_hostile_robot",
    "test_image_transport",
    "test_retargeter",
    "test_robot_survives",
    "test_runner",
    "test_session",
}


def pytest_collection_modifyitems(items):
    for item in items:
        alone = item.path.stem in ALONE and item.path.parent.name == "ros"
        if alone and not item.get_closest_marker("unhurried"):
            item.add_marker("alone")


@pytest.fixture
def probe(ros):
    from robot_graph import Probe  # where ROS is missing, the test files skip themselves

    gc.collect()
    probe = Probe()
    yield probe
    probe.close()


@pytest.fixture
def driver(probe):
    """Makes forecaster nodes, by parameter: `Driver`s, or with `autostart=False` nodes that are not configured."""
    from forecaster_driver import Driver
    from rclpy.parameter import Parameter

    from egohand_ros.nodes.forecaster.node import ForecasterNode

    nodes = []

    def make(autostart=True, **overrides):
        values = {"forecaster": "persistence", "max_input_age": 60.0, **overrides}
        nodes.append(ForecasterNode(parameter_overrides=[Parameter(name, value=v) for name, v in values.items()]))
        probe._executor.add_node(nodes[-1])
        assert not autostart or nodes[-1].autostart(), nodes[-1].failure
        return Driver(probe, nodes[-1]) if autostart else nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.fixture
def registered(monkeypatch):
    """Registers a forecaster for the length of a test."""
    registry.presets()  # all modules are in before it is copied
    monkeypatch.setattr(registry, "_PRESETS", dict(registry._PRESETS))

    def put(forecaster):
        factory = forecaster.on if hasattr(forecaster, "on") else lambda: forecaster
        registry.register(forecaster.spec.name, "of a test")(factory)
        return forecaster.spec.name

    return put
