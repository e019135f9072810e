"""`egohand track`: every frame of a video -> the hands in it, on any machine, without a ROS graph."""

EXAMPLES = """examples:
  egohand track walk.mp4 --out walk.npz
  egohand track walk.mp4 --out walk_bag --camera-fov 90
  egohand evaluate walk.npz --forecaster persistence,kalman,egohand-small
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_json
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "track",
        help="find the hands in every frame of a video",
        description="Find the hands in every frame of a video, as the hand_tracker node does, however long it takes, "
        "and write them as an episode or a bag.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("video", help="video of an egocentric camera")
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="a name that ends in .npz is an episode, any other one a rosbag2 folder",
    )
    parser.add_argument("--camera-fov", type=float, default=70.0, metavar="DEG", help="horizontal field of view")
    parser.add_argument(
        "--hand-length",
        type=float,
        default=0.0,
        metavar="M",
        help="wrist crease to middle fingertip of the wearer, which sets the scale; 0: an average adult's",
    )
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what the person does, kept with the episode")
    parser.add_argument("--storage", default="mcap", choices=("mcap", "sqlite3"), help="file format of a bag")
    parser.add_argument("--overwrite", action="store_true", help="replace an episode or a bag of egohand's own")
    parser.add_argument(
        "--strict", action="store_true", help="exit status 1 where a hand is in less than half of the frames"
    )
    add_json(parser, "how many frames, and with which hand,")
    parser.set_defaults(run=run)


def run(args) -> int:
    """Track, write, say what was seen. Nothing is written where no frame has a hand: exit status 1."""
    from pathlib import Path

    from ..data.bags.bag import episode_to_bag
    from ..data.tracked_video import track_video
    from ..data.video import Video
    from ..outputs import check_data, new_file, new_folder
    from ..ownership import files_of_recording, is_our_episode, is_our_recording
    from ..tracking.tracker import TrackerConfig
    from ._tables import check_json, progress_bar, write_json

    output = Path(args.out)
    is_episode = output.suffix == ".npz"
    check_data(output, args.overwrite, [args.video], is_our_episode if is_episode else is_our_recording)
    check_json(args.json, [args.video])
    config = TrackerConfig(hand_length=args.hand_length)
    video = Video.open(args.video)
    with progress_bar("tracking") as progress:
        episode = track_video(video, args.camera_fov, config, args.prompt, progress)
    left, right = (int(n) for n in episode.valid.any(axis=-1).sum(axis=0))
    with_hand = int(episode.valid.any(axis=(1, 2)).sum())
    counts = {"frames": len(episode), "tracked": with_hand, "left": left, "right": right}
    if args.json:
        write_json(counts, args.json)
    said = f"{with_hand} of {len(episode)} frames have a hand (left {left}, right {right})"
    if not with_hand:
        _say(args, f"bad: {said}; nothing was written")
        return 1
    if is_episode:
        with new_file(output, args.overwrite) as part:
            episode.save(part)
    else:
        with new_folder(output, files_of_recording if args.overwrite else None) as part:
            episode_to_bag(episode, part, args.storage)
    hardly = 2 * with_hand < len(episode)
    _say(args, f"{'doubtful' if hardly else 'good'}: {said}\n{output}: {len(episode)} frames, {episode.duration:.1f} s")
    return 1 if args.strict and hardly else 0


def _say(args, text: str) -> None:
    if args.json != "-":
        print(text)
