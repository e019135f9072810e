"""An arm that follows a wrist: on time where the forecast is right, within every limit whatever the hand does, standing
where it is not seen, and never jumping."""

import numpy as np
import pytest

from egohand_ros.errors import RejectedInput
from egohand_ros.geometry.rotations import exp_rotation
from egohand_ros.geometry.transforms import make_transform
from egohand_ros.robot.arm.audit import audit_arm
from egohand_ros.robot.arm.avoidance import Obstacles
from egohand_ros.robot.arm.model import ArmModel
from egohand_ros.robot.arm.teleoperation import ArmTeleoperation, Following, TeleoperationOptions
from egohand_ros.robot.arm.wrist_path import WristPath, observed_wrist, wrist_path
from egohand_ros.robot.hands.library import load_hand

PERIOD = 0.01
SEEN_EVERY = 3  # steps
START = 50.0


@pytest.fixture(scope="module")
def arm():
    return ArmModel.load("ur5e", load_hand("allegro_right"))


def wave(time, amplitude=0.08, turn=0.3, rate=2.5):
    """T_base_palm (4, 4): a wrist that swings, and turns."""
    phase = rate * (time - START)
    place = np.array([0.3, 0.1, 0.4]) + amplitude * np.array([np.sin(phase), np.sin(0.7 * phase), 0.5 * np.sin(phase)])
    return make_transform(exp_rotation(turn * np.array([0.0, np.sin(phase), np.sin(0.6 * phase)])), place)


def forecast(wrist, stamp, std=0.01):
    """The true future of a motion, as a forecaster gives it."""
    steps = 0.05 * np.arange(1, 11)
    ahead = np.stack([wrist(stamp + step) for step in steps])
    return wrist_path(stamp, steps, ahead[:, :3, 3], ahead[:, :3, :3], np.full(10, std), wrist(stamp))


class Run:
    """A teleoperation, the hand that it is shown, and what was commanded."""

    def __init__(self, arm, **options):
        self.following = ArmTeleoperation(arm, TeleoperationOptions(**options), PERIOD)
        self.arm, self.now, self.q, self.tool = arm, START, [], []

    def go(self, seconds, wrist=None, see=forecast, **seen):
        for step in range(round(seconds / PERIOD)):
            if wrist is not None and step % SEEN_EVERY == 0:
                self.following.seen(see(wrist, self.now), self.now, self.now, **seen)
            self.q.append(self.following.step(self.now).copy())
            self.tool.append(self.arm.tool())
            self.now += PERIOD
        return self

    def keeps_all_limits(self):
        limits = self.arm.velocity_limit, self.arm.acceleration_limit, self.arm.jerk_limit
        audit = audit_arm(np.array(self.q), PERIOD, self.arm.lower, self.arm.upper, *limits)
        assert audit.violations == 0, audit
        return True

    def speed(self, last):
        """Most speed of the tool in the last seconds, m/s."""
        places = np.array(self.tool)[-round(last / PERIOD) :, :3, 3]
        return float(np.linalg.norm(np.diff(places, axis=0), axis=1).max() / PERIOD)


def test_the_tool_is_where_the_wrist_is_and_turned_as_it_is(arm):
    run = Run(arm, lead=PERIOD).go(6.0, wave)
    tool = np.array(run.tool)[200:]
    wrist = np.stack([wave(START + PERIOD * (i + 1)) for i in range(200, 600)])
    off = (tool[:, :3, 3] - wrist[:, :3, 3]) - (tool[0, :3, 3] - wrist[0, :3, 3])
    assert np.linalg.norm(off, axis=1).max() < 0.006
    turned = tool[:, :3, :3] @ tool[0, :3, :3].T @ (wrist[:, :3, :3] @ wrist[0, :3, :3].T).swapaxes(-1, -2)
    assert np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)).max() < 0.05
    assert run.keeps_all_limits()


def test_a_way_is_scaled_and_turning_left_out_where_asked(arm):
    run = Run(arm, scale=0.5, rotate=False).go(4.0, wave)
    tool = np.array(run.tool)[200:]
    assert np.ptp(tool[:, 0, 3]) == pytest.approx(0.08, abs=0.01)
    assert tool[:, :3, :3] == pytest.approx(np.broadcast_to(tool[0, :3, :3], (200, 3, 3)), abs=0.02)


