"""`egohand report`: metrics and report of a recording made before."""

import argparse

EXAMPLES = """examples:
  egohand report out/demo/bag
  egohand report out/demo/bag --out out/demo/again.html --json out/demo/again.json
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_json

    parser = subparsers.add_parser(
        "report",
        help="metrics and HTML report of a recording",
        description="Score a recorded session again and write its report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", help="rosbag2 folder")
    parser.add_argument("--out", metavar="FILE", help="HTML file (default: <bag>.html)")
    add_json(parser, "also write the metrics", "--metrics")
    parser.add_argument("--strict", action="store_true", help="exit status 1 unless the verdict is good")
    parser.set_defaults(run=run)


def run(args) -> int:
    """Write the report and, where asked for, the metrics. Exit status 1 with --strict when the verdict is not good."""
    from pathlib import Path

    from ..evaluation.pages.report import write_report
    from ..evaluation.recording import read_recording
    from ..evaluation.session import score_session
    from ..evaluation.verdict import Verdict
    from ..outputs import check_apart, check_page
    from ._progress import print_verdict
    from ._tables import check_json, write_json

    bag = Path(args.bag)
    out = Path(args.out) if args.out else bag.with_name(f"{bag.name}.html")
    check_apart(out=out, json=None if args.json == "-" else args.json)
    check_page(out, "HTML", [bag])
    check_json(args.json, [bag])
    recording = read_recording(args.bag)
    metrics = score_session(recording)
    if args.json:
        write_json(metrics, args.json)
    write_report(recording, out, metrics)
    if args.json != "-":
        print_verdict(Verdict.of(metrics))
        print(f"report: {out}")
    return 1 if args.strict and metrics["verdict"]["level"] != "good" else 0
