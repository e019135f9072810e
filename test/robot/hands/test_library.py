"""Hands are found by name or path, and every mistake in a config is told in one line."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from egohand_ros.errors import UserError
from egohand_ros.robot.hands.library import find_config, list_hands, load_hand
from egohand_ros.shipped import config_folder


def test_unknown_hands_list_the_known_ones():
    with pytest.raises(UserError, match="allegro_right.*inspire_right"):
        load_hand("robonaut")


@pytest.mark.parametrize("name", list_hands())
def test_every_shipped_hand_is_complete(name):
    hand = load_hand(name)
    assert hand.name == name and hand.side == name.rsplit("_", 1)[1]
    assert (hand.lower < hand.upper).all()
    assert (hand.rest_q >= hand.lower).all() and (hand.rest_q <= hand.upper).all()
    assert {"vector", "position", "dexpilot"} <= set(hand.config.objectives)
    assert "<mesh" not in hand.urdf_text
    assert hand.config.source
    for interface in hand.config.commands:
        mapping = hand.command_mapping(interface)
        for q in (hand.lower, hand.upper, hand.rest_q):
            np.testing.assert_allclose(mapping.from_wire(mapping.to_wire(q)), q, atol=1e-9)


def broken(tmp_path: Path, change) -> str:
    source = config_folder() / "hands" / "inspire_right.yaml"
    data = yaml.safe_load(source.read_text())
    data["urdf"] = str((source.parent / data["urdf"]).resolve())
    change(data)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("palm"), "lacks palm; known keys: name, side"),
        (lambda d: d.update(acelleration=3), "unknown key 'acelleration' .3.; known keys: name, side, joints, accel"),
        (lambda d: d["palm"].update(turn=1), "palm has unknown key 'turn' .1.; known keys: link, rotation"),
        (
            lambda d: d["commands"]["vendor"]["channels"][0].update(skale=2),
            "channels.0 has unknown key 'skale' .2.; known keys: joint, name, sign, offset, scale, clip",
        ),
        (lambda d: d["palm"].update(rotation=[[0, 0, 1], [0, 1, 0], [1, 0, 0]]), "mirror image"),
        (lambda d: d["palm"].update(link="nowhere"), "link 'nowhere' is not in the URDF"),
        (lambda d: d.update(side="up"), "side is 'up'; choose one of left, right"),
        (lambda d: d["joints"].append("thumb_distal_joint"), "leave out the joints thumb_distal_joint"),
        (lambda d: (d["joints"].append("thumb_distal_joint"), d.update(commands={})), "mimics another joint"),
        (lambda d: d.update(acceleration=-3), "a positive number is needed"),
        (
            lambda d: d["objectives"].update(magic={"terms": []}),
            "objectives is 'magic'; choose one of vector, position, dexpilot",
        ),
        (
            lambda d: d["objectives"]["vector"]["terms"][0].update(keypoints=[["wrist", "nose"]]),
            "'nose' is not a keypoint",
        ),
        (lambda d: d["objectives"]["vector"]["terms"][0].update(type="vectr"), "choose one of vector, position"),
        (lambda d: d["commands"]["vendor"].update(type="Twist"), "choose one of JointState"),
        (lambda d: d["commands"]["vendor"]["channels"].pop(), "leave out the joints thumb_proximal_yaw_joint"),
        (lambda d: d.update(urdf="gone.urdf"), "does not exist"),
    ],
)
def test_mistakes_in_a_config_are_told_in_one_line(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        load_hand(broken(tmp_path, change))
    assert "\n" not in str(error.value)


def test_a_changed_file_is_read_again(tmp_path):
    path = broken(tmp_path, lambda d: None)
    first = load_hand(path)
    assert load_hand(path) is first
    Path(path).write_text(Path(path).read_text().replace("name: inspire_right", "name: mine"))
    assert load_hand(path).name == "mine"


def test_urdf_text_is_taken_as_robot_description():
    hand = load_hand("inspire_right")
    assert load_hand("inspire_right", urdf=hand.urdf_text).urdf_path == ""


def test_the_users_own_folder_is_searched(tmp_path, monkeypatch):
    broken(tmp_path, lambda d: d.update(name="mine"))
    monkeypatch.setenv("EGOHAND_HANDS", str(tmp_path))
    assert "mine" in list_hands()
    assert find_config("mine").name == "mine"
