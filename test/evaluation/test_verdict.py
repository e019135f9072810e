"""The verdict on a session: green only where hands were seen, forecast and followed; and the same one everywhere."""

import json
from dataclasses import replace

import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.bags.bag import episode_to_bag
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.evaluation.verdict import BAD, DOUBTFUL, GOOD, Facts, Verdict

WORKED = Facts(
    frames=621,
    poses=621,
    tracked=621,
    right=621,
    forecasts=618,
    robot="allegro_right",
    side="right",
    driven=618,
    followed=615,
    commands=2100,
    travel=18.0,
    motion=1.8,
    dropped={"hand_tracker": 0, "forecaster": 0, "recorder": 0, "sim_hand": 300},
    refused={},
    violations=0,
)


def test_a_session_that_worked_is_good_and_says_that_the_robot_moved():
    verdict = Verdict(WORKED)
    assert verdict.level == GOOD and not verdict.reasons and "the robot moved 1.80 rad" in verdict.headline
    without_robot = replace(WORKED, robot="", side="", followed=0, commands=0, motion=0.0, violations=None)
    assert Verdict(without_robot).level == GOOD


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({"frames": 0, "poses": 0, "dropped": {}}, BAD, "no image and no hand pose came"),
        ({"tracked": 0, "right": 0, "forecasts": 0, "driven": 0}, BAD, "no hand was seen in 621 frames"),
        (
            {"right": 0, "left": 600, "driven": 0, "followed": 0},
            BAD,
            "never seen, the left one 600 times; give --side left",
        ),
        ({"forecasts": 0, "driven": 0, "followed": 0}, BAD, "nothing was forecast of 621 observations"),
        ({"tracked": 20, "right": 20}, BAD, "a hand was tracked in 20 of 621 frames only"),
        (
            {"followed": 11, "motion": 0.0, "refused": {"retargeter/hand_forecasts/wrist_missing": 607}},
            BAD,
            "never moved: 11 of 618 forecasts were followed; 607 were refused as wrist_missing (the tracker gives",
        ),
        ({"commands": 0, "motion": 0.0, "violations": None}, BAD, "allegro_right got no command"),
        ({"followed": 200}, BAD, "allegro_right followed 200 of 618 forecasts only"),
        ({"measured_motion": 0.0}, BAD, "its joint states stand still"),
        ({"violations": 3}, BAD, "3 commands broke a limit"),
        ({"violations": 3, "broken": {"velocity": 2, "arrival": 1}}, BAD, "broke a limit (velocity 2, arrival 1)"),
        (
            {"poses": 400, "tracked": 400, "right": 400},
            DOUBTFUL,
            "221 of 621 frames were not tracked: this machine is too",
        ),
        (
            {"dropped": {"hand_tracker": 0, "forecaster": 100}},
            DOUBTFUL,
            "the forecaster skipped 100 of 621 observations",
        ),
        ({"tracked": 300, "right": 300}, DOUBTFUL, "the right hand was measured in 300 of 621 frames"),
        ({"followed": 500}, DOUBTFUL, "the robot followed 500 of 618 forecasts"),
        ({"violations": None}, DOUBTFUL, "its limits could not be checked"),
        ({"dropped": {"hand_tracker": 0, "recorder": 7}}, DOUBTFUL, "7 messages are not in the recording"),
        ({"restarts": 2}, DOUBTFUL, "nodes died and were started again, 2 times"),
    ],
)
def test_a_session_that_did_not_work_cannot_be_taken_for_a_good_one(changes, level, said):
    verdict = Verdict(replace(WORKED, **changes))
    assert verdict.level == level and said in verdict.reasons[0] and verdict.headline.startswith(f"{level}: ")


def test_frames_beside_the_poses_of_another_tracker_are_not_judged():
    assert Verdict(replace(WORKED, frames=50, dropped={"forecaster": 0})).level == GOOD


def test_what_is_written_to_json_is_the_same_verdict():
    verdict = Verdict(replace(WORKED, followed=500))
    assert Verdict.of(json.loads(json.dumps({"verdict": verdict.to_json()}))).reasons == verdict.reasons


def test_report_of_a_bag_without_forecasts_is_bad_in_terminal_page_json_and_status(tmp_path, capsys):
    episode_to_bag(observe(generate_scene(3, 2.0)).episode, tmp_path / "bag")
    words = ["report", str(tmp_path / "bag"), "--json", str(tmp_path / "m.json")]
    assert main(words) == 0 and main([*words, "--strict"]) == 1
    said = "bad: nothing was forecast of 60 observations"
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (tmp_path / "bag.html").read_text()
    assert json.loads((tmp_path / "m.json").read_text())["verdict"]["level"] == "bad"
