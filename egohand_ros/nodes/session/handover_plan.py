"""The table of nodes and arguments of a handover, which the launch file and `egohand handover` share. Needs no ROS."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..base.realtime import HIGHEST
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
    Argument(
        "realtime_priority",
        "15",
        "Real-time priority of the forecaster and of what is simulated, where the user may have one; the handover node "
        "has its own, 20. 0: none.",
    ),
    *(argument for argument in ARGUMENTS if argument.name in (*_SHARED, *_TOPICS)),
)


def plan_handover(given: dict[str, str]) -> list[NodePlan]:
    """The nodes that arguments ask for. Raises `UserError` for an unknown argument or value."""
    a = spelled(HANDOVER_ARGUMENTS, given)
    robot = {"arm": a["arm"], "hand": a["hand"]}
    simulated = a["sim"] == "true"
    wanted: dict[str, dict[str, Any]] = {}
    # On a busy machine these two wait for a processor, and then hands and forecasts come too late for the arm.
    priority = {"realtime_priority": _number(a, "realtime_priority", 0, HIGHEST)}
    if simulated:
        wanted["sim_handover"] = robot | {"seed": _number(a, "seed", 0)} | priority
    elif a["tracker"] == "mediapipe":
        wanted["hand_tracker"] = {}
    hypotheses = _number(a, "hypotheses", 1)
    wanted["forecaster"] = {"forecaster": a["forecaster"], "hypotheses": hypotheses} | priority
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


def _number(arguments: dict[str, str], name: str, least: int, most: int | None = None) -> int:
    text = arguments[name]
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        upto = "on" if most is None else f"to {most}"
        raise UserError(f"{name} is {text!r}; expected a number from {least} {upto}")
    return int(text)


def _moved(argument: Argument, arguments: dict[str, str]) -> bool:
    return argument.name in _TOPICS and arguments[argument.name] != argument.default
