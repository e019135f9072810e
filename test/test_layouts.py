"""The shipped RViz and Foxglove layouts show topics that exist: live ones, and those of recordings."""

import json
from pathlib import Path

import yaml
from foxglove_layout import LAYOUT, topics

from egohand_ros.nodes.foxglove.topics import MADE_TOPICS
from egohand_ros.nodes.session.plan import INPUT_TOPICS, RECORDED_TOPICS

RVIZ = Path(__file__).resolve().parents[1] / "config" / "rviz" / "egohand.rviz"
KNOWN = {*MADE_TOPICS, *INPUT_TOPICS, *RECORDED_TOPICS, "forecaster/debug/latency", "retargeter/debug/latency"}


def test_rviz_layout_is_relative_and_shows_known_topics():
    layout = yaml.safe_load(RVIZ.read_text())
    displays = layout["Visualization Manager"]["Displays"]
    shown = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert shown <= KNOWN and {"forecast/markers", "image", "sim_hand/image"} <= shown


def test_foxglove_layout_is_whole_and_shows_known_topics():
    layout = json.loads(LAYOUT.read_text())
    shown = {name.strip("/").removesuffix("/compressed") for name in topics(layout)}
    assert shown <= KNOWN | {"diagnostics"}

    def panels(node) -> set[str]:
        return {node} if isinstance(node, str) else panels(node["first"]) | panels(node["second"])

    assert panels(layout["layout"]) == set(layout["configById"])
