"""An arm that nobody here has seen: from a URDF to an arm that moves within its limits."""

import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.errors import UserError
from egohand_ros.robot.arm.audit import audit_arm
from egohand_ros.robot.arm.config import find_arm, list_arms
from egohand_ros.robot.arm.model import ArmModel
from egohand_ros.robot.arm.motion import ArmMotion
from egohand_ros.robot.setup.add_arm import propose_arm

# An arm of seven joints whose frames turn by right angles from one to the next, like many (m, rad).
OFFSETS = [(0, 0, 0.33), (0, 0, 0), (0, -0.32, 0), (0.08, 0, 0), (-0.08, 0.38, 0), (0, 0, 0), (0.09, 0, 0)]
TURNS = (0.0, -1.5708, 1.5708, 1.5708, -1.5708, 1.5708, 1.5708)
LIMITS = [(-2.9, 2.9), (-1.76, 1.76), (-2.9, 2.9), (-3.07, -0.07), (-2.9, 2.9), (-0.02, 3.75), (-2.9, 2.9)]
MESH = '<collision><geometry><mesh filename="package://nowhere/link.stl"/></geometry></collision>'
BOX = '<collision><origin xyz="0 0 0.1"/><geometry><box size="0.1 0.12 0.3"/></geometry></collision>'


def urdf(gripper=""):
    links = ['<link name="base">' + BOX + "</link>"]
    joints = []
    for i, (offset, turn, (lower, upper)) in enumerate(zip(OFFSETS, TURNS, LIMITS)):
        links.append(f'<link name="link{i + 1}">{MESH}</link>')
        joints.append(
            f'<joint name="joint{i + 1}" type="revolute"><parent link="{"base" if i == 0 else f"link{i}"}"/>'
            f'<child link="link{i + 1}"/><origin xyz="{offset[0]} {offset[1]} {offset[2]}" rpy="{turn} 0 0"/>'
            f'<axis xyz="0 0 1"/><limit lower="{lower}" upper="{upper}" effort="87" velocity="2.2"/></joint>'
        )
    flange = '<link name="plate"/><joint name="screwed" type="fixed"><parent link="link7"/><child link="plate"/>'
    flange += '<origin xyz="0 0 0.107"/></joint>'
    return f'<robot name="seven">{"".join(links + joints)}{flange}{gripper}</robot>'


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """The file, and where it was added to."""
    folder = tmp_path_factory.mktemp("arms")
    (folder / "seven.urdf").write_text(urdf())
    out = folder / "mine"
    assert main(["arms", "add", "--urdf", str(folder / "seven.urdf"), "--out", str(out)]) in (0, None)
    return folder, out


def test_an_arm_that_was_added_is_found_and_moves_within_its_limits(added, monkeypatch, capsys):
    monkeypatch.setenv("EGOHAND_ARMS", str(added[1]))
    assert {"seven", "ur5e"} <= set(list_arms())
    assert main(["arms"]) in (0, None) and "seven" in capsys.readouterr().out
    config, _ = find_arm("seven")
    assert config.flange == "plate" and config.joints == tuple(f"joint{i}" for i in range(1, 8))
    arm = ArmModel.load("seven")
    arm.move(arm.ready_q)
    pose = arm.flange()
    assert pose[:3, 0] == pytest.approx([1, 0, 0], abs=0.1) and pose[:3, 2] == pytest.approx([0, -1, 0], abs=0.1)
    motion, goal = ArmMotion(arm, 0.01), arm.tool()
    goal[:3, 3] += (0.1, -0.1, 0.1)
    commands = np.array([motion.step(goal, 0.5).copy() for _ in range(200)])
    assert np.linalg.norm(arm.tool()[:3, 3] - goal[:3, 3]) < 0.01
    limits = arm.velocity_limit, arm.acceleration_limit, arm.jerk_limit
    assert audit_arm(commands, 0.01, arm.lower, arm.upper, *limits).violations == 0


def test_kinematics_are_those_of_the_file(added, monkeypatch):
    monkeypatch.setenv("EGOHAND_ARMS", str(added[1]))
    arm = ArmModel.load("seven")
    arm.move(q := np.array([0.3, -0.5, 0.2, -1.5, 0.4, 1.2, -0.7]))
    pose = np.eye(4)
    for (x, y, z), turn, angle in zip(OFFSETS, TURNS, q):
        about_x, about_z = np.eye(4), np.eye(4)
        about_x[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        about_x[:3, 3] = x, y, z
        about_z[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        pose = pose @ about_x @ about_z
    assert arm.flange()[:3, 3] == pytest.approx(pose[:3, 3] + 0.107 * pose[:3, 2], abs=1e-4)


def test_shapes_are_kept_or_guessed_and_said(added):
    proposal = propose_arm(added[0] / "seven.urdf", radius=0.05)
    shapes = proposal.arm.capsules()
    assert shapes.radius == pytest.approx(np.full(len(shapes.radius), 0.05), abs=1e-6) and len(shapes.radius) >= 3
    assert any("stands for the shape" in note for note in proposal.notes)
    assert proposal.arm.base_capsules()[2].max() == pytest.approx(np.hypot(0.1, 0.12) / 2, abs=1e-4), "the box"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flange": "hand"}, "link 'hand' is not in the URDF"),
        ({"flange": "link3"}, "only 3 joints move"),
        ({"ready": (0.0,)}, "has 1 angles; the arm has 7 joints"),
        ({"radius": 0.0}, "--radius 0"),
    ],
)
def test_what_cannot_be_an_arm_is_refused(added, options, said):
    with pytest.raises(UserError, match=said):
        propose_arm(added[0] / "seven.urdf", **options)


def test_nothing_is_replaced_unasked(added, capsys):
    again = ["arms", "add", "--urdf", str(added[0] / "seven.urdf"), "--out", str(added[1])]
    assert main(again) == 2 and "--overwrite" in capsys.readouterr().err
