"""A person, an arm, a hand and a baton in MuJoCo: who gives gives, who takes takes, and nobody is hit."""

from dataclasses import replace

import numpy as np
import pytest

from egohand_ros.evaluation.bench.handover_bench import Scene, score
from egohand_ros.handover.intent import GIVE, NONE, TAKE
from egohand_ros.handover.machine import Outcome, Phase
from egohand_ros.handover.options import HandoverOptions
from egohand_ros.handover.simulation.episode import PERIOD, HandoverStage, run_episode
from egohand_ros.handover.simulation.forecasting import METHODS, TrackerNoise, Watcher
from egohand_ros.handover.simulation.person import Manner, RobotSeen, draw_person
from egohand_ros.handover.simulation.world import TOOL_TO_MIDDLE
from egohand_ros.robot.simulation.rendering import scene_pose

PERFECT = METHODS[-1]
FAR = RobotSeen(np.full(3, 1.0))


@pytest.fixture(scope="module")
def stage():
    return HandoverStage()


def run(stage, person, limit=10.0):
    watcher = Watcher(PERFECT, None, person, person.seed)
    return run_episode(stage, person, watcher, HandoverOptions(), limit)


# ---------------------------------------------------------------- the person


@pytest.mark.parametrize("seed", range(4))
def test_a_reach_ends_where_it_was_meant_without_a_jump(seed):
    person = draw_person(seed, GIVE, True, (Manner.WAITS,))
    times = np.arange(0.0, person.begins + person.lasts + 0.5, PERIOD)
    wrist = person.planned(times)[0][:, person.side, 0]
    assert wrist[-1] == pytest.approx(person.meeting, abs=1e-6)
    assert np.linalg.norm(np.diff(wrist, axis=0), axis=1).max() < 2.5 * PERIOD
    assert wrist[times < person.begins] == pytest.approx(np.tile(wrist[0], (int((times < person.begins).sum()), 1)))


def test_who_is_interrupted_goes_on_from_there():
    person = draw_person(1, GIVE, True, (Manner.WAITS,))
    plan, at = person.plans[person.side], person.begins + 0.5 * person.lasts
    before = plan.pose(at)[0]
    plan.add(at, 0.8, before + 0.1, np.eye(3), np.zeros(20))
    assert plan.pose(at)[0] == pytest.approx(before, abs=1e-6)
    assert plan.pose(at + 0.8)[0] == pytest.approx(before + 0.1)


def test_the_same_seed_is_the_same_person_and_others_differ():
    one, same, other = (draw_person(seed, TAKE, True).meeting for seed in (7, 7, 8))
    assert (one == same).all() and (one != other).any()


def test_only_handovers_are_meant():
    assert {draw_person(s, GIVE, False).intends for s in range(12)} == {NONE}
    assert {draw_person(s, TAKE, True).intends for s in range(12)} == {TAKE}


def test_who_moves_on_does_not_wait_for_ever():
    person = draw_person(3, GIVE, True, (Manner.MOVES_ON,))
    for now in np.arange(0.0, 9.0, PERIOD):
        person.update(now, FAR)
    wrist = person.keypoints(9.0)[0][person.side, 0]
    assert np.linalg.norm(wrist - person.meeting) > 0.2 and person.holding == person.side


def test_a_tracker_is_wrong_by_what_it_says():
    person = draw_person(2, GIVE, True)
    keypoints, noise = person.keypoints(0.0)[0], TrackerNoise(np.random.default_rng(0))
    errors = np.array([noise(t, keypoints, person.head) - keypoints for t in np.arange(0, 60, 1 / 30)])
    assert 0.003 < np.nanstd(errors) < 0.006
    assert 0 < np.isnan(errors).mean() < 0.1


# ---------------------------------------------------------------- physics


