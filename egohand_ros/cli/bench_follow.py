"""`egohand bench follow`: lag and error of a robot hand that follows a human one, with and without prediction."""

EXAMPLES = """examples:
  egohand bench follow
  egohand bench follow --input teleop_right.pkl --forecaster egohand-follow,kalman --plot out/follow.png
  egohand bench follow --compare-python .venv-dex/bin/python --actuation-delay 0.15
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "follow",
        help="lag and error of a robot hand that follows a human one",
        description="Run the whole pipeline in simulated time, with the delays of its stages, on a robot hand in "
        "MuJoCo "
        "whose commands take effect late: with prediction, without, and dex-retargeting, on the same input.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--input",
        action="append",
        metavar="FILE",
        help="recorded hand, also several; default: the recording beside the repository",
    )
    parser.add_argument(
        "--synthetic",
        type=int,
        metavar="N",
        help="synthetic episodes, exact and as a tracker sees them (default: 2, and none with --input)",
    )
    parser.add_argument("--duration", type=float, default=20.0, metavar="S", help="length of a synthetic episode")
    parser.add_argument("--tempo", type=float, default=1.0, help="speed at which recorded hands are played")
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`")
    parser.add_argument(
        "--forecaster", default="egohand-follow,kalman,damped,persistence", metavar="NAME[,NAME…]", help="presets"
    )
    parser.add_argument("--actuation-delay", type=float, default=0.15, metavar="S", help="from a command to its effect")
    parser.add_argument(
        "--input-delay", type=float, default=0.03, metavar="S", help="from acquisition to the forecaster"
    )
    parser.add_argument(
        "--lead",
        type=float,
        metavar="S",
        help="what commands make up for; default: identified as by `egohand calibrate latency`",
    )
    parser.add_argument(
        "--recency",
        type=float,
        default=0.0,
        metavar="S",
        help="time over which forecasts that are averaged lose weight; 0: all count alike",
    )
    parser.add_argument("--rate", type=float, default=200.0, metavar="HZ", help="commands per second")
    parser.add_argument("--compare-python", metavar="FILE", help="Python that has dex-retargeting, to run it beside")
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.add_argument("--plot", metavar="FILE", help="write a picture (.png, .svg or .pdf)")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Follow, judge, print and write."""
    import os

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import math
    from dataclasses import asdict

    from ..errors import UserError
    from ..evaluation.bench.dex_comparison import find_python
    from ..evaluation.bench.following import Delays
    from ..evaluation.bench.following_bench import bench_following
    from ..outputs import check_apart, check_page, replaced_file
    from ..robot.hands.library import load_hand
    from ._tables import check_json, progress_bar, write_json
    from .evaluate import forecaster_names

    check_apart(json=None if args.json == "-" else args.json, plot=args.plot)
    check_json(args.json, args.input or ())
    if args.plot:
        check_page(args.plot, "picture", args.input or ())
    times, positive = (args.actuation_delay, args.input_delay, args.recency), (args.duration, args.rate, args.tempo)
    if not (
        all(0.0 < v < math.inf for v in positive) and args.duration >= 8.0 and all(0.0 <= v < math.inf for v in times)
    ):
        raise UserError("--duration needs at least 8, --rate and --tempo more than 0, delays and --recency at least 0")
    hand = load_hand(args.hand)
    motions = _motions(args, hand.side)
    delays = Delays(input=args.input_delay, actuation=args.actuation_delay)
    python = find_python(args.compare_python) if args.compare_python else None
    with progress_bar("following") as progress:
        result = bench_following(
            hand,
            motions,
            forecaster_names(args.forecaster),
            delays,
            args.lead,
            args.rate,
            compare=bool(args.compare_python),
            python=python,
            on_progress=progress,
            recency=args.recency or None,
        )
    if args.json != "-":
        _print(result)
    if args.json:
        content = {
            "hand": hand.name,
            "delays_s": asdict(delays),
            "lead_s": result.lead,
            "command_rate_hz": args.rate,
            "recency_s": args.recency,
        }
        write_json(content | {"scores": [asdict(score) for score in result.scores]}, args.json)
    if args.plot:
        with replaced_file(args.plot) as part:
            plot(result, part)


def _motions(args, side: str) -> list:
    """The recorded hands, then the synthetic ones."""
    from pathlib import Path

    from ..data.load import load_labelled
    from ..errors import UserError
    from ..evaluation.bench.following_bench import recorded_motion, synthetic_motions

    default = Path("../shared/data/hand_keypoints/human_joint_right.pkl")
    paths = args.input or ([default] if default.is_file() else [])
    motions = [recorded_motion(name, episode, side, args.tempo) for name, episode in load_labelled(paths).items()]
    synthetic = (0 if args.input else 2) if args.synthetic is None else args.synthetic
    for seed in range(synthetic):
        motions += synthetic_motions(seed, args.duration, side)
    if not motions:
        raise UserError("nothing to follow; give --input FILE or --synthetic 1")
    return motions


def _print(result) -> None:
    """One row a method and motion, and its error relative to the same pipeline without prediction and to
    dex-retargeting.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(
        ("motion", "method", "lag ms", "of speed", "error mm", "p95", "vs none", "vs dex", "jerk m/s3", "limits broken")
    ):
        table.add_column(column, justify="right" if i > 1 else "left", no_wrap=True)
    for score in result.scores:
        cells = (
            f"{score.lag_ms:.1f}",
            f"{score.velocity_lag_ms:.1f}",
            f"{score.error_mm:.1f}",
            f"{score.error_p95_mm:.1f}",
            result.change(score, result.WITHOUT),
            result.change(score, result.DEX),
            f"{score.jerk:.0f}",
            str(score.violations),
        )
        table.add_row(score.motion, score.method, *cells)
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)
    console.print(f"commands lead by {1e3 * result.lead:.1f} ms ({result.lead_source})", highlight=False)


def plot(result, path: str) -> None:
    """A stretch of one finger's motion, and error against lag of every method, for each motion."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    motions = list(dict.fromkeys(score.motion for score in result.scores))
    figure, axes = plt.subplots(
        len(motions), 2, figsize=(11, 2.7 * len(motions)), width_ratios=(2, 1), squeeze=False, layout="constrained"
    )
    for (left, right), motion in zip(axes, motions):
        times, human, robots = result.excerpt(motion)
        left.plot(times, human, color="#1b1d21", linewidth=2.0, label="human, now")
        usual = {result.WITHOUT: "#d1495b", result.DEX: "#9aa0a8"}
        colours = {method: usual.get(method, "#2566c9") for method in robots} | {result.ORACLE: "#2a9d5c"}
        for method, values in robots.items():
            left.plot(times, values, color=colours[method], linewidth=1.2, label=method)
        left.set(ylabel="fingertip [mm]", xlabel="time [s]", title=motion)
        left.legend(fontsize=7, ncols=2, frameon=False)
        for score in result.scores:
            if score.motion == motion:
                known = score.method in colours
                right.plot(
                    score.lag_ms,
                    score.error_mm,
                    "o",
                    markersize=5 if known else 3,
                    color=colours.get(score.method, "#dfe2e6"),
                    label=score.method if known else None,
                    zorder=2 + known,
                )
        right.legend(fontsize=6, frameon=False, loc="upper left")
        right.set(xlabel="lag [ms]", ylabel="RMS error [mm]")
        right.set_ylim(bottom=0)
        right.margins(x=0.1, y=0.3)
        for axis in (left, right):
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
