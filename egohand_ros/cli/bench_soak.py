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
        description="Run every node for a long time: both hands, three hypotheses, commands at 200 Hz, simulated "
        "robot, "
        "recording. Passed (exit status 0): no process's memory grew by 1 % between the five minutes after a "
        "warm-up of five "
        "minutes and the last five, and p99 did not drift (shorter runs: a twelfth of the run instead of five "
        "minutes).",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--duration", type=float, default=3600.0, metavar="S", help="how long")
    parser.add_argument("--forecaster", default="kalman", metavar="NAME", help="preset of `egohand forecasters`")
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`")
    parser.add_argument("--rate", type=float, default=60.0, metavar="HZ", help="hand poses per second")
    parser.add_argument("--record", metavar="FOLDER", help="keep the recording (up to 4 GB an hour)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.PARAMETER=VALUE", help="one node parameter; repeatable"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.add_argument("--plot", metavar="FILE", help="write a picture (.png, .svg or .pdf)")
    parser.set_defaults(run=run)


def run(args) -> int:
    """1 when memory grew or latency drifted."""
    from pathlib import Path

    from ..errors import UserError
    from ..nodes.bench.soak import LEAST_DURATION, run_soak
    from ..outputs import check_data, check_page, replaced_file
    from ._progress import SessionProgress
    from ._tables import check_json, write_json

    check_json(args.json)
    if args.plot:
        check_page(args.plot, "picture")
    if args.record:
        check_data(args.record)
    if not 0.0 < args.rate < float("inf"):
        raise UserError(f"--rate {args.rate:g}: expected a number above 0")
    if not LEAST_DURATION <= args.duration < float("inf"):
        raise UserError(f"--duration is {args.duration:g} s; less than {LEAST_DURATION:.0f} s says nothing")
    folder = Path(args.record) if args.record else None
    with SessionProgress() as progress:
        result = run_soak(args.duration, args.forecaster, args.hand, args.rate, args.set, folder, progress)
    numbers = summary(result)
    _print(numbers)
    if args.json:
        write_json(numbers, args.json)
    if args.plot:
        with replaced_file(args.plot) as part:
            plot(result, part)
    return 1 if result.failures else 0


def summary(result) -> dict:
    """Plain data for JSON: the verdict, and memory, latency and processor time over time."""
    from functools import partial

    import numpy as np

    def latency(begin: float, end: float) -> dict:
        p50, p95, p99 = (1e3 * value for value in result.percentiles(begin, end))
        return {"from_s": begin, "to_s": end, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}

    def memory(node: str, private: bool) -> dict:
        start, first, last = (value / 2**20 for value in result.memory(node, private))
        return {"start_mb": start, "begin_mb": first, "end_mb": last, "growth": result.growth(node, private)}

    edges = np.linspace(0.0, result.duration, 7)
    minutes = np.arange(0.0, result.duration, 60.0)
    minute = np.clip(np.searchsorted(result.time, minutes), 0, len(result.time) - 1)
    first, last = result.parts

    def by_minute(value) -> list[float]:
        return [value(begin, begin + 60.0) for begin in minutes.tolist()]

    return {
        "duration_s": result.duration,
        "asked_duration_s": result.asked,
        "warm_up_s": result.warm_up,
        "poses": result.poses,
        "commands_from_poses": len(result.latency),
        "latency": {
            "begin": latency(*first),
            "end": latency(*last),
            "parts": [latency(*part) for part in zip(edges.tolist(), edges[1:].tolist())],
        },
        "memory": {node: memory(node, False) | {"private": memory(node, True)} for node in result.rss},
        "processors": {
            node: {"begin": result.processor(node, *first), "end": result.processor(node, *last)} for node in result.cpu
        },
        "machine": {
            "stolen_processors": {"begin": result.stolen_part(*first), "end": result.stolen_part(*last)},
            "yardstick_ms": {"begin": 1e3 * result.work_time(*first), "end": 1e3 * result.work_time(*last)},
        },
        "by_minute": {
            "time_s": result.time[minute].tolist(),
            "load": result.load[minute].tolist(),
            "memory_mb": {node: (values[minute] / 2**20).tolist() for node, values in result.rss.items()},
            "processors": {node: by_minute(partial(result.processor, node)) for node in result.cpu},
            "stolen_processors": by_minute(result.stolen_part),
            "yardstick_ms": [1e3 * value for value in by_minute(result.work_time)],
            "p99_ms": [1e3 * values[2] for values in by_minute(result.percentiles)],
        },
        "restarts": result.restarts,
        "failures": result.failures,
        "passed": not result.failures,
    }


def _print(numbers: dict) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = (
        f"{numbers['duration_s']:.0f} s, {numbers['poses']} poses; memory in MB, and of it what is the process's own"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    names = ("process", "warm", "end", "growth", "own", "growth", "processor")
    for i, column in enumerate(names):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for node, values in numbers["memory"].items():
        own = values["private"]
        sizes = (f"{values[key]:.1f}" for key in ("begin_mb", "end_mb"))
        busy = numbers["processors"][node]
        table.add_row(
            node,
            *sizes,
            f"{100 * values['growth']:+.2f} %",
            f"{own['end_mb']:.1f}",
            f"{100 * own['growth']:+.2f} %",
            f"{100 * busy['begin']:.0f} to {100 * busy['end']:.0f} %",
        )
    console.print(table)
    console.print("pose received to command sent, ms:", highlight=False)
    for name, words in (("begin", "after the warm-up"), ("end", "at the end")):
        part = numbers["latency"][name]
        line = (
            f"  {words}, {part['from_s']:.0f} to {part['to_s']:.0f} s: p50 {part['p50_ms']:.1f}, p95 "
            f"{part['p95_ms']:.1f}, p99 {part['p99_ms']:.1f}"
        )
        console.print(line, highlight=False, soft_wrap=True)
    stolen, work = numbers["machine"]["stolen_processors"], numbers["machine"]["yardstick_ms"]
    line = (
        f"of the machine, at the same times: a piece of work that is always the same takes {work['begin']:.2f} "
        f"and {work['end']:.2f} ms "
        f"of processor time; taken away by its hypervisor {100 * stolen['begin']:.1f} and "
        f"{100 * stolen['end']:.1f} % of a processor"
    )
    console.print(line, highlight=False, soft_wrap=True)
    for failure in numbers["failures"]:
        console.print(f"[red]failed[/]: {failure}", highlight=False)
    if numbers["passed"]:
        console.print("[green]passed[/]: memory is flat, p99 does not drift")


def plot(result, path: str) -> None:
    """Memory of each process relative to what it had after the warm-up, processor time, and percentiles of latency."""
    from itertools import pairwise

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(9, 8), sharex=True, layout="constrained")
    for node, values in result.rss.items():
        _, warm, _ = result.memory(node)
        top.plot(result.time / 60, 100 * (values / warm - 1), linewidth=1, label=f"{node}, {warm / 2**20:.0f} MB")
    top.axhline(1.0, color="0.7", linewidth=0.8, linestyle="--")
    top.set(ylabel="memory since the warm-up [%]", ylim=(-3.0, 3.0))
    top.legend(fontsize=7, ncols=3, frameon=False, loc="lower right")
    edges = np.linspace(0.0, result.duration, 31)
    centres = (edges[:-1] + edges[1:]) / 120
    shares = [[100 * result.processor(node, a, b) for a, b in pairwise(edges)] for node in result.cpu]
    middle.stackplot(centres, np.nan_to_num(shares), alpha=0.8)  # colours as above
    middle.set(ylabel="processor time [% of one]", ylim=(0, None))
    work = middle.twinx()
    work.plot(centres, [1e3 * result.work_time(a, b) for a, b in pairwise(edges)], color="black", linewidth=1)
    work.set(ylabel="time of a fixed piece of work [ms]", ylim=(0, None))
    bins = np.array([result.percentiles(a, b) for a, b in pairwise(edges)])
    for percent, values in zip((50, 95, 99), bins.T):
        bottom.plot(centres, 1e3 * values, ".-", linewidth=1, label=f"p{percent}")
    load = bottom.twinx()
    load.plot(result.time / 60, result.load, color="0.75", linewidth=0.8, zorder=0)
    load.set(ylabel="load of the machine", ylim=(0, None))
    bottom.set(xlabel="time [min]", ylabel="pose to command [ms]", ylim=(0, None))
    bottom.legend(fontsize=7, ncols=3, frameon=False)
    for axis in (top, middle, work, bottom, load):
        axis.spines["top"].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
