"""`egohand train`: train a forecaster, or fine-tune one on one's own recordings."""

EXAMPLES = """examples:
  egohand train egohand-small --synthetic 2000 --out out/small
  egohand train egohand-small --init out/small/model --goals 6000 --out out/grounded
  egohand train egghand --public action_head=GR00T-N1.5-3B --data out/mine.npz --out out/egghand
  egohand train egohand-small --init egohand-small --data out/mine.npz --out out/mine
  egohand train adaptive --data one.npz two.npz three.npz four.npz five.npz --out out/me
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
        help="a learned one of `egohand forecasters`, or a .yaml file like those in config/forecasters; adaptive "
        "learns from --data alone, in a minute: whom to believe at first, and how such hands move",
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
        help="train what looks at images and words, on N generated scenes with one instruction each",
    )
    parser.add_argument(
        "--goals-from",
        type=int,
        default=0,
        metavar="M",
        help="leave out the first M of those scenes, which weights that this begins with were trained on",
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

    from ..data.load import check_recordings
    from ..errors import UserError

    check_recordings(args.data)  # before PyTorch is imported, which takes seconds
    from ..forecast.adaptive.system import NAME as ADAPTIVE
    from ..forecast.registry import system_of
    from ..locks import locked
    from ..training import session as sessions
    from ._tables import progress_bar
    from .evaluate import print_result

    if args.preset == ADAPTIVE:
        tune_adaptive(args)
        return
    counts = {"--synthetic": args.synthetic, "--goals": args.goals, "--goals-from": args.goals_from}
    if min(counts.values()) < 0:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UserError(f"{told}: expected 0 or more")
    if args.goals_from and not args.goals:
        raise UserError(
            f"--goals-from {args.goals_from} is of the scenes of --goals; give --goals N too, or leave it out"
        )
    folder, system = Path(args.out), system_of(args.preset)
    stage = system.stage(args.stage, "goals" if args.goals else "")
    begins = system.stages[0] == stage  # others go on from what is known before
    if args.goals and (args.data or args.synthetic or not (args.init or begins)):
        raise UserError(
            "--goals trains what looks at images and words beside hands that are known; give --init MODEL, no --data"
        )
    if stage.trains_on == "goals" and not args.goals:
        raise UserError(
            f"stage {stage.name!r} is trained on goals; give --goals N{'' if begins else ' and --init MODEL'}"
        )
    config = sessions.read_settings(args.preset, stage, args.init is not None, args.set)
    sessions.check_folder(folder, [*args.data, *([args.init] if args.init else [])], args.restart)
    forecaster = sessions.start(args.preset, stage, args.init, args.device, config.seed, args.public)
    with progress_bar("gathering data") as progress:
        if args.goals:
            data = sessions.gather_goals(args.goals, forecaster.spec, progress, args.goals_from)
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


def tune_adaptive(args) -> None:
    """Learn from recordings what `adaptive` believes at first, and its learned expert."""
    import sys
    from pathlib import Path

    import torch

    from ..data.load import load_labelled
    from ..errors import UserError
    from ..locks import locked
    from ..training import motion_tuning as tuning
    from ..training import session as sessions
    from ._tables import progress_bar

    if args.synthetic or args.goals or args.stage or args.public or args.set:
        raise UserError(
            "adaptive learns from --data alone; leave out --synthetic, --goals, --stage, --public and --set"
        )
    if not args.data:
        raise UserError("adaptive has nothing to learn from; give --data RECORDING…, best five or more")
    folder = Path(args.out)
    sessions.check_folder(folder, [*args.data, *([args.init] if args.init else [])], args.restart)
    torch.set_num_threads(1)  # more would be slower on networks this small
    base = tuning.base_of(args.init)
    recordings = list(load_labelled(args.data).values())
    if len(recordings) < tuning.LEAST_RECORDINGS:
        print(
            f"egohand: of {len(recordings)} recordings only beliefs are learned; weights need "
            f"{tuning.LEAST_RECORDINGS}, to leave one out in turn",
            file=sys.stderr,
        )
    with locked(f"training {folder.resolve()} 0", f"{folder} is trained in"), progress_bar("learning") as progress:
        tuned = tuning.tune(recordings, base, progress=progress)
        tuned.save_run(folder, args.data)
    for kind, share in tuned.kept.items():
        gained = tuned.errors[kind].get(share, 1.0) - 1.0
        print(
            f"{kind}: kept {share:.0%} of what fine-tuning changed: {gained:+.0%} error on recordings left out in turn"
        )
    for kind, choice in tuned.begin.choices.items():
        print(f"{kind}: with what it begins with now, adaptive has {choice.error - 1:+.1%} error on those")
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
