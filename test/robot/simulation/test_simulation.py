"""The simulated hand: real MuJoCo, driven as a robot is."""

import contextlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from egohand_ros.errors import RejectedInput, UserError
from egohand_ros.robot.hands.library import list_hands, load_hand
from egohand_ros.robot.simulation.firmware import DriveOptions, DriveState, HandDrive
from egohand_ros.robot.simulation.mujoco_scene import build_scene
from egohand_ros.robot.simulation.rendering import RenderProcess
from egohand_ros.robot.simulation.simulated_hand import HandSimulation

HANDS = ("allegro_right", "inspire_right")
PERIOD = 0.01


def drive(simulation, q, seconds, start):
    """Command q at 100 Hz; the time afterwards."""
    for i in range(round(seconds / PERIOD)):
        now = start + i * PERIOD
        simulation.command(q, now)
        simulation.advance(now)
    return start + seconds


@pytest.mark.parametrize("name", HANDS)
def test_tracks_a_slow_sine_and_settles_on_target(name):
    hand = load_hand(name)
    simulation = HandSimulation(hand)
    middle, amplitude = hand.rest_q, 0.1 * np.minimum(1.0, hand.velocity_limit)
    errors = []
    for i in range(400):
        now = i * PERIOD
        q = np.clip(middle + amplitude * np.sin(2 * np.pi * now), hand.lower, hand.upper)
        simulation.command(q, now)
        simulation.advance(now)
        errors.append(np.abs(simulation.q - q).max())
    assert max(errors[100:]) < 0.03
    end = drive(simulation, hand.rest_q, 1.0, 4.0)
    np.testing.assert_allclose(simulation.q, hand.rest_q, atol=1e-3)
    assert end == pytest.approx(5.0)


def test_coupled_joints_follow_theirs():
    hand = load_hand("inspire_right")
    simulation = HandSimulation(hand)
    drive(simulation, hand.lower * 0.4 + hand.upper * 0.6, 2.0, 0.0)
    np.testing.assert_allclose(simulation.q_full, hand.kinematics.full_position(simulation.q), atol=2e-3)


def test_silence_holds_then_relaxes_slowly_to_rest():
    hand = load_hand("allegro_right")
    simulation = HandSimulation(hand, DriveOptions(hold_after=0.2, relax_after=0.6, relax_speed=0.2))
    goal = hand.rest_q + 0.3
    now = drive(simulation, goal, 1.5, 0.0)
    simulation.advance(now + 0.5)
    assert simulation.drive.state is DriveState.HOLDING
    np.testing.assert_allclose(simulation.q, goal, atol=1e-3)
    fastest = 0.0
    for i in range(300):
        simulation.advance(now + 0.5 + i * PERIOD)
        fastest = max(fastest, np.abs(simulation.qd / hand.velocity_limit).max())
    assert simulation.drive.state is DriveState.RELAXING
    assert fastest < 0.25
    np.testing.assert_allclose(simulation.q, hand.rest_q, atol=1e-3)


def test_delay_shifts_the_motion():
    hand = load_hand("allegro_right")
    delayed, direct = HandSimulation(hand, actuation_delay=0.15), HandSimulation(hand)
    goal = hand.rest_q + 0.3
    direct_q, delayed_q = [], []
    for i in range(100):
        for simulation, log in ((direct, direct_q), (delayed, delayed_q)):
            simulation.command(goal, i * PERIOD)
            simulation.advance(i * PERIOD)
            log.append(simulation.q)
    np.testing.assert_allclose(np.array(delayed_q)[15:], np.array(direct_q)[:-15], atol=0.01)


@pytest.mark.parametrize("delay", [0.0, 0.15])
@pytest.mark.parametrize(
    "q, reason",
    [(np.zeros(3), "wrong_count"), (np.full(16, np.nan), "non_finite"), (np.full(16, np.inf), "non_finite")],
)
def test_bad_commands_are_refused_and_do_not_move_the_hand(q, reason, delay):
    simulation = HandSimulation(load_hand("allegro_right"), actuation_delay=delay)
    before = simulation.q
    with pytest.raises(RejectedInput) as error:
        simulation.command(q, 0.0)
    assert error.value.reason == reason
    simulation.advance(0.0)
    simulation.advance(0.2)
    np.testing.assert_allclose(simulation.q, before, atol=1e-6)


