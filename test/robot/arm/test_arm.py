"""Arms: kinematics by the published parameters, limits that hold whatever is asked, and an audit that can fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egohand_ros.errors import UserError
from egohand_ros.geometry.rotations import log_rotation
from egohand_ros.robot.arm.audit import audit_arm
from egohand_ros.robot.arm.avoidance import Obstacles
from egohand_ros.robot.arm.config import find_arm, list_arms
from egohand_ros.robot.arm.model import ArmModel
from egohand_ros.robot.arm.motion import ArmMotion, ClosingRows
from egohand_ros.robot.hands.library import load_hand

PERIOD = 0.01
# a, d, alpha of the UR5e, as its maker publishes them: m, m, rad.
UR5E = [
    (0.0, 0.1625, np.pi / 2),
    (-0.425, 0.0, 0.0),
    (-0.3922, 0.0, 0.0),
    (0.0, 0.1333, np.pi / 2),
    (0.0, 0.0997, -np.pi / 2),
    (0.0, 0.0996, 0.0),
]


@pytest.fixture(scope="module")
def arm():
    return ArmModel.load("ur5e", load_hand("allegro_right"))


def facing(x, y, z):
    pose = np.eye(4)
    forward = np.array([x, y, 0.0]) / np.hypot(x, y)
    pose[:3, 0], pose[:3, 1], pose[:3, 3] = forward, [-forward[1], forward[0], 0.0], (x, y, z)
    return pose


def denavit_hartenberg(q):
    pose = np.diag([-1.0, -1.0, 1.0, 1.0])  # the base is turned, so that x points to the front
    for angle, (a, d, alpha) in zip(q, UR5E):
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array([[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]])
    return pose


@given(st.lists(st.floats(-3.0, 3.0), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
def test_kinematics_are_those_of_the_published_parameters(q):
    bare = ArmModel.load("ur5e")
    bare.move(np.array(q))
    assert bare.tool() == pytest.approx(denavit_hartenberg(q), abs=1e-9)


def test_the_ready_pose_holds_the_palm_forward_and_level(arm):
    arm.move(arm.ready_q)
    tool = arm.tool()
    assert tool[:3, 0] == pytest.approx([1, 0, 0], abs=0.1) and tool[:3, 2] == pytest.approx([0, 0, 1], abs=0.1)
    fingertips = arm.capsules().end[-3:]
    assert np.linalg.norm(fingertips - tool[:3, 3], axis=1).max() < 0.25


@pytest.mark.parametrize("goal", [(0.65, 0.1, 0.4), (0.6, -0.25, 0.3), (0.45, 0.3, 0.5), (0.7, 0.0, 0.25)])
def test_it_gets_there(arm, goal):
    motion = ArmMotion(arm, PERIOD)
    for _ in range(200):
        motion.step(facing(*goal), 0.9)
    assert arm.tool()[:3, 3] == pytest.approx(goal, abs=0.005)
    assert arm.tool()[:3, :3] == pytest.approx(facing(*goal)[:3, :3], abs=0.05)
    assert motion.failures == 0


def test_no_limit_is_broken_whatever_is_asked(arm):
    """Goals that jump, many of them out of reach, and speeds that change at every step."""
    rng = np.random.default_rng(3)
    motion, q = ArmMotion(arm, PERIOD), []
    for step in range(600):
        if step % 25 == 0:
            goal = facing(*rng.uniform([-0.9, -0.9, -0.2], [0.9, 0.9, 1.0]))
        q.append(motion.step(goal, float(rng.choice([0.0, 0.1, 0.9]))))
    limits = arm.velocity_limit, arm.acceleration_limit, arm.jerk_limit
    audit = audit_arm(np.array(q), PERIOD, arm.lower, arm.upper, *limits)
    assert audit.violations == 0, audit
    assert audit.worst[1] > 0.5, "limits were used, so this says something"


def test_a_watched_point_does_not_close_in_faster_than_it_may(arm):
    motion = ArmMotion(arm, PERIOD)
    site, body = arm.tool_site, arm.model.site_bodyid[arm.tool_site]
    speeds = []
    for _ in range(150):
        before = arm.data.site_xpos[site].copy()
        rows = ClosingRows.of_person(before[None], np.array([body]), np.array([[1.0, 0.0, 0.0]]), np.array([0.1]))
        motion.step(facing(0.75, 0.0, 0.4), 0.9, rows)
        speeds.append((arm.data.site_xpos[site] - before)[0] / PERIOD)
    assert max(speeds) == pytest.approx(0.1, abs=0.01)


def test_a_speed_of_nothing_brakes_to_a_stand(arm):
    motion = ArmMotion(arm, PERIOD)
    for _ in range(40):
        motion.step(facing(0.7, 0.2, 0.4), 0.9)
    assert np.abs(motion.qd).max() > 0.2
    for _ in range(25):
        motion.step(facing(0.7, 0.2, 0.4), 0.0)
    assert np.abs(motion.qd).max() < 1e-3, "within a quarter of a second"


def test_an_outlook_ends_at_rest_in_time_and_keeps_the_limits(arm):
    motion = ArmMotion(arm, PERIOD)
    rng = np.random.default_rng(1)
    for step in range(200):
        if step % 20 == 0:
            goal = facing(*rng.uniform([0.4, -0.5, 0.2], [0.8, 0.5, 0.6]))
        motion.step(goal, 0.9)
        outlook = motion.outlook(2)
        assert outlook.duration < 0.235 and not outlook.qd[-1].any()
        assert outlook.q[0] == pytest.approx(motion.q)
    path = np.concatenate([outlook.q, outlook.q[-1:]])
    limits = arm.velocity_limit, arm.acceleration_limit, arm.jerk_limit
    assert audit_arm(path, PERIOD, arm.lower, arm.upper, *limits).violations == 0
    motion.resume(*outlook.at(0.5 * outlook.duration))
    assert motion.q == pytest.approx(outlook.at(0.5 * outlook.duration)[0])
    assert outlook.at(9.0)[0] == pytest.approx(outlook.q[-1])


@pytest.mark.parametrize("goal", [(0.5, 0.1, -0.2), (0.05, 0.05, 0.25), (-0.3, 0.1, 0.3)])
def test_it_keeps_off_itself_its_base_and_the_table(arm, goal):
    """Goals under the table, in the base's column and behind it."""
    free, kept = [], []
    for obstacles, found in ((None, free), (Obstacles(arm, 0.0), kept)):
        judge, motion = Obstacles(arm, 0.0), ArmMotion(arm, PERIOD)
        for _ in range(150):
            rows = None if obstacles is None else obstacles.rows(arm.capsules())
            motion.step(facing(*goal), 0.9, rows)
            found.append(judge.smallest_distance(arm.capsules()))
            arm.move(motion.q)
    assert min(free) < 0.0, "without them it would not"
    assert min(kept) > -0.005


