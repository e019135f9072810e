"""The table of nodes and arguments of a handover, which the launch file and `egohand handover` share. Needs no ROS."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from .plan import ARGUMENTS, YES_OR_NO, Argument, NodePlan, shipped_parameters, spelled

_SHARED = ("tracker", "namespace", "params_file", "record", "use_sim_time", "log_level")
_TOPICS = (
    "image_topic",
    "camera_info_topic",
    "camera_pose_topic",
    "odometry_topic",
    "prompt_topic",
    "hand_poses_topic",
    "tracker_poses_topic",
)

HANDOVER_ARGUMENTS = (
    Argument("sim", "true", "A simulated arm, hand, baton and person (MuJoCo) instead of real ones.", YES_OR_NO),
    Argument("arm", "ur5e", "Robot arm, a name of config/arms or a .yaml file."),
    Argument("hand", "allegro_right", "Robot hand, a name of `egohand hands` or a .yaml file."),
    Argument("forecaster", "minimum-jerk", "Forecaster preset; `egohand forecasters` lists them."),
    Argument("hypotheses", "10", "Futures of each hand, at most as many as the forecaster gives: 1 for persistence."),
    Argument("seed", "0", "Of the first simulated person."),
    Argument(
        "without_goal",
        "auto",
        "What begins without a goal of the action; auto: either in simulation, nothing with a robot.",
        ("auto", "never", "give", "take", "either"),
    ),
    Argument(
        "use_robot_topics",
        "false",
        "Command the topics of the arm's and hand's configs, not arm_commands and joint_commands.",
        YES_OR_NO,
    ),
    *(argument for argument in ARGUMENTS if argument.name in (*_SHARED, *_TOPICS)),
)


def plan_handover(given: dict[str, str]) -> list[NodePlan]:
    """The nodes that arguments ask for. Raises `UserError` for an unknown argument or value."""
    a = spelled(HANDOVER_ARGUMENTS, given)
    robot = {"arm": a["arm"], "hand": a["hand"]}
    simulated = a["sim"] == "true"
    wanted: dict[str, dict[str, Any]] = {}
    if simulated:
        if not a["seed"].isdecimal():
            raise UserError(f"seed is {a['seed']!r}; expected a number from 0 on")
        wanted["sim_handover"] = robot | {"seed": int(a["seed"])}
    elif a["tracker"] == "mediapipe":
        wanted["hand_tracker"] = {}
    if not (a["hypotheses"].isdecimal() and int(a["hypotheses"]) > 0):
        raise UserError(f"hypotheses is {a['hypotheses']!r}; expected a number from 1 on")
    wanted["forecaster"] = {"forecaster": a["forecaster"], "hypotheses": int(a["hypotheses"])}
    begins = a["without_goal"] if a["without_goal"] != "auto" else "either" if simulated else "never"
    # Nothing but the simulation listens to arm_commands, so its gate may be open.
    wanted["handover"] = robot | {
        "start_enabled": simulated,
        "without_goal": begins,
        "use_robot_topics": a["use_robot_topics"] == "true",
    }
    if a["record"]:
        wanted["recorder"] = {"folder": a["record"]}
    remappings = tuple((arg.default, a[arg.name]) for arg in HANDOVER_ARGUMENTS if _moved(arg, a))
    plans = []
    for name, parameters in wanted.items():
        files = (shipped_parameters(name), Path(a["params_file"]) if a["params_file"] else None)
        plan = NodePlan(name, parameters, tuple(filter(None, files)), remappings, a["namespace"], a["log_level"])
        timed = {"use_sim_time": True} if a["use_sim_time"] == "true" else {}
        plans.append(replace(plan, parameters=plan.parameters | timed))
    return plans


def _moved(argument: Argument, arguments: dict[str, str]) -> bool:
    return argument.name in _TOPICS and arguments[argument.name] != argument.default
