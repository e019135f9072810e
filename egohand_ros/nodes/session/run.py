"""`run_and_score`: from what a user asks for to a recorded session, its metrics and its report."""

import logging
import os
import platform
import re
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...data.bags.recording import (
    bag_parts,
    is_closed,
    is_input_topic,
    open_bag,
    repair_bag,
)
from ...data.video import Video
from ...errors import UserError
from ...forecast import DEFAULT_FORECASTER, DEFAULT_IN_PAINTED_SCENES
from ...forecast.registry import check_forecaster, check_weights
from ...json_text import json_text
from ...locks import lock_domain
from ...outputs import (
    check_apart,
    check_data,
    check_page,
    log_folder,
    recording_folder,
    write_text,
    writing,
)
from ...ownership import is_our_recording
from ...robot.arm import config as arms
from ...robot.hands.library import find_config
from ...viewer.server import check_installed
from .checks import check_plans
from .plan import INPUT_TOPICS, VIEWER_PORT, WEB, NodePlan, plan_nodes, set_parameters
from .processes import private_domain
from .session import Session, SessionState

_NO_SETTINGS = {"run", "command", "record", "report", "metrics", "storage", "overwrite", "log_level", "strict"}
_PACKAGES = ("numpy", "torch", "mujoco", "mediapipe", "rosbags")
_IMAGE_WIDTH = 640  # what the tracker looks at anyway; wider images only cost transport
_SYNTHETIC_IMAGE_RATE = 10.0  # Hz; drawing is slow and done before the start
_SIM_STATE_RATE = 50.0  # Hz
_LONGEST_STANDSTILL = 60.0  # s that an offline clock may stand still, in which no joint states come
_LONGEST_ARM_SILENCE = 10.0  # s, the most that an arm's parameter allows
_ANSWERING = ("hand_tracker", "forecaster", "retargeter")  # what an offline video waits for, in the order of the graph
MOST_DOMAIN = 232  # of the ports that DDS computes from it, the last that exist
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIM_IMAGE_RATE = 5.0  # Hz; enough for a report, and drawing without a GPU would slow the pipeline

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Where things go; None: not wanted."""

    record: str | None = None
    report: str | None = None
    metrics: str | None = None
    storage: str = "mcap"
    overwrite: bool = False


def run_and_score(
    options: dict[str, Any], outputs: Outputs, on_progress=lambda state: None
) -> tuple[dict, SessionState]:
    """Run the session that `egohand run`'s options describe; its metrics and final state. Writes the outputs.

    Raises `UserError` for options that cannot work and for nodes that do not start.
    """
    check_options(options)
    check_outputs(options, outputs)
    plans = make_plans(options, Path(outputs.record or "bag"), outputs.storage)
    check_plans(plans, options.get("set") or ())
    domain = private_domain() if options.get("domain") is None else lock_domain(options["domain"])
    with domain as number, _bag_folder(outputs) as bag:
        number = options["domain"] if number is None else number
        plans = [
            replace(p, parameters=p.parameters | {"folder": str(bag)}) if p.name == "recorder" else p for p in plans
        ]
        settings = {k: v for k, v in options.items() if v not in (None, "", [], False) and k not in _NO_SETTINGS}
        information = {"options": settings, "versions": versions(), "machine": machine(), "started": time.time()}
        logs = log_folder(outputs.record or bag)
        with _terminate_as_interrupt():
            state = Session(plans, number, logs, options.get("namespace", ""), information, on_progress).run()
        if state.interrupted and not any(part.exists() for part in bag_parts(bag)):
            raise KeyboardInterrupt  # before anything was recorded
        if not is_closed(bag) or len(bag_parts(bag)) > 1:
            _close(bag)
        from ...evaluation.session import (
            score_session,  # imports torch: not before the nodes have started
        )

        state.phase = "scoring"
        on_progress(state)
        metrics = score_session(bag) | {"nodes": _node_table(state, plans), "versions": information["versions"]}
        if outputs.metrics or outputs.report:
            state.phase = "writing"
            on_progress(state)
        failures = _write_pages(bag, outputs, metrics)
    if failures:
        kept = f"; the recording is in {outputs.record}" if outputs.record else ""
        raise UserError("; ".join(failures) + kept)
    return metrics, state


def _close(bag: Path) -> None:
    """Mend a bag that its recorder did not close; where there is no room for that it stays as it is, and is still
    read.
    """
    try:
        repair_bag(bag)
    except UserError as error:
        if not any(bag_parts(bag)[0].glob("*")):
            raise
        _log.warning("the recording was not closed: %s; later: egohand bag repair %s", error, bag)


def _write_pages(bag: Path, outputs: Outputs, metrics: dict) -> list[str]:
    """Metrics and report; what could not be written and why, because neither may cost the other or the recording."""
    from ...evaluation.pages.report import write_report

    failures = []
    for path, write in (
        (outputs.metrics, lambda path: write_text(path, json_text(metrics))),
        (outputs.report, lambda path: write_report(bag, Path(path), metrics)),
    ):
        try:
            if path:
                write(path)
        except UserError as error:
            failures.append(str(error))
    return failures


def check_options(options: dict[str, Any]) -> None:
    """Refuse numbers and names that cannot work, before anything is read or made."""
    for name, least in (("duration", 0.0), ("rate", 1e-3), ("camera_fov", 10.0), ("seed", 0)):
        value = options.get(name)
        if value is not None and not least <= value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {value}: expected a number of at least {least:g}")
    if not options.get("camera_fov", 70.0) <= 170.0:
        raise UserError(f"--camera-fov {options['camera_fov']}: expected 10 to 170 degrees")
    domain = options.get("domain")
    if domain is not None and not 0 <= domain <= MOST_DOMAIN:
        raise UserError(f"--domain {domain}: expected a ROS domain, 0 to {MOST_DOMAIN}")
    if options.get("offline") and not options.get("video"):
        raise UserError(
            "--offline is for --video: a bag's recorded hands are all used by egohand evaluate and retarget"
        )
    if options.get("offline") and options.get("tracker") == "external":
        raise UserError("--offline waits for the tracker of a video; leave --tracker external out")
    namespace = (options.get("namespace") or "").strip("/")
    if namespace and not all(_NAME.fullmatch(part) for part in namespace.split("/")):
        raise UserError(
            f"--namespace {options['namespace']!r} is no ROS namespace; expected words of letters, digits and _ "
            "that begin "
            "with no digit, divided by /"
        )


def check_outputs(options: dict[str, Any], outputs: Outputs) -> None:
    """Refuse places that cannot be written or must not be, before anything starts; makes and removes nothing."""
    check_apart(record=outputs.record, report=outputs.report, metrics=outputs.metrics)
    inputs = [options[name] for name in ("bag", "video", "params_file") if options.get(name)]
    if outputs.record:
        check_data(outputs.record, outputs.overwrite, inputs, is_our_recording)
    if outputs.report:
        check_page(outputs.report, "HTML", inputs)
    if outputs.metrics:
        check_page(outputs.metrics, "JSON", inputs)


def make_plans(options: dict[str, Any], bag: Path, storage: str) -> list[NodePlan]:
    """The nodes of a session and its player."""
    played, tracker, transport = _input(options)
    source, offline = played["source"], bool(options.get("offline"))
    hand, arm = ("" if options.get(name) in (None, "none") else options[name] for name in ("hand", "arm"))
    if hand:
        find_config(hand)
    if arm:
        arms.find_arm(arm)
        arms.check_installed()
        if not options.get("sim") and options.get("domain") is None:
            raise UserError("--arm needs --sim, since no arm is in a private session; --domain ID finds a real one")
    if options.get("viewer"):
        check_installed()
    painted = source == "synthetic" and played["images"]
    forecaster = options.get("forecaster") or (DEFAULT_IN_PAINTED_SCENES if painted else DEFAULT_FORECASTER)
    _check_forecaster(forecaster, options)
    arguments = {
        "tracker": tracker,
        "forecaster": forecaster,
        "hand": hand,
        "arm": arm,
        "side": options.get("side", "auto"),
        "namespace": options.get("namespace", ""),
        "params_file": options.get("params_file", ""),
        "image_transport": transport,
        "sim": bool(options.get("sim")),
        "record": str(bag.resolve()),
        "use_sim_time": source == "bag" or offline,
        "viewer": WEB if options.get("viewer") else "false",
        "viewer_port": options.get("viewer_port") or VIEWER_PORT,
        "log_level": options.get("log_level", "info"),
    }
    # Nothing but this session hears the commands in a private domain, so that the robot's gate may be open there, and
    # only there.
    private = {
        "retargeter": {"start_enabled": options.get("domain") is None}
        | ({} if arguments["sim"] else {"joint_states_timeout": 0.0}),
        "arm_follower": {"start_enabled": True, "still_camera": "ahead"} if options.get("domain") is None else {},
        "sim_hand": {"image_rate": _SIM_IMAGE_RATE, "joint_state_rate": _SIM_STATE_RATE},
    }
    if offline:
        private["retargeter"]["joint_states_silence"] = _LONGEST_STANDSTILL
        private["arm_follower"]["joint_states_silence"] = _LONGEST_ARM_SILENCE
    plans = [replace(p, parameters=private.get(p.name, {}) | p.parameters) for p in plan_nodes(arguments)]
    if offline:
        answering = [name for name in _ANSWERING if any(plan.name == name for plan in plans)]
        played |= {"offline": True, "answers": ",".join(answering)}
    player = NodePlan("player", played, namespace=arguments["namespace"], log_level=arguments["log_level"])
    return set_parameters([*plans, player], [f"recorder.storage={storage}", *options.get("set", [])])


def _input(options: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """What is played, by parameters of the player; the tracker, and the transport of images."""
    source = "video" if options.get("video") else "bag" if options.get("bag") else "synthetic"
    tracker = options.get("tracker") or ("mediapipe" if source == "video" else "external")
    offline = bool(options.get("offline"))
    transport = "raw" if offline else "compressed"  # offline there is time for every pixel
    played = {"source": source, "image_transport": transport, "image_width": _IMAGE_WIDTH, "autostart": False}
    if source == "video":
        Video.open(options["video"])  # refuse it before anything starts
        played |= {"path": str(Path(options["video"]).resolve()), "camera_fov": float(options.get("camera_fov", 70.0))}
    elif source == "bag":
        tracker, transport, topics = _replay(Path(options["bag"]), options.get("tracker"), options.get("topic") or [])
        played |= {
            "path": str(Path(options["bag"]).resolve()),
            "rate": float(options.get("rate", 1.0)),
            "topics": topics,
        }
    else:
        images = tracker == "mediapipe" or not options.get("no_images")
        played |= {"seed": int(options.get("seed", 0)), "images": images, "image_rate": _SYNTHETIC_IMAGE_RATE}
    if options.get("prompt"):
        played["prompt"] = options["prompt"]
    if options.get("duration"):
        played["duration"] = float(options["duration"])
    return played, tracker, transport


def _check_forecaster(name: str, options: dict[str, Any]) -> None:
    """Refuse one that there is not, or that lacks weights which no setting could give."""
    check_forecaster(name)
    settings = options.get("set") or ()
    if not options.get("params_file") and not any(entry.startswith("forecaster.checkpoint=") for entry in settings):
        check_weights(name)


def _replay(bag: Path, tracker: str | None, mapped: list[str]) -> tuple[str, str, list[str]]:
    """Tracker, image transport and topics to play of a recording: its hand poses, or its images for our tracker.

    `mapped` are topics under other names, each recorded:=played.
    """
    with open_bag(bag) as reader:
        recorded = [c.topic for c in reader.connections if c.msgcount]
    for entry in mapped:
        _check_mapping(entry, recorded, bag)
    names = {name for name in INPUT_TOPICS if any(is_input_topic(topic, name) for topic in recorded)}
    names |= {entry.partition(":=")[2] for entry in mapped}
    poses = {name for name in names if name == "hand_poses" or name.startswith("tracker_poses")}
    if tracker is None:
        tracker = "external" if poses else "mediapipe"
    if tracker == "external" and not poses:
        raise UserError(
            f"bag {bag} has no hand_poses and no tracker_poses; map your topic with --topic recorded:=hand_poses, "
            f"or find the hands in its images with --tracker mediapipe; it has {', '.join(sorted(recorded))}"
        )
    if tracker == "mediapipe" and not names & {"image", "image/compressed"}:
        raise UserError(
            f"bag {bag} has no image in which hands could be found{'' if poses else ', and no hand_poses'}; map your "
            f"topic with --topic recorded:=image or recorded:=hand_poses; it has {', '.join(sorted(recorded))}"
        )
    transport = "compressed" if "image/compressed" in names else "raw"
    unused = {"image"} if transport == "compressed" else set()
    unused |= poses if tracker == "mediapipe" else set()
    taken = {entry.partition(":=")[2] for entry in mapped}
    return tracker, transport, [*mapped, *sorted(names - unused - taken)]


def _check_mapping(entry: str, recorded: list[str], bag: Path) -> None:
    """Refuse a topic under another name that the bag does not have, or that nobody would listen to."""
    parts = entry.split(":=")
    if len(parts) != 2 or not all(parts):
        raise UserError(f"topic {entry!r} is not understood; write recorded:=played, as /my/hands:=hand_poses")
    if not any(topic == parts[0] or is_input_topic(topic, parts[0]) for topic in recorded):
        raise UserError(f"--topic {entry}: bag {bag} has no {parts[0]}; it has {', '.join(sorted(recorded))}")
    if parts[1].strip("/") not in INPUT_TOPICS:
        raise UserError(f"--topic {entry}: {parts[1]} is no input of the nodes; those are {', '.join(INPUT_TOPICS)}")


@contextmanager
def _bag_folder(outputs: Outputs):
    """Where to record: what was asked for, or a folder that goes away."""
    if outputs.record is None:
        with writing(tempfile.gettempdir()):
            folder = Path(tempfile.mkdtemp(prefix="egohand_"))
        yield folder / "bag"
        shutil.rmtree(folder, ignore_errors=True)  # kept after an error, which names the logs in it
        return
    with recording_folder(outputs.record, outputs.overwrite) as bag:
        yield bag


@contextmanager
def _terminate_as_interrupt():
    """SIGTERM ends a session in the order in which Ctrl-C does."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _node_table(state: SessionState, plans: list[NodePlan]) -> dict[str, dict]:
    """What became of each node."""
    wall = max(state.wall_seconds, 1e-9)
    return {
        plan.name: {
            "respawns": state.respawns.get(plan.name, 0),
            "exit_codes": state.exits.get(plan.name, []),
            "stopped_by_force": plan.name in state.killed,
            "cpu": round(state.cpu_seconds.get(plan.name, 0.0) / wall, 3),
        }
        for plan in plans
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version(), "ros": os.environ.get("ROS_DISTRO", "jazzy")}
    for package in ("egohand_ros", *_PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The computer that the numbers come from."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": platform.system()}
