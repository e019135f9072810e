"""`egohand train`: train a forecaster, or fine-tune one on one's own recordings."""

EXAMPLES = """examples:
  egohand train egohand-small --synthetic 2000 --out out/small
  egohand train egohand-small --init out/small/model --goals 6000 --out out/grounded
  egohand train egghand --public action_head=GR00T-N1.5-3B --data out/mine.npz --out out/egghand
  egohand train egohand-small --init egohand-small --data out/mine.npz --out out/mine
  egohand evaluate other.npz --forecaster out/mine/model,kalman
  accelerate launch --multi_gpu -m egohand_ros.cli.main train egghand-hf --data eps --set shards=4 --out out/egghand

A run that was stopped, or killed, goes on when the same command is given again.
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "train",
        help="train or fine-tune a forecaster",
        description="Train a learned preset; calibrate it and compare it with the naive forecasters on data held back.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "preset",
        help="a learned one of `egohand forecasters`, or a .yaml file like those in config/forecasters",
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="for model/, log.jsonl, training.json and the run's state"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="INPUT",
        help="recordings, as of `egohand evaluate`; at least 15 %% is held back",
    )
    parser.add_argument(
        "--synthetic", type=int, default=0, metavar="N", help="also train on N generated episodes of 30 s"
    )
    parser.add_argument(
        "--goals",
        type=int,
        default=0,
        metavar="N",
        help="train only what looks at images and words, on N generated scenes with one instruction each",
    )
    parser.add_argument(
        "--stage",
        default="",
        metavar="NAME",
        help="of a system that is trained in several; by default the first, with --goals the one trained on goals",
    )
    parser.add_argument(
        "--init",
        metavar="MODEL",
        help="fine-tune this: a folder, a hub id, or the preset's own name for its shipped weights",
    )
    parser.add_argument(
        "--public",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="begin with public weights of a part, as action_head=FOLDER of egghand; repeatable",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the preset; repeatable"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--restart", action="store_true", help="begin anew where --out holds another run")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Gather the data, train, print the comparison."""
    import os
    import sys
    from pathlib import Path

    from ..errors import UserError
    from ..forecast.registry import system_of
    from ..outputs import locked
    from ..training import session as sessions
    from ._tables import progress_bar
    from .evaluate import print_result

    if min(args.synthetic, args.goals) < 0:
        raise UserError(f"--synthetic {args.synthetic}, --goals {args.goals}: expected 0 or more")
    if args.goals and (args.data or args.synthetic or not args.init):
        raise UserError(
            "--goals trains what looks at images and words beside hands that are known; give --init MODEL, no --data"
        )
    folder, stage = Path(args.out), system_of(args.preset).stage(args.stage, "goals" if args.goals else "")
    if stage.trains_on == "goals" and not args.goals:
        raise UserError(f"stage {stage.name!r} is trained on goals; give --goals N and --init MODEL")
    config = sessions.read_settings(args.preset, stage, args.init is not None, args.set)
    sessions.check_folder(folder, [*args.data, *([args.init] if args.init else [])], args.restart)
    forecaster = sessions.start(args.preset, stage, args.init, args.device, config.seed, args.public)
    with progress_bar("gathering data") as progress:
        if args.goals:
            data = sessions.gather_goals(args.goals, forecaster.spec, progress)
        else:
            data = sessions.gather(args.data, args.synthetic, forecaster.spec, progress)
    if data.warning:
        print(f"egohand: {data.warning}", file=sys.stderr)
    session = sessions.Session(
        args.preset, folder, config, data, forecaster, stage, args.init is not None, args.device, args.restart
    )
    rank = int(os.environ.get("RANK", 0))  # of several processes on one run
    with (
        locked(f"training {folder.resolve()} {rank}", f"{folder} is trained in"),
        training_progress(config.steps) as report,
    ):
        main = session.train(report)
    if not main:  # one of several processes
        return
    print_result(session.compare())
    if session.kept:
        share, error = next(iter(session.kept.items()))
        print(f"kept {share:.0%} of what fine-tuning changed: {error - 1:+.0%} error on what was held back")
    print(f"{folder / sessions.MODEL}: use it as --forecaster {folder / sessions.MODEL}")


def training_progress(steps: int):
    """A bar with the loss; a line now and then where no terminal is."""
    from contextlib import contextmanager

    from ._tables import progress_bar

    @contextmanager
    def bar():
        with progress_bar("training") as progress:
            yield lambda step, numbers: progress(step, steps, f"training, loss {numbers['loss']:.4f}")

    return bar()
