"""`egohand convert`: any recording -> episode `.npz`, rosbag2 or LeRobotDataset."""

EXAMPLES = """examples:
  egohand convert recording.tsv --out episode.npz
  egohand convert out/bag --out out/dataset --to lerobot
  egohand convert out/dataset --out out/episode_bag
  egohand convert out/bag --out out/bag_3d --to foxglove
  egohand convert HOT3D/P0003_c701bd11 --out episode.npz --mano models/mano
"""

FORMATS = {"npz": "npz", "bag": "bag", "foxglove": "foxglove", "lerobot": "v3.0", "lerobot-v2.1": "v2.1"}


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_out
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
    add_out(parser, "PATH", "file of an episode, or a new folder")
    parser.add_argument(
        "--to",
        choices=tuple(FORMATS),
        help="format of the output; without it, a name that ends in .npz is an episode and any other one a bag; "
        "foxglove: the same bag, with hands, forecasts and frames that Foxglove's and RViz's 3D views show",
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
    parser.add_argument(
        "--mano-labels",
        metavar="MODEL",
        help="a trained megohand with MANO's hand: its inverse network finds MANO's parameters of keypoints",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an episode, a bag or a data set of egohand's own"
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    """Convert; a recording with several episodes gives numbered outputs, but one LeRobotDataset."""
    from pathlib import Path

    from ..data.load import load_episodes
    from ..errors import UserError
    from ..outputs import (
        check_data,
        files_of_data_set,
        files_of_recording,
        is_our_data_set,
        is_our_episode,
        is_our_recording,
        new_file,
        new_folder,
    )
    from ._options import out_of

    if args.fps is not None and args.fps < 1:
        raise UserError(f"--fps {args.fps}: expected 1 or more")
    output = Path(out_of(args))
    kind = args.to or ("npz" if output.suffix == ".npz" else "bag")
    ours = is_our_episode if kind == "npz" else is_our_recording if kind in ("bag", "foxglove") else is_our_data_set

    def check(target: Path) -> None:
        check_data(target, args.overwrite, [args.input, *([args.mano] if args.mano else [])], ours)

    check(output)
    if kind == "foxglove":
        for_foxglove(args.input, output, args.storage, args.overwrite)
        return
    episodes = load_episodes(args.input, args.mano)
    if args.mano_labels:
        episodes = labelled(episodes, args.mano_labels, args.mano)
    if kind.startswith("lerobot"):
        from ..data.importers.lerobot import save_lerobot

        with new_folder(output, files_of_data_set if args.overwrite else None) as part:
            save_lerobot(episodes, part, FORMATS[kind], args.fps)
        print(f"{output}: {len(episodes)} episodes, {sum(episode.duration for episode in episodes):.1f} s")
        return
    targets = (
        [output]
        if len(episodes) == 1
        else [output.with_name(f"{output.stem}_{number}{output.suffix}") for number in range(1, len(episodes) + 1)]
    )
    for target in targets:
        check(target)
    for episode, target in zip(episodes, targets):
        if kind == "npz":
            with new_file(target, args.overwrite) as part:
                episode.save(part)
        else:
            from ..data.bags.bag import episode_to_bag  # slow to import, and only here needed

            with new_folder(target, files_of_recording if args.overwrite else None) as part:
                episode_to_bag(episode, part, args.storage)
        print(f"{target}: {len(episode)} frames, {episode.duration:.1f} s")


def labelled(episodes: list, model: str, mano: str | None) -> list:
    """Episodes with MANO's parameters of their keypoints, found by a model's inverse network."""
    from ..errors import UserError
    from ..forecast.registry import make_forecaster, options_of

    forecaster = make_forecaster(model, **({"mano": mano} if mano and "mano" in options_of(model) else {}))
    if getattr(getattr(forecaster, "config", None), "hand", "") != "mano" or not hasattr(forecaster, "label"):
        raise UserError(
            f"--mano-labels {model}: it knows nothing of MANO's hand; give a megohand trained with hand: mano"
        )
    made = []
    for number, episode in enumerate(episodes, 1):
        found, apart = forecaster.label(episode)
        print(f"recording {number}: keypoints of its MANO hands are {1e3 * apart:.1f} mm from those recorded")
        made.append(found)
    return made


def for_foxglove(bag: str, output, storage: str, overwrite: bool) -> None:
    """The same bag with what 3D views show beside what was recorded."""
    from ..errors import UserError
    from ..outputs import files_of_recording, new_folder

    try:
        from ..nodes.foxglove.recording import add_what_foxglove_shows
    except ImportError as error:
        raise UserError(f"--to foxglove needs ROS 2's messages ({error.name} is missing): make build") from None
    with new_folder(output, files_of_recording if overwrite else None) as part:
        made = add_what_foxglove_shows(bag, part, storage)
    print(f"{output}: {sum(made.values())} messages made for 3D views, on {', '.join(sorted(made)) or 'no topic'}")