def test_the_outlook_of_an_arm_that_stands_is_that_it_stands(arm):
    motion = ArmMotion(arm, PERIOD)
    for _ in range(3):
        motion.step(arm.tool(), 0.0)
        assert motion.outlook(2).q == pytest.approx(np.tile(motion.q, (len(motion.outlook(2).q), 1)))


def test_the_twist_is_how_the_tool_moves(arm):
    motion = ArmMotion(arm, PERIOD)
    for _ in range(30):
        before = arm.tool()
        motion.step(facing(0.7, 0.2, 0.4), 0.9)
    linear, angular = motion.tool_twist()
    assert linear == pytest.approx((arm.tool()[:3, 3] - before[:3, 3]) / PERIOD, abs=0.03)
    turned = log_rotation(arm.tool()[:3, :3] @ before[:3, :3].T) / PERIOD
    assert angular == pytest.approx(turned, abs=0.05) and np.linalg.norm(linear) > 0.1


def test_the_audit_sees_what_is_broken(arm):
    limits = arm.velocity_limit, arm.acceleration_limit, arm.jerk_limit
    q = np.zeros((50, 6))
    assert audit_arm(q, PERIOD, arm.lower, arm.upper, *limits).violations == 0
    q[25:, 2] = 0.1
    jump = audit_arm(q, PERIOD, arm.lower, arm.upper, *limits)
    assert jump.velocity == 1 and jump.acceleration == 2 and jump.jerk == 3
    assert audit_arm(np.full((3, 6), 9.0), PERIOD, arm.lower, arm.upper, *limits).position == 3
    assert audit_arm(np.full((3, 6), np.nan), PERIOD, arm.lower, arm.upper, *limits).position == 3


def test_what_is_wrong_with_a_config_is_told(tmp_path):
    assert "ur5e" in list_arms()
    with pytest.raises(UserError, match="known arms: ur5e"):
        find_arm("ur6")
    (tmp_path / "mine.yaml").write_text("name: mine\nurdf: none.urdf\njoints: [a]\nbase: b\nflange: c\n")
    with pytest.raises(UserError, match="lacks acceleration, jerk, ready"):
        find_arm(tmp_path / "mine.yaml")
