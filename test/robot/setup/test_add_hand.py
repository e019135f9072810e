"""Hands are found in URDFs: fingers, tips, palm, side, scale; what cannot be found is told in one line."""

import struct

import numpy as np
import pytest
from made_up_hand import made_up_urdf

from egohand_ros.errors import UserError
from egohand_ros.hand.poses import demonstration, hand_pose
from egohand_ros.robot.hands.library import list_hands, load_hand
from egohand_ros.robot.hands.urdf import load_urdf, parse_urdf
from egohand_ros.robot.retarget.calibration import calibrate, load_calibration
from egohand_ros.robot.setup.add_hand import propose, to_yaml
from egohand_ros.robot.setup.anatomy import find_anatomy
from egohand_ros.robot.setup.check import check_hand
from egohand_ros.robot.setup.meshes import find_mesh, fit_capsules, mesh_vertices
from egohand_ros.robot.setup.pictures import draw_hand


@pytest.mark.parametrize("name", list_hands())
def test_shipped_hands_are_found_as_they_are_configured(name):
    hand = load_hand(name)
    found = find_anatomy(load_urdf(hand.urdf_path))
    assert found.side == hand.side
    assert {finger: chain.tip_link for finger, chain in found.fingers.items()} == hand.tips
    assert 0.7 < found.scale / hand.objective("vector").scale < 1.35


@pytest.mark.parametrize("name", list_hands())
def test_shipped_hands_pass_their_check(name):
    findings = check_hand(name)
    assert [f.text for f in findings if f.level == "error"] == []


def test_a_made_up_hand_is_proposed_checked_and_drawn(tmp_path):
    (tmp_path / "mine.urdf").write_text(made_up_urdf())
    proposal = propose(tmp_path / "mine.urdf", name="mine")
    path = proposal.save(tmp_path / "mine.yaml")
    assert [f.text for f in check_hand(str(path)) if f.level == "error"] == []
    assert "arm" not in proposal.hand.joint_names
    poses = draw_hand(proposal.hand, tmp_path / "mine.png")
    assert {"open", "fist", "pinch_index"} <= set(poses)
    assert (tmp_path / "mine.png").stat().st_size > 20_000
    assert any("no finger is called thumb" in note for note in proposal.notes)


def test_robot_description_text_works_too():
    assert propose(made_up_urdf()).hand.urdf_path == ""


def test_a_wrong_palm_rotation_is_found_out(tmp_path):
    (tmp_path / "mine.urdf").write_text(made_up_urdf())
    proposal = propose(tmp_path / "mine.urdf")
    turned = dict(proposal.config) | {"palm": {"link": "wrist_point", "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}}
    (tmp_path / "turned.yaml").write_text(to_yaml(turned, []))
    errors = [f.text for f in check_hand(str(tmp_path / "turned.yaml")) if f.level == "error"]
    assert any("palm.rotation" in text and "degrees off" in text for text in errors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<robot name="x"><link name="a"/></robot>', "no joint"),
        ("<not><a><urdf>", "not a readable URDF"),
        ("gone.urdf", "does not exist"),
    ],
)
def test_what_is_no_hand_is_told(text, message):
    with pytest.raises(UserError, match=message) as error:
        propose(text)
    assert "\n" not in str(error.value)


def test_a_link_that_is_not_there_is_told():
    with pytest.raises(UserError, match="'palm' is not in robot"):
        find_anatomy(parse_urdf(made_up_urdf()), root="palm")


def test_meshes_become_capsules(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(600, 3))
    points = 0.01 * points / np.linalg.norm(points, axis=1, keepdims=True) + np.array([[0, 0, 1]]) * rng.uniform(
        0, 0.05, (600, 1)
    )
    triangles = points.reshape(-1, 3, 3).astype("<f4")
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *corner.ravel(), 0) for corner in triangles)
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "link.stl").write_bytes(b" " * 80 + struct.pack("<I", len(triangles)) + body)
    (tmp_path / "urdf").mkdir()
    found = find_mesh("package://some_description/meshes/link.stl", tmp_path / "urdf")
    vertices = mesh_vertices(found)
    assert len(vertices) == 600
    ((a, b, radius),) = fit_capsules(vertices)
    assert radius == pytest.approx(0.01, abs=0.002)
    assert abs(np.linalg.norm(a - b) - 0.05) < 0.01
    assert len(mesh_vertices(None)) == 0 and find_mesh("package://gone/x.stl", tmp_path) is None


def test_operators_are_measured_from_an_open_hand(tmp_path):
    rng = np.random.default_rng(0)
    small = 0.8 * hand_pose("open", "left") + rng.normal(0, 5e-4, (30, 21, 3))
    result = calibrate(small, None, "left", "alice")
    assert result.size == pytest.approx(0.8, abs=0.02)
    assert all(scale == pytest.approx(1.25, abs=0.04) for scale in result.finger_scale.values())
    result.save(tmp_path)
    assert load_calibration("alice", "left", tmp_path) == result
    with pytest.raises(UserError, match="egohand hands calibrate"):
        load_calibration("bob", "left", tmp_path)


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        (np.repeat(hand_pose("fist")[None], 30, 0), "open the hand flat"),
        (np.repeat(hand_pose("open")[None], 3, 0), "only 3 frames"),
        (100.0 * np.repeat(hand_pose("open")[None], 30, 0), "metres"),
        (np.full((30, 21, 3), np.nan), "only 0 frames"),
        (np.zeros((30, 20, 3)), "are needed"),
    ],
)
def test_calibration_tells_what_to_do(keypoints, message):
    with pytest.raises(UserError, match=message):
        calibrate(keypoints, None, "right")


def test_the_demonstration_is_smooth_and_pinches_touch():
    path = demonstration()
    assert np.linalg.norm(np.diff(path, axis=0), axis=-1).max() < 0.03
    for finger, tip in (("index", 8), ("middle", 12), ("ring", 16), ("little", 20)):
        points = hand_pose(f"pinch_{finger}")
        assert np.linalg.norm(points[4] - points[tip]) < 0.006
