"""`egohand evaluate`: forecast errors of any forecasters on any recordings, by a published protocol."""

EXAMPLES = """examples:
  egohand evaluate out/bag --forecaster persistence,damped,kalman
  egohand evaluate recording.tsv episodes/*.npz --forecaster naive,egohand-small --json out/errors.json
  egohand evaluate EgoExo4D --protocol egoexo4d --ego-motion 0.1 --report out/errors.html
  egohand evaluate motion/* recording.tsv --stream --forecaster adaptive,egohand-small --json out/stream.json
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_workers
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "evaluate",
        help="measure the errors of forecasters on recordings",
        description="Forecast every window of the inputs and compare with what happened.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="rosbag2 folder, episode .npz (or a folder of them), LeRobotDataset, or a data set listed in docs/data.md",
    )
    parser.add_argument(
        "--forecaster",
        default="naive",
        metavar="NAME[,NAME…]",
        help="presets of `egohand forecasters`; naive: all without weights",
    )
    parser.add_argument(
        "--protocol",
        default="egoexo4d",
        metavar="NAME",
        help="egoexo4d, usst, egoman, forehand4d or megohand: how windows are cut and scored",
    )
    parser.add_argument(
        "--ego-motion",
        type=float,
        metavar="SHARE",
        help="also score the windows with the most camera motion alone; 0.1 is EggHand's top 10 %%",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="score every recording in order, as the node does, so that what learns on the way can be judged: by "
        "input, beside the best naive forecaster, with intervals over recordings (docs/evaluation.md)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the result; - is the standard output")
    parser.add_argument(
        "--report", metavar="FILE", help="write a self-contained HTML page, with forecasts drawn on the frames of bags"
    )
    add_workers(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    """Load, evaluate, print."""
    import sys

    from ..data.load import check_recordings, load_labelled

    check_recordings(args.input)  # these two before PyTorch is imported, which takes seconds
    names = forecaster_names(args.forecaster)
    from ..evaluation.pages.evaluation_report import write_evaluation_report
    from ..evaluation.pages.overlays import forecast_frames, worth_a_picture
    from ..evaluation.protocol import evaluate, get_protocol
    from ..outputs import check_apart, check_page
    from ._options import workers_of
    from ._tables import check_json, progress_bar, write_json

    workers = workers_of(args)
    check_apart(json=None if args.json == "-" else args.json, report=args.report)
    check_json(args.json, args.input)
    if args.report:
        check_page(args.report, "HTML", args.input)
    protocol = get_protocol(args.protocol)
    warnings = seen_before(names, args.input)
    for warning in warnings:
        print(f"egohand: {warning}", file=sys.stderr)
    if args.stream:
        run_stream(args, names)
        return
    episodes = load_labelled(args.input)
    with progress_bar("forecasting") as progress:
        result = evaluate(episodes, names, protocol, progress, args.ego_motion, workers)
    if args.json:
        write_json(result.to_json(), args.json)
    if args.report:
        pictures = forecast_frames(args.input, worth_a_picture(result), protocol)
        write_evaluation_report(
            result, args.report, pictures, how_made() | ({"caution": "; ".join(warnings)} if warnings else {})
        )
    if args.json != "-":
        print_result(result)


def seen_before(names: list[str], inputs: list[str]) -> list[str]:
    """A line for each forecaster that was trained on an input."""
    from pathlib import Path

    found = []
    for name in names:
        if Path(name).is_dir():
            from ..training.session import trained_on

            seen = trained_on(name, inputs)
            if seen:
                found.append(f"{name} was trained on {', '.join(seen)}: its errors there say little of new motion")
    return found


def how_made() -> dict[str, str]:
    """What a page says of its making: version, date and command."""
    import shlex
    import sys
    from datetime import UTC, datetime

    from .main import package_version

    return {
        "egohand_ros": package_version(),
        "date": datetime.now(tz=UTC).strftime("%d %B %Y, %H:%M UTC"),
        "command": shlex.join(["egohand", *sys.argv[1:]]),
    }


def run_stream(args, names: list[str]) -> None:
    """Each input is a source; score them in order and print."""
    from pathlib import Path

    from ..data.load import load_episodes
    from ..errors import UserError
    from ..evaluation.stream import evaluate_stream
    from ._tables import progress_bar, write_json

    if args.report or args.ego_motion is not None or args.protocol != "egoexo4d" or args.jobs is not None or args.ray:
        raise UserError(
            "--stream has no --report, --ego-motion, --protocol, --jobs or --ray; leave them out, or leave out --stream"
        )
    sources: dict[str, list] = {}
    for path in args.input:
        sources.setdefault(Path(path).name or str(path), []).extend(load_episodes(path))
    with progress_bar("forecasting") as progress:
        result = evaluate_stream(sources, names, progress)
    if args.json:
        write_json(result.to_json(), args.json)
    if args.json != "-":
        print_stream(result)


def print_stream(result) -> None:
    """By source the errors in mm, and the ratios to the best naive forecaster of each column with their intervals."""
    from ._tables import print_table, print_text_table

    for label, source in result.sources.items():
        columns = list(source.columns())
        title = f"{label}: {source.recordings} recordings, {source.seconds:.0f} s, in order"
        print_table(
            f"{title}, mm",
            ["forecaster", *columns],
            {n: [1e3 * source.value(n, c) for c in columns] for n in source.sums},
        )
        rows = {name: [_ratio(source.ratio(name, c)) for c in columns] for name in result.forecasters}
        rows = {"best naive": [source.best_naive(c) or "-" for c in columns], **rows}
        print_text_table(f"against the best naive one, % (95 %, over {source.units})", ["forecaster", *columns], rows)
        covered = {name: source.coverage(name) for name in result.forecasters}
        if any(value == value for shares in covered.values() for value in shares.values()):
            shown = {name: [100 * value for value in shares.values()] for name, shares in covered.items()}
            print_table("in 90 % regions after 30 s, %", ["forecaster", "wrist", "rotation", "keypoints"], shown)
    if len(result.sources) > 1:
        columns = list(next(iter(result.sources.values())).columns())
        rows = {name: [f"{100 * result.overall(name, c) - 100:+.1f}" for c in columns] for name in result.forecasters}
        print_text_table(
            "geometric mean over sources, against each one's best naive one, %", ["forecaster", *columns], rows
        )


def _ratio(ratio: tuple[float, float, float]) -> str:
    value, low, high = (100 * part - 100 for part in ratio)
    return "-" if value != value else f"{value:+.1f} ({low:+.0f} to {high:+.0f})"


def forecaster_names(text: str) -> list[str]:
    """Preset names of a comma-separated list, each once; `naive` stands for the forecasters without weights."""
    from ..errors import UserError
    from ..forecast.registry import check_forecaster

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("no forecaster was named; give one or more, separated by commas, or: naive")
    for name in names:
        if name != "naive":
            check_forecaster(name)
    if "naive" not in names:
        return list(dict.fromkeys(names))
    from ..evaluation.protocol import NAIVE

    return list(dict.fromkeys(inner for name in names for inner in (NAIVE if name == "naive" else (name,))))


def print_result(result) -> None:
    """The protocol's metrics, and the errors after each horizon; the best of each column is bold."""
    from ._tables import print_table

    protocol, count, keys = result.protocol, len(result.by_episode), result.protocol.metrics
    recordings = "1 recording" if count == 1 else f"{count} recordings"
    for label, part in _by_best_of(keys).items():
        print_scores(f"{protocol.name}: {result.windows} windows of {recordings}{label}", result.scores, part)
    if result.ego_motion is not None:
        moved = result.ego_motion
        title = f"of these, the {moved.windows} with the most camera motion (top {100 * moved.share:g} %)"
        for label, part in _by_best_of(keys).items():
            print_scores(f"{title}{label}", moved.scores, part)
    for kind in ("ADE", "MPJPE"):
        columns = {f"{kind} at {h:g} s": f"{h:g} s" for h in protocol.horizons}
        rows = {name: [1e3 * v for v in score.values(columns).values()] for name, score in result.scores.items()}
        if any(key in score.metrics for key in columns for score in result.scores.values()):
            print_table(f"{kind} after, mm", ["forecaster", *columns.values()], rows)
    for name, score in result.scores.items():
        if score.not_forecast:
            print(f"{name} left {score.not_forecast} keypoints out; they were scored as held at their last observation")
    if protocol.note:
        print(protocol.note)


def print_scores(title: str, scores: dict, keys: list[str]) -> None:
    """A table of metrics of scores by forecaster, each in its unit."""
    from ..evaluation.metric_sets import shown
    from ._tables import print_table

    units = {key: shown(key) for key in keys}
    names = [key.partition(" best of ")[0].replace("mpjpe/f/", "/") for key in keys]
    columns = [name + ("" if unit == "mm" else f", {unit}") for name, (_, unit) in zip(names, units.values())]
    rows = {name: [units[key][0] * v for key, v in score.values(keys).items()] for name, score in scores.items()}
    print_table(f"{title}, mm", ["forecaster", *columns], rows)


def _by_best_of(keys) -> dict[str, list[str]]:
    """Metrics by what they are the best of."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        _, best, count = key.partition(" best of ")
        groups.setdefault(f", best of {count}" if best else "", []).append(key)
    return groups
