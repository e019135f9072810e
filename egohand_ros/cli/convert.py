"""`egohand convert`: any recording -> episode `.npz`, or an episode -> rosbag2."""

EXAMPLES = """examples:
  egohand convert recording.tsv episode.npz
  egohand convert out/bag episode.npz
  egohand convert episode.npz out/episode_bag
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "convert",
        help="turn a recording into an episode .npz or a bag",
        description="Read any recording and write it as an episode (.npz) or, for any other name, as a rosbag2 folder.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("input", help="rosbag2 folder, episode .npz, Qualisys .tsv, Aria MPS .csv or keypoints .pkl")
    parser.add_argument("output", help="episode .npz, or a folder for a bag")
    parser.add_argument("--storage", default="mcap", choices=("mcap", "sqlite3"), help="file format of a bag")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Convert; a recording with several episodes gives numbered outputs."""
    from pathlib import Path

    from ..data.bag import episode_to_bag
    from ..data.load import load_episodes
    from ._tables import writing

    episodes, output = load_episodes(args.input), Path(args.output)
    for number, episode in enumerate(episodes, 1):
        target = output if len(episodes) == 1 else output.with_name(f"{output.stem}_{number}{output.suffix}")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".npz":
                episode.save(target)
            else:
                episode_to_bag(episode, target, args.storage)
        print(f"{target}: {len(episode)} frames, {episode.duration:.1f} s")
