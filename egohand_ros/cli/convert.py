"""`egohand convert`: any recording -> episode `.npz`, rosbag2 or LeRobotDataset."""

EXAMPLES = """examples:
  egohand convert recording.tsv episode.npz
  egohand convert out/bag out/dataset --to lerobot
  egohand convert out/dataset out/episode_bag
  egohand convert HOT3D/P0003_c701bd11 episode.npz --mano models/mano
"""

FORMATS = {"npz": "npz", "bag": "bag", "lerobot": "v3.0", "lerobot-v2.1": "v2.1"}


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "convert",
        help="turn a recording into an episode .npz, a bag or a LeRobotDataset",
        description="Read any recording and write it as an episode, a rosbag2 folder or a LeRobotDataset.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "input", help="a recording: rosbag2, .npz, LeRobotDataset, or a data set listed in docs/data.md"
    )
    parser.add_argument("output", help="file of an episode, or a new folder")
    parser.add_argument(
        "--to",
        choices=tuple(FORMATS),
        help="format of the output; without it, a name that ends in .npz is an episode and any other one a bag",
    )
    parser.add_argument("--storage", default="mcap", choices=("mcap", "sqlite3"), help="file format of a bag")
    parser.add_argument(
        "--fps", type=int, metavar="HZ", help="frames a second of a LeRobotDataset; by default the recording's"
    )
    parser.add_argument(
        "--mano",
        metavar="FOLDER",
        help="your MANO_LEFT.pkl and MANO_RIGHT.pkl, for data sets that store MANO parameters",
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    """Convert; a recording with several episodes gives numbered outputs, but one LeRobotDataset."""
    from pathlib import Path

    from ..data.load import load_episodes
    from ..errors import UserError
    from ._tables import writing

    if args.fps is not None and args.fps < 1:
        raise UserError(f"--fps {args.fps}: expected 1 or more")
    episodes, output = load_episodes(args.input, args.mano), Path(args.output)
    kind = args.to or ("npz" if output.suffix == ".npz" else "bag")
    if kind.startswith("lerobot"):
        from ..data.importers.lerobot import save_lerobot

        with writing(output):
            save_lerobot(episodes, output, FORMATS[kind], args.fps)
        print(f"{output}: {len(episodes)} episodes, {sum(episode.duration for episode in episodes):.1f} s")
        return
    for number, episode in enumerate(episodes, 1):
        target = output if len(episodes) == 1 else output.with_name(f"{output.stem}_{number}{output.suffix}")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if kind == "npz":
                episode.save(target)
            else:
                from ..data.bags.bag import episode_to_bag  # slow to import, and only here needed

                episode_to_bag(episode, target, args.storage)
        print(f"{target}: {len(episode)} frames, {episode.duration:.1f} s")
