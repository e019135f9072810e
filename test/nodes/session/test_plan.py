"""The table of nodes: what runs for which arguments, with which parameters and names. No ROS graph here."""

import subprocess
import sys

import pytest
import yaml

from egohand_ros.cli.main import main
from egohand_ros.errors import UserError
from egohand_ros.nodes.session.handover_plan import plan_handover
from egohand_ros.nodes.session.names import check_names
from egohand_ros.nodes.session.plan import (
    ARGUMENTS,
    NodePlan,
    likely_misspelt,
    node_command,
    plan_nodes,
    set_parameters,
)
from egohand_ros.nodes.session.processes import NodeProcess


def names(**arguments):
    return [plan.name for plan in plan_nodes(arguments)]


def test_what_runs_for_which_arguments():
    assert names() == ["hand_tracker", "forecaster", "retargeter"]
    assert names(tracker="external", hand="") == ["forecaster"]
    assert names(sim="true", record="out/bag") == ["hand_tracker", "forecaster", "retargeter", "sim_hand", "recorder"]


def test_what_is_asked_for_to_look_at():
    assert names(foxglove="1")[-1] == "foxglove" and "foxglove" not in names()
    plans = {plan.name: plan.parameters for plan in plan_nodes({"viewer": "true", "publish_tf": "true"})}
    assert plans["forecaster"]["view_frame"] == "world" and plans["forecaster"]["publish_tf"]
    plans = {plan.name: plan.parameters for plan in plan_nodes({"viewer": "true", "fixed_frame": "map"})}
    assert "view_frame" not in plans["forecaster"], "who names a frame has it"
    with pytest.raises(UserError, match="foxglove_port is '0'"):
        plan_nodes({"foxglove": "true", "foxglove_port": "0"})


def test_an_argument_that_looks_like_one_of_ours_is_told_and_others_are_nobodys_business():
    said = likely_misspelt(ARGUMENTS, ["forcaster", "hnad", "hand", "sim", "robot_ip", "use_sim_tme"])
    assert ["'forecaster'" in said[0], "'hand'" in said[1], "'use_sim_time'" in said[2]] == [True] * 3
    assert len(said) == 3


def test_what_launch_files_of_others_write_is_understood():
    assert names(tracker="external", hand="none") == ["forecaster"]
    for yes, no in (("True", "False"), ("1", "0"), ("true", "false")):
        assert "sim_hand" in names(sim=yes) and "sim_hand" not in names(sim=no)
    with pytest.raises(UserError, match="sim is 'maybe'; expected one of: true, false"):
        plan_nodes({"sim": "maybe"})


def test_hands_and_forecasters_that_there_are_not_are_refused_before_anything_starts():
    check_names(plan_nodes({"sim": "true"}))
    for given, said in (
        ({"hand": "allegro_rihgt"}, "known hands: .*allegro_right"),
        ({"hand": "missing.yaml"}, "no such file"),
        ({"forecaster": "crystal_ball"}, "crystal_ball"),
    ):
        with pytest.raises(UserError, match=said):
            check_names(plan_nodes(given))


def test_parameters_reach_their_nodes(tmp_path):
    plans = {
        p.name: p
        for p in plan_nodes(
            {"forecaster": "cvm", "hand": "inspire_right", "side": "left", "use_sim_time": "true", "record": "x"}
        )
    }
    assert plans["forecaster"].parameters == {"forecaster": "cvm", "image_transport": "raw", "use_sim_time": True}
    assert plans["retargeter"].parameters == {"hand": "inspire_right", "side": "left", "use_sim_time": True}
    assert plans["recorder"].parameters["folder"] == "x"


def test_a_parameter_file_wins_over_defaults_but_not_over_what_was_asked_for(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {forecaster: damped, hand: inspire_right}}")
    plans = {p.name: p for p in plan_nodes({"params_file": str(file), "hand": "shadow_right"})}
    assert plans["forecaster"].parameters == {} and plans["forecaster"].parameter_files[-1] == file
    assert plans["retargeter"].parameters == {"hand": "shadow_right"}


def test_weights_and_mano_reach_the_forecaster():
    (forecaster,) = plan_nodes({"hand": "none", "tracker": "external", "checkpoint": "mine", "mano": "files"})
    assert forecaster.parameters["checkpoint"] == "mine" and forecaster.parameters["mano"] == "files"


def test_topics_are_remapped_for_every_node():
    for plan in plan_nodes({"hand_poses_topic": "/tracker/hands", "camera_info_topic": "/camera/camera_info"}):
        assert plan.remappings == (("camera_info", "/camera/camera_info"), ("hand_poses", "/tracker/hands"))


