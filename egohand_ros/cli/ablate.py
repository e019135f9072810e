"""`egohand ablate`: EggHand's ablations (its tables 2 to 5) on synthetic data."""

EXAMPLES = """examples:
  egohand ablate --out out/ablations
  egohand ablate --preset egghand-hf --scenes 2000 --test-scenes 100 --set steps=50000 --device cuda --out out/ablations_hf
  egohand ablate --preset egghand --action-head GR00T-N1.5-3B --scenes 2000 --set steps=50000 --out out/ablations_full

A run that was stopped, or killed, goes on when the same command is given again.
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "ablate",
        help="measure what each part of EggHand is worth",
        description="Train EggHand with parts of its losses, inputs and pretraining left out, and compare on held-out scenes.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--preset", default="egghand-tiny", help="egghand-tiny, egghand-hf, egghand, or a .yaml file of theirs")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for every run's state and log, and ablations.json")
    parser.add_argument("--scenes", type=int, default=24, metavar="N", help="rendered scenes of 30 s to train on")
    parser.add_argument("--test-scenes", type=int, default=6, metavar="N", help="further scenes to compare on")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a training setting of the preset; repeatable"
    )
    parser.add_argument(
        "--action-head", metavar="PATH", help="public GR00T N1.5 weights, for table 5; otherwise the head is pretrained here"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Render, train every variant, print the table."""
    from pathlib import Path

    from ..errors import UserError
    from ..training.ablations import Ablations
    from ..training.session import read_settings
    from ._tables import write_json, writing

    if args.scenes < 1 or args.test_scenes < 1:
        raise UserError("--scenes and --test-scenes need at least 1")
    folder, config = Path(args.out), read_settings(args.preset, None, args.set)
    with writing(folder), ablation_progress() as report:
        folder.mkdir(parents=True, exist_ok=True)
        ablations = Ablations(args.preset, folder, args.scenes, args.test_scenes, config, args.device, args.action_head, report)
        result = ablations.run()
    content = ablations.to_json(result)
    write_json(content, str(folder / "ablations.json"))
    print_ablations(content)
    print(folder / "ablations.json")


def print_ablations(content: dict) -> None:
    """One table: the baselines, Ours, then the variants of each table of the paper; mm."""
    from ._tables import print_table

    tables = content["tables"]
    rows = dict(content["baselines"]) | {"Ours": tables["2"]["Ours"]}
    for number in ("2", "3", "5"):
        rows |= {f"{number} {name.removeprefix('Ours ')}": row for name, row in tables[number].items() if name != "Ours"}
    keys = list(rows["Ours"])
    title = f"EggHand's ablations, {content['preset']}: {content['data']['windows']} windows of held-out scenes, mm"
    print_table(
        title,
        ["table, row", *(key.replace(" 10 %", "") for key in keys)],
        {name: [1e3 * row[key] if row[key] is not None else float("nan") for key in keys] for name, row in rows.items()},
    )
    print(f"table 4: the columns of the top 10 % of windows by camera motion (top); action head: {content['action_head']}")


def ablation_progress():
    """A bar a run; where no terminal is, a line at each run's beginning and end."""
    import sys
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bars():
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            tasks = {}

            def report(name: str, step: int, steps: int) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=steps)
                progress.update(tasks[name], completed=step)
                if not console.is_terminal and step == steps:
                    print(f"{name}: {steps} done", file=sys.stderr)

            yield report

    return bars()
