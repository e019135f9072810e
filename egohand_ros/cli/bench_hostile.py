"""`egohand bench hostile`: attack every node with malformed messages and judge what they do."""

import argparse

EXAMPLES = """examples:
  egohand bench hostile --messages 3000
  egohand bench hostile --json out/hostile.json
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "hostile",
        help="attack every node with malformed and hostile messages",
        description=(
            "Run all nodes as processes and send them malformed, senseless and contradictory messages among valid ones,"
            " the last of them on a clock that jumps. Passed (exit status 0): no node died, every attack was counted,"
            " no command broke a limit, and valid input works again afterwards."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--messages", type=int, default=100_000, metavar="N", help="attacks to send (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is sent (default: 0)")
    parser.add_argument("--json", metavar="FILE", help='also write the report as JSON; "-": the standard output')
    parser.set_defaults(run=run)


def run(args) -> int:
    """1 when the nodes failed."""
    import tempfile
    from dataclasses import asdict
    from pathlib import Path

    from ..errors import UserError
    from ..nodes.bench.hostile import run_hostile
    from ..nodes.session.processes import private_domain
    from ._tables import check_json, progress_bar, write_json

    check_json(args.json)
    if args.messages < 100:
        raise UserError(f"--messages is {args.messages}; fewer than 100 attack nothing")
    logs = Path(tempfile.mkdtemp(prefix="egohand_hostile_"))
    with private_domain() as domain, progress_bar("attacking") as show:
        report = run_hostile(args.messages, args.seed, domain, logs, show)
    if args.json != "-":
        _print(report)
    if args.json:
        write_json(asdict(report), args.json)
    if report.failures:
        print(f"logs of the nodes: {logs}")
    return 1 if report.failures else 0


def _print(report) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{report.messages} hostile messages in {report.seconds:.0f} s", box=None, title_justify="left")
    for column in ("topic", "attacks", "to refuse", "refused", "dropped", "lost", "reasons"):
        table.add_column(column, justify="left" if column in ("topic", "reasons") else "right")
    from ..nodes.bench.hostile_verdict import TARGETS

    for topic, kinds in sorted(report.sent.items()):
        reasons = report.refused.get(TARGETS[topic], {}).get(topic, {})
        listed = ", ".join(
            f"{reason} {number}" for reason, number in sorted(reasons.items(), key=lambda item: -item[1])
        )
        row = (
            sum(kinds.values()),
            report.must_be_refused[topic],
            report.refused_on(topic),
            report.dropped.get(topic, 0),
            report.lost.get(topic, 0),
        )
        table.add_row(topic, *map(str, row), listed)
    console.print(table)
    audit = report.commands
    if audit is not None:
        console.print(
            f"commands: {audit.commands}, {audit.violations} beyond a limit; up to {audit.worst_velocity:.3f} of the"
            f" velocity and {audit.worst_acceleration:.3f} of the acceleration limits",
            highlight=False,
        )
    console.print(
        f"clock jumps: {report.clock_jumps}; valid input reached the robot again after {report.recovery_seconds:.1f} s"
    )
    for failure in report.failures:
        console.print(f"[red]failed[/]: {failure}", highlight=False)
    if not report.failures:
        console.print("[green]passed[/]: no node died, every attack was counted, no limit was broken")
