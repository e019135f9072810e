"""`egohand calibrate latency`: how long the robot hand takes from a command to its effect."""

EXAMPLES = """examples:
  egohand calibrate latency out/teleop --hand allegro_right --user alice
  egohand calibrate latency --duration 20 --hand allegro_right --user alice
  egohand run --video hands.mp4 --hand allegro_right --set retargeter.latency_calibration=alice
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "latency",
        help="the robot hand's delay, from commanded and measured joints",
        description="Compare commanded with measured joints by cross-correlation, of a recording or of a running robot "
        "that is being teleoperated, and save the delay for this user and hand. It commands nothing itself.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "recording", nargs="?", help="rosbag2 folder with joint_targets and joint_states; none: listen now"
    )
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`")
    parser.add_argument("--user", default="default", metavar="NAME", help="for whom it is saved")
    parser.add_argument("--duration", type=float, default=15.0, metavar="S", help="how long to listen")
    parser.add_argument("--namespace", default="", metavar="NAME", help="of the running nodes")
    parser.add_argument(
        "--state-topic", default="joint_states", metavar="TOPIC", help="measured joints of a running robot"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the file (default: the user's own)")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Measure, print, save."""
    from ..robot.follow.latency_calibration import calibrate_latency
    from ..robot.hands.library import load_hand

    hand = load_hand(args.hand)
    commanded, measured = _from_recording(args, hand) if args.recording else _from_robot(args, hand)
    result = calibrate_latency(hand.joint_names, *commanded, *measured, args.user, hand.name)
    _print(result)
    print(f"saved: {result.save(args.out)}")
    print(f"use it: parameter retargeter.latency_calibration:={args.user}, or launch argument latency:={args.user}")


def _from_recording(args, hand):
    from ..errors import UserError
    from ..evaluation.recording import read_recording

    recording = read_recording(args.recording)
    for name, track in (("joint_targets", recording.targets), ("joint_states", recording.measured)):
        missing = "" if track is None else ", ".join(sorted(set(hand.joint_names) - set(track.names)))
        if track is None or missing:
            raise UserError(f"{args.recording} has no {name} of {hand.name}{': missing ' + missing if missing else ''}")
    return [
        (track.stamp, track.q[:, [track.names.index(name) for name in hand.joint_names]])
        for track in (recording.targets, recording.measured)
    ]


def _from_robot(args, hand):
    from ..nodes.joint_listener import listen_to_joints
    from ._tables import progress_bar

    with progress_bar("open and close your hand") as progress:
        return listen_to_joints(hand.mapping, args.duration, args.namespace, args.state_topic, progress)


def _print(result) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("joint", no_wrap=True)
    table.add_column("delay, ms", justify="right")
    for name, delay in result.joints.items():
        table.add_row(name, f"{1e3 * delay:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{result.hand}: {1e3 * result.delay:.1f} ms over {result.seconds:.0f} s; correlation "
        f"{result.correlation:.3f}, "
        f"joints differ by {1e3 * result.spread:.1f} ms: confidence {result.confidence}",
        highlight=False,
        soft_wrap=True,
    )
