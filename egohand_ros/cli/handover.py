"""`egohand handover`: simulated people and a robot arm hand a baton over, on a live graph."""

EXAMPLES = """examples:
  egohand handover
  egohand handover --count 4 --gif out/handover.gif --report out/handover.html --json out/handover.json
  egohand handover --forecaster kalman --seed 7
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "handover",
        help="hand objects over between a robot arm and simulated people, on a live graph",
        description="Start a simulated arm, hand and people, forecaster and handover node as processes in a ROS "
        "domain of their own, and watch until so many objects have changed hands. People give and take in turns.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--count", type=int, default=2, metavar="N", help="objects that are to change hands")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first person")
    parser.add_argument("--forecaster", default="minimum-jerk", metavar="NAME", help="preset of `egohand forecasters`")
    parser.add_argument("--hypotheses", type=int, default=10, metavar="K", help="futures of each hand")
    parser.add_argument("--arm", default="ur5e", metavar="NAME", help="robot arm, a name or a config file")
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`")
    parser.add_argument(
        "--realtime-priority", type=int, default=15, metavar="P",
        help="of forecaster and simulation, where you may have one; 0: none",
    )  # fmt: skip
    parser.add_argument("--record", metavar="FOLDER", help="rosbag2 folder to record into")
    parser.add_argument("--gif", metavar="FILE", help="moving picture of what happened")
    parser.add_argument("--report", metavar="FILE", help="self-contained HTML page")
    parser.add_argument("--json", metavar="FILE", help="phases, outcomes and latencies as JSON")
    parser.set_defaults(run=run)


def run(args) -> int:
    """Run, print, write. Exit status 1 when a node died."""
    from ..errors import UserError
    from ..evaluation.pages.handover_page import write_gif, write_handover_page
    from ..forecast.registry import check_forecaster
    from ..nodes.session.handover_run import run_handovers
    from ..outputs import check_apart, check_page
    from ._heartbeat import HEARTBEAT
    from ._tables import check_json, write_json

    if args.count < 1 or args.seed < 0:
        raise UserError(f"--count is {args.count} and --seed {args.seed}; at least 1 and 0")
    check_apart(gif=args.gif, report=args.report, json=args.json)
    check_json(args.json)
    check_forecaster(args.forecaster)
    for path, kind in ((args.gif, "moving picture"), (args.report, "HTML")):
        if path:
            check_page(path, kind)
    passed_on = ("seed", "forecaster", "hypotheses", "arm", "hand", "realtime_priority")
    arguments = {name: str(getattr(args, name)) for name in passed_on}
    text = ["starting nodes"]

    def note(report) -> None:
        phase = report.phases[-1][1] if report.phases else "starting"
        text[0] = f"{report.handed_over} of {args.count} objects changed hands, {report.seconds:.0f} s, {phase}"

    with HEARTBEAT.doing(lambda: text[0]):
        report = run_handovers(
            args.count,
            arguments | ({"record": args.record} if args.record else {}),
            bool(args.gif or args.report),
            note,
        )
    figures = report.figures()
    if args.json != "-":
        print(f"{report.handed_over} objects changed hands, {report.scenes} people, {report.seconds:.0f} s")
        for key, value in figures["diagnostics"].items():
            print(f"  {key}: {value}")
    if (args.gif or args.report) and not report.frames:
        raise UserError("no picture came; to get them: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri")
    if args.gif:
        write_gif(report.frames, args.gif)
    if args.report:
        write_handover_page(figures, report.frames, args.report)
    if args.json:
        write_json(figures, args.json)
    return 1 if report.deaths else 0
