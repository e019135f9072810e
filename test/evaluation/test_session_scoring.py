"""Scoring of recordings whose right answer is known, and reports of recordings that lack one thing or another."""

from pathlib import Path

import numpy as np
import pytest

from egohand_ros.evaluation.pages import report
from egohand_ros.evaluation.recording import (
    CameraTrack,
    HandPoses,
    JointTrack,
    RecordedForecast,
    Recording,
    WireCommands,
    _joint_track,
)
from egohand_ros.evaluation.session import count_violations, end_to_end, score_forecasts, score_session
from egohand_ros.geometry.transforms import make_transform
from egohand_ros.messages.joints import JointSample
from egohand_ros.robot.arm.model import ArmModel
from egohand_ros.robot.hands.library import load_hand

RATE, SPEED = 30.0, 0.3  # Hz, m/s
STEPS = 0.1 * np.arange(1, 11)
START = 1000.0


def keypoints_at(times, offset=0.0):
    """(T, 2, 21, 3): the right hand flies along x at `SPEED`, rigidly; the left one is not there."""
    out = np.full((len(times), 2, 21, 3), np.nan)
    shape = np.linspace(0.0, 0.18, 21)[:, None] * np.array([0.0, 1.0, 0.2])
    out[:, 1] = shape + np.array([1.0, 0.0, 0.0]) * (SPEED * (np.asarray(times) - START) + offset)[:, None, None]
    return out


def recording(error=0.0, camera=None, seconds=4.0, lost=()):
    """A session whose forecasts are right but for `error` m along x, with observations `lost` (begin, end) left out."""
    stamp = START + np.arange(round(seconds * RATE)) / RATE
    keypoints = keypoints_at(stamp)
    state = np.full((len(stamp), 2), 2)
    state[:, 1] = 0
    for begin, end in lost:
        state[(stamp >= START + begin) & (stamp < START + end), 1] = 1
    frame = "camera"
    if camera is not None:
        frame = "world"
        keypoints = (
            np.einsum("tij,tsnj->tsni", np.linalg.inv(camera)[:, :3, :3], keypoints)
            + np.linalg.inv(camera)[:, None, None, :3, 3]
        )
    hands = HandPoses(stamp, stamp + 0.03, keypoints, np.isfinite(keypoints).all(-1), state, ["camera"] * len(stamp))
    forecasts = [
        RecordedForecast(
            t,
            t + 0.04,
            frame,
            STEPS,
            keypoints_at(t + STEPS, error)[None],
            np.full((1, 10, 2, 21), 0.02),
            np.ones((1, 2)),
            1e-3,
            "kalman",
        )
        for t in stamp[5:]
    ]
    found = Recording(
        Path("bag"), START, stamp[-1] + 1.0, {"/hand_poses": len(stamp), "/hand_forecasts": len(forecasts)}, {}
    )
    found.hands, found.forecasts = hands, forecasts
    if camera is not None:
        found.camera = CameraTrack(stamp, camera, "world")
    return found


def test_a_right_forecast_has_no_error_and_persistence_the_way_gone():
    scores = score_forecasts(recording())
    kalman, persistence = scores["forecasters"]["kalman"], scores["forecasters"]["persistence"]
    assert kalman["ADE"] == pytest.approx(0.0, abs=1e-6) and kalman["MPJPE"] == pytest.approx(0.0, abs=1e-6)
    assert scores["wrist_error_m"]["persistence"] == pytest.approx((SPEED * STEPS).tolist(), abs=1e-5)
    assert persistence["FDE"] == pytest.approx(SPEED * 1.0, abs=1e-5)
    assert persistence["MPJPE"] == pytest.approx(0.0, abs=1e-6), "the hand does not change its shape"


def test_an_error_is_found_in_its_size():
    assert score_forecasts(recording(error=0.05))["forecasters"]["kalman"]["ADE"] == pytest.approx(0.05, abs=1e-5)


def test_forecasts_in_the_world_are_compared_in_the_world():
    count = 120
    angle = np.linspace(0.0, 0.8, count)
    rotation = np.zeros((count, 3, 3))
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(angle)
    rotation[:, 0, 1], rotation[:, 1, 0], rotation[:, 2, 2] = -np.sin(angle), np.sin(angle), 1.0
    moving = make_transform(rotation, np.stack([angle, -angle, 0.0 * angle], axis=-1))
    assert score_forecasts(recording(camera=moving))["forecasters"]["kalman"]["ADE"] == pytest.approx(0.0, abs=1e-5)


