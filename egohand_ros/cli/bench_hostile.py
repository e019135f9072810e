"""`egohand bench hostile`: attack every node with malformed messages and judge what they do."""

import argparse

EXAMPLES = """examples:
  egohand bench hostile --messages 3000
  egohand bench hostile --messages 0 --hands all
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
            " no command broke a limit, and valid input works again afterwards. Then stop, continue, kill and restart"
            " nodes around each robot hand, set clocks, lose the hand in five forms; a monitor of its own judges "
            "by arrival"
            " that no joint is asked for more than full speed over any 50 ms."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--messages", type=int, default=100_000, metavar="N", help="attacks to send; 0: none (default: 100000)"
    )
    parser.add_argument(
        "--hands",
        default="allegro_right",
        metavar="NAMES",
        help="robot hands to try, comma-separated; all: the ten right ones; none (default: allegro_right)",
    )
    parser.add_argument("--short", action="store_true", help="five trials a hand in place of all")
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
    from ..nodes.bench.hostile_robot import run_trials
    from ..nodes.bench.hostile_verdict import HostileReport
    from ..nodes.session.processes import private_domain
    from ._tables import check_json, progress_bar, write_json

    check_json(args.json)
    if args.messages < 100 and args.messages != 0:
        raise UserError(f"--messages is {args.messages}; fewer than 100 attack nothing (0: none)")
    hands = _hands(args.hands)
    logs, report, trials = Path(tempfile.mkdtemp(prefix="egohand_hostile_")), HostileReport(), []
    if args.messages:
        with private_domain() as domain, progress_bar("attacking") as show:
            report = run_hostile(args.messages, args.seed, domain, logs, show)
        if args.json != "-":
            _print(report)
    for hand in hands:
        with private_domain() as domain, progress_bar(f"trying {hand}") as show:
            trials.append(run_trials(hand, domain, logs / hand, args.short, show))
        if args.json != "-":
            _print_trials(trials[-1])
    if args.json:
        write_json(asdict(report) | {"trials": [asdict(trial) for trial in trials]}, args.json)
    failed = bool(report.failures or any(trial.failures for trial in trials))
    if failed:
        print(f"logs of the nodes: {logs}")
    return 1 if failed else 0


def _hands(names: str) -> list[str]:
    """Names of robot hands; raises `UserError` for one that is not known."""
    from ..robot.hands.library import list_hands, load_hand

    if names == "none":
        return []
    if names == "all":
        return [name for name in list_hands() if name.endswith("_right")]
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        load_hand(name)
    return chosen


def _print_trials(report) -> None:
    from rich.console import Console

    from ._tables import print_text_table

    columns = ["trial", "commands", "as arrived", "as sent", "slowest [ms]", "still after [s]", "relaxes after [s]"]
    rows = {}
    for trial in report.trials:
        times = ["" if value != value else f"{value:.2f}" for value in (trial.still, trial.relaxed)]
        if trial.starved > 0.1:
            times[1] += f" ({trial.starved:.2f} s without forecasts before)"
        use = f"{trial.worst:.3f}", f"{trial.worst_sent:.3f}", f"{1e3 * trial.slowest:.1f}"
        rows[trial.name] = [str(trial.commands), *use, *times]
    print_text_table(f"{report.hand}: use of full speed over any 50 ms", columns, rows)
    console = Console(soft_wrap=True)
    if not report.realtime:
        console.print("arrival was measured without real-time priority: ulimit -r 20 would allow it", highlight=False)
    for repeated in report.repeated:
        console.print(f"tried again, messages were held up on their way: {repeated}", highlight=False)
    for failure in report.failures:
        console.print(f"[red]failed[/]: {failure}", highlight=False)


def _print(report) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
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
            f" velocity and {audit.worst_acceleration:.3f} of the acceleration limits"
            + (f"; {report.unseen_commands} never came here" if report.unseen_commands else ""),
            highlight=False,
        )
    console.print(
        f"clock jumps: {report.clock_jumps}; valid input reached the robot again after {report.recovery_seconds:.1f} s"
    )
    for failure in report.failures:
        console.print(f"[red]failed[/]: {failure}", highlight=False)
    if not report.failures:
        console.print("[green]passed[/]: no node died, every attack was counted, no limit was broken")