def test_every_node_that_looks_at_images_gets_their_transport():
    plans = {p.name: p.parameters for p in plan_nodes({"image_transport": "compressed"})}
    assert plans["hand_tracker"]["image_transport"] == plans["forecaster"]["image_transport"] == "compressed"


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"tracker": "vive"}, "expected one of: mediapipe, external"),
        ({"speed": "2"}, "argument 'speed' is unknown"),
        ({"sim": "true", "hand": ""}, "needs a robot hand"),
        ({"params_file": "missing.yaml"}, "does not exist"),
    ],
)
def test_wrong_arguments_say_what_is_right(arguments, said):
    with pytest.raises(UserError, match=said):
        plan_nodes(arguments)


def test_a_command_line_keeps_the_types_of_parameters(tmp_path):
    plan = NodePlan(
        "player", {"path": "007", "rate": 1.0, "topics": ["a", "b"]}, remappings=(("image", "/cam"),), namespace="ego"
    )
    command = node_command(plan, tmp_path)
    assert command[:3] == [sys.executable, "-m", "egohand_ros.nodes.player"]
    assert "__ns:=/ego" in command and "image:=/cam" in command
    written = yaml.safe_load((tmp_path / "player.yaml").read_text())
    assert written == {"/**": {"ros__parameters": {"path": "007", "rate": 1.0, "topics": ["a", "b"]}}}


def test_settings_are_yaml_and_name_a_running_node():
    plans = set_parameters(plan_nodes({}), ["retargeter.command_lead=0.05", "forecaster.hypotheses=3"])
    by_name = {plan.name: plan.parameters for plan in plans}
    assert by_name["retargeter"]["command_lead"] == 0.05 and by_name["forecaster"]["hypotheses"] == 3
    for setting, said in (("rate=3", "node.parameter=value"), ("sim_hand.rate=3", "does not run here")):
        with pytest.raises(UserError, match=said):
            set_parameters(plans, [setting])


def test_the_table_needs_no_ros_and_every_argument_is_explained():
    script = "import sys, egohand_ros.nodes.session.plan\nassert not {'rclpy', 'launch', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert all(len(argument.help) > 15 for argument in ARGUMENTS)


def test_a_web_page_is_a_node_of_its_own_and_rviz_is_none():
    planned = lambda **given: {plan.name: plan.parameters for plan in plan_nodes(given)}  # noqa: E731
    assert planned(viewer="web", viewer_port="8090")["viewer"] == {"hand": "allegro_right", "port": 8090}
    assert planned(viewer="web", hand="none")["viewer"] == {"hand": "", "port": 8080}
    for off in ("true", "1", "false"):
        assert "viewer" not in planned(viewer=off)
    for wrong in ({"viewer": "webb"}, {"viewer": "web", "viewer_port": "0"}, {"viewer": "web", "viewer_port": "x"}):
        with pytest.raises(UserError):
            plan_nodes(wrong)


def test_an_arm_carries_the_hand_and_follows_the_same_one_of_the_persons():
    given = {
        "arm": "ur5e",
        "hand": "leap_right",
        "side": "left",
        "sim": "true",
        "still_camera": "facing",
        "latency": "x",
    }
    plans = {p.name: p for p in plan_nodes(given)}
    follower = {"arm": "ur5e", "hand": "leap_right", "side": "left", "still_camera": "facing"}
    assert plans["arm_follower"].parameters == follower
    assert plans["sim_hand"].parameters == {"hand": "leap_right", "arm": "ur5e"}
    assert "arm_follower" not in names() and "arm_follower" in names(arm="ur5e")
    with pytest.raises(UserError, match="arm needs a robot hand"):
        plan_nodes({"arm": "ur5e", "hand": "none"})
    with pytest.raises(UserError, match="known arms: .*ur5e"):
        check_names(plan_nodes({"arm": "ur5"}))


@pytest.mark.parametrize("missing", ["mink", "ruckig"])
def test_that_the_extra_of_an_arm_is_missing_is_told_before_anything_starts(missing, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)  # what Python takes for a module that is not installed
    monkeypatch.setattr(NodeProcess, "start", lambda process: pytest.fail(f"{process.name} was started"))
    monkeypatch.chdir(tmp_path)
    for plans in (plan_nodes({"arm": "ur5e"}), plan_handover({})):
        with pytest.raises(UserError, match="needs the extra `handover`: pip install"):
            check_names(plans)
    check_names(plan_nodes({"sim": "true"}))
    for words in ("handover", "run --synthetic --sim --arm ur5e --record bag"):
        assert main(words.split()) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "needs the extra `handover`: pip install" in error
    assert not list(tmp_path.iterdir())