def test_what_was_extrapolated_is_not_taken_for_what_happened():
    full, gap = score_forecasts(recording()), score_forecasts(recording(lost=[(1.0, 2.5)]))
    assert 0 < gap["windows"] < full["windows"]
    assert gap["forecasters"]["kalman"]["ADE"] == pytest.approx(0.0, abs=1e-6)


def commands(found, q, stamp):
    hand = load_hand("allegro_right")
    found.session = {"options": {"hand": "allegro_right"}}
    found.targets = JointTrack(stamp, hand.joint_names, q, np.full_like(q, np.nan), stamp + 0.002)
    found.wire_commands = WireCommands(hand.command_mapping(None).to_wire(q), stamp + 0.001)
    found.diagnostics = {"retargeter": {"count/commands": str(len(stamp))}}
    return found


def still(seconds=1.0):
    hand = load_hand("allegro_right")
    stamp = START + 0.01 * np.arange(round(100 * seconds))
    return np.tile(hand.rest_q, (len(stamp), 1)), stamp, hand


def test_a_hand_at_rest_violates_nothing():
    q, stamp, _ = still()
    checked = count_violations(commands(recording(), q, stamp))
    assert checked["checked_commands"] == 100 and not any(checked["violations"].values())


def test_each_kind_of_violation_is_found():
    q, stamp, hand = still()
    q[50:, 2] = hand.upper[2] + 0.01
    found = count_violations(commands(recording(), q, stamp))["violations"]
    assert found["position"] == 50 and found["velocity"] >= 1 and found["acceleration"] >= 1
    q, stamp, hand = still()
    ramp = np.clip(np.arange(100) - 50, 0, None) * 0.01
    q[:, 3] += 0.5 * 1.5 * hand.acceleration_limit[3] * np.minimum(ramp, 0.05) ** 2
    found = count_violations(commands(recording(), q, stamp))["violations"]
    assert found["acceleration"] > 0 and not found["position"]


def test_arrival_is_judged_unless_the_clock_waited_for_the_nodes():
    session = moving()
    session.targets.received[100:140] = session.targets.received[140]  # the sender's burst, or the clock's leap
    assert count_violations(session)["violations"]["arrival"] > 0
    session.session["options"]["offline"] = True
    offline = count_violations(session)
    assert "arrival" not in offline["violations"] and not any(offline["violations"].values())


def test_targets_of_an_arm_are_judged_too():
    session, arm = moving(), ArmModel.load("ur5e")
    session.session["options"]["arm"] = "ur5e"
    stamp = START + 0.01 * np.arange(400) + 0.002 * (np.arange(400) % 2)  # ticks are sent a little late now and then
    q = arm.ready_q + 0.5 * np.sin(1.5 * (stamp - START))[:, None]
    session.arm_targets = JointTrack(stamp, arm.config.joints, q, np.full_like(q, np.nan), stamp)
    assert count_violations(session)["violations"]["arm"] == 0
    q[200:, 3] += 0.2
    assert count_violations(session)["violations"]["arm"] > 0
    q[200:, 3] = arm.ready_q[3]
    q[350, 2] = arm.upper[2] + 0.1
    assert count_violations(session)["violations"]["arm"] > 0
    session.session["options"]["arm"] = "of_somebody_else"
    assert "arm" not in count_violations(session)["violations"]


def without(session, targets=(), wire=()):
    """The session's recording without these of its messages."""
    track, sent = session.targets, session.wire_commands
    for name in ("stamp", "q", "qd", "received"):
        setattr(track, name, np.delete(getattr(track, name), targets, axis=0))
    for name in ("positions", "received"):
        setattr(sent, name, np.delete(getattr(sent, name), wire, axis=0))
    return session


def mismatches(session):
    return count_violations(session)["violations"]["wire_mismatch"]


