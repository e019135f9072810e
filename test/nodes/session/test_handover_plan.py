"""What a handover's arguments start."""

import pytest

from egohand_ros.errors import UserError
from egohand_ros.nodes.handover.parameters import HandoverParameters
from egohand_ros.nodes.session.handover_plan import plan_handover


def test_in_simulation_nothing_but_the_simulation_hears_commands_and_the_gate_is_open():
    plans = {plan.name: plan for plan in plan_handover({})}
    assert set(plans) == {"sim_handover", "forecaster", "handover"}
    assert plans["handover"].parameters["start_enabled"] and plans["handover"].parameters["without_goal"] == "either"
    assert plans["forecaster"].parameters["forecaster"] == "minimum-jerk"


def test_what_the_arm_waits_for_has_a_priority_below_its_own():
    default = {plan.name: plan.parameters.get("realtime_priority") for plan in plan_handover({})}
    assert default["sim_handover"] == default["forecaster"] and default["handover"] is None
    assert 0 < default["forecaster"] < HandoverParameters().realtime_priority
    off = {plan.name: plan.parameters.get("realtime_priority") for plan in plan_handover({"realtime_priority": "0"})}
    assert off["sim_handover"] == off["forecaster"] == 0


def test_a_real_arm_waits_for_its_gate_and_for_goals():
    plans = {
        p.name: p for p in plan_handover({"sim": "false", "use_robot_topics": "1", "hand_poses_topic": "/my/hands"})
    }
    assert set(plans) == {"hand_tracker", "forecaster", "handover"}
    handover = plans["handover"]
    assert not handover.parameters["start_enabled"] and handover.parameters["without_goal"] == "never"
    assert handover.parameters["use_robot_topics"] and ("hand_poses", "/my/hands") in handover.remappings


@pytest.mark.parametrize(
    "given, says",
    [
        ({"sim": "perhaps"}, "expected one of"),
        ({"arms": "2"}, "unknown"),
        ({"seed": "x"}, "expected a number"),
        ({"hypotheses": "0"}, "from 1 on"),
        ({"realtime_priority": "91"}, "from 0 to 90"),
    ],
)
def test_what_is_wrong_is_told(given, says):
    with pytest.raises(UserError, match=says):
        plan_handover(given)
