"""The shipped RViz and Foxglove layouts show topics that exist."""

import json
import re
from pathlib import Path

import yaml

from egohand_ros.nodes.session.plan import INPUT_TOPICS, RECORDED_TOPICS

CONFIG = Path(__file__).resolve().parents[1] / "config"
SHOWN = {"forecast/markers", *(f"forecast/{side}/{kind}" for side in ("left", "right") for kind in ("path", "poses"))}
KNOWN = SHOWN | set(INPUT_TOPICS) | set(RECORDED_TOPICS) | {"forecaster/debug/latency", "retargeter/debug/latency"}


def test_rviz_layout_is_relative_and_shows_known_topics():
    layout = yaml.safe_load((CONFIG / "rviz" / "egohand.rviz").read_text())
    displays = layout["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics <= KNOWN and {"forecast/markers", "image", "sim_hand/image"} <= topics


def test_foxglove_layout_is_whole_and_shows_known_topics():
    layout = json.loads((CONFIG / "foxglove" / "egohand.json").read_text())
    text = json.dumps(layout["configById"])
    topics = {name.partition(".")[0] for name in re.findall(r'"/([a-z_/]+)', text)}
    assert topics <= KNOWN | {"diagnostics"}
    assert set(re.findall(r'"([A-Za-z0-9]+![a-z]+)"', json.dumps(layout["layout"]))) == set(layout["configById"])