def test_a_hand_that_is_lost_stops_the_arm_and_one_that_comes_back_elsewhere_moves_nothing_at_first(arm):
    run = Run(arm).go(2.0, wave)
    assert run.speed(0.5) > 0.05
    run.go(0.5)
    assert run.speed(0.15) < 1e-3 and run.following.state is Following.WAITING
    before = run.tool[-1][:3, 3]

    def elsewhere(time):
        return make_transform(np.eye(3), np.array([1.3, -0.8, 1.1]))

    run.go(1.5, elsewhere)
    assert run.following.state is Following.FOLLOWING
    assert run.tool[-1][:3, 3] == pytest.approx(before, abs=2e-3)
    assert run.keeps_all_limits()


def test_a_hand_that_is_suddenly_elsewhere_is_not_followed_there(arm):
    run = Run(arm).go(2.0, wave)
    place = run.tool[-1][:3, 3]
    jumped = wave(run.now)
    jumped[:3, 3] += (0.0, 0.6, 0.0)
    run.go(1.0, lambda time: jumped)
    assert run.following.jumps == 1
    assert np.linalg.norm(run.tool[-1][:3, 3] - place) < 0.05 and run.keeps_all_limits()


@pytest.mark.parametrize("confidence, moves", [(0.1, False), (0.35, True), (1.0, True)])
def test_a_hand_that_is_not_sure_moves_the_arm_slower_or_not_at_all(arm, confidence, moves):
    run = Run(arm, speed=0.1).go(2.0, wave, confidence=confidence)
    assert (run.speed(1.0) > 0.01) == moves
    assert run.speed(1.0) <= 0.1 * np.clip((confidence - 0.2) / 0.4, 0.0, 1.0) + 0.02


def test_a_doubtful_forecast_is_followed_less_far_ahead(arm):
    def ahead(std):
        run = Run(arm, lead=0.2)
        run.go(2.0, wave, see=lambda wrist, stamp: forecast(wrist, stamp, std))
        return run.following._wrist(run.now)

    stamp = START + 1.98
    assert ahead(0.01)[:3, 3] == pytest.approx(wave(START + 2.2)[:3, 3], abs=3e-3)
    assert ahead(0.5)[:3, 3] == pytest.approx(wave(stamp)[:3, 3], abs=3e-3)


def test_whatever_a_hand_does_limits_hold_and_the_arm_stays_clear_of_itself_and_the_table(arm):
    rng = np.random.default_rng(3)
    run = Run(arm, speed=1.5, hand_speed=100.0)
    run.following = ArmTeleoperation(arm, run.following.options, PERIOD, table_height=0.0)
    clear = Obstacles(arm, 0.0)
    nearest = np.inf
    for _ in range(12):
        place, turn = rng.uniform(-1.0, 1.0, 3), rng.uniform(-2.0, 2.0, 3)
        run.go(0.7, lambda time: make_transform(exp_rotation(turn), place))
        arm.move(run.following.motion.q)
        nearest = min(nearest, clear.smallest_distance(arm.capsules()))
    assert run.keeps_all_limits() and nearest > 0.0


def test_commands_begin_where_the_arm_is_and_stand_while_asked(arm):
    run = Run(arm)
    q = arm.teleoperation_q + 0.2
    run.following.start(q)
    for _ in range(50):
        run.following.seen(forecast(wave, run.now), run.now, run.now)
        assert run.following.step(run.now, stand=True) == pytest.approx(q, abs=1e-6)
        run.now += PERIOD


def test_a_path_that_is_not_finite_is_refused():
    pose = np.eye(4)
    pose[0, 3] = np.nan
    with pytest.raises(RejectedInput, match="NaN"):
        observed_wrist(1.0, pose)
    with pytest.raises(RejectedInput):
        WristPath(np.array([1.0, 1.0]), np.zeros((2, 3)), np.tile(np.eye(3), (2, 1, 1)), np.zeros(2))


def test_options_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="min_confidence is 0.9"):
        TeleoperationOptions(min_confidence=0.9)
