"""`egohand bench soak`: hours of the whole graph; memory has to stay flat and latency where it was."""

EXAMPLES = """examples:
  egohand bench soak --duration 3600 --json out/soak.json --plot out/soak.png
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "soak",
        help="a long run: memory and latency over time",
        description="Run every node for a long time: both hands, three hypotheses, commands at 200 Hz, simulated robot, "
        "recording. Passed (exit status 0): no node's memory grew by 1 % and p99 did not drift.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--duration", type=float, default=3600.0, metavar="S", help="how long")
    parser.add_argument("--forecaster", default="kalman", metavar="NAME", help="preset of `egohand forecasters`")
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`")
    parser.add_argument("--rate", type=float, default=60.0, metavar="HZ", help="hand poses per second")
    parser.add_argument("--record", metavar="FOLDER", help="keep the recording (about 0.5 GB an hour)")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.PARAMETER=VALUE", help="one node parameter; repeatable")
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.add_argument("--plot", metavar="FILE", help="write a picture (.png, .svg or .pdf)")
    parser.set_defaults(run=run)


def run(args) -> int:
    """1 when memory grew or latency drifted."""
    from pathlib import Path

    from ..errors import UserError
    from ..nodes.soak import run_soak
    from ._progress import SessionProgress
    from ._tables import write_json, writing

    if args.duration < 30.0:
        raise UserError(f"--duration is {args.duration:g} s; less than 30 s says nothing")
    folder = Path(args.record) if args.record else None
    with SessionProgress() as progress:
        result = run_soak(args.duration, args.forecaster, args.hand, args.rate, args.set, folder, progress)
    numbers = summary(result)
    _print(numbers)
    if args.json:
        write_json(numbers, args.json)
    if args.plot:
        with writing(args.plot):
            Path(args.plot).parent.mkdir(parents=True, exist_ok=True)
            plot(result, args.plot)
    return 1 if result.failures else 0


def summary(result) -> dict:
    """Plain data for JSON."""
    import numpy as np

    first, last = result.p99
    return {
        "duration_s": result.duration,
        "poses": result.poses,
        "commands_from_poses": len(result.latency),
        "p99_ms_begin": 1e3 * first,
        "p99_ms_end": 1e3 * last,
        "memory": {
            node: {"end_mb": float(np.nanmedian(values[-3:])) / 2**20, "growth": result.growth(node)}
            for node, values in result.rss.items()
        },
        "restarts": result.restarts,
        "failures": result.failures,
        "passed": not result.failures,
    }


def _print(numbers: dict) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{numbers['duration_s']:.0f} s, {numbers['poses']} poses", title_justify="left", box=SIMPLE_HEAD)
    for column in ("node", "memory at the end, MB", "growth"):
        table.add_column(column, justify="left" if column == "node" else "right")
    for node, values in numbers["memory"].items():
        table.add_row(node, f"{values['end_mb']:.1f}", f"{100 * values['growth']:+.2f} %")
    console = Console()
    console.print(table)
    console.print(
        "pose received to command sent, p99: {p99_ms_begin:.1f} ms after the warm-up, {p99_ms_end:.1f} ms at the end".format(**numbers),
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for failure in numbers["failures"]:
        console.print(f"[red]failed[/]: {failure}", highlight=False)
    if numbers["passed"]:
        console.print("[green]passed[/]: memory is flat, p99 does not drift")


def plot(result, path: str) -> None:
    """Memory of each node relative to its median, and percentiles of latency, over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 5.5), sharex=True, layout="constrained")
    for node, values in result.rss.items():
        top.plot(result.time / 60, 100 * (values / np.nanmedian(values) - 1), linewidth=1, label=f"{node}, {np.nanmedian(values) / 2**20:.0f} MB")
    top.set(ylabel="memory, % of its median")
    top.legend(fontsize=7, ncols=3, frameon=False)
    edges = np.linspace(0.0, result.duration, 31)
    bins = [result.latency[(result.latency_time >= a) & (result.latency_time < b)] for a, b in zip(edges, edges[1:])]
    for percent in (50, 95, 99):
        values = [1e3 * np.percentile(x, percent) if len(x) else np.nan for x in bins]
        bottom.plot((edges[:-1] + edges[1:]) / 120, values, ".-", linewidth=1, label=f"p{percent}")
    bottom.set(xlabel="time [min]", ylabel="pose to command [ms]", ylim=(0, None))
    bottom.legend(fontsize=7, ncols=3, frameon=False)
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
