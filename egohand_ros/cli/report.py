"""`egohand report`: metrics and report of a recording made before."""

import argparse

EXAMPLES = """examples:
  egohand report out/demo/bag
  egohand report out/demo/bag --out out/demo/again.html --metrics out/demo/again.json
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "report",
        help="metrics and HTML report of a recording",
        description="Score a recorded session again and write its report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", help="rosbag2 folder")
    parser.add_argument("--out", metavar="FILE", help="HTML file (default: <bag>.html)")
    parser.add_argument("--metrics", metavar="FILE", help="also write the metrics as JSON")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Write the report and, where asked for, the metrics."""
    import json
    from pathlib import Path

    from ..evaluation.pages.report import write_report
    from ..evaluation.recording import read_recording
    from ..evaluation.session import score_session

    recording = read_recording(args.bag)
    metrics = score_session(recording)
    if args.metrics:
        Path(args.metrics).parent.mkdir(parents=True, exist_ok=True)
        Path(args.metrics).write_text(json.dumps(metrics, indent=2))
    bag = Path(args.bag)
    out = Path(args.out) if args.out else bag.with_name(f"{bag.name}.html")
    write_report(recording, out, metrics)
    print(f"report: {out}")