def test_set_points_of_hostile_commands_keep_position_and_velocity_limits():
    hand = load_hand("allegro_right")
    rng = np.random.default_rng(0)
    drive = HandDrive(hand.lower, hand.upper, hand.velocity_limit, hand.rest_q)
    last = drive.setpoint
    for i in range(5000):
        with contextlib.suppress(RejectedInput):
            drive.command(rng.normal(0, rng.choice([1.0, 1e9]), hand.n), i * 0.002)
        setpoint = drive.advance(i * 0.002, 0.002)
        assert ((setpoint >= hand.lower) & (setpoint <= hand.upper)).all()
        assert (np.abs(setpoint - last) <= hand.velocity_limit * 0.002 * (1 + 1e-9)).all()
        last = setpoint
    assert drive.counts["clipped"] > 1000


def test_a_clock_that_jumps_back_holds_the_hand_where_it_is():
    hand = load_hand("allegro_right")
    simulation = HandSimulation(hand)
    now = drive(simulation, hand.rest_q + 0.3, 1.0, 500.0)
    simulation.advance(now - 400.0)
    simulation.advance(now - 399.9)
    assert simulation.drive.state is DriveState.HOLDING
    np.testing.assert_allclose(simulation.q, hand.rest_q + 0.3, atol=1e-3)


def test_a_urdf_that_mujoco_refuses_is_a_users_error():
    text = load_hand("allegro_right").urdf_text
    broken = load_hand("allegro_right", urdf=re.sub(r'radius="[0-9.]+"', 'radius="-1"', text))
    with pytest.raises(UserError, match="cannot be simulated"):
        build_scene(broken)


@pytest.mark.parametrize("name", [name for name in list_hands() if name.endswith("_right")])
def test_every_shipped_hand_reaches_its_rest_pose_and_back(name):
    hand = load_hand(name)
    simulation = HandSimulation(hand)
    bent = np.clip(hand.rest_q + 0.04, hand.lower, hand.upper)
    for start, goal in ((0.0, bent), (1.0, hand.rest_q)):
        drive(simulation, goal, 1.0, start)
        np.testing.assert_allclose(simulation.q, goal, atol=0.01)
    full = hand.kinematics.full_position(hand.rest_q)
    np.testing.assert_allclose(simulation.q_full, full, atol=5e-3)


@pytest.mark.parametrize("name", HANDS)
def test_the_picture_shows_the_hand_move(name):
    hand = load_hand(name)
    simulation = HandSimulation(hand)
    try:
        renderer = RenderProcess(simulation.model, 160, 120)
    except UserError as error:
        pytest.skip(str(error))
    with renderer:
        still = renderer.render(simulation.data.qpos)
        same = renderer.render(simulation.data.qpos)
        drive(simulation, hand.upper * 0.8, 1.5, 0.0)
        moved = renderer.render(simulation.data.qpos)
    assert still.shape == (120, 160, 3) and still.std() > 20
    np.testing.assert_array_equal(still, same)
    assert (np.abs(moved.astype(int) - still).max(axis=-1) > 30).mean() > 0.02


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux alone has processors to be had when they are idle")
def test_pictures_take_only_what_others_leave_of_the_processors():
    try:
        renderer = RenderProcess(build_scene(load_hand("inspire_right")), 64, 48)
    except UserError as error:
        pytest.skip(str(error))
    with renderer:
        child = renderer._child.pid
        assert os.sched_getscheduler(child) == os.SCHED_IDLE
        # A session of its own would get as much as all nodes together, whatever its priority (sched(7), autogroups).
        assert os.getsid(child) == os.getsid(0) and os.getpgid(child) != os.getpgid(0)


def test_without_opengl_the_error_names_the_package_to_install(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa" if not _has_osmesa() else "nonsense")
    with pytest.raises(UserError, match="apt-get install"):
        RenderProcess(build_scene(load_hand("inspire_right")), 64, 48)


def _has_osmesa():
    code = "import mujoco; mujoco.GLContext(8, 8).make_current()"
    environment = os.environ | {"MUJOCO_GL": "osmesa"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0