def moving(seconds=4.0):
    """Commands that swing over a third of the hand's range, as fast as half its limits."""
    hand = load_hand("allegro_right")
    stamp = START + 0.01 * np.arange(round(100 * seconds))
    amplitude = 0.15 * (hand.upper - hand.lower)
    rate = 0.5 * np.minimum(hand.velocity_limit / amplitude, np.sqrt(hand.acceleration_limit / amplitude)).min()
    q = hand.lower + 0.5 * (hand.upper - hand.lower) + amplitude * np.sin(rate * (stamp - START))[:, None]
    return commands(recording(), q, stamp)


def test_a_wire_command_that_is_not_the_target_is_found():
    for session in (commands(recording(), *still()[:2]), moving()):
        session.wire_commands.positions[40] += 0.3
        assert mismatches(session) == 1
        assert mismatches(without(session, wire=[0])) == 1  # the recording began between the two
        assert mismatches(without(session, wire=[10, 11, 55])) == 1  # and it lacks some in the middle
        assert mismatches(without(session, targets=[38, 39, 41, 60])) == 1


def test_the_wire_is_judged_by_the_interface_that_was_used():
    session, hand = moving(), load_hand("allegro_right")
    session.wire_commands.positions[:] = hand.command_mapping("joint_cmd").to_wire(session.targets.q)
    assert mismatches(session) > 0, "the first of the hand's is another order of joints"
    session.diagnostics["retargeter"]["command interface"] = "joint_cmd"
    assert mismatches(session) == 0


def test_lost_messages_of_either_topic_violate_nothing():
    rng = np.random.default_rng(0)
    for session in (commands(recording(), *still(4.0)[:2]), moving()):
        number = len(session.targets.q)
        assert number == 400 and not any(count_violations(session)["violations"].values())
        targets, wire = (rng.choice(number, 34, replace=False) for _ in range(2))
        without(session, np.append(targets, np.arange(100, 170)), np.append(wire, np.arange(250, 330)))
        assert not any(count_violations(session)["violations"].values())


def test_a_small_error_of_every_wire_command_is_found_among_lost_messages():
    session = without(moving(), targets=[5, 6, 200], wire=[90])
    session.wire_commands.positions += 1e-6
    assert mismatches(session) == 399 - 3


def test_nothing_to_check_is_not_zero_violations():
    assert score_session(recording())["limit_violations"] is None


def test_end_to_end_is_the_time_between_the_two_nodes():
    found = recording()
    found.latency = {
        "forecaster": [{"stamp": START + i, "input_age": 0.030 + 0.001 * i} for i in range(10)],
        "retargeter": [{"stamp": START + i, "total": 0.040 + 0.001 * i} for i in range(0, 10, 2)],
    }
    assert end_to_end(found) == pytest.approx([0.010] * 5)


@pytest.mark.parametrize("missing", ["nothing", "forecasts", "hands", "everything"])
def test_a_report_of_less_is_still_a_report(missing, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "egohand_ros.evaluation.pages.report_frames.read_images", lambda path, name, stamps: [None] * len(stamps)
    )
    found = recording()
    if missing in ("forecasts", "everything"):
        found.forecasts = []
    if missing in ("hands", "everything"):
        found.hands = None
    report.write_report(found, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.rstrip().endswith("</html>") and ("Forecasts against" in page) == (missing == "nothing")


def test_what_a_recording_says_cannot_break_out_of_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "egohand_ros.evaluation.pages.report_frames.read_images", lambda path, name, stamps: [None] * len(stamps)
    )
    found = recording()
    found.prompt = "<script>alert(1)</script>"
    report.write_report(found, tmp_path / "report.html")
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_of_joint_states_of_arm_and_hand_those_of_the_hand_are_the_measured_ones():
    def sample(stamp, names):
        return stamp, JointSample(stamp, names, stamp + np.arange(float(len(names))), np.zeros(len(names)))

    arm, hand = ("elbow", "shoulder"), ("thumb", "index")
    together = _joint_track([sample(1.0, arm + hand), sample(2.0, arm + hand)], hand)
    assert together.names == hand and together.q == pytest.approx(np.array([[3.0, 4.0], [4.0, 5.0]]))
    apart = _joint_track([sample(1.0, arm), sample(1.1, hand), sample(1.2, arm), sample(1.3, hand)], hand)
    assert apart.names == hand and apart.stamp == pytest.approx([1.1, 1.3])
    unknown = _joint_track([sample(1.0, arm)], hand)
    assert unknown.names == arm
