"""The table of nodes, their arguments and their topics, which the launch file and `egohand run` share. Needs no ROS."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ...errors import UserError
from ...forecast import DEFAULT_FORECASTER
from ...shipped import config_folder

# Topics that sensors, trackers and people give, by relative name. A replay plays these; everything else is computed
# anew.
INPUT_TOPICS = (
    "image",
    "image/compressed",
    "camera_info",
    "depth",
    "camera_pose",
    "odometry",
    "prompt",
    "hand_poses",
    "tracker_poses",
    "tracker_poses/left",
    "tracker_poses/right",
)

# Topics that a recording keeps: the inputs, what was made of them, and how long it took.
RECORDED_TOPICS = (
    *INPUT_TOPICS,
    "hand_forecasts",
    "forecaster_info",
    "joint_commands",
    "joint_targets",
    "joint_states",
    "sim_hand/image",
    "handover_state",
    "arm_commands",
    "arm_targets",
    "wrench",
    "sim_handover/scene",
    "sim_handover/image",
    "session",
    "*/debug/latency",
    "player/state",
    "/diagnostics",
    "/tf",
    "/tf_static",
)

TRACKERS = ("mediapipe", "external")
NO_HAND = "none"
YES_OR_NO = ("true", "false")
WEB = "web"
VIEWER_PORT, FOXGLOVE_PORT = 8080, 8765
_LOOKS_LIKE = 0.7  # how alike two names are, of 1, from which on one is likely a slip for the other
LAYOUT_FRAME = "world"  # the fixed frame of config/rviz/egohand.rviz
# As launch files of others write them, beside the words themselves.
_YES_AND_NO = {"True": "true", "1": "true", "False": "false", "0": "false"}


@dataclass(frozen=True)
class Argument:
    """An argument of the launch file; `egohand run` has the same ones as options."""

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way to write a choice; any text goes where there is none."""
        return (*self.choices, *_YES_AND_NO) if self.is_switch else self.choices

    @property
    def is_switch(self) -> bool:
        """Whether true and false are among its choices."""
        return set(YES_OR_NO) <= set(self.choices)


ARGUMENTS = (
    Argument(
        "tracker",
        "mediapipe",
        "Who finds the hands: the hand_tracker node from images, or a tracker of your own.",
        TRACKERS,
    ),
    Argument("forecaster", DEFAULT_FORECASTER, "Forecaster preset; `egohand forecasters` lists them."),
    Argument(
        "checkpoint", "", "Weights of the forecaster: a folder, a hub id or a file of its authors; empty: its own."
    ),
    Argument("mano", "", "Folder of your MANO files, for forehand4d and megohand; empty: that of EGOHAND_MANO."),
    Argument("hand", "allegro_right", "Robot hand, a name of `egohand hands` or a .yaml file; none: forecasts only."),
    Argument(
        "arm", NO_HAND, "Robot arm that carries the hand and follows the wrist, a name of config/arms or a .yaml file."
    ),
    Argument(
        "still_camera",
        "none",
        "For an arm: how a camera looks that nobody tells the pose of, ahead as the person does or facing the person.",
        ("none", "ahead", "facing"),
    ),
    Argument(
        "side",
        "auto",
        "Which of the person's hands drives the robot; auto: the side of the robot hand.",
        ("auto", "left", "right"),
    ),
    Argument(
        "latency", "", "User, or file, of `egohand calibrate latency`: the robot's delay, which forecasts make up for."
    ),
    Argument("namespace", "", "Namespace of every node and relative topic."),
    Argument("params_file", "", "Parameter file (YAML) on top of the shipped ones."),
    Argument("image_topic", "image", "Camera images, sensor_msgs/Image."),
    Argument(
        "image_transport",
        "raw",
        "compressed: <image_topic>/compressed, sensor_msgs/CompressedImage.",
        ("raw", "compressed"),
    ),
    Argument("camera_info_topic", "camera_info", "Calibration of the camera, sensor_msgs/CameraInfo."),
    Argument("depth_topic", "depth", "Depth images for forecasters that use them, sensor_msgs/Image."),
    Argument("camera_pose_topic", "camera_pose", "Pose of the camera, geometry_msgs/PoseStamped."),
    Argument("odometry_topic", "odometry", "Pose of the camera instead, nav_msgs/Odometry."),
    Argument("prompt_topic", "prompt", "What the person is about to do, std_msgs/String."),
    Argument("hand_poses_topic", "hand_poses", "Hand poses, egohand_ros/HandPoseArray, of either tracker."),
    Argument(
        "tracker_poses_topic", "tracker_poses", "Joints of a tracker without an adapter, geometry_msgs/PoseArray."
    ),
    Argument("sim", "false", "Also start the simulated robot hand (MuJoCo).", YES_OR_NO),
    Argument("record", "", "Folder to record the inputs, results and timings into (MCAP); empty: no recording."),
    Argument(
        "viewer",
        "false",
        "true: also RViz with the shipped layout; web: a page for browsers of this machine, with nothing on it that "
        "moves a robot.",
        (*YES_OR_NO, WEB),
    ),
    Argument("viewer_port", str(VIEWER_PORT), "Port of viewer:=web on 127.0.0.1, or the next free one."),
    Argument("foxglove", "false", "Also serve the graph to the Foxglove app on this machine.", YES_OR_NO),
    Argument("foxglove_port", str(FOXGLOVE_PORT), "Port of foxglove:=true on 127.0.0.1, or the next free one."),
    Argument(
        "fixed_frame",
        "",
        "Frame that RViz shows all in; empty: the layout's, world, in which the camera is put upright while there are "
        "no camera poses.",
    ),
    Argument("publish_tf", "false", "Broadcast the wrists as they are seen, and the camera, on /tf.", YES_OR_NO),
    Argument("use_sim_time", "false", "Take the time from /clock, as when a bag is played.", YES_OR_NO),
    Argument("log_level", "info", "Least severity that is logged.", ("debug", "info", "warn", "error", "fatal")),
)

