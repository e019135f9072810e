"""`egohand evaluate`: forecast errors of any forecasters on any recordings, by a published protocol."""

EXAMPLES = """examples:
  egohand evaluate out/bag --forecaster persistence,damped,kalman
  egohand evaluate recording.tsv episodes/*.npz --forecaster naive,egohand-small --json out/errors.json
"""


def add_parser(subparsers) -> None:
    """Add the command."""
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
        help="rosbag2 folder, episode .npz (or a folder of them), Qualisys .tsv, Aria MPS .csv or keypoints .pkl",
    )
    parser.add_argument(
        "--forecaster",
        default="naive",
        metavar="NAME[,NAME…]",
        help="presets of `egohand forecasters`; naive: all without weights",
    )
    parser.add_argument("--protocol", default="egoexo4d", metavar="NAME", help="how windows are cut and scored")
    parser.add_argument("--json", metavar="FILE", help="write the result; - is the standard output")
    parser.add_argument("--report", metavar="FILE", help="write a self-contained HTML page")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Load, evaluate, print."""
    from ..data.load import load_labelled
    from ..evaluation.evaluation_report import write_evaluation_report
    from ..evaluation.protocol import evaluate, get_protocol
    from ._tables import progress_bar, write_json

    protocol = get_protocol(args.protocol)
    names = forecaster_names(args.forecaster)
    episodes = load_labelled(args.input)
    with progress_bar("forecasting") as progress:
        result = evaluate(episodes, names, protocol, progress)
    if args.json:
        write_json(result.to_json(), args.json)
    if args.report:
        write_evaluation_report(result, args.report)
    if args.json != "-":
        print_result(result)


def forecaster_names(text: str) -> list[str]:
    """Preset names of a comma-separated list, each once; `naive` stands for the forecasters without weights."""
    from ..errors import UserError
    from ..evaluation.protocol import NAIVE

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("no forecaster was named; give one or more, separated by commas, or: naive")
    return list(dict.fromkeys(inner for name in names for inner in (NAIVE if name == "naive" else (name,))))


def print_result(result) -> None:
    """The protocol's metrics, and the errors after each horizon, in mm; the best of each column is bold."""
    from ._tables import print_table

    protocol, count = result.protocol, len(result.by_episode)
    recordings = "1 recording" if count == 1 else f"{count} recordings"
    tables = {f"{protocol.name}: {result.windows} windows of {recordings}, mm": {key: key for key in protocol.metrics}}
    for kind in ("ADE", "MPJPE"):
        tables[f"{kind} after, mm"] = {f"{kind} at {h:g} s": f"{h:g} s" for h in protocol.horizons}
    for title, columns in tables.items():
        rows = {name: [1e3 * value for value in score.values(columns).values()] for name, score in result.scores.items()}
        print_table(title, ["forecaster", *columns.values()], rows)
    for name, score in result.scores.items():
        if score.not_forecast:
            print(f"{name} left {score.not_forecast} keypoints out; they were scored as held at their last observation")
