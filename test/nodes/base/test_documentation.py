"""The documentation says what the nodes do now."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from egohand_ros.nodes.base.documentation import NODES, node_module, nodes_page
from egohand_ros.nodes.base.node import EgoHandNode

PAGE = Path(__file__).resolve().parents[3] / "docs" / "nodes.md"
# What every ROS node has, and what every node here has.
COMMON = ("/parameter_events", "/rosout", "/diagnostics", "/clock")


def test_the_page_of_nodes_is_up_to_date():
    assert PAGE.read_text() == nodes_page(), "run: python -m egohand_ros.nodes.base.documentation"


@pytest.mark.parametrize(
    "name", [n for n in NODES if n not in ("recorder", "player")]
)  # theirs depend on what they meet
def test_every_topic_of_a_node_is_in_its_docstring(name, ros):
    module = node_module(name)
    kind = next(
        k
        for k in vars(module).values()
        if isinstance(k, type) and issubclass(k, EgoHandNode) and k.__module__ == module.__name__
    )
    node = kind()
    try:
        node.trigger_configure()
        topics = {t.topic_name for t in (*node.publishers, *node.subscriptions)}
        described = module.__doc__.replace(
            "{left,right}/{path,poses,trajectory}",
            "left/path left/poses left/trajectory right/path right/poses right/trajectory",
        )
        for topic in sorted(topics):
            if topic.startswith(COMMON) or topic.endswith("transition_event"):
                continue
            relative = topic.removeprefix("/").removeprefix("forecast/")
            private = topic.replace(f"/{node.get_name()}/", "~/")
            assert relative in described or private in described, f"{name} does not describe {topic}"
    finally:
        node.destroy_node()