_TOPIC_ARGUMENTS = {a.name: a.default for a in ARGUMENTS if a.name.endswith("_topic")}


@dataclass(frozen=True)
class NodePlan:
    """One process to start: a module of `nodes/`, its parameters (over those of `parameter_files`) and its names."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    parameter_files: tuple[Path, ...] = ()
    remappings: tuple[tuple[str, str], ...] = ()
    namespace: str = ""
    log_level: str = "info"

    @property
    def module(self) -> str:
        return f"egohand_ros.nodes.{self.name}"


def defaults() -> dict[str, str]:
    """Every argument with its default."""
    return {argument.name: argument.default for argument in ARGUMENTS}


def plan_nodes(given: dict[str, str]) -> list[NodePlan]:
    """The nodes that arguments ask for. Raises `UserError` for an unknown argument or value."""
    arguments = resolve_arguments(given)
    # A parameter file of the user's has the last word over arguments that were left at their defaults.
    decided = {a.name for a in ARGUMENTS if not arguments["params_file"] or arguments[a.name] != a.default}

    def chosen(**parameters: str) -> dict[str, Any]:
        return {name: arguments[argument] for name, argument in parameters.items() if argument in decided}

    wanted: dict[str, dict[str, Any]] = {}
    if arguments["tracker"] == "mediapipe":
        wanted["hand_tracker"] = chosen(image_transport="image_transport")
    wanted["forecaster"] = chosen(forecaster="forecaster", image_transport="image_transport")
    wanted["forecaster"] |= {name: arguments[name] for name in ("checkpoint", "mano") if arguments[name]}
    if arguments["publish_tf"] == "true":
        wanted["forecaster"]["publish_tf"] = True
    if arguments["viewer"] == "true" and not arguments["fixed_frame"]:
        wanted["forecaster"]["view_frame"] = LAYOUT_FRAME
    if arguments["hand"]:
        wanted["retargeter"] = chosen(hand="hand") | (chosen(side="side") if arguments["side"] != "auto" else {})
        if arguments["latency"]:
            wanted["retargeter"]["latency_calibration"] = arguments["latency"]
        if arguments["arm"]:
            wanted["arm_follower"] = wanted["retargeter"] | {"arm": arguments["arm"]}
            wanted["arm_follower"].pop("latency_calibration", None)
            if arguments["still_camera"] != "none":
                wanted["arm_follower"]["still_camera"] = arguments["still_camera"]
        if arguments["sim"] == "true":
            wanted["sim_hand"] = chosen(hand="hand") | ({"arm": arguments["arm"]} if arguments["arm"] else {})
    if arguments["record"]:
        wanted["recorder"] = {"folder": arguments["record"]}
    if arguments["viewer"] == WEB:
        robot = {"hand": arguments["hand"]} | ({"arm": arguments["arm"]} if arguments["arm"] else {})
        wanted["viewer"] = robot | chosen_port("viewer_port", arguments)
    if arguments["foxglove"] == "true":
        wanted["foxglove"] = chosen_port("foxglove_port", arguments)
    return [_plan(name, parameters, arguments) for name, parameters in wanted.items()]


def chosen_port(name: str, arguments: dict[str, str]) -> dict[str, int]:
    """The parameter for a port as it was written. Raises `UserError`."""
    text = arguments[name]
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise UserError(f"{name} is {text!r}; expected 1 to 65535")
    return {"port": int(text)}


def resolve_arguments(given: dict[str, str]) -> dict[str, str]:
    """Every argument with its value in one spelling: true or false, and no robot hand is "". Raises `UserError`."""
    arguments = spelled(ARGUMENTS, given)
    for robot in ("hand", "arm"):
        arguments[robot] = "" if arguments[robot] == NO_HAND else arguments[robot]
    if arguments["arm"] and not arguments["hand"]:
        raise UserError("arm needs a robot hand on it: give hand, for example hand:=allegro_right")
    if arguments["sim"] == "true" and not arguments["hand"]:
        raise UserError("sim needs a robot hand: give hand, for example hand:=allegro_right")
    return arguments


def likely_misspelt(known: tuple[Argument, ...], given: Iterable[str]) -> list[str]:
    """A line on each given name that is not an argument of a table, but looks like one: ros2 launch ignores it. Of
    other names nothing is said, as a launch file that includes ours has arguments of its own."""
    names = [argument.name for argument in known]
    said = []
    for name in given:
        near = [] if name in names else get_close_matches(name, names, 1, _LOOKS_LIKE)
        if near:
            said.append(
                f"{name!r} is not an argument of this launch file and is ignored; did you mean {near[0]!r}? "
                "--show-args lists them"
            )
    return said


def spelled(known: tuple[Argument, ...], given: dict[str, str]) -> dict[str, str]:
    """Every argument of a table with its value, true and false in one spelling. Raises `UserError`."""
    arguments = {argument.name: argument.default for argument in known}
    for name, value in given.items():
        if name not in arguments:
            raise UserError(f"argument {name!r} is unknown; known: {', '.join(arguments)}")
        arguments[name] = str(value)
    for argument in known:
        if argument.is_switch:
            arguments[argument.name] = _YES_AND_NO.get(arguments[argument.name], arguments[argument.name])
        if argument.choices and arguments[argument.name] not in argument.choices:
            raise UserError(
                f"{argument.name} is {arguments[argument.name]!r}; expected one of: {', '.join(argument.choices)}"
            )
    if arguments["params_file"] and not Path(arguments["params_file"]).is_file():
        raise UserError(f"params_file {arguments['params_file']} does not exist")
    return arguments


def _plan(name: str, parameters: dict[str, Any], arguments: dict[str, str]) -> NodePlan:
    files = [shipped_parameters(name)] if shipped_parameters(name) else []
    if arguments["params_file"]:
        files.append(Path(arguments["params_file"]))
    if arguments["use_sim_time"] == "true":
        parameters = parameters | {"use_sim_time": True}
    remappings = tuple(
        (default, arguments[key]) for key, default in _TOPIC_ARGUMENTS.items() if arguments[key] != default
    )
    return NodePlan(name, parameters, tuple(files), remappings, arguments["namespace"], arguments["log_level"])


def config_file(name: str) -> Path:
    """The path of a file in the shipped config/ folder."""
    return config_folder() / name


def shipped_parameters(name: str) -> Path | None:
    """config/<node>.yaml, where there is one."""
    path = config_file(f"{name}.yaml")
    return path if path.is_file() else None


def node_command(plan: NodePlan, folder: Path) -> list[str]:
    """The command line of a node's process; its parameters go through a file in `folder`, which keeps their types."""
    path = folder / f"{plan.name}.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": plan.parameters}} if plan.parameters else {}))
    command = [sys.executable, "-m", plan.module, "--ros-args", "--log-level", plan.log_level]
    if plan.namespace:
        command += ["-r", f"__ns:=/{plan.namespace.strip('/')}"]
    for source, target in plan.remappings:
        command += ["-r", f"{source}:={target}"]
    for file in (*plan.parameter_files, *([path] if plan.parameters else [])):
        command += ["--params-file", str(file)]
    return command


def set_parameters(plans: list[NodePlan], settings: list[str]) -> list[NodePlan]:
    """Plans with `node.parameter=value` settings applied, values written as in YAML."""
    by_name = {plan.name: dict(plan.parameters) for plan in plans}
    for setting in settings:
        target, equals, value = setting.partition("=")
        node, dot, name = target.partition(".")
        if not (equals and dot and name):
            raise UserError(f"setting {setting!r} is not understood; write node.parameter=value")
        if node not in by_name:
            raise UserError(f"setting {setting!r}: node {node!r} does not run here; nodes: {', '.join(by_name)}")
        try:
            by_name[node][name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"setting {setting!r}: {value!r} is no YAML value; put a text into quotes") from None
    return [NodePlan(p.name, by_name[p.name], p.parameter_files, p.remappings, p.namespace, p.log_level) for p in plans]
