"""`egohand bench arm`: lag and error of a robot arm that follows a person's wrist, with and without prediction."""

EXAMPLES = """examples:
  egohand bench arm --input wrists/
  egohand bench arm --input take.npz --forecaster kalman,adaptive --actuation-delay 0.1
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "arm",
        help="lag and error of a robot arm that follows a person's wrist",
        description="Run the whole pipeline of `forecast.launch.py arm:=…` in simulated time, with the delays of its "
        "stages, on recorded wrists: without prediction, with forecasters, and with the true future. Of each "
        "recording the longest stretch counts in which a wrist was seen; ways are scaled to 0.2 m.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--input", action="append", required=True, metavar="FILE", help="recordings of hands or wrists; repeatable"
    )
    parser.add_argument("--longest", type=float, default=20.0, metavar="S", help="most of each recording that counts")
    parser.add_argument("--arm", default="ur5e", metavar="NAME", help="robot arm of `egohand arms`")
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand that it carries")
    parser.add_argument("--forecaster", default="kalman,damped", metavar="NAME[,NAME…]", help="presets")
    parser.add_argument("--actuation-delay", type=float, default=0.05, metavar="S", help="from a command to its effect")
    parser.add_argument("--lead", type=float, metavar="S", help="what commands make up for (default: that delay)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers; - is the standard output")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Follow, judge, print and write."""
    import os

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from dataclasses import asdict, replace

    from ..data.load import load_labelled
    from ..errors import UserError
    from ..evaluation.bench.arm_following import ARM_DELAYS, bench_arm_following, wrist_motions
    from ..forecast.registry import make_forecaster
    from ..robot.arm.model import ArmModel
    from ..robot.hands.library import load_hand
    from ._tables import check_json, progress_bar, write_json
    from .evaluate import forecaster_names

    check_json(args.json, args.input)
    lead = args.actuation_delay if args.lead is None else args.lead
    if not (0.0 <= args.actuation_delay <= 1.0 and 0.0 <= lead <= 1.0 and args.longest >= 6.0):
        raise UserError("--actuation-delay and --lead: expected 0 to 1 s; --longest: at least 6 s")
    arm = ArmModel.load(args.arm, load_hand(args.hand))
    names = forecaster_names(args.forecaster)
    motions = [
        motion
        for name, episode in load_labelled(args.input).items()
        for motion in wrist_motions(episode, name, args.longest)
    ]
    if not motions:
        raise UserError("no recording shows a wrist, and how it is turned, for 6 s without a gap of 0.2 s")
    forecasters = {name: make_forecaster(name) for name in names}
    delays = replace(ARM_DELAYS, actuation=args.actuation_delay)
    with progress_bar("following") as progress:
        scores = bench_arm_following(arm, motions, forecasters, lead, delays, progress)
    if args.json != "-":
        _print(scores, lead)
    if args.json:
        content = {"arm": args.arm, "hand": args.hand, "delays_s": asdict(delays), "lead_s": lead}
        write_json(content | {"scores": [asdict(score) for score in scores]}, args.json)


def _print(scores: list, lead: float) -> None:
    """Medians over the recordings, and errors as ratios to following without prediction, geometric means."""
    import numpy as np

    from ._tables import print_table

    base = {score.motion: score for score in scores if score.method == scores[0].method}
    rows = {}
    for method in dict.fromkeys(score.method for score in scores):
        mine = [score for score in scores if score.method == method]
        ratio = np.exp(np.mean([np.log(s.error_mm / base[s.motion].error_mm) for s in mine]))
        lags = [s.lag_ms for s in mine]
        rows[method] = [
            float(np.median(lags)),
            float(np.percentile(lags, 90)),
            float(np.median([s.error_mm for s in mine])),
            float(np.median([s.error_p95_mm for s in mine])),
            100.0 * float(ratio - 1.0),
            float(np.median([s.turn_deg for s in mine])),
            float(sum(s.violations for s in mine)),
        ]
    columns = ["method", "lag [ms]", "p90", "error [mm]", "p95", "to the first [%]", "turn [deg]", "limits broken"]
    commands = sum(score.commands for score in scores)
    title = f"{len(base)} recordings, medians; commands lead by {1e3 * lead:.0f} ms; {commands} commands"
    print_table(title, columns, rows)
