"""`egohand run`: a video, a recording or the synthetic scene through the whole pipeline, as real processes over DDS."""

EXAMPLES = """examples:
  egohand run --synthetic --sim --record out/demo/bag --report out/demo/report.html
  egohand run --video walk.mp4 --hand allegro_right --record out/walk --report out/walk.html --sim
  egohand run --video walk.mp4 --offline --record out/walk --strict
  egohand run --bag out/walk --forecaster damped --json out/damped.json
  egohand run --bag other --topic /quest/hands:=hand_poses --topic /quest/head:=camera_pose --report out/other.html
  egohand run --video walk.mp4 --sim --record out/walk --viewer
  egohand run --synthetic --set retargeter.command_lead=0.05 --set forecaster.hypotheses=3
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from ..forecast import DEFAULT_FORECASTER, DEFAULT_IN_PAINTED_SCENES
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "run",
        help="run the pipeline on a video, a bag or the synthetic scene",
        description="Start the nodes as processes in a ROS domain of their own, play a source through them, "
        "and score it.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--video", metavar="FILE", help="video of an egocentric camera, played at its frame rate")
    source.add_argument(
        "--bag", metavar="FOLDER", help="rosbag2 folder whose input topics are replayed with their stamps"
    )
    source.add_argument("--synthetic", action="store_true", help="a generated person at a table, with a noisy tracker")
    parser.add_argument(
        "--forecaster",
        metavar="NAME",
        help=f"preset of `egohand forecasters`; by default {DEFAULT_FORECASTER}, with --synthetic "
        f"{DEFAULT_IN_PAINTED_SCENES}",
    )
    parser.add_argument(
        "--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`; none: no robot"
    )
    parser.add_argument(
        "--arm",
        default="none",
        metavar="NAME",
        help="robot arm that carries the hand and follows the wrist (--sim)",
    )
    parser.add_argument(
        "--side", default="auto", choices=("auto", "left", "right"), help="the person's hand that drives the robot"
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="with --video: time waits for the nodes, so that no frame is dropped, on any machine under any load",
    )
    parser.add_argument("--sim", action="store_true", help="also simulate the robot hand (MuJoCo)")
    parser.add_argument("--viewer", action="store_true", help="serve a web page on this machine to watch it live")
    parser.add_argument(
        "--tracker", choices=("mediapipe", "external"), help="who finds the hands (default: what the source lacks)"
    )
    _add_outputs(parser)
    _add_settings(parser)
    parser.set_defaults(run=run)


def _add_outputs(parser) -> None:
    group = parser.add_argument_group("outputs")
    group.add_argument("--record", metavar="FOLDER", help="rosbag2 folder to record into")
    group.add_argument("--storage", default="mcap", choices=("mcap", "sqlite3"), help="file format of the recording")
    group.add_argument("--overwrite", action="store_true", help="replace a recording of that name")
    group.add_argument("--report", metavar="FILE", help="self-contained HTML report")
    group.add_argument(
        "--strict", action="store_true", help="exit status 1 unless the verdict is good: hands seen, forecast, followed"
    )
    group.add_argument(
        "--json",
        "--metrics",
        dest="metrics",
        metavar="FILE",
        help="counts, latencies, errors and violations as JSON",
    )


def _add_settings(parser) -> None:
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--duration", type=float, default=0.0, metavar="S", help="stop after this many seconds; 0: at the end"
    )
    group.add_argument(
        "--prompt", default="", metavar="TEXT", help="what the person is about to do, for forecasters that read it"
    )
    group.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="RECORDED:=PLAYED",
        help="a bag's topic under its name here; repeatable",
    )
    group.add_argument("--rate", type=float, default=1.0, help="speed of a bag's replay")
    group.add_argument(
        "--camera-fov", type=float, default=70.0, metavar="DEG", help="horizontal field of view of a video's camera"
    )
    group.add_argument("--seed", type=int, default=0, help="seed of the synthetic scene")
    group.add_argument("--no-images", action="store_true", help="synthetic scene without pictures")
    group.add_argument("--namespace", default="", help="namespace of the nodes")
    group.add_argument(
        "--domain",
        type=int,
        metavar="ID",
        help="ROS domain to run in, where the robot's gate then starts closed (default: a free one, in which "
        "nobody else "
        "hears the commands)",
    )
    group.add_argument("--params-file", default="", metavar="FILE", help="node parameters (YAML)")
    group.add_argument(
        "--set", action="append", default=[], metavar="NODE.PARAMETER=VALUE", help="one node parameter; repeatable"
    )
    group.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warn", "error"), help="severity that nodes log"
    )


def announced_port() -> int:
    """The port of the page, which is told at once: what is to be watched is soon over."""
    from ..viewer.server import HOST, check_installed, free_port

    check_installed()
    port = free_port()
    print(f"page: http://{HOST}:{port}/  (while it runs)", flush=True)
    return port


def run(args) -> int:
    """Run, score, report. Exit status 1 when a robot limit was violated, or with --strict when the verdict is not good;
    130 when interrupted.
    """
    from ..nodes.session.run import Outputs, run_and_score
    from ._progress import SessionProgress, print_summary

    outputs = Outputs(args.record, args.report, args.metrics, args.storage, args.overwrite)
    options = vars(args)
    if args.viewer:
        options = options | {"viewer_port": announced_port()}
    with SessionProgress() as progress:
        metrics, state = run_and_score(options, outputs, progress)
    print_summary(metrics, outputs)
    if args.viewer and args.record:
        print(f"look at it again, along a time line: egohand view {args.record}")
    if state.interrupted:
        return 130
    return 1 if metrics["limit_violations"] or (args.strict and metrics["verdict"]["level"] != "good") else 0