def test_the_robots_hand_holds_the_baton_against_forces(stage):
    world, tool = stage.world, stage.ready_tool
    closed = stage.finger_poses["fist"]
    world.reset(stage.ready_q, stage.finger_poses["open"])
    person = draw_person(0, TAKE, True)
    world.place_person(*person.keypoints(0.0), person.head)
    world.put_baton(tool[:3, 3] - TOOL_TO_MIDDLE * tool[:3, 2], tool[:3, :3])
    world.fix_to_robot(True)
    world.step(stage.ready_q, closed, 0.8)
    world.fix_to_robot(False)
    world.step(stage.ready_q, closed, 0.5)
    held = world.baton[:3, 3].copy()
    assert world.touch(tool[:3, 0]).gripped
    for force in ([8, 0, 0], [0, 0, -8], [0, 8, 0]):
        world.data.xfrc_applied[world.model.body("baton").id, :3] = force
        world.step(stage.ready_q, closed, 0.3)
        assert np.linalg.norm(world.baton[:3, 3] - held) < 0.01
    world.data.xfrc_applied[:] = 0.0
    world.step(stage.ready_q, stage.finger_poses["open"], 1.0)
    assert world.baton[2, 3] < held[2] - 0.3, "an open hand lets it fall"


def test_a_picture_shows_where_the_person_is(stage):
    person = draw_person(0, GIVE, True)
    stage.world.place_person(*person.keypoints(0.0), person.head)
    one = scene_pose(stage.world.data)
    stage.world.place_person(*person.keypoints(person.begins + person.lasts), person.head)
    assert len(one) == stage.world.model.nq + 7 * stage.world.model.nmocap
    assert (one != scene_pose(stage.world.data)).any()


# ---------------------------------------------------------------- whole handovers


@pytest.mark.parametrize("direction, seed", [(GIVE, 3), (TAKE, 3)])
def test_an_object_changes_hands(stage, direction, seed):
    person = draw_person(seed, direction, True, (Manner.WAITS,))
    record = run(stage, person)
    result = score("perfect", Scene(seed, direction, True), record, stage)
    assert record.outcome == Outcome.SUCCESS and result.success, record.reasons
    assert result.separation_violations == 0 and result.joint_violations == 0
    assert not result.unmeant_contact
    assert result.to_secured < 6.0
    phases = list(dict.fromkeys(record.phase.tolist()))
    assert phases[-4:] == [Phase.TRANSFER, Phase.RETREAT, Phase.PLACE, Phase.IDLE]


def test_who_does_something_else_is_left_alone(stage):
    person = draw_person(22, GIVE, False, (Manner.FACE,))
    record = run(stage, person, limit=4.0)
    assert Phase.REACH not in record.phase
    waits = record.command[record.time > person.begins]  # where the tool waits with an empty hand
    assert np.abs(waits - waits[0]).max() < 0.05
    options = HandoverOptions()
    assert (record.tool[:, 0] < options.ready[0] + options.receive_ahead + 0.01).all()


@pytest.mark.parametrize("dies", ["tracker", "forecaster"])
def test_an_arm_on_its_way_stands_a_quarter_of_a_second_after_what_it_goes_by_has_died(stage, dies):
    person = draw_person(3, GIVE, True, (Manner.WAITS,))
    watcher, at = Watcher(PERFECT, None, person, person.seed), 2.32
    options = replace(HandoverOptions(), receive_ahead=0.0, offer_slowed=10.0, offer_within=10.0)  # on its way early
    see = watcher.see

    def dying(now, forecast):
        observed, futures = see(now, forecast)
        return (observed, futures) if now < at else (observed if dies == "forecaster" else None, None)

    watcher.see = dying
    record = run_episode(stage, person, watcher, options, 3.0)
    speed = np.linalg.norm(np.gradient(record.tool, PERIOD, axis=0), axis=1)
    assert speed[record.time < at][-1] > 0.15
    grace = 0.25 if dies == "tracker" else 0.25 + HandoverOptions().forecast_period
    assert speed[(record.time > at + grace) & (record.phase == Phase.HOLD)].max() < 0.02
    assert speed[record.time > at + grace].max() < 0.02
