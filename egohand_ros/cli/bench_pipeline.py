"""`egohand bench pipeline`: from hand pose, or image, received to joint command sent, measured over DDS."""

EXAMPLES = """examples:
  egohand bench pipeline
  egohand bench pipeline --images --json out/images.json
  egohand bench pipeline --forecaster damped --hand inspire_right --rate 90 --plot out/pipeline.png
"""


_LATE = 2.0  # periods between two commands, from which on the second was late


def add_parser(subparsers) -> None:
    """Add the command."""
    from ..forecast import DEFAULT_FORECASTER, DEFAULT_IN_PAINTED_SCENES
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "pipeline",
        help="latency from hand pose, or image, received to joint command sent",
        description="Start the real forecaster and retargeter, send synthetic hand poses, and measure inside the "
        "nodes. With "
        "--images a camera sends rgb8 images of 640x480 px as well, each right before the hands in it (a tracker "
        "that takes "
        "no time), and the measure is from the receipt of the newest image that a forecast has seen, its decoding and "
        "resizing included, to the command sent for that forecast.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--forecaster",
        metavar="NAME",
        help=f"preset of `egohand forecasters`; by default {DEFAULT_FORECASTER}, with --images "
        f"{DEFAULT_IN_PAINTED_SCENES}",
    )
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`")
    parser.add_argument(
        "--images",
        action="store_true",
        help="send images too, and measure from them; the forecaster has to look at them",
    )
    parser.add_argument(
        "--pages", type=int, metavar="N", help="also run the viewer, with its page open N times; 0: with no page open"
    )
    parser.add_argument(
        "--viewer-fault",
        choices=("freeze", "kill"),
        help="what befalls the viewer of --pages after a third of the time",
    )
    parser.add_argument(
        "--rate", type=float, metavar="HZ", help="hand poses (and images) per second: 60, with --images 30"
    )
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="how long")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.PARAMETER=VALUE", help="one node parameter; repeatable"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.add_argument("--plot", metavar="FILE", help="write a picture (.png, .svg or .pdf)")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Measure, then print and write."""
    from ..errors import UserError
    from ..forecast import DEFAULT_FORECASTER, DEFAULT_IN_PAINTED_SCENES
    from ..nodes.bench.pipeline import bench_pipeline
    from ..nodes.session.run import machine, versions
    from ..outputs import check_page, replaced_file
    from ._progress import SessionProgress
    from ._tables import check_json, write_json

    check_json(args.json)
    if args.plot:
        check_page(args.plot, "picture")
    for name, value in (("rate", args.rate), ("duration", args.duration)):
        if value is not None and not 0.0 < value < float("inf"):
            raise UserError(f"--{name} {value:g}: expected a number above 0")
    if args.pages is not None:
        from ..viewer.server import check_installed

        check_installed()
        if args.pages < 0:
            raise UserError(f"--pages {args.pages}: expected 0 or more")
    elif args.viewer_fault:
        raise UserError(f"--viewer-fault {args.viewer_fault} without a viewer; add --pages 1")
    rate = args.rate or (30.0 if args.images else 60.0)
    forecaster = args.forecaster or (DEFAULT_IN_PAINTED_SCENES if args.images else DEFAULT_FORECASTER)
    with SessionProgress() as progress:
        result = bench_pipeline(
            forecaster, args.hand, rate, args.duration, args.set, progress, args.images, args.pages, args.viewer_fault
        )
    numbers = summary(result) | {
        "forecaster": forecaster,
        "hand": args.hand,
        "images": args.images,
        "pages": args.pages,
        "viewer_fault": args.viewer_fault,
        "rate_hz": rate,
        "duration_s": args.duration,
        "machine": machine(),
        "versions": versions(),
    }
    _print(numbers)
    if args.json:
        write_json(numbers, args.json)
    if args.plot:
        with replaced_file(args.plot) as part:
            plot(result, numbers, part)


def summary(result) -> dict:
    """Percentiles in ms, counts, jitter of the commands and use of the processor."""
    import numpy as np

    def percentiles(samples) -> dict[str, float]:
        return {f"p{p}": round(1e3 * float(np.percentile(samples, p)), 3) for p in (50, 95, 99)} if len(samples) else {}

    def course(samples) -> dict[str, float]:
        samples = np.zeros(0) if samples is None else samples[np.isfinite(samples)]
        return percentiles(samples) | ({"max": round(1e3 * float(samples.max()), 3)} if len(samples) else {})

    late = result.intervals[result.intervals > 0]
    return {
        "end_to_end_ms": course(result.latency),
        "image_to_command_ms": course(result.image_latency),
        "image_due_to_command_ms": course(result.image_due_latency),
        "stages_ms": {name: percentiles(samples) for name, samples in result.stages.items()},
        "command_interval_ms": percentiles(late),
        "command_period_error_ms": percentiles(np.abs(late - np.median(late))) if len(late) else {},
        "commands_late": int((late > _LATE * np.median(late)).sum()) if len(late) else 0,
        "command_jitter_ms": round(1e3 * float(np.std(late)), 3) if len(late) else None,
        "poses": result.poses,
        "forecasts": result.forecasts,
        "answered": len(result.latency),
        "lost": result.lost,
        "cpu": {name: round(use, 3) for name, use in result.cpu.items()},
    }


def _print(numbers: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{numbers['forecaster']} -> {numbers['hand']} at {numbers['rate_hz']:g} Hz", title_justify="left"
    )
    table.add_column("ms")
    for column in ("p50", "p95", "p99"):
        table.add_column(column, justify="right")
    seen = {
        "image received to command sent": numbers["image_to_command_ms"],
        "image due to command sent": numbers["image_due_to_command_ms"],
    }
    rows = {
        **(seen if numbers["images"] else {}),
        "pose received to command sent": numbers["end_to_end_ms"],
        **numbers["stages_ms"],
        "between commands": numbers["command_interval_ms"],
        "off the period of commands": numbers["command_period_error_ms"],
    }
    for name, values in rows.items():
        table.add_row(name, *(f"{values[c]:.2f}" if c in values else "-" for c in ("p50", "p95", "p99")))
    console = Console()
    console.print(table)
    overtaken, unseen = numbers["poses"] - numbers["forecasts"], numbers["forecasts"] - numbers["answered"]
    console.print(
        f"{numbers['answered']} of {numbers['poses']} poses led to a command; {overtaken} were overtaken by a "
        "newer one, "
        f"{unseen} forecasts were without the hand that drives the robot, or came too fast for it"
    )
    console.print(f"{numbers['commands_late']} commands came more than {_LATE:g} periods after the one before")
    console.print("processor: " + ", ".join(f"{name} {100 * use:.0f} %" for name, use in numbers["cpu"].items()))


def plot(result, numbers: dict, path: str) -> None:
    """Histogram and course of the latency."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    source = "pose" if result.image_latency is None else "image"
    milliseconds = 1e3 * (result.latency if result.image_latency is None else result.image_latency)
    stamp, milliseconds = result.stamp[np.isfinite(milliseconds)], milliseconds[np.isfinite(milliseconds)]
    percentiles = numbers["end_to_end_ms" if source == "pose" else "image_to_command_ms"]
    top = float(np.percentile(milliseconds, 99.5)) * 1.3 if len(milliseconds) else 1.0
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), width_ratios=(1, 1.4), layout="constrained")
    left.hist(np.minimum(milliseconds, top), bins=60, range=(0, top), color="#2566c9")
    for name in ("p50", "p95", "p99"):
        value = percentiles.get(name, 0.0)
        left.axvline(value, color="#1b1d21", linewidth=0.8, linestyle=":")
        left.annotate(
            f"{name} {value:.1f}", (value, 1.0), xycoords=("data", "axes fraction"), rotation=90, va="top", fontsize=8
        )
    left.set(xlabel=f"{source} received to command sent [ms]", ylabel=f"{source}s")
    right.plot(stamp, milliseconds, ".", markersize=2, color="#2566c9")
    right.set(xlabel="time [s]", ylabel="ms", ylim=(0, max(1.05 * milliseconds.max(initial=1.0), 1.0)))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
