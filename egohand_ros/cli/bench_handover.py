"""`egohand bench handover`: an arm and a simulated person hand objects over; every way to forecast, side by side."""

EXAMPLES = """examples:
  egohand bench handover --scenes 5
  egohand bench handover --scenes 144 --method persistence,"hypotheses + covariance" --json out/handover.json
  egohand bench handover --scenes 144 --jobs 0 --keep out/episodes.jsonl   # again: goes on where it was stopped
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_workers
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "handover",
        help="handovers between a robot arm and a simulated person",
        description="Hand objects over in MuJoCo, in both directions, with a person who reacts: the same scenes with "
        "every way to forecast, so that differences are paired. 40 % of the scenes are no handovers. Separation and "
        "joint limits are audited by code that shares nothing with the controller.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--scenes", type=int, default=5, metavar="N", help="scenes in each direction")
    parser.add_argument("--seed", type=int, metavar="N", help="first seed; default: those held out")
    parser.add_argument("--method", metavar="NAME[,NAME…]", help="ways to forecast; default: all")
    parser.add_argument("--arm", default="ur5e", metavar="NAME", help="robot arm, a name or a config file")
    parser.add_argument("--hand", default="allegro_right", metavar="NAME", help="robot hand of `egohand hands`")
    parser.add_argument(
        "--keep", metavar="FILE", help="keep episodes in it as they end, a line each; those in it are not played again"
    )
    parser.add_argument("--part", metavar="I/N", help="play only the I-th of N parts, to be kept; then all from there")
    add_workers(parser)
    parser.add_argument("--json", metavar="FILE", help="write the numbers, of every episode too")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Run, print and write."""
    import os
    from pathlib import Path

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from ..errors import UserError
    from ..evaluation.bench.handover_bench import (
        FIRST_TEST_SEED,
        as_rows,
        bench_handover,
        draw_scenes,
        find_methods,
        summarise,
    )
    from ..outputs import check_writable
    from ._options import workers_of
    from ._tables import check_json, progress_bar, write_json

    check_json(args.json)
    if args.scenes < 1:
        raise UserError(f"--scenes is {args.scenes}; at least 1")
    methods = find_methods(args.method.split(",") if args.method else None)
    scenes = draw_scenes(args.scenes, FIRST_TEST_SEED if args.seed is None else args.seed)
    if args.part:
        scenes = _part(scenes, args.part)
    kept = Path(args.keep) if args.keep else None
    if kept is not None:
        check_writable(kept)
    with progress_bar("handing over") as progress:
        scores = bench_handover(
            scenes, methods, arm=args.arm, hand=args.hand, on_progress=progress, workers=workers_of(args), kept=kept
        )
    summary = summarise(scores)
    if args.json != "-":
        _print(summary)
    if args.json:
        write_json({"summary": summary, "episodes": as_rows(scores)}, args.json)


def _part(scenes: list, part: str) -> list:
    """Every N-th scene from the I-th on, of I/N."""
    from ..errors import UserError

    number, _, count = part.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {part}: expected I/N, I from 1 to N, as 1/4")
    return scenes[int(number) - 1 :: int(count)]


def _print(summary: dict) -> None:
    """A row a figure, a column a method; with 95 % intervals."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for method in summary:
        table.add_column(method, justify="right")
    for row in next(iter(summary.values())):
        table.add_row(row, *(_cell(figures[row]) for figures in summary.values()))
    console = Console()
    (console if console.is_terminal else Console(width=190)).print(table)


def _cell(value) -> str:
    if not isinstance(value, dict):
        return "-" if value is None else f"{value:.3g}"
    if value["value"] is None:
        return "-"
    return f"{value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
